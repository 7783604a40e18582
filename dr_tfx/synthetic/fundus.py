"""Synthetic colour fundus photographs with diabetic-retinopathy lesions.

The demo and the tests need no patient's data with them, and the pixels of every lesion are known.
`anatomy` draws the eye, this module its lesions; `data_set` writes whole data sets.

A photograph is a pure function of (seed, patient, eye, level, size, cup_to_disc): each part draws
from its own random stream, seeded by a stable hash of those names. The level reaches the lesions
only, so level 0 of an eye is the lesion-free version of the very same photograph, and nothing else
(brightness, noise, vessels, size, JPEG quality) can betray the grade. Changing a stream's name, or
the order of draws within it, changes every photograph.

Lengths are in units of the retina's radius, on axes fixed to the eye: the origin is the centre of
the field, x points to the nose, y down. Colours are RGB, 1.0 being the sensor's full scale; an
image in the making is planar, float32 [3, height, width], which NumPy works through much faster.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dr_tfx.config import seeds
from dr_tfx.synthetic import anatomy
from dr_tfx.synthetic.anatomy import Array, Canvas, Eye, Rng

# Microaneurysms, haemorrhages, hard exudates, soft exudates (cotton-wool spots), new vessels.
LESIONS = ("MA", "HE", "EX", "SE", "NV")
EYES = ("left", "right")
MIN_SIZE = 128  # Narrower, and a microaneurysm is smaller than a pixel.


@dataclass(frozen=True)
class DrawnFundus:
    """One synthetic photograph and the truth about it.

    Attributes:
      image: uint8 [height, width, 3], RGB, before JPEG compression.
      masks: lesion kind (one of `LESIONS`) -> bool [height, width]: the pixels that lesions of this
        kind changed. Kinds that are absent have no entry.
      disc: bool [height, width], the optic disc.
      cup: bool [height, width], the cup within it.
      field: bool [height, width], the round field of view.
      jpeg_quality: the JPEG quality of the patient's camera, 0 to 100.
    """

    image: npt.NDArray[np.uint8]
    masks: dict[str, npt.NDArray[np.bool_]]
    disc: npt.NDArray[np.bool_]
    cup: npt.NDArray[np.bool_]
    field: npt.NDArray[np.bool_]
    jpeg_quality: int


def _rng(*names: object) -> Rng:
    """Return the random stream of these names."""
    return np.random.default_rng(seeds.stable_hash("fundus", *names))


# The least and the most lesions (exudates: clusters) of each kind that a grade has, after the
# International Clinical Diabetic Retinopathy scale: Wilkinson et al., "Proposed international
# clinical diabetic retinopathy and diabetic macular edema disease severity scales", Ophthalmology
# 2003. Grade 1 has microaneurysms only. Grade 3 has more than 20 haemorrhages in each of four
# quadrants; here it has more than 20 in all, because they must be larger than life to be seen at
# all. Grade 4 adds new vessels.
_LESION_COUNTS: dict[int, dict[str, tuple[int, int]]] = {
    0: {},
    1: {"MA": (5, 9)},
    2: {"MA": (8, 16), "HE": (4, 9), "EX": (1, 3)},
    3: {"MA": (12, 20), "HE": (22, 34), "EX": (2, 4), "SE": (2, 5)},
    4: {"MA": (12, 20), "HE": (22, 34), "EX": (1, 4), "SE": (1, 4), "NV": (2, 3)},
}
_ABSORPTION = {"MA": (0.36, 0.66, 0.55), "HE": (0.42, 0.74, 0.66), "NV": (0.20, 0.58, 0.50)}
_SOFTNESS = {"HE": 0.004, "SE": 0.015}  # Width of the soft edge, retina radii.
_COLOUR = {"EX": np.array([1.0, 0.88, 0.40]), "SE": np.array([0.96, 0.83, 0.58])}


def _blob(
    rng: Rng, centre: Array, radius: float, *, stretch: float = 1.0, roughness: float = 0.2
) -> Array:
    """Return an irregular outline [points, 2]: an ellipse at a random angle, dented at random."""
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    outline = np.ones_like(angle)
    for waves in range(2, 6):
        height = rng.normal(0, roughness / waves**0.5 / 2)
        outline += height * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    outline = radius * outline.clip(0.3)
    x, y = outline * np.cos(angle) * stretch**0.5, outline * np.sin(angle) / stretch**0.5
    turn = rng.uniform(0, np.pi)
    cos, sin = math.cos(turn), math.sin(turn)
    return np.asarray(centre + np.stack([cos * x - sin * y, sin * x + cos * y], axis=1))


def _spots(rng: Rng, eye: Eye, count: int, *, nearest: float = 0.0) -> Array:
    """Choose places [count, 2] for lesions, in all directions, in view and clear of the disc.

    `nearest` is the least distance to the fovea.
    """
    margin = 0.1 * eye.camera.radius
    start = rng.uniform(0, 2 * np.pi)
    spots: list[Array] = []
    while len(spots) < count:
        angle = start + 2 * np.pi * (len(spots) + rng.uniform()) / count
        spot = 0.86 * math.sqrt(rng.uniform()) * np.array([math.cos(angle), math.sin(angle)])
        _, row = eye.pixels(spot)
        if (
            margin < row < eye.camera.height - margin
            and np.linalg.norm(spot - eye.disc) > 1.5 * eye.disc_radius
            and np.linalg.norm(spot - eye.fovea) > nearest
        ):
            spots.append(spot)
    return np.array(spots)


def _draw_microaneurysms(rng: Rng, eye: Eye, canvas: Canvas, count: int) -> None:
    # Real ones are half as wide; these are still there when the photograph is 96 pixels wide.
    for spot in _spots(rng, eye, count, nearest=0.12):
        canvas.polygons([_blob(rng, spot, rng.uniform(1 / 70, 1 / 50), roughness=0.1)])


def _draw_haemorrhages(rng: Rng, eye: Eye, canvas: Canvas, count: int) -> None:
    """Draw dots and blots, and flames, which are long and thin."""
    for spot in _spots(rng, eye, count, nearest=0.1):
        if rng.uniform() < 0.2:
            size, stretch = rng.uniform(0.025, 0.040), rng.uniform(2.5, 4.0)
        else:
            size, stretch = 0.022 + 0.045 * rng.uniform() ** 2, rng.uniform(1.0, 1.7)
        shade = int(rng.integers(165, 256))
        canvas.polygons([_blob(rng, spot, size, stretch=stretch, roughness=0.25)], value=shade)


def _draw_preretinal(rng: Rng, eye: Eye, canvas: Canvas) -> None:
    """Draw blood held before the retina: a boat with a level upper edge."""
    (spot,) = _spots(rng, eye, 1, nearest=0.2)
    half, depth = rng.uniform(0.14, 0.24), rng.uniform(0.12, 0.20)
    t = np.linspace(0, np.pi, 40)
    hull = np.stack([half * np.cos(t), depth * np.sin(t)], axis=1)
    canvas.polygons([spot + hull * (1 + 0.02 * rng.standard_normal(hull.shape))])


def _draw_exudates(rng: Rng, eye: Eye, canvas: Canvas, count: int) -> None:
    """Draw clusters of waxy specks; some lie on an arc round the macula."""
    for spot in _spots(rng, eye, count, nearest=0.15):
        specks = int(rng.integers(20, 45))
        if rng.uniform() < 0.2:
            angle = rng.uniform(0, 2 * np.pi) + rng.uniform(0, rng.uniform(2, 5), specks)
            ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.16, 0.24)
            places = eye.fovea + ring + rng.normal(0, 0.018, ring.shape)
        else:
            places = spot + rng.normal(0, 1, (specks, 2)) * rng.uniform(0.03, 0.08, 2)
        for place in places:
            size = 0.006 + 0.017 * rng.uniform() ** 3
            canvas.polygons([_blob(rng, place, size, stretch=rng.uniform(1, 2), roughness=0.3)])


def _draw_cotton_wool(rng: Rng, eye: Eye, canvas: Canvas, count: int) -> None:
    for spot in _spots(rng, eye, count, nearest=0.25):
        size, stretch = rng.uniform(0.040, 0.075), rng.uniform(1.1, 1.8)
        outline = _blob(rng, spot, size, stretch=stretch, roughness=0.35)
        canvas.polygons([outline], value=int(rng.integers(170, 230)))


def _draw_new_vessels(rng: Rng, eye: Eye, canvas: Canvas, count: int) -> None:
    """Draw fronds of fine tangled vessels, the first at the disc, the others elsewhere."""
    roots = _spots(rng, eye, count, nearest=0.3)
    roots[0] = eye.disc + eye.disc_radius * rng.uniform(-0.7, 0.7, 2)
    for root in roots:
        tendrils = int(rng.integers(14, 24))
        start = root + rng.normal(0, 0.025, (tendrils, 2))
        heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 1.0, tendrils)
        length, bend = rng.uniform(0.12, 0.36, tendrils), rng.normal(0, 3.0, tendrils)
        paths = anatomy.grow(rng, start, heading, length=length, bend=bend)
        canvas.paths(
            paths, rng.uniform(0.007, 0.011, (tendrils, 1)).repeat(anatomy.PATH_POINTS, axis=1)
        )


_DRAW = {
    "MA": _draw_microaneurysms,
    "HE": _draw_haemorrhages,
    "EX": _draw_exudates,
    "SE": _draw_cotton_wool,
    "NV": _draw_new_vessels,
}


def _lesions(rng: Rng, eye: Eye, level: int) -> dict[str, Array]:
    """Draw lesions: kind -> opacity, float32 [height, width], exactly 0 where there is none."""
    opacities = {}
    for kind, (least, most) in _LESION_COUNTS[level].items():
        canvas = Canvas(eye)
        _DRAW[kind](rng, eye, canvas, int(rng.integers(least, most + 1)))
        if kind == "HE" and level == 4 and rng.uniform() < 0.5:
            _draw_preretinal(rng, eye, canvas)
        coverage = canvas.coverage(eye.camera.blur + _SOFTNESS.get(kind, 0))
        # Blur has endless tails. They are cut where they can no longer be seen, so that masks are
        # neither too wide nor too narrow.
        opacity = (1.25 * coverage - 0.25).clip(0)
        opacity[opacity < 0.06] = 0
        opacities[kind] = opacity
    return opacities


def photograph(
    *,
    seed: int,
    patient: int,
    eye: str,
    level: int,
    size: int = 640,
    cup_to_disc: float | None = None,
) -> DrawnFundus:
    """Draw one photograph.

    Args:
      seed: names the data set.
      patient: names the patient.
      eye: 'left' or 'right'.
      level: grade on the ICDR scale, 0 (none) to 4 (proliferative). It decides the lesions and
        nothing else.
      size: width, pixels. The height follows from the patient's camera.
      cup_to_disc: height of the optic disc's cup in heights of the disc, .1 to .95; it changes
        nothing else. None draws that of a healthy eye.

    Raises:
      ValueError: an argument is out of range.
    """
    _require(eye in EYES, f"eye is {eye!r}, expected one of {EYES}")
    _require(level in _LESION_COUNTS, f"level is {level!r}, expected a grade from 0 to 4")
    _require(size >= MIN_SIZE, f"size is {size!r}, expected a width of at least {MIN_SIZE} pixels")
    _require(
        cup_to_disc is None or 0.1 <= cup_to_disc <= 0.95,
        f"cup_to_disc is {cup_to_disc!r}, expected .1 to .95",
    )
    camera = anatomy.make_camera(_rng(seed, patient, "camera"), size)
    placed = anatomy.place_eye(_rng(seed, patient, eye, "anatomy"), camera, eye)
    image = anatomy.make_retina(_rng(seed, patient, eye, "retina"), placed)
    stream = _rng(seed, patient, "disc")
    disc, cup = anatomy.paint_disc(stream, placed, image, cup_to_disc=cup_to_disc)
    anatomy.paint_vessels(_rng(seed, patient, eye, "vessels"), placed, image)

    rim = anatomy.make_field(placed)
    field = rim > 0.5
    masks = {}
    for kind, opacity in _lesions(_rng(seed, patient, eye, "lesions"), placed, level).items():
        opacity *= field
        if kind in _COLOUR:
            anatomy.blend(image, 0.95 * opacity, _COLOUR[kind])
        else:
            anatomy.absorb(image, opacity, _ABSORPTION[kind])
        masks[kind] = opacity > 0

    light = rim * anatomy.make_light(_rng(seed, patient, eye, "light"), placed)
    noise = _rng(seed, patient, eye, "noise").standard_normal(light.shape, np.float32)
    noise *= camera.noise * (0.2 + 0.8 * rim)
    pixels = np.empty((*light.shape, 3), np.uint8)
    for channel, plane in enumerate(image):
        pixels[..., channel] = (255 * (plane * light + noise)).clip(0, 255)
    return DrawnFundus(
        image=pixels,
        masks=masks,
        disc=disc & field,
        cup=cup & field,
        field=field,
        jpeg_quality=camera.jpeg_quality,
    )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
