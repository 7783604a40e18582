"""Where photographs are kept: an archive, and an object store in memory."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from apache_beam.io.filesystem import FileMetadata, FileSystem


def archive(raw: Path, path: Path, **kwargs) -> Path:
    """The photographs of a folder as Kaggle packs them, with what a Mac adds."""
    with zipfile.ZipFile(path, "w", **kwargs) as packed:
        packed.mkdir("train")
        for photograph in sorted(raw.glob("*.jpeg")):
            packed.write(photograph, f"train/{photograph.name}")
        packed.writestr("__MACOSX/train/._10_left.jpeg", b"no photograph")
        packed.writestr("train/.DS_Store", b"no photograph")
        packed.writestr("train/._10_left.jpeg", b"no photograph")
        packed.writestr("readme.txt", b"no photograph")
    return path


class Bucket(FileSystem):
    """An object store in memory: `bucket://...`."""

    objects: ClassVar[dict[str, bytes]] = {}

    @classmethod
    def scheme(cls) -> str:
        return "bucket"

    def has_dirs(self) -> bool:
        return False

    def _list(self, prefix: str) -> Iterator[FileMetadata]:
        for path, content in self.objects.items():
            if path.startswith(prefix):
                yield FileMetadata(path, len(content))

    def open(self, path, *_, **__):
        if path not in self.objects:
            raise FileNotFoundError(2, "No such object", path)
        return io.BytesIO(self.objects[path])

    def exists(self, path):
        return path in self.objects

    def _refuse(self, *_, **__):
        raise NotImplementedError

    join = split = mkdirs = create = copy = rename = delete = _refuse
    size = last_updated = metadata = checksum = _refuse
