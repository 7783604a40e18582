"""Copies: photographs that are one, in other bytes, found by their fingerprints.

What two photographs have in common besides being of the same kind, such as the round field and its
shading, is taken away: a fingerprint is compared by its detail, the difference from its own blurred
self, within the lit field. Details of copies correlate above SAME, those of others hardly at all,
so that the threshold lies in a wide gap; `docs/concepts/splits.md` has the error rates.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from dr_tfx.preprocessing import fingerprint

SAME = 0.955  # Correlation from which on two photographs are copies of one.
OTHER = 0.8  # Below, they show something else. In between may be one eye, photographed twice.
_MIN_DETAIL = 1.0  # Grey levels: a flat photograph has no detail by which it could be known.
_BLUR = 2.0  # Sigma in pixels of the fingerprint.
_SIDE = fingerprint.SIDE
_BRIGHT = int(0.95 * fingerprint.BYTES)  # The place of the bright end among the sorted levels.
_GAUSS = np.exp(-0.5 * (np.subtract.outer(np.arange(_SIDE), np.arange(_SIDE)) / _BLUR) ** 2)
_GAUSS = _GAUSS.astype(np.float32) / np.float32(_BLUR * np.sqrt(2 * np.pi))
_CLIP = 2.0  # Standard deviations: one bright spot does not decide.
_BLOCK = 4096  # Photographs whose details are worked on at a time.

# Candidates for groups share all bits of a band: the signs of their details' projections on random
# directions (Charikar 2002). Details that correlate by SAME share a sign with a chance of .90, the
# 15 bits of a band among 35,000 photographs with .22, and at least one of 64 bands with more than
# .9999999; the 19 bits of a band among a million with .15, and at least one with .99996.
_BANDS = 64
_ENOUGH = 8  # Copies of a photograph in a band, after which no more are looked for.


def details(fingerprints: np.ndarray) -> np.ndarray:
    """Return what fingerprints are compared by.

    Args:
      fingerprints: uint8 (photographs, fingerprint.BYTES).

    Returns:
      float32 (photographs, fingerprint.BYTES) of length 1, whose products are correlations; zeros
      for photographs without detail, which have no copies.
    """
    result = np.empty(fingerprints.shape, np.float32)
    for start in range(0, len(result), _BLOCK):
        some = fingerprints[start : start + _BLOCK].astype(np.float32)
        result[start : start + _BLOCK] = _details(some)
    return result


def _details(levels: np.ndarray) -> np.ndarray:
    count = len(levels)
    bright = np.partition(levels, _BRIGHT, axis=1)[:, _BRIGHT]
    lit = levels > np.maximum(12, 0.1 * bright)[:, None]
    images, fields = levels.reshape(-1, _SIDE, _SIDE), _inner(lit.reshape(-1, _SIDE, _SIDE))
    share = np.maximum(_blurred(fields.astype(np.float32)), 1e-3)
    # At the edge, half of what is blurred lies outside: the weight falls to 0 there.
    weight = np.clip(2 * share - 1, 0, 1)
    detail = (images - _blurred(images * fields) / share) * weight
    detail = detail.reshape(count, -1)
    inner = np.maximum((detail != 0).sum(axis=1, keepdims=True), 1)
    deviation = np.sqrt((detail**2).sum(axis=1, keepdims=True) / inner)
    detail = np.clip(detail / np.maximum(deviation, _MIN_DETAIL), -_CLIP, _CLIP)
    detail[deviation[:, 0] < _MIN_DETAIL] = 0
    return detail / np.maximum(np.linalg.norm(detail, axis=1, keepdims=True), 1e-6)


def _blurred(images: np.ndarray) -> np.ndarray:
    """Return images, float32 (photographs, side, side), after a Gaussian of sigma _BLUR."""
    for _ in range(2):  # Each turn blurs along one side and exchanges the sides.
        images = (images.reshape(-1, _SIDE) @ _GAUSS).reshape(images.shape).swapaxes(1, 2)
    return images


def _inner(fields: np.ndarray) -> np.ndarray:
    """Return fields, bool (photographs, side, side), without what touches their surround.

    A pixel at the edge of the field is as much of the surround as of the photograph.
    """
    inner = np.zeros_like(fields)
    inner[:, 1:-1, 1:-1] = True
    for down in range(3):
        for right in range(3):
            moved = fields[:, down : down + _SIDE - 2, right : right + _SIDE - 2]
            inner[:, 1:-1, 1:-1] &= moved
    return inner


def groups(fingerprints: np.ndarray) -> list[np.ndarray]:
    """Return the groups of photographs that are copies of one another.

    Copies of copies are in one group. The time grows with the photographs, not with their pairs.

    Args:
      fingerprints: uint8 (photographs, fingerprint.BYTES).

    Returns:
      For each group the places of its photographs, int, in order.
    """
    known, keys = _packed(fingerprints)
    pairs = [np.empty((0, 2), np.int64)]
    for band in keys:
        pairs.extend(_copies_in_band(known, band))
    one, other = np.concatenate(pairs).T
    count = len(known)
    graph = sparse.coo_array((np.ones(len(one), bool), (one, other)), (count, count))
    _, group_of = csgraph.connected_components(graph, directed=False)
    order = np.argsort(group_of, kind="stable")
    ends = np.cumsum(np.bincount(group_of))
    return [places for places in np.split(order, ends[:-1]) if len(places) > 1]


def matches(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the pairs of photographs of two sets that are copies.

    All pairs are compared, a block at a time.

    Args:
      here: fingerprints, uint8 (photographs, fingerprint.BYTES).
      there: other fingerprints.

    Returns:
      int (pairs, 2), places in `here` and in `there`, in order.
    """
    found = [np.empty((0, 2), np.int64)]
    for i, block in _blocks(here):
        ours = details(block)
        for k, other in _blocks(there):
            found.append(np.argwhere(ours @ details(other).T >= SAME) + np.array([i, k]))
    pairs = np.concatenate(found)
    return pairs[np.lexsort(pairs.T[::-1])]


def correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return how the details of two sets of photographs correlate, row by row.

    Args:
      one: fingerprints, uint8 (photographs, fingerprint.BYTES).
      other: as many.

    Returns:
      float32 (photographs,), NaN where a photograph has no detail.
    """
    found = [np.empty(0, np.float32)]
    for start, some in _blocks(one):
        found.append(_correlations(details(some), details(other[start : start + _BLOCK])))
    return np.concatenate(found)


def _packed(fingerprints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return details as int8 (photographs, fingerprint.BYTES), and their keys in every band.

    The keys are uint32 (_BANDS, photographs).
    """
    count, width = fingerprints.shape
    bits = max(8, int(np.log2(max(1, count))))
    directions = np.random.default_rng(0).standard_normal((width, _BANDS * bits), np.float32)
    weights = 1 << np.arange(bits, dtype=np.uint32)
    known, keys = np.empty((count, width), np.int8), np.empty((_BANDS, count), np.uint32)
    for start, some in _blocks(fingerprints):
        block = details(some)
        signs = (block @ directions > 0).reshape(len(block), _BANDS, bits)
        keys[:, start : start + _BLOCK] = (signs @ weights).T
        largest = np.maximum(np.abs(block).max(axis=1, keepdims=True), 1e-6)
        known[start : start + _BLOCK] = np.rint(block * (127 / largest))
    return known, keys


def _copies_in_band(known: np.ndarray, keys: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pairs of copies, int (pairs, 2), among the photographs that share a key.

    Each is compared with the next of its key, then with the next but one, and so on, until it has
    _ENOUGH copies: a thousand copies of one photograph are one group without all of their pairs.
    """
    has_detail = np.flatnonzero(known.any(axis=1))
    order = has_detail[np.argsort(keys[has_detail], kind="stable")]
    keys = keys[order]
    first, copies, step = np.arange(len(order)), np.zeros(len(order), np.int32), 0
    while len(first):
        step += 1
        first = first[first + step < len(order)]
        first = first[(keys[first] == keys[first + step]) & (copies[first] < _ENOUGH)]
        for start in range(0, len(first), _BLOCK):
            some = first[start : start + _BLOCK]
            one, other = order[some], order[some + step]
            is_copy = _correlations(known[one], known[other]) >= SAME
            copies[some] += is_copy
            yield np.stack([one, other], axis=1)[is_copy]


def _correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the correlations of details, row by row; NaN where one has none."""
    one, other = one.astype(np.float32), other.astype(np.float32)
    with np.errstate(invalid="ignore"):
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        return np.einsum("ij,ij->i", one, other) / lengths


def _blocks(fingerprints: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(fingerprints), _BLOCK):
        yield start, fingerprints[start : start + _BLOCK]
