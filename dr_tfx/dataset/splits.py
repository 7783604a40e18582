"""Splits and shards: the assignment of examples to splits or folds, and to files.

Everything here is a pure function of the rows and the `Split`: there is no clock and no hash that
depends on the process. Tables may have tens of millions of rows. So strings are Arrow's, loops in
Python take a chunk at a time, and the rest is arrays of small integers.
"""

import dataclasses
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dr_tfx.config import seeds, specs

SPLITS = ("train", "validation", "test")
TEXT = pd.StringDtype("pyarrow")  # A column is one buffer, without a Python object per row.
_FRAME = r"(?i)\.dcm/frame_\d{4,}$"  # The end of the id of a frame.
_BEGINNINGS = {"train": "train", "valid": "validation", "test": "test"}  # And of what is longer.
_WORDS = {"val": "validation", "dev": "validation"}
CHUNK = 1 << 16  # This many rows are Python objects at the same time.


def names_of(split: specs.Split) -> tuple[str, ...]:
    """Return the names of the parts of a data set: SPLITS, or those of its folds."""
    return tuple(f"fold-{number}" for number in range(split.folds)) or SPLITS


def stable_hashes(values: pd.Series, *names: object) -> np.ndarray:
    """Return `seeds.stable_hash(*names, value)` of every value, as uint64."""
    hashes = np.empty(len(values), np.uint64)
    start = 0
    for chunk in chunks(values):
        hashes[start : start + len(chunk)] = [seeds.stable_hash(*names, value) for value in chunk]
        start += len(chunk)
    return hashes


def chunks(values: pd.Series) -> Iterator[list]:
    """Yield the values as lists of at most CHUNK Python objects."""
    for start in range(0, len(values), CHUNK):
        yield values.iloc[start : start + CHUNK].to_numpy(dtype=object).tolist()


def text(pieces: Iterable[list[str]]) -> pd.Series:
    """Join lists of strings, one after the other, to a Series of TEXT."""
    return joined([pa.array(piece, pa.large_string()) for piece in pieces])


def joined(pieces: Sequence[pa.Array]) -> pd.Series:
    """Join arrays of strings, one after the other, to a Series of TEXT."""
    # The pieces are combined, because Arrow would join them anew for every shard that is taken.
    whole = pa.chunked_array(pieces, pa.large_string()).combine_chunks()
    return pd.Series(pd.array(whole, dtype=TEXT))


def map_text(function: Callable[[str], str], values: pd.Series) -> pd.Series:
    """Apply a function to every string; return a Series of TEXT with a new index."""
    return text([function(value) for value in chunk] for chunk in chunks(values))


def patients(ids: pd.Series, pattern: str) -> pd.Series:
    """Return the patient of each photograph: the pattern's first group, else the id itself.

    The id of a frame of a DICOM file counts as that of its file, which is of one patient.
    """
    ids = ids.str.replace(_FRAME, "", regex=True)
    if not pattern:
        return ids
    search = re.compile(pattern).search

    def patient(photograph: str) -> str:
        found = search(photograph)
        group = found and found[1]
        return photograph if group is None else group

    return map_text(patient, ids).set_axis(ids.index)


def named(text: str) -> str:
    """Return the split that a text names: a value of a column, a file or a folder.

    `Training`, `val` and `b. Testing Set` name one; "" stands for none, and for several.
    """
    words = re.split(r"[^a-z]+", text.lower())
    found = {_WORDS[word] for word in words if word in _WORDS} | {
        split
        for word in words
        for beginning, split in _BEGINNINGS.items()
        if word.startswith(beginning)
    }
    return found.pop() if len(found) == 1 else ""


def assign(
    rows: pd.DataFrame, split: specs.Split, twins: Sequence[Sequence[str]] = ()
) -> pd.Series:
    """Assign every row to a split, or to a fold.

    Args:
      rows: columns `id` (unique), `patient`, `label`, in the order of the CSV; for the method
        'column', `official` too, the place in SPLITS.
      split: method, fractions, strata and seed.
      twins: groups of ids whose files are byte-identical. The methods 'patient' and 'image' keep
        them in one split; 'hash' looks at one patient at a time and cannot.

    Returns:
      A categorical Series of `names_of(split)`, aligned with `rows`.

    Raises:
      ValueError: too few photographs or patients to split.
    """
    if split.method == "external":
        return _as_splits(np.full(len(rows), SPLITS.index("test"), np.int8), rows.index)
    if split.method == "hash":
        codes, names = pd.factorize(rows["patient"])
        assigned = _by_hash(pd.Series(names), split)[codes]
        return _as_splits(assigned, rows.index, names_of(split))
    if split.method == "column":
        return _as_splits(_official(rows, split, twins), rows.index)
    stratum_of = np.asarray(split.strata or range(int(rows["label"].max()) + 1), np.int16)
    strata = stratum_of[rows["label"].to_numpy()]
    if split.method == "image":
        assigned = _hold_out(strata, split)
        _reunite_twins(assigned, rows["id"], strata=strata, twins=twins)
        return _as_splits(assigned, rows.index)
    groups = clusters(rows, twins)
    highest = np.full(groups.max() + 1, strata.min())
    np.maximum.at(highest, groups, strata)
    dealt = _deal(highest, split) if split.folds else _hold_out(highest, split)
    return _as_splits(dealt[groups], rows.index, names_of(split))


def _official(
    rows: pd.DataFrame, split: specs.Split, twins: Sequence[Sequence[str]]
) -> npt.NDArray[np.int8]:
    """Return the split that a data set has; what it lacks for validation is held out of train."""
    assigned = rows["official"].to_numpy(dtype=np.int8, copy=True)
    is_train = assigned == SPLITS.index("train")
    if is_train.any() and not (assigned == SPLITS.index("validation")).any():
        by_patient = dataclasses.replace(split, method="patient", column="", test=0.0)
        held = assign(rows[is_train], by_patient, twins)
        assigned[is_train] = held.cat.codes
    return assigned


def _as_splits(
    codes: npt.NDArray[np.int8], index: pd.Index, names: Sequence[str] = SPLITS
) -> pd.Series:
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(names)), index=index, name="split")


def _by_hash(patients: pd.Series, split: specs.Split) -> np.ndarray:
    """Return the place in `names_of(split)` of every patient, from nothing but seed and name."""
    # The place is in [0, 1]; its 64 bits are rounded to 53, which the fractions do not notice.
    place = stable_hashes(patients, "split", split.seed) / 2.0**64
    if split.folds:
        return np.minimum(place * split.folds, split.folds - 1).astype(np.int8)
    held = [place < split.test, place < split.test + split.validation]
    return np.select(held, [SPLITS.index("test"), SPLITS.index("validation")]).astype(np.int8)


def _hold_out(strata: np.ndarray, split: specs.Split) -> np.ndarray:
    """Return the place in SPLITS of every member, stratified by scikit-learn.

    First test is held out, then validation from the rest.

    Args:
      strata: the stratum of every member.
      split: fractions and seed.

    Raises:
      ValueError: there are too few members to hold out one.
    """
    result = np.zeros(len(strata), np.int8)
    from sklearn.model_selection import train_test_split  # Loads for a second, which few need.

    rest = np.arange(len(strata))
    for name, fraction in (
        ("test", split.test),
        ("validation", split.validation / (1 - split.test)),
    ):
        if fraction == 0:
            continue
        if len(rest) < 2:
            raise ValueError(
                f"too few patients to hold out {name}: {len(strata)}, where photographs without a "
                "patient, and all copies of one photograph, count as one each; add photographs "
                "or lower config.dataset.split fractions."
            )
        _, held = train_test_split(
            rest,
            test_size=fraction,
            stratify=_stratifiable(strata[rest], fraction),
            random_state=split.seed,
        )
        result[held] = SPLITS.index(name)
        rest = rest[result[rest] == 0]
    return result


def _deal(strata: np.ndarray, split: specs.Split) -> np.ndarray:
    """Return the fold of every member, stratified by scikit-learn.

    Args:
      strata: the stratum of every member.
      split: number of folds and seed.

    Raises:
      ValueError: there are fewer members than folds.
    """
    from sklearn.model_selection import StratifiedKFold  # Loads for a second, which few need.

    if len(strata) < split.folds:
        raise ValueError(
            f"{len(strata)} patients are too few for {split.folds} folds; add photographs or lower "
            "config.dataset.split.folds."
        )
    if np.bincount(strata - strata.min()).max() < split.folds:  # scikit-learn refuses these.
        strata = np.zeros_like(strata)
    result = np.empty(len(strata), np.int8)
    dealer = StratifiedKFold(split.folds, shuffle=True, random_state=split.seed)
    with warnings.catch_warnings():  # A rare stratum is not in every fold: the build tells that.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, members) in enumerate(dealer.split(strata, strata)):
            result[members] = number
    return result


def _stratifiable(strata: np.ndarray, fraction: float) -> np.ndarray | None:
    """Return `strata` with single members joined to the commonest; None if there are too few."""
    counts = pd.Series(strata).value_counts()
    single = np.isin(strata, counts.index[counts == 1])
    joined = np.where(single, counts.index[0], strata)
    _, members = np.unique(joined, return_counts=True)
    smallest_side = min(fraction, 1 - fraction) * len(strata)
    return joined if len(members) <= int(smallest_side) and members.min() > 1 else None


def _reunite_twins(
    assigned: np.ndarray, ids: pd.Series, *, strata: np.ndarray, twins: Sequence[Sequence[str]]
) -> None:
    """Bring byte-identical files that scikit-learn parted into one split, in place.

    A file that moves changes places with the photograph of its stratum in that split whose hash is
    lowest, so that every count stays what it was.
    """
    place_of, is_twin = _places(ids, twins)
    groups = [[place_of[i] for i in sorted(group) if i in place_of] for group in twins]
    parted = [group for group in groups if len(set(assigned[group])) > 1]
    if not parted:
        return
    free = np.flatnonzero(~is_twin)
    order = free[np.argsort(stable_hashes(ids.iloc[free], "twin"))]
    for group in parted:
        home = assigned[group].min()
        for member in group:
            if assigned[member] == home:
                continue
            fits = (assigned[order] == home) & (strata[order] == strata[member])
            if fits.any():
                assigned[order[fits.argmax()]] = assigned[member]
            assigned[member] = home


def clusters(rows: pd.DataFrame, twins: Sequence[Sequence[str]]) -> np.ndarray:
    """Number the patients of the rows 0, 1, ..., in the order in which they are first met.

    Patients that share a byte-identical file count as one.

    Args:
      rows: columns `id` (unique) and `patient`.
      twins: groups of ids whose files are byte-identical; ids that no row has are ignored.

    Returns:
      int (rows,), the number of each row's patient.
    """
    codes, _ = pd.factorize(rows["patient"])
    place_of, _ = _places(rows["id"], twins)
    if not place_of:
        return codes
    leader = np.arange(codes.max() + 1)  # Each patient leads to one met before, or to itself.

    def find(patient: int) -> int:
        while leader[patient] != patient:
            patient = leader[patient]
        return patient

    for group in twins:
        members = {find(codes[place_of[i]]) for i in group if i in place_of}
        for member in members:
            leader[member] = min(members)
    while (leader[leader] != leader).any():  # Until all lead to the first of their chain.
        leader = leader[leader]
    return np.unique(leader[codes], return_inverse=True)[1]


def _places(ids: pd.Series, groups: Sequence[Sequence[str]]) -> tuple[dict[str, int], np.ndarray]:
    """Return the row of each id of the groups that has a row, and a mask of these rows."""
    wanted = ids.isin([i for group in groups for i in group]).to_numpy(dtype=bool)
    places = np.flatnonzero(wanted)
    return dict(zip(ids.iloc[places], places.tolist(), strict=True)), wanted


def shard_rows(rows: pd.DataFrame, *, shard_examples: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield every shard's name, `<split>-<label>.tfrecord-SSSSS-of-NNNNN`, and its rows.

    Within a split and label, rows are dealt in the order of a hash of their id, so that each shard
    is a fair sample. Within the shard they are sorted by id.

    Args:
      rows: columns `id`, `split` (from `assign`) and `label`.
      shard_examples: the most rows in a shard.
    """
    names = rows["split"].cat.categories
    labels = int(rows["label"].max()) + 1
    kind = rows["split"].cat.codes.to_numpy().astype(np.int32) * labels + rows["label"].to_numpy()
    order = np.lexsort([stable_hashes(rows["id"], "shard"), kind])
    ends = np.cumsum(np.bincount(kind, minlength=len(names) * labels))
    for (split, label), members in zip(
        ((split, label) for split in names for label in range(labels)),
        np.split(order, ends[:-1]),
        strict=True,
    ):
        count = -(-len(members) // shard_examples)
        for i in range(count):
            # The sizes are those of np.array_split: as even as can be, the larger ones first.
            small, larger = divmod(len(members), count)
            first = i * small + min(i, larger)
            part = members[first : first + small + (i < larger)]
            name = f"{split}-{label}.tfrecord-{i:05d}-of-{count:05d}"
            yield name, rows.iloc[part].sort_values("id")
