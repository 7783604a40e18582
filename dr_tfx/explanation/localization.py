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

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

TOLERANCE = 0.03  # A share of the retina's width: Zhang's 15 pixels on pictures of 500.
NO_LESIONS = ("OD",)  # Folders of masks that are no lesions: OD is the optic disc.
_EXTENSIONS = (".png", ".tif")


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


def kinds(masks_dir: Path, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the kinds of lesions: those asked for, or every subfolder but NO_LESIONS, by name.

    Raises:
      ValueError: there is no such folder or subfolder, or none is left.
    """
    found = sorted(p.name for p in masks_dir.iterdir() if p.is_dir()) if masks_dir.is_dir() else []
    missing = [kind for kind in asked if kind not in found]
    chosen = tuple(asked) or tuple(kind for kind in found if kind not in NO_LESIONS)
    if missing or not chosen:
        raise ValueError(
            f"{masks_dir} has no folder {', '.join(missing) or 'of lesion masks'}; it has "
            f"{', '.join(found) or 'none'}. Expected one folder a kind of lesion, such as MA, HE, "
            "EX and SE, with a mask NAME.png or NAME_MA.png for each photograph that has it"
        )
    return chosen


def find_masks(masks_dir: Path, name: str, kinds: Sequence[str]) -> dict[str, Path]:
    """Return kind -> file of a photograph's masks. A lesion that is absent has no file."""
    found: dict[str, Path] = {}
    for kind in kinds:
        stems = (name, f"{name}_{kind}")
        paths = (masks_dir / kind / f"{stem}{end}" for stem in stems for end in _EXTENSIONS)
        if path := next(filter(Path.is_file, paths), None):
            found[kind] = path
    return found


def read_masks(paths: Mapping[str, Path], *, like: tuple[int, int]) -> dict[str, np.ndarray]:
    """Read the masks of one photograph.

    Args:
      paths: kind -> file.
      like: height and width of the photograph. Masks may be smaller, but of the same shape.

    Returns:
      Kind -> bool (height, width), all of one size.

    Raises:
      ValueError: a file cannot be read, or has another shape.
    """
    masks: dict[str, np.ndarray] = {}
    for kind, path in paths.items():
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
        if pixels is None:
            raise ValueError(f"{path} cannot be read as a picture; expected a mask, 0 or not 0")
        masks[kind] = pixels > 0
        (height, width), first = pixels.shape, next(iter(masks.values()))
        # The sides of the smaller of the two may be rounded.
        is_alike = abs(height * like[1] - width * like[0]) <= max(*like, height, width)
        if not is_alike or pixels.shape != first.shape:
            raise ValueError(
                f"{path} has {width}x{height} pixels; the photograph has {like[1]}x{like[0]}, and "
                f"its first mask {first.shape[1]}x{first.shape[0]}. Expected masks of one size and "
                "of the photograph's shape"
            )
    return masks
