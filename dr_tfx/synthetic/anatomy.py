"""A healthy synthetic eye before a camera, and the tools to draw on it.

The module draws a lit retina with optic disc and vessels. `fundus` adds the lesions and describes
units, axes and colours. Every function that takes a random stream draws from it in a fixed order;
another order changes every photograph.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

PATH_POINTS = 18  # Points of the line that is a vessel.

_SUPERSAMPLE = 2
_SUBPIXEL_BITS = 4
_SHARP = 0.001  # Of the blur of a mask, retina radii.

Array = npt.NDArray[Any]
Rng = np.random.Generator


@dataclass(frozen=True)
class Camera:
    """The camera and the pigmentation, which both photographs of a patient share."""

    height: int
    width: int
    radius: float  # Radius of the field of view, pixels.
    blur: float  # Standard deviation of the optics' blur, retina radii.
    noise: float
    jpeg_quality: int
    retina: Array  # RGB [3] of an evenly lit retina.


@dataclass(frozen=True)
class Eye:
    """The places of the parts of one eye, and the eye's place in the photograph."""

    camera: Camera
    centre: Array  # Centre of the field, pixels (x, y).
    nasal: int  # +1 if the nose is on the right of the photograph (right eye), else -1.
    tilt: float  # Radians.
    fovea: Array
    disc: Array
    disc_radius: float

    def pixels(self, points: Array) -> Array:
        """Turn eye coordinates [..., 2] into pixel coordinates (x, y)."""
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        x, y = points[..., 0], points[..., 1]
        turned = np.stack([self.nasal * (cos * x - sin * y), sin * x + cos * y], axis=-1)
        return np.asarray(self.centre + self.camera.radius * turned)

    def grid(self, step: int) -> tuple[Array, Array]:
        """Return x and y of every `step`-th pixel, each float32 [height/step, width/step]."""
        columns = (np.arange(0.5, self.camera.width / step) * step).astype(np.float32)
        rows = (np.arange(0.5, self.camera.height / step) * step).astype(np.float32)
        u, v = np.meshgrid(
            self.nasal * (columns - self.centre[0]) / self.camera.radius,
            (rows - self.centre[1]) / self.camera.radius,
        )
        cos, sin = math.cos(self.tilt), math.sin(self.tilt)
        return cos * u + sin * v, cos * v - sin * u


class Canvas:
    """Anti-aliased shapes in eye coordinates, collected as coverage."""

    def __init__(self, eye: Eye) -> None:
        self._eye = eye
        shape = (eye.camera.height * _SUPERSAMPLE, eye.camera.width * _SUPERSAMPLE)
        self._pixels = np.zeros(shape, np.uint8)

    def _fixed_point(self, points: Array) -> Array:
        # A pixel's centre is at .5 in our coordinates and at .0 in OpenCV's.
        scaled = self._eye.pixels(points) * _SUPERSAMPLE - 0.5
        return np.asarray(np.rint(scaled * 2**_SUBPIXEL_BITS), np.int32)

    def polygons(self, polygons: Sequence[Array], *, value: int = 255) -> None:
        """Fill each polygon, [points, 2]. A later one covers what it overlaps."""
        for polygon in polygons:
            points = self._fixed_point(polygon)
            cv2.fillPoly(self._pixels, [points], value, cv2.LINE_AA, _SUBPIXEL_BITS)

    def paths(self, paths: Array, widths: Array) -> None:
        """Stroke tapering lines: paths [n, points, 2], widths [n, points]. Thin ones are faint."""
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
        """Return the coverage softened by `blur` retina radii, float32 [height, width] in 0..1."""
        camera = self._eye.camera
        small = cv2.resize(
            self._pixels, (camera.width, camera.height), interpolation=cv2.INTER_AREA
        )
        soft = cv2.GaussianBlur(small, (0, 0), blur * camera.radius)
        return soft.astype(np.float32) / 255


def make_camera(rng: Rng, size: int) -> Camera:
    """Draw a patient's camera for photographs `size` pixels wide."""
    height = round(size / rng.choice([3 / 2, 3 / 2, 4 / 3]))
    # A radius above a half of the height cuts the circle off at the top and at the bottom.
    radius = height * rng.choice([0.48, rng.uniform(0.52, 0.60)])
    orange, pink, dark_red = (0.80, 0.43, 0.13), (0.76, 0.41, 0.27), (0.68, 0.27, 0.08)
    pigment = rng.dirichlet([1.2, 0.7, 0.8]) @ np.array([orange, pink, dark_red])
    return Camera(
        height=height,
        width=size,
        radius=min(radius, 0.48 * size),
        blur=rng.uniform(0.003, 0.0055),
        noise=rng.uniform(0.006, 0.014),
        jpeg_quality=int(rng.integers(85, 96)),
        retina=(pigment * rng.uniform(0.85, 1.1)).astype(np.float32),
    )


def place_eye(rng: Rng, camera: Camera, side: str) -> Eye:
    """Draw the anatomy of a 'left' or 'right' eye, and its place before the camera."""
    # The proportions are about those of a 45-degree field: the disc is 1.8 mm wide, and the fovea
    # lies 2.5 disc diameters to the temple and a little below it.
    fovea = rng.uniform([-0.20, -0.06], [0.06, 0.10])
    middle = np.array([camera.width, camera.height]) / 2
    return Eye(
        camera=camera,
        centre=middle + rng.normal(0, 0.008, 2) * camera.radius,
        nasal=1 if side == "right" else -1,
        tilt=rng.normal(0, 0.06),
        fovea=fovea,
        disc=fovea + rng.uniform([0.64, -0.13], [0.74, -0.02]),
        disc_radius=rng.uniform(0.125, 0.155),
    )


def _smooth_noise(rng: Rng, cells: int, shape: tuple[int, ...]) -> Array:
    """Draw normal values on a coarse square grid, interpolated to float32 [height, width]."""
    grid = rng.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


def _enlarge(eye: Eye, small: Array) -> Array:
    """Enlarge a smooth layer to the photograph's size, float32 [height, width]."""
    size = (eye.camera.width, eye.camera.height)
    large = cv2.resize(small.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(large)


def make_retina(rng: Rng, eye: Eye) -> Array:
    """Draw the evenly lit retina without disc and vessels, float32 [3, height, width]."""
    x, y = eye.grid(4)  # All of it is smooth, so a sixteenth of the pixels suffices.
    to_fovea = (x - eye.fovea[0]) ** 2 + (y - eye.fovea[1]) ** 2
    to_disc = (x - eye.disc[0]) ** 2 + (y - eye.disc[1]) ** 2
    mottling = sum(0.035 * _smooth_noise(rng, cells, x.shape) for cells in (5, 14, 40))
    macula = 0.22 * np.exp(-to_fovea / 0.06) + rng.uniform(0.15, 0.35) * np.exp(-to_fovea / 0.010)
    nerve_fibres = rng.uniform(0.1, 0.3) * np.exp(-to_disc / 0.12)
    # Melanin and blood absorb green light, so green varies most.
    response = (0.55, 1.0, 0.8)
    tone = (1 + mottling) * (1 - macula) * (1 + nerve_fibres)
    planes = [
        _enlarge(eye, base * (1 + (tone - 1) * share))
        for base, share in zip(eye.camera.retina, response, strict=True)
    ]
    return np.stack(planes)


def make_light(rng: Rng, eye: Eye) -> Array:
    """Draw uneven illumination and vignetting, float32 [height, width]."""
    x, y = eye.grid(4)
    square = x**2 + y**2
    direction = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.16) * (math.cos(direction) * x + math.sin(direction) * y)
    vignette = rng.uniform(0.10, 0.30) * square + 0.12 * square**4
    return _enlarge(eye, rng.uniform(0.9, 1.08) * (1 + slope - vignette).clip(0.2))


def make_field(eye: Eye) -> Array:
    """Draw the coverage of the round field of view, float32 [height, width]."""
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    canvas = Canvas(eye)
    canvas.polygons([np.stack([np.cos(angle), np.sin(angle)], axis=1)])
    return canvas.coverage(0.007)


def paint_disc(
    rng: Rng, eye: Eye, image: Array, *, cup_to_disc: float | None = None
) -> tuple[Array, Array]:
    """Paint the optic disc, a little taller than wide, and the paler cup within it.

    Args:
      rng: the random stream.
      eye: its place.
      image: float32 [3, height, width], painted on.
      cup_to_disc: height of the cup in heights of the disc; None draws that of a healthy eye.

    Returns:
      The pixels of the disc and those of the cup, bool [height, width].
    """
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ellipse = eye.disc_radius * np.stack([0.93 * np.cos(angle), 1.05 * np.sin(angle)], axis=1)
    healthy, paleness = rng.uniform(0.3, 0.6), rng.uniform(0, 1)
    cup_size = healthy if cup_to_disc is None else cup_to_disc
    # The cup lies to the temple, as far as there is room on the disc.
    cup_centre = eye.disc - [min(0.12, 0.9 * (1 - cup_size)) * eye.disc_radius, 0]
    rim_colour = np.array([0.98, 0.70, 0.30]) + paleness * np.array([0, 0.04, 0.20])
    cup_colour = np.array([1.00, 0.86, 0.50]) + paleness * np.array([0, 0.03, 0.22])
    masks = []
    for outline, colour, blur, strength in (
        (eye.disc + ellipse, rim_colour, 0.014, 0.85),
        (cup_centre + cup_size * ellipse, cup_colour, 0.020, 0.9),
    ):
        canvas = Canvas(eye)
        canvas.polygons([outline])
        blend(image, strength * canvas.coverage(blur), colour)
        masks.append(canvas.coverage(_SHARP) > 0.5)
    return masks[0], masks[1]


def blend(image: Array, alpha: Array, colour: Array) -> None:
    """Move the image [3, height, width] towards an RGB colour, by alpha [height, width]."""
    for plane, target in zip(image, colour, strict=True):
        plane += alpha * (np.float32(target) - plane)


def absorb(image: Array, alpha: Array, absorption: Sequence[float]) -> None:
    """Take a share of each of the image's RGB planes away, times alpha [height, width]."""
    for plane, share in zip(image, absorption, strict=True):
        plane *= 1 - alpha * np.float32(share)


def grow(rng: Rng, start: Array, heading: Array, *, length: Array, bend: Array) -> Array:
    """Draw wandering lines [n, points, 2] from start [n, 2].

    They leave at the angle `heading` [n], turn by about `bend` [n] in all (radians), and are
    `length` [n] long.
    """
    shape = (len(start), PATH_POINTS - 1)
    wander = np.cumsum(rng.normal(0, 0.14, shape), axis=1)
    angle = heading[:, None] + bend[:, None] * np.linspace(0, 1, shape[1]) + wander
    steps = np.stack([np.cos(angle), np.sin(angle)], axis=2) * length[:, None, None]
    return np.cumsum(np.concatenate([start[:, None], steps / shape[1]], axis=1), axis=1)


def _arcades(rng: Rng, eye: Eye) -> Array:
    """Draw the four trunks that leave the disc, [4, points, 2]: two temporal, two nasal.

    The temporal ones run along half an ellipse, so they curve round the macula.
    """
    s = np.linspace(0, 1, PATH_POINTS)
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


def _vessel_tree(rng: Rng, eye: Eye, width: float) -> list[tuple[Array, Array]]:
    """Draw generations of branches, trunks first: paths [n, points, 2], widths [n, points]."""
    taper = np.linspace(1, 0.35, PATH_POINTS)
    trunks = _arcades(rng, eye)
    girth = np.array([1, 0.7, 1, 0.7])[:, None] * rng.uniform(0.85, 1.1, (4, 1))
    generations = [(trunks, width * girth * taper)]
    for children, reach in ((5, 0.60), (4, 0.32), (2, 0.16)):
        paths, widths = generations[-1]
        n = len(paths)
        # Each stretch of the parent has one child, to the left and to the right in turn.
        stretch = (PATH_POINTS - 3) / children
        at = 2 + ((np.arange(children) + rng.uniform(0, 1, (n, children))) * stretch).astype(int)
        parent = np.arange(n)[:, None]
        tangent = paths[parent, at] - paths[parent, at - 1]
        side = np.where((np.arange(children) + rng.integers(0, 2, (n, 1))) % 2, 1, -1)
        # A branch leaves at an angle, then bends back to run along with its parent.
        away = side * rng.uniform(0.5, 1.1, side.shape)
        heading = np.arctan2(tangent[..., 1], tangent[..., 0]) + away
        branches = grow(
            rng,
            paths[parent, at].reshape(-1, 2),
            heading.ravel(),
            length=reach * rng.uniform(0.5, 1.3, away.size),
            bend=away.ravel() * rng.normal(-0.6, 0.5, away.size),
        )
        thinner = (widths[parent, at] * rng.uniform(0.45, 0.7, side.shape)).reshape(-1, 1)
        generations.append((branches, thinner * taper))
    return generations


def paint_vessels(rng: Rng, eye: Eye, image: Array) -> None:
    """Paint veins (wider, darker), then arteries over them (thinner, lighter)."""
    x, y = eye.grid(4)
    avascular = np.exp(-((((x - eye.fovea[0]) ** 2 + (y - eye.fovea[1]) ** 2) / 0.016) ** 2))
    visible = _enlarge(eye, 1 - avascular)
    strength = rng.uniform(0.8, 1.1)
    for width, absorption in ((0.027, (0.26, 0.50, 0.42)), (0.020, (0.12, 0.38, 0.36))):
        canvas = Canvas(eye)
        for paths, widths in reversed(_vessel_tree(rng, eye, width)):
            canvas.paths(paths, widths)
        absorb(image, strength * visible * canvas.coverage(eye.camera.blur), absorption)
