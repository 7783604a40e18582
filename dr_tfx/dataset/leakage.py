"""Leakage: photographs and patients that are on both sides of an evaluation.

A model that has seen a patient in training is tested on its memory. The manifest of a data set
names the patients and photographs that are in several of its splits (`within`). Photographs from
elsewhere may be training data after all: `with_training` compares the identities of both, their
prepared pixels, their fingerprints and the names of the patients.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from dr_tfx.dataset import copies, manifest, splits
from dr_tfx.dataset.identities import Identities

_TWINS = {
    "twins": "byte-identical photographs",
    "near_twins": "copies of one photograph (resized, compressed anew or cropped)",
}
_MADE = {  # Split -> the beginning of a sentence about what it did to the model.
    "train": "The model was trained on",
    "validation": "The model's checkpoint, threshold and calibration were chosen on",
}


def within(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the splits of one data set share.

    Args:
      contract: a manifest as plain types.

    Returns:
      A dict of `shared_patients`, a count; `patients`, the first of their names; `twins`, the
      byte-identical photographs in several splits, each with ids, labels and splits; and
      `near_twins`, the same of copies that are resized, compressed anew or cropped.
    """
    return {
        "shared_patients": contract["shared_patients"],
        "patients": list(contract.get("shared_names", ())),
        "twins": _parted(contract["twins"]),
        "near_twins": _parted(contract["near_twins"]),
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
    for key, what in _TWINS.items():
        groups = [
            " = ".join(f"{i} ({s})" for i, s in zip(twin["ids"], twin["splits"], strict=True))
            for twin in shared[key]
        ]
        if groups:
            found.append(
                f"{len(groups):,} groups of {what} are in more than one split: "
                f"{'; '.join(groups[:5])}{' ...' if len(groups) > 5 else ''}."
            )
    return found


def with_training(here: Identities, training: Identities) -> dict[str, Any]:
    """Return what photographs from elsewhere share with the data set of a model's training.

    Args:
      here: photographs from elsewhere, prepared by the recipe of the training data.
      training: those of the training data, validation and test included.

    Returns:
      A dict of `copies`, the photographs that are in both: their id, id and split in the training
      data, and whether the prepared pixels are `identical`, and not only the photograph;
      `photographs`, their number in each split of the training data; and `patients`, the names that
      occur in both, with the splits of the training data and whether only the names are `alike`:
      photographs of the same name are there, and they show something else.
    """
    identical = _equal(pd.DataFrame(here.pixels), pd.DataFrame(training.pixels))
    pairs = copies.matches(here.fingerprints, training.fingerprints)
    pairs = np.unique(np.concatenate([identical, pairs]), axis=0)
    exact = set(map(tuple, identical.tolist()))
    ids, training_ids, split = here.text("id"), training.text("id"), training.text("split")
    found = [
        {
            "id": ids.iloc[i],
            "training_id": training_ids.iloc[k],
            "split": split.iloc[k],
            "identical": (i, k) in exact,
        }
        for i, k in pairs.tolist()
    ]
    names = [{one["id"] for one in found if one["split"] == s} for s in splits.SPLITS]
    return {
        "copies": sorted(found, key=lambda one: (one["id"], one["training_id"])),
        "photographs": dict(zip(splits.SPLITS, map(len, names), strict=True)),
        "patients": _patients(here, training, pairs),
    }


def _patients(here: Identities, training: Identities, pairs: np.ndarray) -> list[dict[str, Any]]:
    """Return the names of patients that occur in both, as `with_training` describes them."""
    patients, theirs = here.text("patient"), training.text("patient")
    shared = theirs.isin(patients.unique())
    splits_of = training.text("split")[shared].groupby(theirs[shared]).unique()
    by_name = _equal(here.text("id").to_frame(), training.text("id").to_frame())
    ours, other = by_name.T
    differ = copies.correlations(here.fingerprints[ours], training.fingerprints[other])
    only_names = set(patients.iloc[ours[differ < copies.OTHER]])
    only_names -= set(patients.iloc[ours[~(differ < copies.OTHER)]])
    copied, copied_from = patients.iloc[pairs[:, 0]], theirs.iloc[pairs[:, 1]]
    only_names -= {one for one, other in zip(copied, copied_from, strict=True) if one == other}
    return [
        {"patient": name, "splits": sorted(in_splits), "alike": name in only_names}
        for name, in_splits in splits_of.items()
    ]


def _equal(here: pd.DataFrame, training: pd.DataFrame) -> np.ndarray:
    """Return the pairs of rows with equal values, int (pairs, 2)."""
    ours = here.assign(here=np.arange(len(here)))
    both = ours.merge(training.assign(there=np.arange(len(training))), on=list(here.columns))
    return both[["here", "there"]].to_numpy()


def training_alarms(found: Mapping[str, Any]) -> list[str]:
    """Return sentences about what `with_training` found in the train and validation splits."""
    said = []
    for split, made in _MADE.items():
        mine = [f for f in found["copies"] if f["split"] == split]
        pairs = [f"{f['id']} = {f['training_id']}" for f in mine]
        if pairs:
            said.append(
                f"{made} {found['photographs'][split]:,} of these photographs: they are in its own "
                f"{split} split, as they are or resized, compressed anew or cropped, "
                f"{manifest.some(pairs)}."
            )
    names = [
        f"{f['patient']} ({', '.join(f['splits'])})"
        for f in found["patients"]
        if not f["alike"] and not _MADE.keys().isdisjoint(f["splits"])
    ]
    if names:
        said.append(
            "Names of patients, or of photographs whose patient is not known, that are in the "
            f"model's own train or validation split, too ({len(names):,}): {manifest.some(names)}. "
            "If they are the same people, this is no test on new ones."
        )
    return said


def training_notices(found: Mapping[str, Any]) -> list[str]:
    """Return sentences about what `with_training` found and what is no alarm."""
    names = [f["patient"] for f in found["patients"] if f["alike"]]
    if not names:
        return []
    return [
        f"{len(names):,} names of patients or photographs are in the model's own data set, too, "
        f"but the photographs of these names are others: {manifest.some(names)}. Most likely the "
        "numbering of the files begins again; if they are the same people, photographed again, "
        "this is no test on new ones."
    ]


def _parted(twins: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [dict(twin) for twin in twins if len(set(twin["splits"])) > 1]
