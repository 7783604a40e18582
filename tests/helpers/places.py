"""Where photographs are kept: an archive, an object store in memory, and nowhere."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import fsspec
from fsspec.spec import AbstractFileSystem

from dr_tfx.sources import folders


def archive(raw: Path, path: Path, **kwargs) -> Path:
    """Write the photographs of a folder as Kaggle packs them, with what a Mac adds."""
    with zipfile.ZipFile(path, "w", **kwargs) as packed:
        packed.mkdir("train")
        for photograph in sorted(raw.glob("*.jpeg")):
            packed.write(photograph, f"train/{photograph.name}")
        packed.writestr("__MACOSX/train/._10_left.jpeg", b"no photograph")
        packed.writestr("train/.DS_Store", b"no photograph")
        packed.writestr("train/._10_left.jpeg", b"no photograph")
        packed.writestr("readme.txt", b"no photograph")
    return path


class Named(folders.Source):
    """Photographs that have a name and a size each, but are nowhere."""

    def __init__(self, names: Sequence[str]):
        self._names = names

    def names(self) -> Iterator[tuple[str, int]]:
        for i, name in enumerate(self._names):
            yield name, 1000 + i

    def read(self, name: str) -> bytes:
        raise AssertionError(f"{name} was read")

    def path(self, name: str) -> str:
        return f"nowhere/{name}"


class Bucket(AbstractFileSystem):
    """An object store in memory: `bucket://...`."""

    protocol = "bucket"
    objects: ClassVar[dict[str, bytes]] = {}  # By the whole path, with its scheme.

    def ls(self, path, detail=True, **_):
        folder = f"bucket://{self._strip_protocol(path)}/"
        found = {}
        for name, content in self.objects.items():
            if name.startswith(folder):
                child, deeper, _ = name.removeprefix(folder).partition("/")
                kind = "directory" if deeper else "file"
                key = self._strip_protocol(folder + child)
                found[key] = {"name": key, "type": kind, "size": 0 if deeper else len(content)}
            elif name == folder.rstrip("/"):
                key = self._strip_protocol(path)
                found[key] = {"name": key, "type": "file", "size": len(content)}
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else list(found)

    def rm_file(self, path):
        if self.objects.pop(f"bucket://{path}", None) is None:
            raise FileNotFoundError(path)

    def _open(self, path, mode="rb", autocommit=True, **_):
        if mode == "wb":
            return _Upload(f"bucket://{path}", self.objects)
        if f"bucket://{path}" not in self.objects:
            raise FileNotFoundError(path)
        return io.BytesIO(self.objects[f"bucket://{path}"])


class _Upload(io.BytesIO):
    """An object that is there once it is committed, as in a store that takes uploads in parts."""

    def __init__(self, name, objects):
        super().__init__()
        self._name, self._objects = name, objects

    def close(self):
        pass

    def commit(self):
        self._objects[self._name] = self.getvalue()

    def discard(self):
        self.truncate(0)


fsspec.register_implementation("bucket", Bucket, clobber=True)
