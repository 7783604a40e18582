"""Synthetic slices of head CT in Hounsfield units, with bleeds of five kinds and their masks.

A slice is a pure function of (seed, patient, height): the head of a patient is drawn first
(`draw_patient`), then each of its slices (`draw_slice`). All that is not a bleed comes from streams
of its own, so that the slice of a head without its bleeds is the very same slice but for them.

Lengths are millimetres; x points to the right of the picture and y down, to the back of the head.
The heights of slices go from -1, below the base of the skull, to 1, the vertex. Units are those of
adults on a scanner of today: air -1000, fat -80, fluid 8, white matter 29, grey matter 38, fresh
blood 50 to 80, bone 500 to 1200. Nothing of the anatomy is exact.
"""

import dataclasses
import math

import cv2
import numpy as np
import numpy.typing as npt

from dr_tfx.config import seeds

KINDS = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
FIELD = 230.0  # Millimetres that a side of a slice shows.
MIN_SIZE = 96  # Pixels a side; in fewer, a thin crescent is less than a pixel.
_BLEEDING = 0.5  # Of the patients.
_SECOND = 0.3  # Of these: the ones with two kinds at once.
_LEAST = 30.0  # Square millimetres of a bleed that a slice shows; smaller ones are not drawn.

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Rng = np.random.Generator


@dataclasses.dataclass(frozen=True)
class Bleed:
    """One bleed of a head."""

    kind: str
    units: float  # Hounsfield units of its blood.
    angle: float  # Where it lies, in radians around the middle of the head.
    extent: float  # Half of its angle, in radians, or the radius of a round one in millimetres.
    depth: float  # Millimetres from the skull inwards, or the share of a ventricle that it fills.
    height: float  # Of its middle.
    reach: float  # Heights above and below its middle.

    def share(self, height: float) -> float:
        """Return how much of its largest section a slice shows, 0 to 1."""
        return math.sqrt(max(0.0, 1 - ((height - self.height) / self.reach) ** 2))


@dataclasses.dataclass(frozen=True)
class Head:
    """The head of one patient, and how it lies in the scanner."""

    name: tuple[int, int]  # Seed and patient.
    half_width: float
    half_length: float
    skull: float
    tilt: float
    centre: tuple[float, float]
    ventricles: float  # Their size; 1 is that of the middle age.
    calcified: bool
    noise: float  # Standard deviation, in Hounsfield units.
    bleeds: tuple[Bleed, ...] = ()


@dataclasses.dataclass(frozen=True)
class DrawnSlice:
    """One slice and the truth about it.

    Attributes:
      units: int16 (size, size), Hounsfield units.
      masks: kind (one of `KINDS`) -> bool (size, size). Kinds that are absent have no entry.
    """

    units: npt.NDArray[np.int16]
    masks: dict[str, Mask]


def draw_patient(*, seed: int, patient: int) -> Head:
    """Draw the head of a patient, and whether and where it bleeds."""
    rng = _rng("head", seed, patient)
    ills = _rng("bleeds", seed, patient)
    kinds: list[str] = []
    if ills.uniform() < _BLEEDING:
        count = 1 + int(ills.uniform() < _SECOND)
        kinds = sorted(ills.choice(KINDS, count, replace=False).tolist())
    return Head(
        name=(seed, patient),
        half_width=float(rng.uniform(60, 68)),
        half_length=float(rng.uniform(76, 86)),
        skull=float(rng.uniform(5, 8)),
        tilt=float(rng.normal(0, 0.08)),
        centre=(float(rng.normal(0, 4)), float(rng.normal(0, 5))),
        ventricles=float(rng.uniform(0.75, 1.5)),
        calcified=bool(rng.uniform() < 0.6),
        noise=float(rng.uniform(2.5, 5)),
        bleeds=tuple(_draw_bleed(ills, kind) for kind in kinds),
    )


def _draw_bleed(rng: Rng, kind: str) -> Bleed:
    """Draw the place and the size of a bleed; `_Section` says what its numbers mean."""
    extent, depth = {
        "epidural": ((0.40, 0.65), (12, 24)),
        "intraparenchymal": ((9, 19), (20, 32)),
        "intraventricular": ((0, 0), (0.35, 0.8)),
        "subarachnoid": ((0.7, 1.4), (14, 22)),
        "subdural": ((0.9, 1.5), (6, 13)),
    }[kind]
    is_mid = kind == "intraventricular"
    return Bleed(
        kind=kind,
        units=float(rng.uniform(52, 62) if kind == "subarachnoid" else rng.uniform(56, 78)),
        angle=float(rng.uniform(-0.9, 0.9) + (np.pi if rng.uniform() < 0.5 else 0)),
        extent=float(rng.uniform(*extent)),
        depth=float(rng.uniform(*depth)),
        height=float(rng.uniform(0.1, 0.25) if is_mid else rng.uniform(-0.2, 0.6)),
        reach=float(rng.uniform(0.25, 0.35) if is_mid else rng.uniform(0.3, 0.55)),
    )


def draw_slice(head: Head, *, height: float, size: int) -> DrawnSlice:
    """Draw one slice of a head.

    Args:
      head: the patient's.
      height: of the slice, -1 to 1.
      size: its width and height in pixels, `MIN_SIZE` or more.
    """
    section = _Section(head, height, size)
    units, found = section.tissue(), section.bleeds()
    for bleed, covered in found:
        if bleed.kind == "intraparenchymal":  # The brain around it swells.
            rim = cv2.GaussianBlur(covered, (0, 0), 5 / section.pixel)
            units -= 14 * np.clip(rim * 2, 0, 1) * section.brain
        _blend(units, covered, bleed.units)
    units += section.beam_hardening()
    units = cv2.GaussianBlur(units, (0, 0), 0.6)  # What a scanner resolves.
    stream = _rng("noise", *head.name, round(1000 * height))
    noise = cv2.GaussianBlur(stream.standard_normal(units.shape, np.float32), (0, 0), 0.7)
    units += noise * (head.noise / noise.std())
    masks = {bleed.kind: covered > 0.5 for bleed, covered in found}
    return DrawnSlice(np.clip(np.rint(units), -1024, 3071).astype(np.int16), masks)


def bleeds_of(head: Head, *, height: float, size: int) -> tuple[str, ...]:
    """Return the kinds that `draw_slice` shows, without drawing."""
    if not head.bleeds:
        return ()
    return tuple(bleed.kind for bleed, _ in _Section(head, height, size).bleeds())


class _Section:
    """One section of a head: where each pixel lies, and what is there."""

    def __init__(self, head: Head, height: float, size: int):
        self._head, self._height = head, height
        self.pixel = FIELD / size
        at = (np.arange(size, dtype=np.float32) + 0.5) * self.pixel - FIELD / 2
        x, y = np.meshgrid(at - head.centre[0], at - head.centre[1])
        cos, sin = math.cos(head.tilt), math.sin(head.tilt)
        self._x, self._y = cos * x + sin * y, cos * y - sin * x
        shrunk = math.sqrt(1 - 0.75 * height**2)
        width, length = head.half_width * shrunk, head.half_length * shrunk
        radius = np.hypot(self._x, self._y) + 1e-3
        relative = np.hypot(self._x / width, self._y / length) + 1e-5
        self._angle = np.arctan2(self._y / length, self._x / width)
        self._depth = radius / relative - radius  # Below the inner side of the skull.
        self._rng = _rng("folds", *head.name)
        self._sulci = self._folds()
        self._ventricles = self._both_ventricles()
        self.brain = self._inside(self._depth - 2) * (1 - self._ventricles)

    def _inside(self, distance: Array) -> Array:
        """Return the share of each pixel that lies on the positive side of an edge."""
        return np.clip(distance / self.pixel + 0.5, 0, 1)

    def _ellipse(self, x: float, y: float, along: float, across: float, turn: float) -> Array:
        """Return the share of each pixel in an ellipse, which is turned by radians."""
        cos, sin = math.cos(turn), math.sin(turn)
        right, down = self._x - x, self._y - y
        u, v = (cos * right + sin * down) / along, (cos * down - sin * right) / across
        return self._inside((1 - np.hypot(u, v)) * min(along, across))

    def _folds(self) -> Array:
        """Return the sulci, which wind from the surface of the brain inwards."""
        count, phase = int(self._rng.integers(17, 24)), self._rng.uniform(0, 2 * np.pi)
        wobble = 0.12 * np.sin(self._depth / 4 + 3 * self._angle + phase)
        wave = np.sin(count * (self._angle + wobble) + phase + 5 * self._height)
        reach = 9 + 5 * np.sin(5 * self._angle + 2 * phase + 3 * self._height)
        return np.clip((wave - 0.72) / 0.2, 0, 1) * self._inside(reach - self._depth)

    def _both_ventricles(self) -> Array:
        size = self._head.ventricles
        share = math.sqrt(max(0.0, 1 - ((self._height - 0.18) / 0.33) ** 2))
        if share < 0.3:
            return np.zeros_like(self._x)
        parts = [
            self._ellipse(side * (10 + 3 * size), 2, 22 * share * size**0.5, 6 * size * share, turn)
            for side, turn in ((-1, math.pi / 2 + 0.2), (1, math.pi / 2 - 0.2))
        ]
        return np.maximum(*parts)

    def tissue(self) -> Array:
        """Return the head without bleeds, in Hounsfield units."""
        head, depth = self._head, self._depth
        units = np.full(depth.shape, -1000, np.float32)
        table = np.hypot(self._x, self._y + 120) - 250  # A dish behind the head.
        _blend(units, self._inside(1.5 - np.abs(table + 20)), -150)
        _blend(units, self._inside(depth + head.skull + 6), 10)
        _blend(units, self._inside(depth + head.skull + 5), -80)
        marrow = np.clip(1 - np.abs(depth / head.skull + 0.5) * 4, 0, 1)
        _blend(units, self._inside(depth + head.skull), 1100 - 600 * marrow)
        _blend(units, self._inside(depth), 8)
        grey = self._inside(5 + 2 * np.sin(9 * self._angle) - depth)
        _blend(units, self._inside(depth - 2), 29 + 9 * grey)
        nuclei = np.maximum(*(self._ellipse(s * 22, 3, 16, 8, math.pi / 2) for s in (-1, 1)))
        if abs(self._height - 0.1) < 0.3:
            _blend(units, nuclei * self.brain, 37)
        _blend(units, self._sulci * self._inside(depth), 10)
        if self._height > -0.1:  # The falx, before and behind the middle.
            _blend(units, self._inside(0.9 - np.abs(self._x)) * self._inside(30 - depth), 48)
        _blend(units, self._ventricles, 8)
        self._add_lime(units)
        if self._height < -0.3:
            self._add_base(units)
        return units

    def _add_base(self, units: Array) -> None:
        """Add the petrous bones of both sides, and the air of the sinus between the eyes."""
        rng = _rng("base", *self._head.name)
        within = self._inside(self._depth + self._head.skull)
        for side in (-1, 1):
            length, y, turn = rng.uniform(18, 30), rng.uniform(4, 22), rng.uniform(0.3, 0.8)
            bone = self._ellipse(side * rng.uniform(36, 48), y, length, 7, side * turn)
            _blend(units, bone * within, 1000)
        width, front = rng.uniform(6, 26), -self._head.half_length * 0.9
        _blend(units, self._ellipse(rng.normal(0, 3), front, width, 7, 0) * within, -1000)

    def _add_lime(self, units: Array) -> None:
        """Add what is bright in a healthy head: the pineal body and the choroid plexus."""
        if self._head.calcified and abs(self._height - 0.12) < 0.12:
            _blend(units, self._ellipse(0, 14, 2.6, 2.2, 0), 130)
            for side in (-1, 1):
                _blend(units, self._ellipse(side * 13, 22, 3.4, 2.2, 0.4 * side), 95)

    def beam_hardening(self) -> Array:
        """Return what thick bone adds: a bright rim of the brain, dark bands between the bones."""
        added = 7 * np.exp(-np.maximum(self._depth, 0) / 6) * self.brain
        if self._height < -0.3:
            band = np.exp(-(((self._y - 10) / 6) ** 2)) * (np.abs(self._x) < 40)
            added -= 16 * band * self.brain
        return added

    def bleeds(self) -> list[tuple[Bleed, Array]]:
        """Return the bleeds that are large enough to be seen here, and the pixels they cover."""
        found = [(bleed, self._shape(bleed)) for bleed in self._head.bleeds]
        return [(b, c) for b, c in found if (c > 0.5).sum() * self.pixel**2 >= _LEAST]

    def _shape(self, bleed: Bleed) -> Array:
        """Return the share of each pixel that a bleed covers on this section."""
        share = bleed.share(self._height)
        if share < 0.3:
            return np.zeros_like(self._x)
        away = np.abs((self._angle - bleed.angle + np.pi) % (2 * np.pi) - np.pi)
        within = np.clip(1 - (away / (bleed.extent * share + 1e-6)) ** 2, 0, 1)
        inside = self._inside(self._depth)
        if bleed.kind == "epidural":  # A lens between skull and brain.
            return self._inside(bleed.depth * share * within - self._depth) * inside
        if bleed.kind == "subdural":  # A crescent, of one depth nearly to its ends.
            return self._inside(bleed.depth * share * within**0.35 - self._depth) * inside
        if bleed.kind == "subarachnoid":  # The sulci, and the space around the brain.
            space = np.maximum(self._sulci, self._inside(3 - self._depth)) * (within > 0)
            return space * self._inside(bleed.depth - self._depth) * inside
        if bleed.kind == "intraventricular":  # Blood sinks to the back.
            level = 2 + 21 * self._head.ventricles**0.5 * (1 - 2 * bleed.depth)
            return self._ventricles * self._inside(self._y - level)
        x = bleed.depth * math.cos(bleed.angle)
        y = 1.2 * bleed.depth * math.sin(bleed.angle)
        return self._clot(bleed, x, y, bleed.extent * share)

    def _clot(self, bleed: Bleed, x: float, y: float, radius: float) -> Array:
        """Return a round bleed with an uneven edge."""
        right, down = self._x - x, (self._y - y) / 1.15
        around = np.arctan2(down, right)
        rough = (
            1 + 0.12 * np.sin(3 * around + bleed.units) + 0.07 * np.sin(7 * around + bleed.angle)
        )
        return self._inside(radius * rough - np.hypot(right, down)) * self._inside(self._depth - 2)


def _blend(units: Array, share: Array, value: float | Array) -> None:
    """Lay something over the units, in place."""
    units += share * (value - units)


def _rng(*names: object) -> Rng:
    """Return the random stream of these names."""
    return np.random.default_rng(seeds.stable_hash("head_ct", *names))
