"""Byte-identical files, called twins, which no split may separate.

Most often they are one photograph under two names, now and then with two labels.
"""

import collections
import concurrent.futures
import hashlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from beam_jobs.sources import folders
from dr_tfx.dataset import splits
from dr_tfx.preprocessing import decoding

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
        try:
            return hashlib.blake2b(source.read(name), digest_size=16).digest()
        except decoding.RejectedImage:
            return bytes(16)  # Such a file has no twin, and the build will reject it.

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


def describe(found: pd.DataFrame, twins: Sequence[Sequence[str]]) -> tuple[dict[str, Any], ...]:
    """Return ids, labels and splits of every group, as the manifest has them."""
    is_twin = found["id"].isin([i for ids in twins for i in ids])
    by_id = found[is_twin].set_index("id")
    return tuple(
        {
            "ids": ids,
            "labels": by_id.loc[list(ids), "label"].tolist(),
            "splits": by_id.loc[list(ids), "split"].tolist(),
        }
        for ids in twins
    )


def warn(twins: Iterable[dict[str, Any]]) -> None:
    """Log the twins that have different labels or are in different splits."""
    for twin in twins:
        if len(set(twin["labels"])) > 1:
            _LOG.warning("byte-identical files %(ids)s have different labels %(labels)s", twin)
        if len(set(twin["splits"])) > 1:
            _LOG.warning("byte-identical files %(ids)s are in different splits %(splits)s", twin)
