"""The gate on real and synthetic photographs, on damage, and on pictures of something else."""

import cv2
import numpy as np
import pytest

from dr_tfx.preprocessing import quality
from dr_tfx.synthetic import fundus
from tests.helpers.drawn import SHARED_DATA, draw

HEIGHT, WIDTH = 356, 536
PHOTOGRAPHS = [
    (level, fundus.photograph(seed=3, patient=10 + level, eye="left", level=level, size=320))
    for level in range(5)
]


@pytest.mark.parametrize("level, made", PHOTOGRAPHS, ids=lambda value: str(value)[:1])
def test_synthetic_photographs_of_every_grade_are_gradable(level, made):
    assert quality.assess(made.image[..., ::-1]).ungradable == ""


def test_real_photographs_are_gradable():
    paths = sorted((SHARED_DATA / "idrid" / "grading" / "images").glob("*.jpg"))[::8]
    if not paths:
        pytest.skip(f"no real photographs at {SHARED_DATA}")
    flagged = {p.name for p in paths if quality.assess(cv2.imread(str(p))).ungradable}
    assert flagged == set()


def eye() -> np.ndarray:
    return draw(1, width=WIDTH, height=HEIGHT, radius=170)


def plain(*bgr: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), bgr, np.uint8)


def flash(radius: int) -> np.ndarray:
    return cv2.circle(eye(), (WIDTH // 2, HEIGHT // 2), radius, (250, 250, 250), -1)


def text(ink: int, paper: int) -> np.ndarray:
    page = plain(paper, paper, paper)
    for y in range(30, HEIGHT - 20, 24):
        cv2.putText(page, "Patient 12: follow-up in a year", (20, y), 0, 0.7, (ink,) * 3, 2)
    return page


def landscape() -> np.ndarray:
    picture = plain(220, 180, 120)
    ground = np.random.default_rng(0).normal((40, 110, 70), 25, (HEIGHT // 2, WIDTH, 3))
    picture[-(HEIGHT // 2) :] = ground.clip(0, 255)
    return picture


def screenshot() -> np.ndarray:
    picture = text(30, 205)
    picture[:40] = 200, 120, 30
    picture[60:300, 200:500] = 120, 180, 90
    return picture


def lens_cap() -> np.ndarray:
    picture = plain(5, 5, 5)
    picture[:70, :90] = 220
    return picture


def leak() -> np.ndarray:
    picture = plain(2, 2, 2)
    picture[:90, :180] = 200  # Bright enough over enough of it not to be called black.
    return picture


CASES = {
    "as drawn": ("", eye()),
    "a fifth of the light": ("", (eye() * 0.2).astype(np.uint8)),
    "a retina fills the frame": ("", eye()[100:250, 180:350]),
    "red-free": ("", eye() * np.array([0, 1, 0], np.uint8) * 2),
    "grey": ("", cv2.cvtColor(cv2.cvtColor(eye(), 6), 8)),
    "a small flash": ("", flash(60)),
    "half of it cut off": ("", eye()[:, : WIDTH // 2]),
    "all black": ("black", plain(0, 0, 0)),
    "a tenth of the light": ("black", (eye() * 0.08).astype(np.uint8)),
    "lens cap": ("black", lens_cap()),
    "all white": ("blown_out", plain(255, 255, 255)),
    "flash over most": ("blown_out", flash(140)),
    "eight times the light": ("blown_out", np.minimum(eye() * 8.0, 255).astype(np.uint8)),
    "document": ("blown_out", text(20, 250)),
    "dark screen": ("no_retina", text(235, 5)),
    "screenshot": ("no_retina", screenshot()),
    "plain grey": ("no_retina", plain(128, 128, 128)),
    "landscape": ("no_retina", landscape()),
    "lit corner": ("no_retina", leak()),
    "noise": (
        "no_retina",
        np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8),
    ),
    "small disc": ("no_retina", draw(1, width=WIDTH, height=HEIGHT, radius=60)),
}


@pytest.mark.parametrize("expected, picture", CASES.values(), ids=list(CASES))
def test_damage_and_other_pictures(expected, picture):
    for size in (1, 3):  # Shares of a picture do not depend on its size.
        found = quality.assess(cv2.resize(picture, None, fx=size, fy=size, interpolation=0))
        assert found.ungradable == expected, found


def test_figures_are_those_of_the_drawing():
    """A disc of radius r in the middle: its box is (2r)^2, and it fills pi/4 of it."""
    picture = cv2.circle(plain(0, 0, 0), (WIDTH // 2, HEIGHT // 2), 150, (40, 90, 200), -1)
    cv2.rectangle(picture, (WIDTH // 2 - 50, 100), (WIDTH // 2 + 49, 199), (255, 255, 255), -1)
    found = quality.assess(picture)
    disc = np.pi * 150**2
    assert found.brightness == 255  # The square is a twentieth of the picture, and a bit more.
    assert found.blown == pytest.approx(100 * 100 / disc, abs=0.02)
    assert found.box == pytest.approx(300 * 300 / (HEIGHT * WIDTH), abs=0.02)
    assert found.fill == pytest.approx(np.pi / 4, abs=0.02)
    assert found.corners == 1 and found.warm == pytest.approx(1 - found.blown, abs=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (2, 3), (5000, 1), (257, 255)])
def test_any_shape_is_assessed(shape):
    assert quality.assess(np.full((*shape, 3), 255, np.uint8)).ungradable == "blown_out"
    assert quality.assess(np.zeros((*shape, 3), np.uint8)).ungradable == "black"
