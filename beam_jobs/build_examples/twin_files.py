"""Photographs that are there several times, which no split may separate.

Twins are byte-identical files: most often one photograph under two names, now and then with two
labels. Near twins are one photograph in different bytes: resized, compressed anew or cropped along
its dark border. Twins are found before the split is made, among files of equal size. Near twins are
known only once every photograph was decoded; `Plan.reunited` then makes the split anew.
"""

import collections
import concurrent.futures
import hashlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dr_tfx.dataset import copies, identities, manifest, splits
from dr_tfx.preprocessing import decoding
from dr_tfx.sources import folders

_LOG = logging.getLogger(__name__)
_READERS = 16  # Threads that read files to compare them; they mostly wait.
_AHEAD = 1024  # Files that are queued at a time; each takes 1.5 kB.
_MANY = 1000  # More files than this take long enough to be announced.


def find(found: pd.DataFrame, source: folders.Source) -> tuple[list[list[str]], str]:
    """Return groups of ids whose files are byte-identical, and a digest of all that was read.

    Only files of equal size are read: a twentieth of some ten thousand photographs, but nearly all
    of a million, or of an array.
    """
    candidates = found[(found["size"] > 0) & found["size"].duplicated(keep=False)]
    if len(candidates) > _MANY:
        _LOG.info("reading %d files of equal size, to find identical ones", len(candidates))

    def digest(name: str) -> bytes:
        hashed = hashlib.blake2b(digest_size=16)
        try:
            for block in source.blocks(name):
                hashed.update(block)
        except decoding.RejectedImage:
            return bytes(16)  # Such a file has no twin, and the build will reject it.
        return hashed.digest()

    pieces = [np.empty((0, 2), np.uint64)]
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        for chunk in splits.chunks(candidates["name"]):
            for start in range(0, len(chunk), _AHEAD):
                read = b"".join(pool.map(digest, chunk[start : start + _AHEAD]))
                pieces.append(np.frombuffer(read, np.uint64).reshape(-1, 2))
    digests = np.concatenate(pieces)
    return group(candidates["id"], digests), hashlib.sha256(digests.tobytes()).hexdigest()


def group(ids: pd.Series, digests: np.ndarray) -> list[list[str]]:
    """Return groups of ids with equal digests, uint64 (ids, 2). A digest of zeros has no equal."""
    again = pd.DataFrame(digests).duplicated(keep=False).to_numpy() & digests.any(axis=1)
    same: dict[bytes, list[str]] = collections.defaultdict(list)
    for digest, photograph in zip(digests[again], ids[again], strict=True):
        same[digest.tobytes()].append(photograph)
    return sorted(sorted(names) for names in same.values())


def find_near(written: identities.Identities, *, of_series: bool = False) -> list[list[str]]:
    """Return groups of ids of near twins, of which some may be byte-identical.

    Args:
      written: all photographs.
      of_series: whether they are slices of series. Those of one patient that look alike are then
        neighbours, and no copies.
    """
    ids = written.text("id").sort_values(kind="stable")  # Not the order of one split's shards.
    found = copies.groups(written.fingerprints[ids.index])
    if of_series:
        patient = written.text("patient")[ids.index]
        found = [group for group in found if patient.iloc[group].nunique() > 1]
    return sorted(sorted(ids.iloc[group]) for group in found)


def describe(found: pd.DataFrame, twins: Iterable[Sequence[str]]) -> tuple[dict[str, Any], ...]:
    """Return ids, labels and splits of every group, as the manifest has them."""
    groups = [list(ids) for ids in twins]
    is_twin = found["id"].isin([i for ids in groups for i in ids])
    by_id = found[is_twin].set_index("id")
    return tuple(
        {
            "ids": ids,
            "labels": by_id.loc[ids, "label"].tolist(),
            "splits": by_id.loc[ids, "split"].tolist(),
        }
        for ids in groups
    )


def warn(twins: Iterable[dict[str, Any]], what: str = "byte-identical files") -> None:
    """Log the twins that have different labels or are in different splits."""
    for twin in twins:
        if len(set(twin["labels"])) > 1:
            _LOG.warning(f"{what} %(ids)s have different labels %(labels)s", twin)
        if len(set(twin["splits"])) > 1:
            _LOG.warning(f"{what} %(ids)s are in different splits %(splits)s", twin)


def warn_near(near: Sequence[dict[str, Any]]) -> None:
    """Log that there are near twins, and those that have different labels or splits."""
    if near:
        _LOG.warning(
            "%d groups of photographs are one photograph each, resized, compressed anew or "
            "cropped: %s",
            len(near),
            manifest.some([" = ".join(twin["ids"]) for twin in near]),
        )
        warn(near, "copies of one photograph")
