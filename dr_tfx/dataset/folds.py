"""Views of a data set with folds: one fold is tested, the next selects, the others train.

A build deals all photographs to folds once. Each run sees them through its own view, a manifest
with the usual splits `train`, `validation` and `test` over the same files. What is selected, such
as an epoch or a threshold, is selected on `validation`, so that no fold that is tested takes part
in a choice.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from dr_tfx.dataset import manifest, splits
from dr_tfx.dataset.manifest import Manifest


def roles(data: Manifest, fold: int) -> dict[str, str]:
    """Return the split of a view that each fold of a data set is in, by the fold's name.

    Args:
      data: the manifest of a build with folds.
      fold: the number of the fold that is tested; or EVERY_FOLD, see `every`.
    """
    names = splits.names_of(data.dataset.split)
    if fold == manifest.EVERY_FOLD:
        return dict.fromkeys(names, "train")
    held_out = {names[fold]: "test", names[(fold + 1) % len(names)]: "validation"}
    return {name: held_out.get(name, "train") for name in names}


def view(data: Manifest, fold: int, *, where: str) -> Manifest:
    """Return a data set as a run on one of its folds sees it.

    Args:
      data: the manifest of a build.
      fold: the number of the fold that is tested; -1 for a data set without folds, which is
        returned as it is.
      where: its folder, for errors.

    Raises:
      ValueError: the data set has folds and `fold` names none of them, or the reverse.
    """
    count = data.dataset.split.folds
    if not count and fold == -1:
        return data
    if not 0 <= fold < count:
        raise ValueError(
            f"{where} has {count} folds. Say which one is tested, --fold=0 to --fold={count - 1}, "
            "or run drtfx-crossvalidate, which tests each in its turn."
            if count
            else f"{where} has no folds, of which --fold={fold} could be tested. Build it with "
            "--config.dataset.split.folds, or leave out --fold."
        )
    return _as(data, fold, roles(data, fold))


def every(data: Manifest) -> Manifest:
    """Return a data set as the models of all its folds together were trained on it: all of it.

    Args:
      data: the manifest of a build with folds, or a view of one.
    """
    return _as(data, manifest.EVERY_FOLD, dict.fromkeys(data.parts, "train"))


def _as(data: Manifest, fold: int, role: Mapping[str, str]) -> Manifest:
    """Return a data set whose splits have other names, by their names so far."""
    counts: dict[str, dict[str, int]] = {}
    patients: dict[str, int] = {}
    for split in splits.SPLITS:  # The order of the manifest.
        mine = [name for name in role if role[name] == split]
        of_labels = [data.counts[name] for name in mine if name in data.counts]
        if of_labels:
            labels = data.dataset.label_names
            counts[split] = {one: sum(c.get(one, 0) for c in of_labels) for one in labels}
            # No patient has photographs in several folds, so that they can be added up.
            patients[split] = sum(data.patients.get(name, 0) for name in mine)
    return dataclasses.replace(
        data,
        fold=fold,
        counts=counts,
        patients=patients,
        shards=tuple(dataclasses.replace(s, split=role[s.split]) for s in data.shards),
        twins=tuple(_seen(twin, role) for twin in data.twins),
        near_twins=tuple(_seen(twin, role) for twin in data.near_twins),
    )


def load_trained_on(trained_on: Manifest, data_dir: Path) -> Manifest:
    """Return the data set that a model was trained on, as its training saw it.

    Args:
      trained_on: the manifest in the model's bundle.
      data_dir: the folder of the data set.

    Raises:
      FileNotFoundError: there is no data set.
      ValueError: it is another one; see `manifest.check_same_contract`.
    """
    data = manifest.load(data_dir)
    manifest.check_same_contract(trained_on, data, where=str(data_dir))
    if trained_on.fold == manifest.EVERY_FOLD:
        return every(data)
    return view(data, trained_on.fold, where=str(data_dir))


def _seen(twin: Mapping[str, list], role: Mapping[str, str]) -> dict[str, list]:
    return {**twin, "splits": [role[name] for name in twin["splits"]]}
