"""Photographs in an array of an .npy file, which were prepared before."""

import dataclasses
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, fingerprint, recipes
from dr_tfx.sources import folders, refusals
from dr_tfx.storage import files

_MAX_HEADER = 10_000  # Bytes. numpy refuses longer ones too, but only once they are in memory.
_MAX_TEXT = 200  # Characters that a message quotes of a file.
# numpy parses a file's header as Python, at which Python 3.11 may fail in two threads at once.
_OPENING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Arrays(folders.Source):
    """The photographs of one array in an .npy file, to which no recipe is applied any more.

    The array is uint8, or floats from 0 to 1 that were made of uint8 by `x / 255`. Only the
    photograph that is wanted is read from the disk.
    """

    images_npy: str
    is_prepared: ClassVar[bool] = True

    def names(self) -> Iterator[tuple[str, int]]:
        array = self._array()
        size = array[:1].nbytes
        for row in range(len(array)):
            yield self.name(row), size

    def count(self) -> int:
        """Return the number of photographs."""
        return len(self._array())

    def name(self, row: int) -> str:
        """Return the name of the photograph in a row, which is its id too."""
        return f"{Path(self.images_npy).stem}-{row:07d}"

    def read(self, name: str) -> bytes:
        return self._array()[int(name.rpartition("-")[2])].tobytes()

    def modified(self, name: str) -> float:
        return files.modified(self.images_npy)

    def prepare(
        self, data: bytes, recipe: specs.Recipe, neighbours: Sequence[np.ndarray | None] = ()
    ) -> recipes.Picture:
        """Return the photograph as uint8. No recipe is applied, and its quality is not assessed."""
        rgb = self._pixels(data)
        printed = fingerprint.of(np.ascontiguousarray(rgb[..., ::-1]))
        return recipes.Picture(rgb, fingerprint=printed, sides=(rgb.shape[1], rgb.shape[0]))

    def thumbnail(self, data: bytes, side: int) -> np.ndarray:
        return self._pixels(data)

    def _pixels(self, data: bytes) -> np.ndarray:
        array = self._array()
        photograph = np.frombuffer(data, array.dtype).reshape(array.shape[1:])
        if photograph.dtype == np.uint8:
            return photograph
        low, high = photograph.min(), photograph.max()
        if not 0 <= low <= high <= 1:  # This refuses NaN too.
            raise decoding.RejectedImage(
                "unreadable", f"values from {low:g} to {high:g}; expected floats from 0 to 1"
            )
        return np.rint(photograph.astype(np.float32) * 255).astype(np.uint8)

    def path(self, name: str) -> str:
        return f"{self.images_npy}[{int(name.rpartition('-')[2])}]" if name else self.images_npy

    def _array(self) -> np.ndarray:
        with _OPENING:
            return np.load(self.images_npy, mmap_mode="r", allow_pickle=False)


def open_arrays(images_npy: str, recipe: specs.Recipe) -> Arrays:
    """Return the photographs of an .npy file on this machine's disks.

    Args:
      images_npy: path of an array (N, recipe.size, recipe.size, 3), uint8 or floats from 0 to 1.
      recipe: its size is what the photographs must have. Nothing else of it is used.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file holds no such array.
    """
    array = load(images_npy, "--npy_images")
    expected = (recipe.size, recipe.size, 3)
    is_pictures = array.ndim == 4 and array.shape[3] == 3 and len(array) > 0
    if not is_pictures or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
        raise refusals.UnusableInput(
            "{file} is an array {shape} of {dtype}; expected (photographs, height, width, 3), "
            "RGB, of uint8 or of floats from 0 to 1",
            file=images_npy,
            shape=array.shape,
            dtype=array.dtype,
        )
    if array.shape[1:] != expected:
        height, width = array.shape[1:3]
        raise refusals.UnusableInput(
            "{file} holds photographs of {height}x{width} pixels; the recipe's size is {size_now}. "
            + ("Pass {size}={height}" if height == width else "Make it square"),
            file=images_npy,
            height=height,
            width=width,
            size_now=recipe.size,
        )
    return Arrays(files.absolute(images_npy))


def load(path: str, flag: str) -> np.ndarray:
    """Return the array of an .npy file, mapped into memory and not read. Pickles are refused.

    Args:
      path: the file.
      flag: the flag that named the file, for errors.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not on a disk of this machine, or holds no array.
    """
    if files.is_remote(path):
        raise ValueError(f"{path}: {flag} needs a file on a disk, which can be mapped. Copy it")
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist; {flag} names an .npy file")
    try:
        _check_header(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # A file that Python 2 wrote is read with a warning.
            warnings.simplefilter("error", RuntimeWarning)  # A size that overflows.
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # Damaged headers make numpy raise nearly anything.
        said = str(error) or type(error).__name__
        raise ValueError(
            f"{path} cannot be read as an .npy array: {_short(said)}. Write it with "
            "numpy.save(path, array), of numbers, whole"
        ) from error
    if not isinstance(array, np.ndarray):  # numpy.load returns another type for .npz archives.
        with array:
            names = _short(", ".join(array.files))
        raise ValueError(
            f"{path} holds several arrays ({names}); {flag} needs an .npy file of one. Write it "
            "with numpy.save"
        )
    return array


def _check_header(path: str) -> None:
    """Refuse a header that is too long for an array, before numpy reads it into memory.

    Raises:
      ValueError: it is.
    """
    with Path(path).open("rb") as stream:
        start = stream.read(12)
    if not start.startswith(np.lib.format.MAGIC_PREFIX):
        return
    length = int.from_bytes(start[8:10] if start[6:7] == b"\1" else start[8:12], "little")
    if length > _MAX_HEADER:
        raise ValueError(f"its header claims {length} bytes; expected {_MAX_HEADER} at most")


def _short(text: str) -> str:
    """Return a text as one line of moderate length, for a message."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else f"{line[:_MAX_TEXT]}..."
