"""Fixtures shared by the tests: small drawn photographs, and the real ones where they are."""

import importlib.util
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from dr_tfx import specs

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
"""Real photographs: not part of the project, absent for most people."""

_CHROMIUM = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync"
)


def draw(
    seed: int,
    *,
    width: int = 160,
    height: int = 120,
    center: tuple[int, int] | None = None,
    radius: int | None = None,
) -> np.ndarray:
    """A lit disc with random spots on black, uint8 BGR (height, width, 3)."""
    rng = np.random.default_rng(seed)
    center = center or (width // 2, height // 2)
    radius = radius or min(width, height) // 2 - 4
    image = np.zeros((height, width, 3), np.uint8)
    cv2.circle(image, center, radius, (40, 90, 200), -1)
    for _ in range(30):
        offset = rng.uniform(-0.6, 0.6, 2) * radius
        spot = (int(center[0] + offset[0]), int(center[1] + offset[1]))
        cv2.circle(image, spot, int(rng.integers(1, 5)), rng.integers(10, 250, 3).tolist(), -1)
    return image


def encode(image: np.ndarray, extension: str = ".jpeg") -> bytes:
    """The bytes of an image file."""
    return cv2.imencode(extension, image)[1].tobytes()


def eyepacs_like(**recipe) -> specs.DatasetSpec:
    """Settings that fit the `raw` fixture."""
    return specs.DatasetSpec(
        name="drawn",
        label_names=("no DR", "mild", "moderate"),
        patient_pattern=r"^(.+)_(?:left|right)$",
        recipe=specs.Recipe(**{"size": 32, "quality_gate": "reject", **recipe}),
        split=specs.Split(validation=0.25),
        shard_examples=4,
    )


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> Path:
    """20 patients with two drawn photographs each: `<patient>_<eye>.jpeg` and labels.csv."""
    folder = tmp_path_factory.mktemp("raw")
    lines = ["image,level"]
    for patient in range(10, 30):
        for side, eye in enumerate(("left", "right")):
            name = f"{patient}_{eye}"
            (folder / f"{name}.jpeg").write_bytes(encode(draw(2 * patient + side)))
            lines.append(f"{name},{(patient + side) % 3}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def built(raw, tmp_path_factory) -> Path:
    """The data set of the raw folder, not to be changed."""
    from builds import build  # And so Beam, which most tests can do without.

    folder = tmp_path_factory.mktemp("built")
    build(raw, folder)
    return folder


@pytest.fixture
def copy(raw, tmp_path) -> Path:
    """The raw folder, free to be changed."""
    return Path(shutil.copytree(raw, tmp_path / "raw"))


@pytest.fixture
def bucket(monkeypatch) -> dict[str, bytes]:
    """The objects of `bucket://`, an object store in memory."""
    from places import Bucket  # And so Beam, which most tests can do without.

    objects: dict[str, bytes] = {}
    monkeypatch.setattr(Bucket, "objects", objects)
    return objects


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium that records its console and every request."""
    if importlib.util.find_spec("selenium") is None:
        pytest.skip("selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium or chromedriver is not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*_CHROMIUM.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()
