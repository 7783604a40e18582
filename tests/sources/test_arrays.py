"""Photographs from arrays, and what is said of arrays of another kind."""

import pickle
import tracemalloc

import numpy as np
import pytest

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding
from dr_tfx.sources import arrays
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


def with_header(path, header: str, *, version: int = 1, claims: int | None = None) -> str:
    """An .npy file whose header says this, before 100 bytes of pixels."""
    length = (len(header) if claims is None else claims).to_bytes(
        2 if version == 1 else 4, "little"
    )
    path.write_bytes(
        b"\x93NUMPY" + bytes([version, 0]) + length + header.encode("latin1") + bytes(100)
    )
    return str(path)


GOOD = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 2, 3), }\n"


@pytest.mark.parametrize(
    "header",
    [
        GOOD.replace(", }", ""),  # tokenize.TokenError in numpy.
        GOOD.replace("(1", "((1"),
        GOOD.replace("'|u1'", "'|u1"),
        GOOD.replace("False", "[" * 200 + "]" * 200),
        GOOD.replace("'|u1'", "'no type'"),
        GOOD.replace("'|u1'", "None"),
        GOOD.replace("1, 2", f"{2**62}, {2**62}"),
        GOOD.replace("1, 2", "-1, 2"),
        GOOD.replace("1, 2", f"{'9' * 5000}, 2"),
        GOOD.replace("'shape'", "'shapes'"),
        "",
        "\0" * 64,
    ],
)
def test_damaged_headers_are_refused_in_one_sentence(tmp_path, header):
    path = with_header(tmp_path / "X.npy", header)
    for flag in ("--npy_images", "--npy_labels"):
        with pytest.raises(
            ValueError, match="X.npy cannot be read as an .npy array: .*numpy.save"
        ) as caught:
            arrays.load(path, flag)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path):
    path = with_header(tmp_path / "X.npy", GOOD, version=2, claims=2**32 - 1)
    with (tmp_path / "X.npy").open("r+b") as stream:
        stream.truncate(2**31)  # A sparse file, whose every byte may be read.
    tracemalloc.start()
    with pytest.raises(ValueError, match="claims 4294967295 bytes; expected 10000 at most"):
        arrays.load(path, "--npy_images")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_file_that_python_2_wrote_is_read(tmp_path):
    path = with_header(tmp_path / "X.npy", GOOD.replace("1, 2, 2, 3", "1L, 2L, 2L, 3L"))
    assert arrays.load(path, "--npy_images").shape == (1, 2, 2, 3)
