"""Photographs as they are read, counted beside those of validation: see `statistics.drift`.

    watch = Watch(reference)
    watch.counted.add(watch.row(picture.rgb, reading))
    kind, sentence = told(drift.judge(reference, watch.counted))

Loads no TensorFlow.
"""

from collections.abc import Iterable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from dr_tfx import tasks
from dr_tfx.dataset import manifest
from dr_tfx.inference import plain_numbers
from dr_tfx.statistics import drift

PICTURES = ("red", "green", "blue", "contrast", "sharpness")
"""Numbers of a picture that tell a camera: the means of its colours, 0 to 255, the deviation of
its greys, and the logarithm to the base 2 of the variance of its Laplacian."""
UNGRADABLE = "ungradable:"
"""Begins the reason of a rejection by the quality gate."""
_GATE_OFF = "off"


def numbers_of(rgb: np.ndarray) -> npt.NDArray[np.float64]:
    """Return `PICTURES` of a picture, uint8 RGB (size, size, 3)."""
    plain = plain_numbers.of_pixels(rgb[np.newaxis])
    sharpness = np.log2(1 + plain[plain_numbers.SHARPNESS][0])
    return np.array([*cv2.mean(rgb)[:3], plain[plain_numbers.CONTRAST][0], sharpness])


def scores_of(readings: Iterable[tasks.Reading], names: Iterable[str]) -> npt.NDArray[np.float64]:
    """Return the watched numbers of readings, (n, names)."""
    columns = tuple(names)
    return np.array([[reading.answer[n] for n in columns] for reading in readings], np.float64)


def verdicts_of(data: manifest.Manifest) -> tuple[dict[str, int], int]:
    """Return how many photographs of a data set the quality gate refused or flagged, by why.

    And how many it has judged; 0 where there was no gate, or nobody knows.
    """
    if data.dataset.recipe.quality_gate == _GATE_OFF or data.prepared == manifest.ELSEWHERE:
        return {}, 0
    refused = {why: n for why, n in data.rejected.items() if why.startswith(UNGRADABLE)}
    both = refused or data.ungradable
    told = {why.removeprefix(UNGRADABLE): int(n) for why, n in both.items()}
    return told, data.written + sum(refused.values())


class Watch:
    """Makes rows of photographs, which are counted, and judges what is counted.

    Attributes:
      reference: what validation looked like.
    """

    def __init__(self, reference: drift.Reference):
        self.reference = reference

    def values(self, rgb: np.ndarray, reading: tasks.Reading) -> npt.NDArray[np.float64]:
        """Return the numbers of a photograph of which a row is made.

        Args:
          rgb: its picture, uint8 RGB (size, size, 3).
          reading: what the model says of it, with its features.
        """
        scores = scores_of([reading], self.reference.scores)[0]
        seen = reading.features
        along = self.reference.along(seen) if seen is not None else np.zeros(0)
        return np.concatenate([scores, numbers_of(rgb), along])

    def row(self, rgb: np.ndarray, reading: tasks.Reading) -> npt.NDArray[np.float64]:
        """Return what is counted of a photograph; see `values`."""
        return self.reference.row(self.values(rgb, reading))


def verdict_of(rejected: str) -> str | None:
    """Return the quality gate's verdict in the reason of a rejection; None for other reasons."""
    if not rejected.startswith(UNGRADABLE):
        return None
    return rejected.removeprefix(UNGRADABLE).partition(":")[0]


def told(judged: drift.Judged) -> tuple[str, str]:
    """Return 'calm', 'alarm' or 'note', and a sentence on whether camera or population are others.

    The picture's own numbers and the verdicts of the gate tell a camera. What the model sees and
    says may be others because of a camera, too, and tells a population where the pictures are the
    same.
    """
    n = judged.photographs
    if not judged.signals:
        return "note", (
            f"Too few photographs to tell: {n:,} were read, and at least {drift.FEWEST} are needed."
        )
    differing = judged.differing
    if not differing:
        return "calm", (
            f"Nothing shows that camera or population are others: {n:,} photographs, and no "
            "comparison with validation is beyond its limit."
        )
    if drift.PICTURES in differing:
        name = _most_moved(judged.means)
        sentence = (
            "The pictures themselves are others than those of validation, most of all their "
            f"{name}: another camera, other settings, or another way to take them is likely."
        )
        if {drift.SCORES, drift.FEATURES} & set(differing):
            sentence += (
                " What the model sees or says has changed with them; whether the population is "
                "another, too, cannot be told apart."
            )
        return "alarm", sentence
    if differing == [drift.QUALITY]:
        return "alarm", (
            "The quality gate refuses or flags another share of the photographs than in the data "
            "set: another camera, or another way to take them, is likely."
        )
    return "alarm", (
        "The pictures have the colours, contrast and sharpness of validation, but what the model "
        "sees or says of them is not the same: another population is likely, or a camera that "
        "differs in something else."
    )


def _most_moved(means: Mapping[str, tuple[float, float, float]]) -> str:
    """Return the number of a picture that has moved by most of its deviations."""
    moved = {name: abs(a - b) / (sd or 1) for name, (a, b, sd) in means.items()}
    return max(moved, key=lambda name: moved[name])
