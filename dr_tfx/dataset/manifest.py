"""The manifest `dataset.json`, which says what a data set on disk is and how it was made.

It is written last: a folder without it is not a data set. Training copies it into the bundle, and
whatever reads data for that bundle compares the two first.
"""

import collections
import dataclasses
import json
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from dr_tfx.config import specs, typed
from dr_tfx.dataset import splits
from dr_tfx.storage import json_files, seen_text

FILE_NAME = "dataset.json"
IDENTITIES_FILE = "photographs.arrow"  # The file of `identities`.
INDEX_FILE = "index.npy"  # The file of `record_index`.
SCHEMA_VERSION = 3
NAMED_PATIENTS = 20
EVERY_FOLD = -2  # The `fold` of what the models of all folds were trained on: `folds.every`.
BY_RECIPE, ELSEWHERE = _WAYS = "by recipe", "elsewhere"  # The ways of preparing pictures.


_RECORD = 16  # Bytes of a TFRecord around its data.
_Amount = Annotated[int, typed.Rule(lambda n: n >= 0, "0 or more")]
_FileName = Annotated[
    str,
    typed.Rule(
        lambda name: (
            seen_text.printable(name) == name == posixpath.basename(name) not in ("", "..")
        ),
        "the name of a file in the folder",
    ),
]


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file, with examples of one split and one label."""

    name: _FileName
    split: str
    label: int
    records: typed.Count
    bytes: typed.Count
    sha256: str

    def check(self) -> None:
        """Refuse more records than there is room for."""
        typed.require(
            self.records * _RECORD <= self.bytes,
            f"{self.name} has {self.records:,} records in {self.bytes:,} bytes; expected fewer.",
        )


def _is_group(twin: Mapping[str, Any]) -> bool:
    """Tell whether these are the `ids`, `labels` and `splits` of some photographs."""
    lengths = set()
    for name, kind in (("ids", str), ("labels", int), ("splits", str)):
        values = twin.get(name)
        if not isinstance(values, list) or not all(type(value) is kind for value in values):
            return False
        lengths.add(len(values))
    return len(lengths) == 1


_Twins = Annotated[dict[str, Any], typed.Rule(_is_group, "lists: ids, labels and splits")]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The contract of a data set. It holds no time and no machine's name: same input, same bytes.

    Attributes:
      dataset: the settings that the data set was built with.
      fingerprint: hash of the settings and of all rows, of which the output is a function.
      libraries: the versions that decide pixels, by name.
      rows: number of rows of the label CSV, the sum of written and rejected ones.
      written: number of examples in the shards.
      rejected: number of rows rejected for each reason.
      counts: number of examples by split and label name.
      patients: number of patients by split.
      shared_patients: number of patients with photographs in more than one split.
      twins: groups of byte-identical files, with their `ids`, `labels` and `splits`.
      near_twins: the same of photographs that are copies of one: resized, compressed anew or
        cropped along the dark border.
      unlabelled: number of photographs in the folder that the CSV does not name.
      shards: the files of the data set.
      fold: the fold that is `test` in a view of a data set with folds (see `folds.view`), or -1;
        EVERY_FOLD where all are `train`.
      ungradable: number of photographs that the quality gate flagged and that were kept, by
        `ungradable:<why>`.
      spread: number of examples whose files did not say which value is white, so that their values
        were spread over all greys: 16 bits of which 14 or fewer are used, DICOM without a window.
      substituted: number of slices that stand in for a neighbour of theirs, before or after, that
        is missing or cannot be read; 0 for a recipe that shows no neighbours.
      inputs: digests of the rows and of the photographs' names and sizes, which tell what has
        changed in another build.
      shared_names: the first names of the `shared_patients`, `NAMED_PATIENTS` at most.
      unknown_patients: number of examples whose patient neither a column nor a pattern tells, so
        that each counts as a patient of its own.
      identities: SHA-256 of the file of `identities`, by which photographs are recognised.
      index: SHA-256 of the file of `record_index`, which tells where each record is; "" in a data
        set of an earlier version, which has none.
      prepared: `BY_RECIPE`, or `ELSEWHERE` if pictures were given as arrays, to which neither
        recipe nor quality gate was applied.
      schema_version: version of this format.
    """

    dataset: specs.DatasetSpec
    fingerprint: str
    libraries: dict[str, str]
    rows: _Amount
    written: _Amount
    rejected: dict[str, _Amount]
    counts: dict[str, dict[str, _Amount]]
    patients: dict[str, _Amount]
    shared_patients: _Amount
    twins: tuple[_Twins, ...]
    unlabelled: _Amount
    shards: tuple[Shard, ...]
    ungradable: dict[str, _Amount] = dataclasses.field(default_factory=dict)
    spread: _Amount = 0
    substituted: _Amount = 0
    inputs: dict[str, str] = dataclasses.field(default_factory=dict)
    shared_names: tuple[str, ...] = ()
    unknown_patients: _Amount = 0
    near_twins: tuple[_Twins, ...] = ()
    identities: str = ""
    index: str = ""
    prepared: Annotated[str, typed.Rule(_WAYS.__contains__, " or ".join(_WAYS))] = BY_RECIPE
    fold: int = -1
    schema_version: int = SCHEMA_VERSION

    def check(self) -> None:
        """Refuse labels and splits that there are not, and numbers that contradict each other."""
        names = len(self.dataset.label_names)
        labels = [shard.label for shard in self.shards]
        labels += [label for twin in (*self.twins, *self.near_twins) for label in twin["labels"]]
        wrong = [label for label in labels if not 0 <= label < names]
        typed.require(
            not wrong,
            f"manifest has the label {wrong[:1]}; expected one of {names} labels, from 0.",
        )
        lowest = EVERY_FOLD if self.dataset.split.folds else -1
        typed.require(
            lowest <= self.fold < self.dataset.split.folds,
            f"manifest.fold is {self.fold}; expected one of {self.dataset.split.folds} folds, "
            "or -1.",
        )
        parts = [shard.split for shard in self.shards]
        parts += [part for twin in (*self.twins, *self.near_twins) for part in twin["splits"]]
        unknown = sorted({*parts, *self.counts, *self.patients} - set(self.parts))
        typed.require(
            not unknown,
            f"manifest has the split {unknown[:1]}; expected {', '.join(self.parts[:3])}"
            + ", ..." * (len(self.parts) > 3)
            + ".",
        )
        held = collections.Counter[tuple[str, str]]()
        for shard in self.shards:
            held[shard.split, self.dataset.label_names[shard.label]] += shard.records
        sums = [("written", self.written, "the records of all shards", held.total())]
        rejected = sum(self.rejected.values())
        sums += [("rows", self.rows, "written and rejected ones", self.written + rejected)]
        sums += [
            (f"counts.{split}.{name}", count, "the records of its shards", held[split, name])
            for split, counts in self.counts.items()
            for name, count in counts.items()
        ]
        for key, have, of, expected in sums:
            typed.require(
                have == expected, f"manifest.{key} is {have:,}; expected {expected:,}, {of}."
            )

    @property
    def parts(self) -> tuple[str, ...]:
        """The names that its splits have, in order: those of the folds if they have no roles."""
        return splits.names_of(self.dataset.split) if self.fold == -1 else splits.SPLITS

    def describe(self) -> str:
        """Return a small table of what was built."""
        counts = pd.DataFrame(self.counts).T
        counts["photographs"] = counts.sum(axis=1)
        counts["patients"] = pd.Series(self.patients)
        contradicting = [
            twin["ids"] for twin in (*self.twins, *self.near_twins) if len(set(twin["labels"])) > 1
        ]
        rejected = ", ".join(f"{n} {reason}" for reason, n in self.rejected.items()) or "none"
        return "\n".join(
            [
                counts.to_string(),
                f"written: {self.written} of {self.rows} rows; rejected: {rejected}",
                self._gated(),
                *[f"spread over all greys, as no file says what is white: {self.spread}"]
                * bool(self.spread),
                *[
                    "slices that stand in for a neighbour that is missing or unreadable: "
                    f"{self.substituted}"
                ]
                * bool(self.substituted),
                f"byte-identical groups: {len(self.twins)}; groups of other copies of one "
                f"photograph: {len(self.near_twins)}; patients in more than one split: "
                f"{self.shared_patients}; photographs without a label: {self.unlabelled}",
                *filter(None, [patients_warning(self.unknown_patients, self.written)]),
                *(
                    f"one photograph, but of different labels: {', '.join(ids)}"
                    for ids in contradicting
                ),
            ]
        )

    def _gated(self) -> str:
        """Return a sentence on the photographs that the quality gate flagged."""
        gate = self.dataset.recipe.quality_gate
        if self.prepared == ELSEWHERE:
            return "prepared elsewhere: neither recipe nor quality gate was applied"
        if gate == "off":
            return "quality gate: off"
        of_gate = {why: n for why, n in self.rejected.items() if why.startswith("ungradable:")}
        flagged, fate = (of_gate, "rejected") if gate == "reject" else (self.ungradable, "kept")
        listed = ", ".join(f"{n} {why}" for why, n in flagged.items()) or "none"
        return f"flagged by the quality gate and {fate}: {listed}"

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain, JSON-ready dicts and lists."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["dataset"] = typed.to_dict(self.dataset)
        plain["twins"] = list(self.twins)
        plain["near_twins"] = list(self.near_twins)
        plain["shared_names"] = list(self.shared_names)
        plain["shards"] = [dataclasses.asdict(shard) for shard in self.shards]
        return plain

    def to_json(self) -> str:
        """Return the text of `dataset.json`."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def shards_of(self, split: str) -> list[Shard]:
        """Return the shards of a split, in order.

        Raises:
          ValueError: the data set has no such split.
        """
        shards = [shard for shard in self.shards if shard.split == split]
        if not shards:
            if self.fold == EVERY_FOLD:
                raise ValueError(
                    "The model joins the runs of all folds: each photograph of the data set "
                    f"trained some of them, and none is left for {split!r}. Evaluate it on "
                    "photographs from elsewhere, with --image_dir."
                )
            have = [name for name in self.parts if any(s.split == name for s in self.shards)]
            raise ValueError(
                f"The data set has no examples in split {split!r}; it has {', '.join(have)}. "
                "config.dataset.split decides what is held out when the data set is built."
            )
        return shards


def patients_warning(unknown: int, photographs: int) -> str:
    """Return a sentence on the photographs whose patient nothing tells; "" if there are none."""
    if not unknown:
        return ""
    return (
        f"the patients of {unknown:,} of {photographs:,} photographs are not known: each counts as "
        "its own patient, so that photographs of one patient may be in several splits. If a column "
        "tells them, set config.dataset.patient_column; if the names do, "
        "config.dataset.patient_pattern"
    )


def from_dict(plain: Mapping[str, Any]) -> Manifest:
    """Return the inverse of `Manifest.to_dict`.

    Raises:
      ValueError: the schema version is another one, or fields are missing or unknown.
    """
    version = plain.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"The data set has schema version {version}; this version of dr_tfx reads "
            f"{SCHEMA_VERSION}. Build it again with drtfx-build-examples --overwrite."
        )
    try:
        found: Manifest = typed.record(Manifest, plain, "manifest")
    except typed.ConfigError as error:
        raise ValueError(f"The manifest is damaged: {error} Build the data set again.") from error
    # The keys of the file are sorted; what is printed has the order of splits and labels.
    counts = {
        split: _ordered(counts, found.dataset.label_names)
        for split, counts in _ordered(found.counts, found.parts).items()
    }
    return dataclasses.replace(found, counts=counts, patients=_ordered(found.patients, found.parts))


def load(data_dir: Path) -> Manifest:
    """Read DATA_DIR/dataset.json and check that every shard is there in full size.

    Raises:
      FileNotFoundError: there is no manifest (the build did not finish), or a shard is missing.
      ValueError: the manifest is damaged, or a shard has another size than it says.
    """
    path = data_dir / FILE_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: {data_dir} is not a data set, or its build did not finish. "
            "Run drtfx-build-examples (the same command again resumes it)."
        )
    sizes = {file.name: file.stat().st_size for file in data_dir.iterdir() if file.is_file()}
    return parse(json_files.bytes_of(path), sizes=sizes, where=str(data_dir))


def parse(text: str | bytes, *, sizes: Mapping[str, int], where: str) -> Manifest:
    """Return the manifest of a folder, checked against the files that are there.

    Args:
      text: the text of `dataset.json`.
      sizes: the bytes of each of the folder's files, by name.
      where: the folder, for errors.

    Raises:
      FileNotFoundError: a shard is missing.
      ValueError: the manifest is damaged, or a shard has another size than it says.
    """
    path = f"{where}/{FILE_NAME}"
    content = json_files.parse(text, where=path)
    try:
        manifest = from_dict(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if manifest.fold != -1:
        raise ValueError(f"{path} is of a run on fold {manifest.fold}. Build the data set again.")
    for name, digest in (
        (IDENTITIES_FILE, manifest.identities),
        (INDEX_FILE, manifest.index),
    ):
        if digest and name not in sizes:
            raise FileNotFoundError(
                f"{where}/{name} is missing, but {path} names it. Build it again."
            )
    for shard in manifest.shards:
        file, size = f"{where}/{shard.name}", sizes.get(shard.name)
        if size is None:
            raise FileNotFoundError(f"{file} is missing, but {path} names it. Build it again.")
        if size != shard.bytes:
            raise ValueError(f"{file} has {size} bytes; {path} says {shard.bytes}. Build it again.")
    return manifest


def check_reads_photographs(trained_on: Manifest) -> None:
    """Refuse to apply a model to photographs if nobody knows how its pictures were prepared.

    Args:
      trained_on: the manifest of the model's own data set.

    Raises:
      ValueError: the pictures were an array, which no recipe of dr_tfx has made.
    """
    if trained_on.prepared == ELSEWHERE:
        raise ValueError(
            "the model was trained on pictures that were prepared outside of dr_tfx (an .npy "
            "array): what was done to them is not known and cannot be done to a photograph, so "
            "that a score would mean nothing. To use a model on photographs, build the data set "
            "from the photographs themselves (drtfx-build-examples --image_dir) and train on it. "
            "This model can be evaluated and explained on its own data set (--data_dir)"
        )


def check_same_recipe(trained_on: Manifest, given: Manifest, *, where: str) -> None:
    """Refuse pictures that a model was not made for.

    Args:
      trained_on: the manifest of the model's own data set.
      given: the manifest of the data set that it is to score.
      where: the folder of that data set, for errors.

    Raises:
      ValueError: recipe or labels differ; the message names each setting.
    """
    ours, theirs = typed.to_dict(trained_on.dataset), typed.to_dict(given.dataset)
    different = [
        f"prepared: the model's pictures were prepared {trained_on.prepared}, "
        f"those of the data {given.prepared}"
    ] * (trained_on.prepared != given.prepared)
    different += [
        f"dataset.recipe.{key}: the model has {ours['recipe'][key]!r}, "
        f"the data {theirs['recipe'][key]!r}"
        for key in ours["recipe"]
        if key != "encoding" and ours["recipe"][key] != theirs["recipe"][key]
    ]
    if ours["label_names"] != theirs["label_names"]:
        different.append(
            f"dataset.label_names: the model has {ours['label_names']}, "
            f"the data {theirs['label_names']}"
        )
    if different:
        raise ValueError(
            f"{where} was built for another model. {'; '.join(different)}. "
            "Build the data with the model's config, or train on this data."
        )


def check_same_contract(trained_on: Manifest, given: Manifest, *, where: str) -> None:
    """Refuse data that a model was not made for, or not trained on.

    Args:
      trained_on: the manifest of the model's own data set.
      given: the manifest of the data set that it is to score.
      where: the folder of that data set, for errors.

    Raises:
      ValueError: recipe or labels differ, which the message names, or the rows do.
    """
    check_same_recipe(trained_on, given, where=where)
    if trained_on.fingerprint != given.fingerprint:
        raise ValueError(
            f"{where} is not the data set that the model was trained on: its rows or its split "
            "differ, so that the model may have seen photographs of its validation or test split. "
            "Give the folder that drtfx-train was given, or a build of the same input."
        )


def some(names: Sequence[str], most: int = 5) -> str:
    """Return the first names and the number of the others, as part of a sentence."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _ordered(items: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Return the items in this order, and any others after them."""
    known = [key for key in order if key in items]
    return {key: items[key] for key in [*known, *(key for key in items if key not in known)]}
