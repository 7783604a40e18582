"""What photographs looked like to a model, as sums over the photographs of each patient."""

import dataclasses
import functools
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SCORES, FEATURES, PICTURES, QUALITY = "scores", "features", "pictures", "quality"
"""What is compared."""
_BINS = 10  # Of the scores of validation, with as many in each; fewer where there are ties.
_LEAST_OF_BIN = 8  # Photographs of validation in each.
_MOST_DIRECTIONS, _PATIENTS_EACH = 16, 10  # Of the features, as far as there are patients.
_NOTHING = 1e-9  # The share of the largest variance below which there is none.


@dataclasses.dataclass(frozen=True)
class Reference:
    """What the photographs of validation looked like to a model.

    Attributes:
      scores: names of the numbers that the model gives.
      edges: of each of them, what parts its bins, float64 (bins - 1,), increasing.
      pictures: names of the numbers of a picture.
      centre: mean of the features, float32 (channels,); no channels where there are none.
      directions: float32 (channels, k). Features less their centre have, by these, k numbers of
        variance 1: the principal components with most of it.
      patients: float64 (patients, columns): the sum over the photographs of each patient of the
        rows that `row` returns.
      verdicts: how many photographs of the data set the quality gate refused or flagged, by why.
      judged: how many it has judged; 0 where there was no gate.
    """

    scores: tuple[str, ...]
    edges: tuple[FloatArray, ...]
    pictures: tuple[str, ...]
    centre: npt.NDArray[np.float32]
    directions: npt.NDArray[np.float32]
    patients: FloatArray
    verdicts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    judged: int = 0

    def row(self, values: FloatArray) -> FloatArray:
        """Return what is summed up of a photograph: 1, and which bin each score is in, and so on.

        Args:
          values: scores, numbers of the picture and places along the directions, in this order.
        """
        bins = []
        for value, edges in zip(values, self.edges, strict=False):
            one = np.zeros(len(edges) + 1)
            one[np.searchsorted(edges, value, side="right")] = 1
            bins.append(one)
        return np.concatenate([[1.0], *bins, values[len(self.scores) :]])

    def along(self, features: npt.NDArray[np.float32]) -> FloatArray:
        """Return the places of the features of a photograph, (channels,), along the directions."""
        return np.asarray((features - self.centre) @ self.directions, np.float64)

    @functools.cached_property
    def parts(self) -> dict[str, slice]:
        """Where the columns of each score, of the pictures and of the features are in a row."""
        lengths = {
            name: len(edges) + 1 for name, edges in zip(self.scores, self.edges, strict=True)
        }
        lengths |= {PICTURES: len(self.pictures), FEATURES: self.directions.shape[1]}
        ends = 1 + np.cumsum([0, *lengths.values()])
        return {name: slice(*ends[i : i + 2]) for i, name in enumerate(lengths)}

    @functools.cached_property
    def sums(self) -> FloatArray:
        """All patients together."""
        return np.asarray(self.patients.sum(axis=0))


def reference(
    scores: Mapping[str, FloatArray],
    pictures: Mapping[str, FloatArray],
    features: npt.NDArray[np.float32],
    patients: npt.NDArray[np.int64],
    *,
    verdicts: Mapping[str, int],
    judged: int,
) -> Reference:
    """Return what photographs look like.

    Args:
      scores: the numbers that the model gives them, by name, each (n,).
      pictures: the numbers of the pictures, likewise.
      features: (n, channels), float32.
      patients: whose they are, (n,).
      verdicts: as in `Reference`.
      judged: likewise.
    """
    order, count = np.unique(patients, return_inverse=True)
    most = min(_MOST_DIRECTIONS, max(1, len(order) // _PATIENTS_EACH))
    centre = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    found = Reference(
        tuple(scores),
        tuple(_edges(values) for values in scores.values()),
        tuple(pictures),
        centre,
        _directions(features - centre, most),
        np.empty((len(order), 0)),
        dict(verdicts),
        judged,
    )
    told = np.stack([*scores.values(), *pictures.values()], axis=1)
    rows = np.stack(
        [
            found.row(np.concatenate([of_one, found.along(seen)]))
            for of_one, seen in zip(told, features, strict=True)
        ]
    )
    sums = np.zeros((len(order), rows.shape[1]))
    np.add.at(sums, count, rows)
    return dataclasses.replace(found, patients=sums)


def _edges(values: FloatArray) -> FloatArray:
    """Return what parts values into bins of as many."""
    bins = min(_BINS, max(2, len(values) // _LEAST_OF_BIN))
    edges = np.unique(np.quantile(values, np.arange(1, bins) / bins))
    return edges[(edges > values.min()) & (edges <= values.max())]


def _directions(centred: npt.NDArray[np.float32], most: int) -> npt.NDArray[np.float32]:
    """Return the principal directions of features (n, channels), scaled to a variance of 1."""
    x = centred.astype(np.float64)
    # There are fewer photographs than channels, as a rule.
    variances, weights = np.linalg.eigh(x @ x.T / max(1, len(x) - 1))
    kept = variances > max(_NOTHING * variances[-1], np.finfo(np.float64).tiny)
    variances, weights = variances[kept][::-1][:most], weights[:, kept][:, ::-1][:, :most]
    scaled: npt.NDArray[np.float32] = (
        x.T @ weights / (variances * math.sqrt(max(1, len(x) - 1)))
    ).astype(np.float32)
    return scaled
