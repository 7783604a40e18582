"""Leakage: photographs and patients that are on both sides of an evaluation.

A model that has seen a patient in training is tested on its memory. The manifest of a data set
names the patients and photographs that are in several of its splits (`within`). Photographs from
elsewhere may be training data after all: `with_training` reads the shards of both once, and
compares the prepared pixels and the names of the patients.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from dr_tfx.dataset import manifest, records, splits

_MADE = {  # Split -> the beginning of a sentence about what it did to the model.
    "train": "The model was trained on",
    "validation": "The model's checkpoint, threshold and calibration were chosen on",
}


def within(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the splits of one data set share.

    Args:
      contract: a manifest as plain types.

    Returns:
      A dict of `shared_patients`, a count; `patients`, the first of their names; and `twins`, the
      byte-identical photographs in several splits, each with ids, labels and splits.
    """
    parted = [dict(twin) for twin in contract["twins"] if len(set(twin["splits"])) > 1]
    return {
        "shared_patients": contract["shared_patients"],
        "patients": list(contract.get("shared_names", ())),
        "twins": parted,
    }


def alarms(shared: Mapping[str, Any]) -> list[str]:
    """Return sentences about what `within` found; an empty list is good news."""
    found, count = [], shared["shared_patients"]
    if count:
        names = shared["patients"]
        named = f": {', '.join(names[:5])}{' ...' if count > 5 else ''}" if names else ""
        found.append(
            f"{count:,} patients have photographs in more than one split{named}. The model is "
            "tested on patients that it was trained on."
        )
    if shared["twins"]:
        groups = [
            " = ".join(f"{i} ({s})" for i, s in zip(twin["ids"], twin["splits"], strict=True))
            for twin in shared["twins"]
        ]
        found.append(
            f"{len(groups):,} groups of byte-identical photographs are in more than one split: "
            f"{'; '.join(groups[:5])}{' ...' if len(groups) > 5 else ''}."
        )
    return found


class PhotographIdentity(NamedTuple):
    """The facts by which a photograph is recognised, in a data set or from elsewhere."""

    id: str
    patient: str
    split: str
    digest: bytes  # The function `digest` of the prepared pixels.


def digest(rgb: np.ndarray) -> bytes:
    """Return a 128-bit digest of the pixels of an image, uint8 (size, size, 3)."""
    return hashlib.blake2b(np.ascontiguousarray(rgb).data, digest_size=16).digest()


def with_training(
    photographs: Iterable[PhotographIdentity], *, training_dir: Path, training: manifest.Manifest
) -> dict[str, Any]:
    """Return what photographs from elsewhere share with the data set of a model's training.

    The data set is read once. The memory holds a few words of every photograph from elsewhere.

    Args:
      photographs: photographs from elsewhere, prepared by the recipe of the training data.
      training_dir: folder of the training data, validation and test included.
      training: its manifest.

    Returns:
      A dict of `identical`, the photographs with equal prepared pixels: their id, and id and split
      of the training data; `photographs`, their number in each split of the training data; and
      `patients`, the names that occur in both, with the splits of the training data.

    Raises:
      ValueError: a shard is damaged.
    """
    here = list(photographs)
    ids: dict[bytes, list[str]] = {}
    for example in here:
        ids.setdefault(example.digest, []).append(example.id)
    splits_of: dict[str, set[str]] = {example.patient: set() for example in here}
    identical = []
    for other in examples(training_dir, training, title="look for known ones"):
        if other.patient in splits_of:
            splits_of[other.patient].add(other.split)
        identical += [
            {"id": i, "training_id": other.id, "split": other.split}
            for i in ids.get(other.digest, ())
        ]
    names = [{found["id"] for found in identical if found["split"] == s} for s in splits.SPLITS]
    return {
        "identical": sorted(identical, key=lambda found: (found["id"], found["training_id"])),
        "photographs": dict(zip(splits.SPLITS, map(len, names), strict=True)),
        "patients": [
            {"patient": patient, "splits": sorted(splits)}
            for patient, splits in sorted(splits_of.items())
            if splits
        ],
    }


def training_alarms(found: Mapping[str, Any]) -> list[str]:
    """Return sentences about what `with_training` found in the train and validation splits."""
    said = []
    for split, made in _MADE.items():
        mine = [f for f in found["identical"] if f["split"] == split]
        pairs = [f"{f['id']} = {f['training_id']}" for f in mine]
        if pairs:
            said.append(
                f"{made} {found['photographs'][split]:,} of these photographs: once prepared, they "
                f"are identical with photographs of its own {split} split, {manifest.some(pairs)}."
            )
    names = [
        f"{f['patient']} ({', '.join(f['splits'])})"
        for f in found["patients"]
        if not _MADE.keys().isdisjoint(f["splits"])
    ]
    if names:
        said.append(
            "Names of patients, or of photographs whose patient is not known, that are in the "
            f"model's own train or validation split, too ({len(names):,}): {manifest.some(names)}. "
            "If they are the same people, this is no test on new ones."
        )
    return said


def examples(
    folder: Path, data: manifest.Manifest, title: str = ""
) -> Iterator[PhotographIdentity]:
    """Yield the photographs of a data set; with a title, a progress bar has that title.

    Raises:
      ValueError: a shard is damaged.
    """
    total = sum(shard.records for shard in data.shards)
    with tqdm(total=total, desc=title, unit="image", disable=not title) as bar:
        for shard in data.shards:
            try:
                with (folder / shard.name).open("rb") as stream:
                    for serialized in records.read(stream):
                        yield _identity(records.parse(serialized), shard.split, data)
                        bar.update()
            except ValueError as error:
                raise ValueError(f"{folder / shard.name}: {error}") from error


def _identity(
    example: Mapping[str, Any], split: str, data: manifest.Manifest
) -> PhotographIdentity:
    recipe = data.dataset.recipe
    pixels = records.decode_image(example[records.IMAGE_ENCODED], recipe.encoding, recipe.size)
    patient = example[records.IMAGE_PATIENT].decode()
    return PhotographIdentity(example[records.IMAGE_ID].decode(), patient, split, digest(pixels))
