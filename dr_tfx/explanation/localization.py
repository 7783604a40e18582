"""Measures of heat maps against masks, which tell whether the maps point at lesions. No model.

All of them compare with chance inside the retina. Nothing points at the black surround by accident,
and counting it would make any map that lies on the retina look good.

* Pointing game (Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016,
  https://arxiv.org/abs/1608.00507): a map hits if its highest place lies on a lesion or within
  `TOLERANCE` of one. Chance is the hit rate of a place drawn at random from the retina. It exceeds
  the lesions' share of the retina, because the same tolerance applies.
* Energy (Wang et al., "Score-CAM", CVPR 2020 Workshops, https://arxiv.org/abs/1910.01279): the
  share of the map's sum that lies on lesions. Chance is the lesions' share of the retina.

Lesions lie in some parts of a retina rather than in others. So a map that always lights up the same
part may beat chance and say nothing about the photograph. Therefore maps are also compared with the
map of another photograph, which the caller chooses.
"""

from typing import NamedTuple

import cv2
import numpy as np

TOLERANCE = 0.03  # A share of the retina's width: Zhang's 15 pixels on pictures of 500.


class Pointing(NamedTuple):
    """The figures of one heat map against one mask, and what chance gives.

    Attributes:
      hit: 1 or 0; 0 for a map without evidence.
      hit_chance: the hit rate of a random place, 0 to 1.
      energy: 0 to 1; 0 for a map without evidence.
      area: the energy of a map that is the same everywhere, 0 to 1.
    """

    hit: float
    hit_chance: float
    energy: float
    area: float


class LesionTarget:
    """The lesions of one photograph, ready to be compared with any number of heat maps."""

    def __init__(self, lesions: np.ndarray, retina: np.ndarray):
        """Measure the distance of every place from the lesions.

        Args:
          lesions: bool (height, width).
          retina: bool (height, width). Lesions and maps outside of it do not count.

        Raises:
          ValueError: there is no lesion in the retina.
        """
        self.shape = (retina.shape[0], retina.shape[1])
        lesions = lesions & retina
        if not lesions.any():
            raise ValueError("no pixel of the mask lies in the retina: nothing to point at")
        self._retina, self._lesions, size = retina, lesions, retina.sum()
        distance = cv2.distanceTransform(
            (~lesions).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
        )
        self._near = distance <= TOLERANCE * 2 * np.sqrt(size / np.pi)  # A disc's diameter.
        self.area = float(lesions.sum() / size)
        self.hit_chance = float((self._near & retina).sum() / size)

    def measure(self, heatmap: np.ndarray) -> Pointing:
        """Return the figures of a heat map, float (height, width), with no value below 0."""
        inside = np.where(self._retina, heatmap, 0)
        total = float(inside.sum(dtype=np.float64))
        hit = energy = 0.0
        if total > 0:
            hit = float(self._near.flat[int(inside.argmax())])
            energy = float(inside[self._lesions].sum(dtype=np.float64)) / total
        return Pointing(hit, self.hit_chance, energy, self.area)


def is_outside(heatmap: np.ndarray, retina: np.ndarray) -> bool:
    """Tell whether the middle of a map's highest place is on the dark surround of the retina.

    Args:
      heatmap: float32 (h, w) with no value below 0, at any resolution.
      retina: bool (height, width), where the picture that the map covers is lit.

    Returns:
      False if the map has no evidence, or the picture no retina.
    """
    if not heatmap.any() or not retina.any():
        return False
    cells = np.argwhere(heatmap == heatmap.max())
    middles = (cells + 0.5) * (np.array(retina.shape) / heatmap.shape)
    return not retina[tuple(middles.astype(int).T)].any()
