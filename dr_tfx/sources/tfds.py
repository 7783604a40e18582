"""Photographs in a data set that TensorFlow Datasets (TFDS) has prepared.

A prepared data set is a folder `name/config/version` with TFRecord files. `dataset_info.json` tells
the files of each split, `features.json` what a record holds:
https://www.tensorflow.org/datasets/external_tfrecord. The files are read without the package, which
would bring TensorFlow into every worker and give pixels, where a recipe takes the photograph's own
file.
"""

import contextlib
import dataclasses
import functools
import glob
import json
import os
import posixpath
import re
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from dr_tfx.preprocessing import decoding
from dr_tfx.sources import folders, refusals, tfds_records
from dr_tfx.storage import files

INFO_FILE, FEATURES_FILE = "dataset_info.json", "features.json"
_OF_A_BUILD = "dataset.json"  # Our own data sets have these two files as well.
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NAMES = ("name", "id", "file_name", "filename", "image/file_name", "image/filename")
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_INDEXING = threading.Lock()


class TfdsShard(NamedTuple):
    """A file of a split."""

    split: str
    path: str
    records: int


class _Place(NamedTuple):
    """A photograph's record."""

    shard: int  # Its number in TfdsFolder.shards.
    offset: int
    size: int  # Bytes of the photograph.


@dataclasses.dataclass(frozen=True)
class TfdsFolder(folders.Source):
    """The photographs of a prepared data set, each named `<split>/<name>`.

    The name is what the data set calls the photograph. Where it has no names, or has one twice in
    a split, it is TFDS's own id, which is the file and the number of the record.
    """

    folder: str
    image: str  # The feature that holds the photographs.
    called: str  # The feature that holds their names; "" if there is none.
    shards: tuple[TfdsShard, ...]
    # Distinguishes a folder that was opened anew, perhaps prepared again, from the one before.
    opened: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    def names(self) -> Iterator[tuple[str, int]]:
        for name, place in self._places().items():
            yield name, place.size

    def values(self, wanted: Collection[str]) -> Iterator[tuple[str, str, dict[str, str]]]:
        """Yield the name, the split and these features, as text, of every photograph.

        Raises:
          UnusableInput: a file is damaged.
        """
        names = iter(self._places())
        for shard in self.shards:
            for record in _scan(shard, self.image, wanted):
                yield next(names), shard.split, record.values

    def read(self, name: str) -> bytes:
        place = self._places().get(name)
        if place is None:
            raise decoding.RejectedImage("unreadable", "its data set has no photograph named so")
        path = self.shards[place.shard].path
        try:
            return tfds_records.photograph(path, place.offset, self.image)
        except decoding.RejectedImage:  # It is a ValueError too.
            raise
        except ValueError as error:
            where = f"damaged in {posixpath.basename(path)}: {error}"
            raise decoding.RejectedImage("unreadable", where) from error

    def size(self, name: str) -> int:
        place = self._places().get(name)
        return place.size if place else 0

    def path(self, name: str) -> str:
        return posixpath.join(self.folder, name)

    def modified(self, name: str) -> float:
        place = self._places().get(name)
        return files.modified(self.shards[place.shard].path) if place else 0.0

    def _places(self) -> dict[str, _Place]:
        with _INDEXING:
            return _index(self)


def is_folder(place: str) -> bool:
    """Tell whether a place is the folder of a prepared data set, on a disk of this machine."""
    if files.is_remote(place):
        return False
    has = {name: os.path.isfile(os.path.join(place, name)) for name in (INFO_FILE, FEATURES_FILE)}
    return all(has.values()) and not os.path.exists(os.path.join(place, _OF_A_BUILD))


def find(name: str) -> str:
    """Return the folder of the data set that `--from_tfds` means.

    Args:
      name: `name`, `name/config`, either with `:version`, of a data set in TFDS's own folder; or a
        path. Without a version, the newest that is prepared is meant.

    Raises:
      FileNotFoundError: no such data set is prepared.
      ValueError: several are, or it is not on a disk.
    """
    if files.is_remote(name):
        raise ValueError(f"--from_tfds={name} is not on a disk of this machine; copy it to one")
    above = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    places = [name] * os.path.isdir(name)
    places.append(os.path.join(os.path.expanduser(above), name.replace(":", "/")))
    found = next(filter(None, map(_prepared, places)), [])
    if not found:
        raise FileNotFoundError(
            f"--from_tfds={name}: there is no prepared data set in {' or '.join(places)}, which "
            f"would have a folder of a version with {INFO_FILE} and {FEATURES_FILE}. Prepare it "
            f"with: pip install tensorflow-datasets && tfds build {name}. Some want a download by "
            "hand before, and say which. Is it elsewhere? Set TFDS_DATA_DIR, or give the path of "
            "that folder"
        )
    configs = sorted({os.path.dirname(folder) for folder in found})
    if len(configs) > 1:
        raise ValueError(
            f"--from_tfds={name} may mean {', '.join(map(os.path.basename, configs))}: give one of "
            "them, as in NAME/CONFIG"
        )
    return files.absolute(max(found, key=_version))


def _version(folder: str) -> list[int]:
    base = os.path.basename(folder)
    return [int(part) for part in base.split(".")] if _VERSION.fullmatch(base) else []


def _prepared(place: str) -> list[str]:
    """Return a place itself if it is a prepared data set, or else those of the folders in it."""
    if is_folder(place):
        return [place]
    found = [f for below in ("*", "*/*") for f in glob.glob(f"{glob.escape(place)}/{below}")]
    return [folder for folder in found if _version(folder) and is_folder(folder)]


def full_name(folder: str) -> str:
    """Return the name, the config if there is one, and the version of a prepared data set."""
    with _content(folder, INFO_FILE) as info:
        return "/".join(filter(None, (info["name"], info.get("configName"), info["version"])))


def open_folder(folder: str) -> TfdsFolder:
    """Return the photographs of a prepared data set.

    Raises:
      FileNotFoundError: one of its files is missing.
      ValueError: it has another format than TFRecord, or not one feature of photographs.
    """
    known = features(folder)
    image = feature_of(folder, "Image", usual="image")
    called = next((name for name in _NAMES if name in known), "")
    return TfdsFolder(files.absolute(folder), image, called, tuple(_shards(folder)))


def features(folder: str) -> dict[str, str]:
    """Return the kind of each feature, such as ClassLabel, by its path with slashes."""

    def flat(branch: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
        for name, feature in branch["featuresDict"]["features"].items():
            if "featuresDict" in feature:
                yield from flat(feature, f"{above}{name}/")
            else:
                kind = feature["pythonClassName"].rpartition(".")[2]
                dtype = feature.get("image", {}).get("dtype", "")
                # Pictures of fractions are PNG files whose pixels are the bytes of numbers.
                yield f"{above}{name}", f"{kind} of {dtype}" if "float" in dtype else kind

    with _content(folder, FEATURES_FILE) as content:
        return dict(flat(content, ""))


def feature_of(folder: str, kind: str, *, usual: str) -> str:
    """Return the only feature of a kind, or of several the one with the usual name.

    Raises:
      UnusableInput: there is none, or which of them is meant is not known.
    """
    known = features(folder)
    found = [name for name in known if known[name] == kind]
    if len(found) != 1 and usual not in found:
        raise refusals.UnusableInput(
            "{place} has {count} features of the kind {kind}; expected one, or one called "
            "{usual!r}. Its features are {features}",
            place=folder,
            count=len(found),
            kind=kind,
            usual=usual,
            features=", ".join(f"{name} ({kind})" for name, kind in known.items()),
        )
    return found[0] if len(found) == 1 else usual


def label_names(folder: str, feature: str) -> list[str]:
    """Return the names of the labels of a feature; [] if its labels are numbers."""
    path = posixpath.join(folder, f"{feature.replace('/', '-')}.labels.txt")
    lines = files.read(path).decode().split("\n") if files.exists(path) else []
    return [line.strip() for line in lines if line.strip()]


def _shards(folder: str) -> Iterator[TfdsShard]:
    with _content(folder, INFO_FILE) as info:
        if (kind := info.get("fileFormat") or "tfrecord") != "tfrecord":
            raise refusals.UnusableInput(
                "{place} has files of the format {kind}; expected tfrecord. Prepare it with: tfds "
                "build {name} --file_format=tfrecord",
                place=folder,
                kind=kind,
                name=info["name"],
            )
        for split in info["splits"]:
            lengths = split["shardLengths"]
            digits = max(len(str(len(lengths))), 5)
            of = f"{len(lengths):0{digits}}"
            for number, length in enumerate(lengths):
                name = split.get("filepathTemplate", _TEMPLATE).format(
                    DATASET=info["name"],
                    SPLIT=split["name"],
                    FILEFORMAT=kind,
                    SHARD_INDEX=f"{number:0{digits}}",
                    NUM_SHARDS=of,
                    SHARD_X_OF_Y=f"{number:0{digits}}-of-{of}",
                )
                yield TfdsShard(split["name"], posixpath.join(folder, name), int(length))


def _scan(
    shard: TfdsShard, image: str, wanted: Collection[str]
) -> Iterator[tfds_records.FoundRecord]:
    """Yield the records of a file, as `tfds_records.scan` does.

    Raises:
      UnusableInput: the file is missing, damaged, or has not the records that it should have.
    """
    count, why = 0, ""
    try:
        for record in tfds_records.scan(shard.path, image, wanted):
            yield record
            count += 1
    except FileNotFoundError:
        why = "it is missing"
    except ValueError as error:
        why = str(error)
    if why or count != shard.records:
        raise refusals.UnusableInput(
            "{file} should have {expected} records, as {info} beside it says, and {count} were "
            "read{why}. Copy the whole folder again, or prepare the data set again",
            file=shard.path,
            expected=shard.records,
            info=INFO_FILE,
            count=count,
            why=why and f": {why}",
        )


@functools.lru_cache(maxsize=2)
def _index(source: TfdsFolder) -> dict[str, _Place]:
    """Return the place of each photograph by its name, in the order of the records.

    A process passes through all files once, without the photographs in them.
    """
    places: dict[str, _Place] = {}
    count = 0
    for number, shard in enumerate(source.shards):
        base = posixpath.basename(shard.path)
        for row, record in enumerate(_scan(shard, source.image, {source.called})):
            name = record.values.get(source.called, "") if source.called else f"{base}__{row}"
            places[f"{shard.split}/{name}"] = _Place(number, record.offset, record.size)
            count += 1
            if len(places) < count or not name:
                return _index(dataclasses.replace(source, called=""))
    return places


@contextlib.contextmanager
def _content(folder: str, file: str) -> Iterator[dict[str, Any]]:
    """Give the body what a JSON file holds, and explain a file in which it does not find its way.

    Raises:
      UnusableInput: the file is damaged, or none that TFDS writes today.
    """
    path = posixpath.join(folder, file)
    try:
        yield json.loads(files.read(path))
    except refusals.UnusableInput:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise refusals.UnusableInput(
            "{file} is not as TensorFlow Datasets 4 writes it ({error!r}). Was it written by an "
            "older version? Prepare the data set again",
            file=path,
            error=error,
        ) from error
