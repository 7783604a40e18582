"""Where photographs come from. A source lists their names and reads one of them.

A source travels to the workers, so that it is small, can be pickled and imports little.
"""

import abc
import collections
import dataclasses
import errno
import functools
import glob
import os
import posixpath
import re
import shlex
import struct
import threading
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from apache_beam.io.filesystems import FileSystems

from beam_jobs import output
from dr_tfx import images, specs

_PATTERN_CHARACTER = re.compile(r"[*?[]")
_SPLIT_ARCHIVE = re.compile(r"(.+\.zip)\.\d{2,}", re.IGNORECASE)
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1  # A bit of a member's flags.
# What zipfile raises of damaged archives, UnicodeDecodeError and NotImplementedError among them.
_DAMAGED = (zipfile.BadZipFile, EOFError, OverflowError, RuntimeError, ValueError, struct.error)
_OPENING = threading.Lock()


class Source(abc.ABC):
    """A set of photographs, each under a name that is unique in it."""

    @abc.abstractmethod
    def names(self) -> Iterator[tuple[str, int]]:
        """Name and size in bytes of every photograph, in any order."""

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of one photograph: those of two are equal where the photographs are.

        Raises:
          RejectedImage: `unreadable`; it is gone, may not be read, or is damaged in its archive.
            `too_large`: over images.MAX_BYTES, no more of which are read.
          OSError: anything else, which may be the fault of a disk or network and not of the file.
        """

    @abc.abstractmethod
    def path(self, name: str) -> str:
        """Where a person finds it."""

    def modified(self, name: str) -> float:
        """When a photograph was last changed, in seconds since 1970; 0 where that is not known."""
        return output.modified(self.path(name))

    def prepare(self, data: bytes, recipe: specs.Recipe) -> images.Picture:
        """A photograph as an example holds it, from what `read` gave.

        Raises:
          RejectedImage: as `images.apply_recipe`.
        """
        return images.apply_recipe(data, recipe)

    def thumbnail(self, data: bytes, side: int) -> np.ndarray:
        """A photograph as it came, from what `read` gave: uint8 RGB, not much larger than `side`.

        Raises:
          RejectedImage: as `images.decode`.
        """
        shorter = min(images.image_size(data))
        reduce = max((f for f in (2, 4, 8) if shorter // f >= side), default=1)
        return cv2.cvtColor(images.decode(data, reduce=reduce), cv2.COLOR_BGR2RGB)


def open_photographs(place: str, recipe: specs.Recipe) -> Source:
    """The source that `--image_dir` or `--npy_images` means: `open_source` or `open_arrays`."""
    if place.lower().endswith((".npy", ".npz")):
        return open_arrays(place, recipe)
    return open_source(place)


def open_source(image_dir: str) -> Source:
    """The source that `--image_dir` means.

    Args:
      image_dir: a folder; or a pattern such as `raw/*/*.jpeg`; or a `.zip` archive. Each on a disk
        or wherever Beam can read. What exists is taken as it is: only a name that no file of the
        disk has, and every name with `*`, `?` or `[` in an object store, is a pattern.

    Raises:
      FileNotFoundError: there is no such folder or archive, or no photograph matches.
      ValueError: it holds no photograph, or the archive cannot be used.
    """
    place = output.absolute(image_dir)
    is_file = output.exists(place) and (output.is_remote(place) or not Path(place).is_dir())
    if is_file and place.lower().endswith(".zip"):
        return _open_archive(place)
    if part := _SPLIT_ARCHIVE.fullmatch(place) or _part_of(place):
        whole = shlex.quote(part[1])
        raise ValueError(
            f"{image_dir}: an archive in parts cannot be read. Join them and pass the whole one: "
            f"cat {whole}.* > {whole}"
        )
    if is_file and not output.is_remote(place):
        raise ValueError(
            f"{image_dir} is a file; --image_dir takes a folder, a pattern such as "
            "'raw/*/*.jpeg' or a .zip archive"
        )
    if _PATTERN_CHARACTER.search(place) and (output.is_remote(place) or not Path(place).exists()):
        matched = Pattern(place)
        if not next(matched.names(), None):
            raise FileNotFoundError(
                f"{image_dir}: no photograph ({', '.join(images.EXTENSIONS)}) matches this "
                "pattern. Is its folder the right one? (A bracket itself is written [[])"
            )
        return matched
    folder = Folder(place)
    if not next(folder.names(), None):
        raise _nothing_in(image_dir, place)
    return folder


@dataclasses.dataclass(frozen=True)
class Folder(Source):
    """The photographs of a folder, not of those below it; any file system that Beam knows."""

    folder: str

    def names(self) -> Iterator[tuple[str, int]]:
        if output.is_remote(self.folder):
            yield from _matches(f"{self.folder}/*", below=f"{self.folder}/")
        elif Path(self.folder).is_dir():
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if _is_photograph(entry.name) and entry.is_file():
                        yield entry.name, entry.stat().st_size

    def read(self, name: str) -> bytes:
        return _read(self.path(name))

    def path(self, name: str) -> str:
        return posixpath.join(self.folder, name)


@dataclasses.dataclass(frozen=True)
class Pattern(Source):
    """The photographs that match a pattern, named by their path from its fixed folder on.

    On a disk, as a shell does: `*` stays within a folder, `**` is any number of folders, hidden
    files do not match. In an object store as Beam does: there, `**/` is one folder at least.
    """

    pattern: str

    @functools.cached_property
    def _fixed(self) -> str:
        """The folder below which all matches are."""
        before, _, _ = _PATTERN_CHARACTER.sub("\0", self.pattern).partition("\0")
        return before[: before.rindex("/") + 1]

    def names(self) -> Iterator[tuple[str, int]]:
        if output.is_remote(self.pattern):
            yield from _matches(self.pattern, below=self._fixed)
            return
        for path in glob.iglob(self.pattern, recursive=True):
            if _is_photograph(path) and Path(path).is_file():
                yield path.removeprefix(self._fixed), Path(path).stat().st_size

    def read(self, name: str) -> bytes:
        return _read(self.path(name))

    def path(self, name: str) -> str:
        return self._fixed + name


@dataclasses.dataclass(frozen=True)
class Archive(Source):
    """The photographs of a .zip archive, in whatever folders it has."""

    file: str
    # Tells an archive that was opened again, maybe since replaced, from the one that is kept open.
    opened: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    def names(self) -> Iterator[tuple[str, int]]:
        for member in self.members():
            yield member.filename, member.file_size

    def members(self) -> Iterator[zipfile.ZipInfo]:
        """What the archive says of its photographs."""
        for member in self._open()[0].infolist():
            hidden = member.filename.startswith("__MACOSX/")
            if _is_photograph(member.filename) and not member.is_dir() and not hidden:
                yield member

    def read(self, name: str) -> bytes:
        archive, lock = self._open()
        try:
            member = archive.getinfo(name)
            _check_bytes(member.file_size)
            with lock:  # Opening counts the readers of the file, which threads must not do at once.
                stream = archive.open(member)
            try:
                # Without a length, 2 GB may be inflated of a member that says to be small.
                return stream.read(member.file_size + 1)
            finally:
                with lock:
                    stream.close()
        except images.RejectedImage:  # A ValueError too.
            raise
        except (*_DAMAGED, zlib.error, KeyError, OSError) as error:
            # No place in a file is EINVAL; another OSError may be the fault of the disk.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise images.RejectedImage("unreadable", f"damaged in its archive: {error}") from error

    def path(self, name: str) -> str:
        return posixpath.join(self.file, name)

    def modified(self, name: str) -> float:
        return output.modified(self.file)

    def _open(self) -> tuple[zipfile.ZipFile, threading.Lock]:
        with _OPENING:
            return _open_zip(self.file, self.opened, os.getpid())


@dataclasses.dataclass(frozen=True)
class Arrays(Source):
    """The photographs of one array in an .npy file: prepared already, so that no recipe is applied.

    uint8, or floats from 0 to 1 that were made of uint8 by `x / 255`. Nothing but the photograph
    that is wanted is read from the disk.
    """

    images_npy: str

    def names(self) -> Iterator[tuple[str, int]]:
        array = self._array()
        size = array[:1].nbytes
        for row in range(len(array)):
            yield self.name(row), size

    def count(self) -> int:
        """How many photographs there are."""
        return len(self._array())

    def name(self, row: int) -> str:
        """The name, which is the id too, of a row."""
        return f"{Path(self.images_npy).stem}-{row:07d}"

    def read(self, name: str) -> bytes:
        return self._array()[int(name.rpartition("-")[2])].tobytes()

    def modified(self, name: str) -> float:
        return output.modified(self.images_npy)

    def prepare(self, data: bytes, recipe: specs.Recipe) -> images.Picture:
        """The photograph as uint8; no recipe is applied, and nothing is assessed."""
        return images.Picture(self._pixels(data), "")

    def thumbnail(self, data: bytes, side: int) -> np.ndarray:
        return self._pixels(data)

    def _pixels(self, data: bytes) -> np.ndarray:
        array = self._array()
        photograph = np.frombuffer(data, array.dtype).reshape(array.shape[1:])
        if photograph.dtype == np.uint8:
            return photograph
        low, high = photograph.min(), photograph.max()
        if not 0 <= low <= high <= 1:  # False for NaN.
            raise images.RejectedImage(
                "unreadable", f"values from {low:g} to {high:g}; expected floats from 0 to 1"
            )
        return np.rint(photograph.astype(np.float32) * 255).astype(np.uint8)

    def path(self, name: str) -> str:
        return f"{self.images_npy}[{int(name.rpartition('-')[2])}]" if name else self.images_npy

    def _array(self) -> np.ndarray:
        return np.load(self.images_npy, mmap_mode="r", allow_pickle=False)


def open_arrays(images_npy: str, recipe: specs.Recipe) -> Arrays:
    """The photographs of an .npy file on this machine's disks.

    Args:
      images_npy: path of an array (N, recipe.size, recipe.size, 3), uint8 or floats from 0 to 1.
      recipe: only its size counts: the photographs are prepared already.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such array.
    """
    array = load_array(images_npy, "--npy_images")
    expected = (recipe.size, recipe.size, 3)
    is_pictures = array.ndim == 4 and array.shape[3] == 3 and len(array) > 0
    if not is_pictures or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
        raise ValueError(
            f"{images_npy} is an array {array.shape} of {array.dtype}; expected (photographs, "
            "height, width, 3), RGB, of uint8 or of floats from 0 to 1"
        )
    if array.shape[1:] != expected:
        height, width = array.shape[1:3]
        fix = f"Pass --config.dataset.recipe.size={height}" if height == width else "Make it square"
        raise ValueError(
            f"{images_npy} holds photographs of {height}x{width} pixels; "
            f"config.dataset.recipe.size is {recipe.size}. {fix}"
        )
    return Arrays(output.absolute(images_npy))


def load_array(path: str, flag: str) -> np.ndarray:
    """The array of an .npy file, mapped and not read; never a pickle.

    Args:
      path: of the file. flag: that named it, for errors.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no array on a disk of this machine.
    """
    if output.is_remote(path):
        raise ValueError(f"{path}: {flag} needs a file on a disk, which can be mapped. Copy it")
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist; {flag} names an .npy file")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as an .npy array: {error}. Write it with "
            "numpy.save(path, array), of numbers, whole"
        ) from error
    if not isinstance(array, np.ndarray):  # An .npz archive.
        raise ValueError(
            f"{path} holds several arrays ({', '.join(array.files)}); {flag} needs an .npy file of "
            "one. Write it with numpy.save"
        )
    return array


def _open_archive(file: str) -> Archive:
    archive = Archive(file)
    try:
        members = list(archive.members())
    except _DAMAGED as error:
        raise ValueError(
            f"{file} is not a whole .zip archive: {error}. Was its download cut short? Fetch it "
            f"again; `unzip -t {shlex.quote(file)}` tells whether it is whole"
        ) from error
    if not members:
        raise ValueError(
            f"{file} holds no photographs ({', '.join(images.EXTENSIONS)}), only "
            f"{_first_members(archive)}. An archive within an archive has to be unpacked"
        )
    for member in members:
        what = (
            "is encrypted"
            if member.flag_bits & _ENCRYPTED
            else f"is compressed by method {member.compress_type}, neither stored nor deflated"
            if member.compress_type not in _COMPRESSIONS
            else ""
        )
        if what:
            raise ValueError(
                f"{file}: {member.filename} {what}. Unpack it and pass the folder as --image_dir"
            )
    return archive


def _first_members(archive: Archive) -> str:
    names = archive._open()[0].namelist()[:3]
    return ", ".join(names) or "nothing at all"


@functools.lru_cache(maxsize=1)
def _open_zip(file: str, opened: str, process: int) -> tuple[zipfile.ZipFile, threading.Lock]:
    """The archive, open: once a process, for its table of contents may take long to read.

    A forked process may not read with its parent's file position, so that it opens its own.
    """
    return zipfile.ZipFile(output.open_file(file)), threading.Lock()


def _part_of(place: str) -> re.Match[str] | None:
    """A match whose first group is the archive, where only the first part of one is there."""
    first = f"{place}.001"
    if not place.lower().endswith(".zip") or output.exists(place) or not output.exists(first):
        return None
    return _SPLIT_ARCHIVE.fullmatch(first)


def _nothing_in(image_dir: str, folder: str) -> Exception:
    """Why a folder gives no photograph, and what may have been meant."""
    if not output.exists(folder):
        return FileNotFoundError(
            f"{image_dir} does not exist; --image_dir names a folder, a pattern such as "
            "'raw/*/*.jpeg' or a .zip archive"
        )
    below = collections.Counter(
        path.parent
        for path in Path(folder).glob("*/*")
        if _is_photograph(path.name) and path.is_file()
    )
    known = ", ".join(images.EXTENSIONS)
    if len(below) > 1:
        ((inside, count),) = below.most_common(1)
        pattern = shlex.quote(f"{image_dir.rstrip('/')}/*/*")
        return ValueError(
            f"{image_dir} holds no photographs itself, {len(below)} folders in it hold "
            f"{below.total()}, {inside} the most of them, {count}: pass --image_dir={inside}, or "
            f"all as --image_dir={pattern}"
        )
    if below:
        ((inside, count),) = below.items()
        return ValueError(
            f"{image_dir} holds no photographs itself, {inside} holds {count}: pass "
            f"--image_dir={inside}"
        )
    if archives := sorted(path.name for path in Path(folder).glob("*.zip*")):
        return ValueError(
            f"{image_dir} holds no photographs ({known}), but {archives[0]}: pass "
            f"--image_dir={posixpath.join(folder, archives[0])}"
        )
    return ValueError(f"{image_dir} holds no photographs ({known})")


def _matches(pattern: str, *, below: str) -> Iterator[tuple[str, int]]:
    (found,) = FileSystems.match([pattern])
    for file in found.metadata_list:
        if _is_photograph(file.path):
            yield file.path.removeprefix(below), file.size_in_bytes


def _read(path: str) -> bytes:
    try:
        # A read reserves all of its length: on a disk, no more than the file has.
        size = images.MAX_BYTES if output.is_remote(path) else Path(path).stat().st_size
        data = output.read(path, length=min(size, images.MAX_BYTES) + 1)
    except (FileNotFoundError, PermissionError) as error:
        raise images.RejectedImage("unreadable", error.strerror or str(error)) from error
    _check_bytes(len(data))
    return data


def _check_bytes(size: int) -> None:
    if size > images.MAX_BYTES:
        raise images.RejectedImage("too_large", f"more than {images.MAX_BYTES} bytes")


def _is_photograph(name: str) -> bool:
    base = posixpath.basename(name)
    # macOS puts a file ._x.jpeg, which is none, beside x.jpeg.
    return posixpath.splitext(base)[1].lower() in images.EXTENSIONS and not base.startswith(".")
