"""Who is in train, validation and test, and which shard an example belongs to.

Everything here is a pure function of the rows and the `Split`: no clock, no process-dependent hash.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from dr_tfx import specs

SPLITS = ("train", "validation", "test")


def stable_hash(*parts: object) -> int:
    """A 64-bit integer of the parts' text, the same in every process and on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def patients(ids: pd.Series, pattern: str) -> pd.Series:
    """The patient of each photograph: the pattern's first group, else the photograph's own id."""
    if not pattern:
        return ids.copy()
    return ids.str.extract(pattern, expand=True).iloc[:, 0].fillna(ids)


def assign(
    rows: pd.DataFrame, split: specs.Split, twins: Iterable[Iterable[str]] = ()
) -> pd.Series:
    """The split of every row.

    Args:
      rows: columns `id` (unique), `patient`, `label`, in the order of the CSV.
      split: method, fractions, strata and seed.
      twins: groups of ids whose files are byte-identical; kept in one split by both methods.

    Returns:
      A Series of "train" | "validation" | "test", aligned with `rows`.

    Raises:
      ValueError: too few photographs or patients to split.
    """
    strata = np.asarray(split.strata or range(int(rows["label"].max()) + 1))[rows["label"]]
    if split.method == "image":
        assigned = _hold_out(pd.Series(strata, index=rows.index), split)
        return _reunite_twins(assigned, rows["id"], strata=strata, twins=twins)
    groups = _merge_twins(rows, twins)
    by_group = pd.Series(strata, index=groups.to_numpy()).groupby(level=0, sort=False).max()
    return groups.map(_hold_out(by_group, split)).set_axis(rows.index)


def _hold_out(strata: pd.Series, split: specs.Split) -> pd.Series:
    """Splits the index of `strata`, stratified, by scikit-learn: first test, then validation."""
    result = pd.Series("train", index=strata.index, name="split")
    rest = strata
    for name, fraction in (
        ("test", split.test),
        ("validation", split.validation / (1 - split.test)),
    ):
        if fraction == 0:
            continue
        if len(rest) < 2:
            raise ValueError(
                f"{len(strata)} patients or photographs are too few to hold out {name}; "
                "add photographs or lower config.dataset.split fractions."
            )
        _, held = train_test_split(
            rest.index.to_numpy(dtype=object),
            test_size=fraction,
            stratify=_stratifiable(rest, fraction),
            random_state=split.seed,
        )
        result.loc[held] = name
        rest = rest.drop(held)
    return result


def _stratifiable(strata: pd.Series, fraction: float) -> pd.Series | None:
    """`strata` with single members joined to the commonest stratum; None if too few for any."""
    counts = strata.value_counts()
    joined = strata.where(strata.map(counts) > 1, counts.index[0])
    smallest_side = min(fraction, 1 - fraction) * len(strata)
    enough = joined.nunique() <= int(smallest_side) and joined.value_counts().min() > 1
    return joined if enough else None


def _reunite_twins(
    assigned: pd.Series, ids: pd.Series, *, strata: np.ndarray, twins: Iterable[Iterable[str]]
) -> pd.Series:
    """Brings byte-identical files that scikit-learn parted into one split.

    Each that moves changes places with the photograph of its stratum in that split whose hash is
    lowest, so that every count stays what it was.
    """
    result = assigned.copy()
    index_of = pd.Series(ids.index, index=ids.to_numpy(dtype=object))
    groups = [[i for i in group if i in index_of.index] for group in twins]
    free = ids[~ids.isin([i for group in groups for i in group])]
    order = free.map(lambda i: stable_hash("twin", i)).sort_values().index
    stratum = pd.Series(strata, index=ids.index)
    for group in groups:
        members = [index_of[i] for i in sorted(group)]
        home = next(s for s in SPLITS if s in set(result[members])) if members else ""
        for member in (m for m in members if result[m] != home):
            fits = order[(result[order] == home) & (stratum[order] == stratum[member])]
            if len(fits):
                result[fits[0]] = result[member]
            result[member] = home
    return result


def _merge_twins(rows: pd.DataFrame, twins: Iterable[Iterable[str]]) -> pd.Series:
    """The patient of every row, patients that share a byte-identical file counting as one."""
    patient_of = dict(zip(rows["id"], rows["patient"], strict=True))
    leader: dict[str, str] = {}

    def find(patient: str) -> str:
        while patient in leader:
            patient = leader[patient]
        return patient

    for group in twins:
        first, *others = sorted({find(patient_of[i]) for i in group if i in patient_of}) or [""]
        for other in others:
            leader[other] = first
    return rows["patient"].map(find)


def shard_rows(rows: pd.DataFrame, *, shard_examples: int) -> dict[str, pd.DataFrame]:
    """Rows by shard name, `<split>-<label>.tfrecord-SSSSS-of-NNNNN`.

    Within a split and label, rows are dealt by the order of a hash of their id, so that each shard
    is a fair sample, and sorted by id within the shard.

    Args:
      rows: columns `id`, `split`, `label`.
      shard_examples: most rows in a shard.
    """
    shards = {}
    order = rows["id"].map(lambda i: stable_hash("shard", i))
    for name in SPLITS:
        for label in sorted(rows["label"].unique()):
            members = rows[(rows["split"] == name) & (rows["label"] == label)]
            if members.empty:
                continue
            members = members.loc[order[members.index].sort_values().index]
            count = -(-len(members) // shard_examples)
            for i, part in enumerate(np.array_split(np.arange(len(members)), count)):
                shard = f"{name}-{label}.tfrecord-{i:05d}-of-{count:05d}"
                shards[shard] = members.iloc[part].sort_values("id")
    return shards
