"""Byte-identical files, which may not be parted by a split: who they are, and what is said of them.

They are called twins. Most often one photograph is there under two names, now and then with two
labels.
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
_AHEAD = 1024  # Files that they are given at a time: a file that waits takes 1.5 kB.
_MANY = 1000  # Files from which on reading them is worth a word.


def find(found: pd.DataFrame, source: folders.Source) -> tuple[list[list[str]], str]:
    """Groups of ids whose files are byte-identical, and a digest of all that was read.

    Only files of equal size are read: a twentieth of some ten thousand photographs, but nearly all
    of some million, or of an array.
    """
    candidates = found[(found["size"] > 0) & found["size"].duplicated(keep=False)]
    if len(candidates) > _MANY:
        _LOG.info("reading %d files of equal size, to find identical ones", len(candidates))

    def digest(name: str) -> bytes:
        try:
            return hashlib.blake2b(source.read(name), digest_size=16).digest()
        except decoding.RejectedImage:
            return bytes(16)  # Has no twin; the build will say why.

    pieces = [np.empty((0, 2), np.uint64)]
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        for chunk in splits.chunks(candidates["name"]):
            for start in range(0, len(chunk), _AHEAD):
                read = b"".join(pool.map(digest, chunk[start : start + _AHEAD]))
                pieces.append(np.frombuffer(read, np.uint64).reshape(-1, 2))
    digests = np.concatenate(pieces)
    return group(candidates["id"], digests), hashlib.sha256(digests.tobytes()).hexdigest()


def group(ids: pd.Series, digests: np.ndarray) -> list[list[str]]:
    """Groups of ids with equal digests, uint64 (ids, 2), of which zeros are none."""
    again = pd.DataFrame(digests).duplicated(keep=False).to_numpy() & digests.any(axis=1)
    same: dict[bytes, list[str]] = collections.defaultdict(list)
    for digest, photograph in zip(digests[again], ids[again], strict=True):
        same[digest.tobytes()].append(photograph)
    return sorted(sorted(names) for names in same.values())


def describe(found: pd.DataFrame, twins: Sequence[Sequence[str]]) -> tuple[dict[str, Any], ...]:
    """Ids, labels and splits of every group, as the manifest has them."""
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
    """Names byte-identical files that contradict each other or are on both sides of a split."""
    for twin in twins:
        if len(set(twin["labels"])) > 1:
            _LOG.warning("byte-identical files %(ids)s have different labels %(labels)s", twin)
        if len(set(twin["splits"])) > 1:
            _LOG.warning("byte-identical files %(ids)s are in different splits %(splits)s", twin)
