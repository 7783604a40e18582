"""Fixtures shared by the tests: small drawn photographs, and the real ones where they are."""

import gc
import importlib.util
import shutil
import signal
import threading
from pathlib import Path

import pytest

from tests.helpers.drawn import draw, encode

_CHROMIUM = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync"
)


# A shell lets what it starts in the background ignore Ctrl-C, and so would all that tests start.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests that take long and meet neither TensorFlow: they run beside the current one alone.
_OF_ONE_STACK = {
    "test_a_build_and_a_training_use_amazons_store",
    "test_a_dask_cluster_writes_the_same_bytes",
    "test_damaged_and_hostile_evaluations_are_compared_or_refused",
    "test_damaged_labels_are_planned_or_refused",
    "test_killed_thrice_and_finished_to_the_same_bytes",
    "test_plan_of_eyepacs_has_the_published_numbers",
    "test_processes_write_the_same_bytes",
    "test_the_bytes_are_those_of_a_local_build",
    "test_workers_with_nothing_but_what_is_stated_write_the_same_bytes",
}
_LONG = ("training", "cli", "test_benchmarks.py", "models", "explanation")


def pytest_collection_modifyitems(items):
    """Put the files that take minutes first, so that no process waits for one at the end."""
    here = Path(__file__).parent

    def place(item) -> int:
        room = item.path.relative_to(here).parts[0]
        return _LONG.index(room) if room in _LONG else len(_LONG)

    items.sort(key=place)  # The order is otherwise kept.
    if importlib.util.find_spec("tensorflow_addons") is not None:
        for item in items:
            measures = item.path.name == "test_benchmarks.py" and "help" not in item.name
            if item.originalname in _OF_ONE_STACK or measures or "browser" in item.fixturenames:
                reason = "it takes long, and is the same beside both stacks"
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish():
    """Spare what was imported every search for cycles: with TensorFlow, a million objects."""
    gc.collect()
    gc.freeze()


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
    from tests.helpers.builds import build  # And so Beam, which most tests can do without.

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
    from tests.helpers.places import Bucket

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
