"""Recipes: the ways from the bytes of a file to the picture that a model sees.

A recipe is a pure function from a file's bytes to a uint8 RGB array (size, size, 3). Both the build
job and the scoring of raw photographs call `apply_recipe`, so that they cannot drift apart. Some
recipes show the slices beside a slice too (`takes_neighbours`): `series` says which they are, and
`neighbour` makes of each what `apply_recipe` is given.

Each recipe is one line of `RECIPES`: its geometry, its photometry and the gate that judges whether
a photograph can be graded. What a recipe gives never changes, because data sets and models are made
with it: another behaviour is another line, whose name is added to `specs.Recipe.name`.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from dr_tfx.config import specs
from dr_tfx.machine import budget, resources
from dr_tfx.preprocessing import decoding, fingerprint, geometry, photometry, quality

# Bytes that the threads of a process have for decoded photographs: those of a camera are prepared
# by all cores at once, huge ones a few at a time.
_PIXELS = budget.Budget(max(2 << 30, resources.cores() << 28))
_COST = 12  # Bytes a pixel: the photograph, and its copies in other colours.


class Picture(NamedTuple):
    """A photograph as the model sees it."""

    rgb: np.ndarray  # uint8 (size, size, 3).
    ungradable: str = ""  # Why the gate flagged the photograph; "" if it did not.
    box: geometry.Box = geometry.Box()  # The part of the photograph that `rgb` shows.
    fingerprint: bytes = b""  # What `fingerprint.of` returned of the decoded photograph.
    # The file did not say which value is white, so that the highest one is: `decoding.is_spread`.
    is_spread: bool = False
    sides: tuple[int, int] = (0, 0)  # Width and height of the file's pixels as they are stored.
    shape: tuple[int, int] = (0, 0)  # Height and width of the photograph as it was decoded.
    substituted: int = 0  # Neighbours in whose place the slice itself is shown.


@dataclasses.dataclass(frozen=True)
class Steps:
    """The parts of a recipe.

    Attributes:
      geometry: which part of the photograph is shown, and how it becomes a square.
      photometry: which of its values are shown, and with which contrast.
      gate: judges a decoded photograph, uint8 BGR (height, width, 3); None for files of which
        nothing is known that would make them ungradable.
      kept: JPEG files are decoded at the smallest fraction that keeps so many times the size of
        the shorter side; None for the full resolution.
      neighbours: blue is not the slice itself but the mean of the slices before and after it.
      frames: each frame of a DICOM file is a picture of its own, as the slices of a series are;
        else the first one is the picture of the file.
    """

    geometry: geometry.Geometry
    photometry: photometry.Photometry
    gate: Callable[[np.ndarray], quality.Assessment] | None = None
    kept: float | None = None
    neighbours: bool = False
    frames: bool = False


RECIPES = {
    # The published preprocessing, bit for bit: full-size CLAHE, bilinear resize to a square.
    "reference": Steps(geometry.STRETCHED, photometry.CLAHE, gate=quality.assess),
    "fundus": Steps(geometry.RETINA, photometry.CLAHE, gate=quality.assess, kept=1),
    # The same retina in the camera's own colours.
    "retina": Steps(geometry.RETINA, photometry.PLAIN, gate=quality.assess, kept=1),
    # The surroundings of the optic disc, in which glaucoma shows.
    "disc": Steps(geometry.DISC, photometry.CLAHE, gate=quality.assess, kept=3),
    # A photograph as it is, resized to a square.
    "plain": Steps(geometry.STRETCHED, photometry.PLAIN, gate=quality.assess),
    # A head CT: windows of its Hounsfield units as the three channels.
    "ct": Steps(geometry.WHOLE, photometry.CT, frames=True),
    # The head alone, and pictures of a CT besides, whose grey stands for every window.
    "ct_windows": Steps(geometry.HEAD, photometry.CT_OR_PICTURE, frames=True),
    # The same, but the third window shows the mean of the slices before and after it.
    "ct_neighbours": Steps(geometry.HEAD, photometry.CT_OR_PICTURE, neighbours=True, frames=True),
}


def takes_neighbours(recipe: specs.Recipe) -> bool:
    """Return whether a recipe shows the slices beside a slice, so that it has to be given them."""
    return RECIPES[recipe.name].neighbours


def takes_frames(recipe: specs.Recipe) -> bool:
    """Return whether each frame of a DICOM file is a picture of its own."""
    return RECIPES[recipe.name].frames


def neighbour(
    opened: contextlib.AbstractContextManager[bytes], recipe: specs.Recipe
) -> np.ndarray | None:
    """Return a neighbouring slice as `apply_recipe` takes it; None if the file gives none.

    Args:
      opened: gives the bytes of its file, which are not needed any longer than this takes.
      recipe: one that shows neighbours.

    Returns:
      uint8 (height, width), through the window of the third channel.
    """
    with contextlib.suppress(decoding.RejectedImage), opened as data:
        width, height = decoding.image_size(data)
        with _PIXELS.taken(_COST * width * height):
            decoded = decoding.decode(data)
            shown = RECIPES[recipe.name].photometry.window(decoded, recipe)
            return np.ascontiguousarray(shown[..., 0])
    return None


def apply_recipe(
    data: bytes, recipe: specs.Recipe, neighbours: Sequence[np.ndarray | None] = ()
) -> Picture:
    """Return the picture that a recipe makes of a file.

    The gate decides whether there is a picture, never what its pixels are.

    Args:
      data: the file's bytes.
      recipe: its name and its settings.
      neighbours: what `neighbour` returned of the slices before and after this one, for a recipe
        that shows them. The slice itself stands in for one that is None, or has another size, and
        for both if there are none.

    Raises:
      RejectedImage: `unreadable` or `too_large`; `no_hounsfield_units` where the recipe `ct` is
        given anything but a CT, or another one of CT anything but a CT or a picture; where
        `recipe.quality_gate` is `reject`, `ungradable:` and what the gate says, such as
        `ungradable:black`.
    """
    width, height = decoding.image_size(data)
    with _PIXELS.taken(_COST * width * height):
        picture = _apply(data, recipe, RECIPES[recipe.name], neighbours)
    return picture._replace(sides=(width, height))


def _apply(
    data: bytes,
    recipe: specs.Recipe,
    steps: Steps,
    neighbours: Sequence[np.ndarray | None],
) -> Picture:
    """Return the picture that the steps of a recipe make of a file; see `apply_recipe`."""
    at_least = None if steps.kept is None else math.ceil(steps.kept * recipe.size)
    decoded = decoding.decode(data, at_least=at_least)
    shown = steps.photometry.window(decoded, recipe)
    ungradable = _judge(shown, steps, recipe)
    printed = _fingerprint(
        data, shown, steps, recipe
    )  # Before `enhance`, which may overwrite `shown`.
    crop = steps.geometry.crop(shown)
    box = crop.box(*shown.shape[:2])
    substituted = 0
    if steps.neighbours:  # Only now, as the slice alone says where the head is.
        shown, substituted = _with_neighbours(shown, neighbours)
    square = crop.cut(shown)
    reads = steps.geometry.reads(square, recipe.size)
    enhanced = steps.photometry.enhance(square, recipe, reads)
    bgr = steps.geometry.resize(enhanced, recipe.size)
    as_greys = steps.photometry.window is photometry.displayed or isinstance(decoded, np.ndarray)
    is_spread = as_greys and decoding.is_spread(decoded)
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    shape = (shown.shape[0], shown.shape[1])
    return Picture(rgb, ungradable, box, printed, is_spread, shape=shape, substituted=substituted)


def _with_neighbours(
    shown: np.ndarray, neighbours: Sequence[np.ndarray | None]
) -> tuple[np.ndarray, int]:
    """Return a slice with its neighbours' mean as blue, and how often it stands in for one.

    Args:
      shown: the slice through its windows, uint8 BGR (height, width, 3).
      neighbours: none, or what `neighbour` returned of the slices before and after it.
    """
    own = shown[..., 0]
    usable = [one if one is not None and one.shape == own.shape else None for one in neighbours]
    before, after = (own if one is None else one for one in usable or (None, None))
    mean = (before.astype(np.uint16) + after + 1) >> 1
    between = np.dstack([mean.astype(np.uint8), shown[..., 1:]])
    return between, 2 - sum(one is not None for one in usable)


def show(data: bytes, *, at_least: int | None = None) -> np.ndarray:
    """Return a file as people see it, uint8 RGB (height, width, 3): no recipe is applied.

    Args:
      data: the file's bytes. A DICOM frame is shown through the window that the file names.
      at_least: the pixels that the shorter side has to keep; None for the full size.

    Raises:
      RejectedImage: `unreadable` or `too_large`.
    """
    width, height = decoding.image_size(data)
    with _PIXELS.taken(_COST * width * height):
        shown = decoding.displayed(decoding.decode(data, at_least=at_least))
        return cv2.cvtColor(shown, cv2.COLOR_BGR2RGB)


def _fingerprint(data: bytes, shown: np.ndarray, steps: Steps, recipe: specs.Recipe) -> bytes:
    """Return the fingerprint of a photograph, for which a small recipe may decode too little."""
    if steps.kept is not None and min(shown.shape[:2]) < fingerprint.AT_LEAST:
        decoded = decoding.decode(data, at_least=fingerprint.AT_LEAST)
        shown = steps.photometry.window(decoded, recipe)
    return fingerprint.of(shown)


def _judge(bgr: np.ndarray, steps: Steps, recipe: specs.Recipe) -> str:
    """Return why the recipe's gate flags a photograph, or "".

    Raises:
      RejectedImage: it does, and the settings say that such photographs are rejected.
    """
    if steps.gate is None or recipe.quality_gate == "off":
        return ""
    assessment = steps.gate(bgr)
    if assessment.ungradable and recipe.quality_gate == "reject":
        raise decoding.RejectedImage(f"ungradable:{assessment.ungradable}", str(assessment))
    return assessment.ungradable
