"""Photographs from arrays, and what is said of arrays of another kind."""

import pickle
import tracemalloc

import numpy as np
import pytest

from beam_jobs.sources import arrays
from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding
from tests.helpers.drawn import draw, encode

RECIPE = specs.Recipe(name="reference", size=32)


def pixels(source: arrays.Arrays, name: str) -> np.ndarray:
    return source.prepare(source.read(name), RECIPE).rgb


def photographs(count: int = 6) -> np.ndarray:
    """uint8 (count, 32, 32, 3) with every value in each."""
    values = np.arange(count * 32 * 32 * 3) + np.repeat(np.arange(count), 32 * 32 * 3)
    return (values % 256).astype(np.uint8).reshape(count, 32, 32, 3)


@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", ">f4", "float64", "fortran"])
def test_arrays_give_back_their_photographs(tmp_path, kind):
    wanted = photographs()
    stored = (wanted / 255).astype(kind) if "f" in kind and kind != "fortran" else wanted
    stored = np.asfortranarray(stored) if kind == "fortran" else stored
    np.save(tmp_path / "X_train.npy", stored)
    source = pickle.loads(pickle.dumps(arrays.open_arrays(str(tmp_path / "X_train.npy"), RECIPE)))
    size = 32 * 32 * 3 * stored.itemsize
    assert list(source.names()) == [(f"X_train-000000{i}", size) for i in range(6)]
    assert source.count() == 6
    for i, (name, _) in enumerate(source.names()):
        got = pixels(source, name)
        assert got.dtype == np.uint8 and got.flags["C_CONTIGUOUS"]
        assert np.array_equal(got, wanted[i])
        assert source.read(name) == stored[i].tobytes()
    assert source.path("X_train-0000003") == f"{tmp_path}/X_train.npy[3]"


@pytest.mark.parametrize("value, words", [(np.nan, "nan"), (1.5, "to 1.5"), (-0.1, "from -0.1")])
def test_a_photograph_of_an_array_out_of_range_is_a_reject(tmp_path, value, words):
    stored = photographs() / 255
    stored[4, 3, 2, 1] = value
    np.save(tmp_path / "X.npy", stored)
    source = arrays.open_arrays(str(tmp_path / "X.npy"), RECIPE)
    with pytest.raises(decoding.RejectedImage, match=f"unreadable: values .*{words}.*0 to 1"):
        pixels(source, "X-0000004")
    assert np.array_equal(pixels(source, "X-0000005"), photographs()[5])


def test_an_array_is_never_in_memory_as_a_whole(tmp_path):
    np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.uint8, (20_000, 32, 32, 3)).flush()
    tracemalloc.start()
    source = arrays.open_arrays(str(tmp_path / "X.npy"), RECIPE)
    for _ in source.names():
        pass
    pixels(source, "X-0019999")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000  # Of 61 million.


@pytest.mark.parametrize(
    "array, message",
    [
        (
            np.zeros((2, 48, 48, 3), np.uint8),
            "48x48 .*size is 32. Pass --config.dataset.recipe.s.*=48",
        ),
        (np.zeros((2, 48, 32, 3), np.uint8), "48x32 pixels.*Make it square"),
        (
            np.zeros((2, 32, 32), np.uint8),
            r"array \(2, 32, 32\) of uint8; expected \(photographs, h",
        ),
        (np.zeros((2, 3, 32, 32), np.float32), r"\(2, 3, 32, 32\) of float32; expected"),
        (np.zeros((2, 32, 32, 3), np.int64), "of int64; expected .* uint8 or of floats"),
        (np.zeros((0, 32, 32, 3), np.uint8), r"\(0, 32, 32, 3\)"),
        (np.array([{}, 1]), "cannot be read as an .npy array: .*numpy.save"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, array, message):
    np.save(tmp_path / "X.npy", array)
    with pytest.raises(ValueError, match=message):
        arrays.open_arrays(str(tmp_path / "X.npy"), RECIPE)


def test_files_that_are_no_array_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="X.npy does not exist; --npy_images names"):
        arrays.open_arrays(str(tmp_path / "X.npy"), RECIPE)
    with pytest.raises(ValueError, match="--npy_images needs a file on a disk"):
        arrays.open_arrays("bucket://b/X.npy", RECIPE)
    np.savez(tmp_path / "several.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(ValueError, match=r"holds several arrays \(a, b\); --npy_images needs"):
        arrays.open_arrays(str(tmp_path / "several.npz"), RECIPE)
    np.save(tmp_path / "cut.npy", photographs())
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-100])
    for name, content in (("cut.npy", None), ("empty.npy", b""), ("x.npy", encode(draw(0)))):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read as an .npy array"):
            arrays.open_arrays(str(tmp_path / name), RECIPE)
