"""Synthetic colour fundus photographs with diabetic-retinopathy lesions.

They let the demo and the tests run without a patient's data, and the pixels of every lesion are
known. `dr_tfx.synthetic` writes whole data sets of them.

A photograph is a pure function of (seed, patient, eye, level, size): each part draws from its own
random stream, seeded by a stable hash of those names. The level reaches the lesions only, so level
0 of an eye is the lesion-free version of the very same photograph, and nothing else (brightness,
noise, vessels, size, JPEG quality) can betray the grade. Changing a stream's name, or the order of
draws within it, changes every photograph.

Lengths are in units of the retina's radius, on axes fixed to the eye: the origin is the centre of
the field, x points to the nose, y down. Colours are RGB, 1.0 being the sensor's full scale; an
image in the making is planar, float32 [3, height, width], which NumPy works through much faster.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dr_tfx import splits

# Microaneurysms, haemorrhages, hard exudates, soft exudates (cotton-wool spots), new vessels.
LESIONS = ("MA", "HE", "EX", "SE", "NV")
EYES = ("left", "right")
MIN_SIZE = 128  # Narrower, and a microaneurysm is smaller than a pixel.

_SUPERSAMPLE = 2
_SUBPIXEL_BITS = 4
_PATH_POINTS = 18  # Of a vessel.

Array = npt.NDArray[Any]
Rng = np.random.Generator


@dataclass(frozen=True)
class Photograph:
    """One synthetic photograph and the truth about it.

    Attributes:
      image: uint8 [height, width, 3], RGB, before JPEG compression.
      masks: lesion kind (one of `LESIONS`) -> bool [height, width]: the pixels that lesions of this
        kind changed. Kinds that are absent have no entry.
      field: bool [height, width], the round field of view.
      jpeg_quality: of the patient's camera, 0-100.
    """

    image: npt.NDArray[np.uint8]
    masks: dict[str, npt.NDArray[np.bool_]]
    field: npt.NDArray[np.bool_]
    jpeg_quality: int


@dataclass(frozen=True)
class _Camera:
    """What both photographs of a patient share: the camera, and the patient's pigmentation."""

    height: int
    width: int
    radius: float  # Of the field of view, pixels.
    blur: float  # Standard deviation of the optics' blur, retina radii.
    noise: float
    jpeg_quality: int
    retina: Array  # RGB of an evenly lit retina.


@dataclass(frozen=True)
class _Eye:
    """Where the parts of one eye are, and how the eye sits in the photograph."""

    camera: _Camera
    centre: Array  # Of the field, pixels (x, y).
    nasal: int  # +1 if the nose is on the right of the photograph (right eye), else -1.
    tilt: float  # Radians.
    fovea: Array
    disc: Array
    disc_radius: float

    def pixels(self, points: Array) -> Array:
        """Eye coordinates [..., 2] to pixel coordinates (x, y)."""
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        x, y = points[..., 0], points[..., 1]
        turned = np.stack([self.nasal * (cos * x - sin * y), sin * x + cos * y], axis=-1)
        return np.asarray(self.centre + self.camera.radius * turned)

    def grid(self, step: int) -> tuple[Array, Array]:
        """Eye coordinates x, y of every `step`-th pixel, each float32 [height/step, width/step]."""
        columns = (np.arange(0.5, self.camera.width / step) * step).astype(np.float32)
        rows = (np.arange(0.5, self.camera.height / step) * step).astype(np.float32)
        u, v = np.meshgrid(
            self.nasal * (columns - self.centre[0]) / self.camera.radius,
            (rows - self.centre[1]) / self.camera.radius,
        )
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return cos * u + sin * v, cos * v - sin * u


class _Canvas:
    """Anti-aliased shapes in eye coordinates, collected as coverage."""

    def __init__(self, eye: _Eye) -> None:
        self._eye = eye
        shape = (eye.camera.height * _SUPERSAMPLE, eye.camera.width * _SUPERSAMPLE)
        self._pixels = np.zeros(shape, np.uint8)

    def _fixed_point(self, points: Array) -> Array:
        # A pixel's centre is at .5 in our coordinates and at .0 in OpenCV's.
        scaled = self._eye.pixels(points) * _SUPERSAMPLE - 0.5
        return np.asarray(np.rint(scaled * 2**_SUBPIXEL_BITS), np.int32)

    def polygons(self, polygons: Sequence[Array], *, value: int = 255) -> None:
        """Fills each polygon, [points, 2]. A later one covers what it overlaps."""
        for polygon in polygons:
            points = self._fixed_point(polygon)
            cv2.fillPoly(self._pixels, [points], value, cv2.LINE_AA, _SUBPIXEL_BITS)

    def paths(self, paths: Array, widths: Array) -> None:
        """Strokes tapering lines: paths [n, points, 2], widths [n, points]. Thin ones are faint."""
        points = self._fixed_point(paths)
        thickness = np.rint(widths * self._eye.camera.radius * _SUPERSAMPLE).astype(int).clip(1)
        pieces = defaultdict(list)
        for path, sizes in zip(points, thickness, strict=True):
            for first in range(0, len(path) - 1, 3):
                pieces[int(sizes[first])].append(path[first : first + 4])
        for size in sorted(pieces):
            value = min(255, 90 + 45 * size)
            cv2.polylines(
                self._pixels, pieces[size], False, value, size, cv2.LINE_AA, _SUBPIXEL_BITS
            )

    def coverage(self, blur: float) -> Array:
        """float32 [height, width] in 0..1, softened by a Gaussian of `blur` retina radii."""
        camera = self._eye.camera
        small = cv2.resize(
            self._pixels, (camera.width, camera.height), interpolation=cv2.INTER_AREA
        )
        soft = cv2.GaussianBlur(small, (0, 0), blur * camera.radius)
        return soft.astype(np.float32) / 255


def _rng(*names: object) -> Rng:
    """The random stream of these names."""
    return np.random.default_rng(splits.stable_hash("fundus", *names))


def _camera(rng: Rng, size: int) -> _Camera:
    height = round(size / rng.choice([3 / 2, 3 / 2, 4 / 3]))
    # Above a half, the circle is cut off at the top and at the bottom.
    radius = height * rng.choice([0.48, rng.uniform(0.52, 0.60)])
    orange, pink, dark_red = (0.80, 0.43, 0.13), (0.76, 0.41, 0.27), (0.68, 0.27, 0.08)
    pigment = rng.dirichlet([1.2, 0.7, 0.8]) @ np.array([orange, pink, dark_red])
    return _Camera(
        height=height,
        width=size,
        radius=min(radius, 0.48 * size),
        blur=rng.uniform(0.003, 0.0055),
        noise=rng.uniform(0.006, 0.014),
        jpeg_quality=int(rng.integers(85, 96)),
        retina=(pigment * rng.uniform(0.85, 1.1)).astype(np.float32),
    )


def _eye(rng: Rng, camera: _Camera, side: str) -> _Eye:
    # About the proportions of a 45-degree field: the disc is 1.8 mm wide, and the fovea lies
    # 2.5 disc diameters to the temple and a little below it.
    fovea = rng.uniform([-0.20, -0.06], [0.06, 0.10])
    middle = np.array([camera.width, camera.height]) / 2
    return _Eye(
        camera=camera,
        centre=middle + rng.normal(0, 0.008, 2) * camera.radius,
        nasal=1 if side == "right" else -1,
        tilt=rng.normal(0, 0.06),
        fovea=fovea,
        disc=fovea + rng.uniform([0.64, -0.13], [0.74, -0.02]),
        disc_radius=rng.uniform(0.125, 0.155),
    )


def _blob(
    rng: Rng, centre: Array, radius: float, *, stretch: float = 1.0, roughness: float = 0.2
) -> Array:
    """An irregular closed outline [points, 2]: an ellipse at a random angle, dented at random."""
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


def _smooth_noise(rng: Rng, cells: int, shape: tuple[int, ...]) -> Array:
    """Standard normal values on a coarse square grid, interpolated to float32 [height, width]."""
    grid = rng.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


def _enlarge(eye: _Eye, small: Array) -> Array:
    """A smooth layer to the photograph's size, float32 [height, width]."""
    size = (eye.camera.width, eye.camera.height)
    large = cv2.resize(small.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(large)


def _retina(rng: Rng, eye: _Eye) -> Array:
    """The evenly lit retina without disc and vessels, float32 [3, height, width]."""
    x, y = eye.grid(4)  # All of it is smooth: a sixteenth of the pixels does.
    to_fovea = (x - eye.fovea[0]) ** 2 + (y - eye.fovea[1]) ** 2
    to_disc = (x - eye.disc[0]) ** 2 + (y - eye.disc[1]) ** 2
    mottling = sum(0.035 * _smooth_noise(rng, cells, x.shape) for cells in (5, 14, 40))
    macula = 0.22 * np.exp(-to_fovea / 0.06) + rng.uniform(0.15, 0.35) * np.exp(-to_fovea / 0.010)
    nerve_fibres = rng.uniform(0.1, 0.3) * np.exp(-to_disc / 0.12)
    # Green is what melanin and blood absorb: it varies most.
    response = (0.55, 1.0, 0.8)
    tone = (1 + mottling) * (1 - macula) * (1 + nerve_fibres)
    planes = [
        _enlarge(eye, base * (1 + (tone - 1) * share))
        for base, share in zip(eye.camera.retina, response, strict=True)
    ]
    return np.stack(planes)


def _light(rng: Rng, eye: _Eye) -> Array:
    """Uneven illumination and vignetting, float32 [height, width]."""
    x, y = eye.grid(4)
    square = x**2 + y**2
    direction = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.16) * (math.cos(direction) * x + math.sin(direction) * y)
    vignette = rng.uniform(0.10, 0.30) * square + 0.12 * square**4
    return _enlarge(eye, rng.uniform(0.9, 1.08) * (1 + slope - vignette).clip(0.2))


def _field(eye: _Eye) -> Array:
    """Coverage of the round field of view, float32 [height, width]."""
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    canvas = _Canvas(eye)
    canvas.polygons([np.stack([np.cos(angle), np.sin(angle)], axis=1)])
    return canvas.coverage(0.007)


def _paint_disc(rng: Rng, eye: _Eye, image: Array) -> None:
    """Paints the optic disc, a little taller than wide, and the paler cup within it."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ellipse = eye.disc_radius * np.stack([0.93 * np.cos(angle), 1.05 * np.sin(angle)], axis=1)
    cup_size, paleness = rng.uniform(0.3, 0.6), rng.uniform(0, 1)
    cup_centre = eye.disc - [0.12 * eye.disc_radius, 0]
    rim_colour = np.array([0.98, 0.70, 0.30]) + paleness * np.array([0, 0.04, 0.20])
    cup_colour = np.array([1.00, 0.86, 0.50]) + paleness * np.array([0, 0.03, 0.22])
    for outline, colour, blur, strength in (
        (eye.disc + ellipse, rim_colour, 0.014, 0.85),
        (cup_centre + cup_size * ellipse, cup_colour, 0.020, 0.9),
    ):
        canvas = _Canvas(eye)
        canvas.polygons([outline])
        _blend(image, strength * canvas.coverage(blur), colour)


def _blend(image: Array, alpha: Array, colour: Array) -> None:
    for plane, target in zip(image, colour, strict=True):
        plane += alpha * (np.float32(target) - plane)


def _absorb(image: Array, alpha: Array, absorption: Sequence[float]) -> None:
    for plane, share in zip(image, absorption, strict=True):
        plane *= 1 - alpha * np.float32(share)


def _grow(rng: Rng, start: Array, heading: Array, *, length: Array, bend: Array) -> Array:
    """Wandering lines [n, points, 2] from start [n, 2].

    They leave at the angle `heading` [n], turn by about `bend` [n] in all (radians), and are
    `length` [n] long.
    """
    shape = (len(start), _PATH_POINTS - 1)
    wander = np.cumsum(rng.normal(0, 0.14, shape), axis=1)
    angle = heading[:, None] + bend[:, None] * np.linspace(0, 1, shape[1]) + wander
    steps = np.stack([np.cos(angle), np.sin(angle)], axis=2) * length[:, None, None]
    return np.cumsum(np.concatenate([start[:, None], steps / shape[1]], axis=1), axis=1)


def _arcades(rng: Rng, eye: _Eye) -> Array:
    """The four trunks that leave the disc, [4, points, 2]: two temporal, two nasal.

    The temporal ones run along half an ellipse, so they curve round the macula.
    """
    s = np.linspace(0, 1, _PATH_POINTS)
    trunks = []
    for up in (-1, 1):
        waves = rng.uniform([6, 15], [10, 22])[:, None] * s + rng.uniform(0, 6, (2, 1))
        wave = s**0.5 * (rng.uniform([0.015, 0.004], [0.035, 0.012]) @ np.sin(waves))
        turn = s * rng.uniform(1.9, 2.5)
        x, y = rng.uniform(0.75, 1.0) * (np.cos(turn) - 1), rng.uniform(0.54, 0.74) * np.sin(turn)
        trunks.append(np.stack([x + 0.5 * wave, up * y + wave], axis=1))
        angle = up * (rng.uniform(1.0, 1.4) - rng.uniform(0.2, 0.8) * s) + wave
        nasal = np.stack([np.cos(angle), np.sin(angle)], axis=1) * s[:, None]
        trunks.append(rng.uniform(0.6, 0.9) * nasal)
    return eye.disc + rng.normal(0, 0.02, 2) + np.array(trunks)


def _vessel_tree(rng: Rng, eye: _Eye, width: float) -> list[tuple[Array, Array]]:
    """Generations of branches, trunks first: (paths [n, points, 2], widths [n, points])."""
    taper = np.linspace(1, 0.35, _PATH_POINTS)
    trunks = _arcades(rng, eye)
    girth = np.array([1, 0.7, 1, 0.7])[:, None] * rng.uniform(0.85, 1.1, (4, 1))
    generations = [(trunks, width * girth * taper)]
    for children, reach in ((5, 0.60), (4, 0.32), (2, 0.16)):
        paths, widths = generations[-1]
        n = len(paths)
        # One child in each stretch of the parent, to the left and to the right in turn.
        stretch = (_PATH_POINTS - 3) / children
        at = 2 + ((np.arange(children) + rng.uniform(0, 1, (n, children))) * stretch).astype(int)
        parent = np.arange(n)[:, None]
        tangent = paths[parent, at] - paths[parent, at - 1]
        side = np.where((np.arange(children) + rng.integers(0, 2, (n, 1))) % 2, 1, -1)
        # A branch leaves at an angle, then bends back to run along with its parent.
        away = side * rng.uniform(0.5, 1.1, side.shape)
        heading = np.arctan2(tangent[..., 1], tangent[..., 0]) + away
        branches = _grow(
            rng,
            paths[parent, at].reshape(-1, 2),
            heading.ravel(),
            length=reach * rng.uniform(0.5, 1.3, away.size),
            bend=away.ravel() * rng.normal(-0.6, 0.5, away.size),
        )
        thinner = (widths[parent, at] * rng.uniform(0.45, 0.7, side.shape)).reshape(-1, 1)
        generations.append((branches, thinner * taper))
    return generations


def _paint_vessels(rng: Rng, eye: _Eye, image: Array) -> None:
    """Paints veins (wider, darker), then arteries over them (thinner, lighter)."""
    x, y = eye.grid(4)
    avascular = np.exp(-((((x - eye.fovea[0]) ** 2 + (y - eye.fovea[1]) ** 2) / 0.016) ** 2))
    visible = _enlarge(eye, 1 - avascular)
    strength = rng.uniform(0.8, 1.1)
    for width, absorption in ((0.027, (0.26, 0.50, 0.42)), (0.020, (0.12, 0.38, 0.36))):
        canvas = _Canvas(eye)
        for paths, widths in reversed(_vessel_tree(rng, eye, width)):
            canvas.paths(paths, widths)
        _absorb(image, strength * visible * canvas.coverage(eye.camera.blur), absorption)


# How many of each lesion (exudates: clusters) a grade has, least and most, after the International
# Clinical Diabetic Retinopathy scale: Wilkinson et al., "Proposed international clinical diabetic
# retinopathy and diabetic macular edema disease severity scales", Ophthalmology 2003. 1 is
# microaneurysms only; 3 has more than 20 haemorrhages in each of four quadrants, here more than 20
# in all, as they must be larger than life to be seen at all; 4 adds new vessels.
_LESION_COUNTS: dict[int, dict[str, tuple[int, int]]] = {
    0: {},
    1: {"MA": (5, 9)},
    2: {"MA": (8, 16), "HE": (4, 9), "EX": (1, 3)},
    3: {"MA": (12, 20), "HE": (22, 34), "EX": (2, 4), "SE": (2, 5)},
    4: {"MA": (12, 20), "HE": (22, 34), "EX": (1, 4), "SE": (1, 4), "NV": (2, 3)},
}
_ABSORPTION = {"MA": (0.36, 0.66, 0.55), "HE": (0.42, 0.74, 0.66), "NV": (0.20, 0.58, 0.50)}
_SOFTNESS = {"HE": 0.004, "SE": 0.015}  # Of the edge, retina radii.
_COLOUR = {"EX": np.array([1.0, 0.88, 0.40]), "SE": np.array([0.96, 0.83, 0.58])}


def _spots(rng: Rng, eye: _Eye, count: int, *, nearest: float = 0.0) -> Array:
    """Places [count, 2] for lesions: spread over all directions, in view, clear of the disc.

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


def _draw_microaneurysms(rng: Rng, eye: _Eye, canvas: _Canvas, count: int) -> None:
    # Real ones are half as wide; these are still there when the photograph is 96 pixels wide.
    for spot in _spots(rng, eye, count, nearest=0.12):
        canvas.polygons([_blob(rng, spot, rng.uniform(1 / 70, 1 / 50), roughness=0.1)])


def _draw_haemorrhages(rng: Rng, eye: _Eye, canvas: _Canvas, count: int) -> None:
    """Draws dots and blots, and flames: long and thin."""
    for spot in _spots(rng, eye, count, nearest=0.1):
        if rng.uniform() < 0.2:
            size, stretch = rng.uniform(0.025, 0.040), rng.uniform(2.5, 4.0)
        else:
            size, stretch = 0.022 + 0.045 * rng.uniform() ** 2, rng.uniform(1.0, 1.7)
        shade = int(rng.integers(165, 256))
        canvas.polygons([_blob(rng, spot, size, stretch=stretch, roughness=0.25)], value=shade)


def _draw_preretinal(rng: Rng, eye: _Eye, canvas: _Canvas) -> None:
    """Draws blood held before the retina: a boat, its upper edge level."""
    (spot,) = _spots(rng, eye, 1, nearest=0.2)
    half, depth = rng.uniform(0.14, 0.24), rng.uniform(0.12, 0.20)
    t = np.linspace(0, np.pi, 40)
    hull = np.stack([half * np.cos(t), depth * np.sin(t)], axis=1)
    canvas.polygons([spot + hull * (1 + 0.02 * rng.standard_normal(hull.shape))])


def _draw_exudates(rng: Rng, eye: _Eye, canvas: _Canvas, count: int) -> None:
    """Draws clusters of waxy specks; some lie on an arc round the macula."""
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


def _draw_cotton_wool(rng: Rng, eye: _Eye, canvas: _Canvas, count: int) -> None:
    for spot in _spots(rng, eye, count, nearest=0.25):
        size, stretch = rng.uniform(0.040, 0.075), rng.uniform(1.1, 1.8)
        outline = _blob(rng, spot, size, stretch=stretch, roughness=0.35)
        canvas.polygons([outline], value=int(rng.integers(170, 230)))


def _draw_new_vessels(rng: Rng, eye: _Eye, canvas: _Canvas, count: int) -> None:
    """Draws fronds of fine tangled vessels, the first at the disc, the others elsewhere."""
    roots = _spots(rng, eye, count, nearest=0.3)
    roots[0] = eye.disc + eye.disc_radius * rng.uniform(-0.7, 0.7, 2)
    for root in roots:
        tendrils = int(rng.integers(14, 24))
        start = root + rng.normal(0, 0.025, (tendrils, 2))
        heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 1.0, tendrils)
        length, bend = rng.uniform(0.12, 0.36, tendrils), rng.normal(0, 3.0, tendrils)
        paths = _grow(rng, start, heading, length=length, bend=bend)
        canvas.paths(paths, rng.uniform(0.007, 0.011, (tendrils, 1)).repeat(_PATH_POINTS, axis=1))


_DRAW = {
    "MA": _draw_microaneurysms,
    "HE": _draw_haemorrhages,
    "EX": _draw_exudates,
    "SE": _draw_cotton_wool,
    "NV": _draw_new_vessels,
}


def _lesions(rng: Rng, eye: _Eye, level: int) -> dict[str, Array]:
    """Lesion kind -> opacity, float32 [height, width], exactly 0 where there is no lesion."""
    opacities = {}
    for kind, (least, most) in _LESION_COUNTS[level].items():
        canvas = _Canvas(eye)
        _DRAW[kind](rng, eye, canvas, int(rng.integers(least, most + 1)))
        if kind == "HE" and level == 4 and rng.uniform() < 0.5:
            _draw_preretinal(rng, eye, canvas)
        coverage = canvas.coverage(eye.camera.blur + _SOFTNESS.get(kind, 0))
        # Blur has endless tails. Cutting them where they can no longer be seen gives masks that
        # are neither too wide nor a lie.
        opacity = (1.25 * coverage - 0.25).clip(0)
        opacity[opacity < 0.06] = 0
        opacities[kind] = opacity
    return opacities


def photograph(*, seed: int, patient: int, eye: str, level: int, size: int = 640) -> Photograph:
    """Makes one photograph.

    Args:
      seed: names the data set.
      patient: names the patient.
      eye: 'left' or 'right'.
      level: grade on the ICDR scale, 0 (none) to 4 (proliferative). It decides the lesions and
        nothing else.
      size: width, pixels. The height follows from the patient's camera.

    Raises:
      ValueError: an argument is out of range.
    """
    _require(eye in EYES, f"eye is {eye!r}, expected one of {EYES}")
    _require(level in _LESION_COUNTS, f"level is {level!r}, expected a grade from 0 to 4")
    _require(size >= MIN_SIZE, f"size is {size!r}, expected a width of at least {MIN_SIZE} pixels")
    camera = _camera(_rng(seed, patient, "camera"), size)
    placed = _eye(_rng(seed, patient, eye, "anatomy"), camera, eye)
    image = _retina(_rng(seed, patient, eye, "retina"), placed)
    _paint_disc(_rng(seed, patient, "disc"), placed, image)
    _paint_vessels(_rng(seed, patient, eye, "vessels"), placed, image)

    rim = _field(placed)
    field = rim > 0.5
    masks = {}
    for kind, opacity in _lesions(_rng(seed, patient, eye, "lesions"), placed, level).items():
        opacity *= field
        if kind in _COLOUR:
            _blend(image, 0.95 * opacity, _COLOUR[kind])
        else:
            _absorb(image, opacity, _ABSORPTION[kind])
        masks[kind] = opacity > 0

    light = rim * _light(_rng(seed, patient, eye, "light"), placed)
    noise = _rng(seed, patient, eye, "noise").standard_normal(light.shape, np.float32)
    noise *= camera.noise * (0.2 + 0.8 * rim)
    pixels = np.empty((*light.shape, 3), np.uint8)
    for channel, plane in enumerate(image):
        pixels[..., channel] = (255 * (plane * light + noise)).clip(0, 255)
    return Photograph(image=pixels, masks=masks, field=field, jpeg_quality=camera.jpeg_quality)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
