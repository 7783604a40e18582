"""Random access to the examples in a split's shards: any rows, in any order, straight into a batch.

A streaming reader has to hold a buffer of examples to shuffle them, shuffles only as far as that
buffer reaches, and after an interruption reads all over again what it had passed. Here an example
is an offset in a file: order is a sequence of numbers, an epoch is shuffled as a whole, and nothing
is held in memory but 10 bytes an example.

No TensorFlow. It reads at positions (`preadv`) and never seeks.
"""

import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from dr_tfx.config import specs
from dr_tfx.dataset import records

if TYPE_CHECKING:  # It loads pandas, which the processes that read (`batch_readers`) do not need.
    from dr_tfx.dataset import manifest

# Of an example: where its record's frame begins in the file, and where in the frame a raw image is,
# once the checksum was found right; 0 before.
INDEX = np.dtype([("offset", np.int64), ("pixels", np.int16)])


class ShardReader:
    """The examples of `shards`, numbered from 0 in their order.

    A pickled one comes without its `index`, which processes share.

    Args:
      data_dir: where the shards are.
      shards: shards of one split.
      recipe: what they were built with.

    Attributes:
      recipe: as given.
      index: `INDEX` (examples,).

    Raises:
      ValueError: a shard is damaged, or is not what the manifest says; names the file.
      OSError: more shards than the system lets a process open.
    """

    def __init__(
        self, data_dir: Path, shards: "Sequence[manifest.Shard]", recipe: specs.Recipe
    ) -> None:
        self.recipe = recipe
        self._paths = [data_dir / shard.name for shard in shards]
        self._ends = np.cumsum([shard.records for shard in shards])  # Of each shard's numbers.
        self._open()
        self.index = np.zeros(int(self._ends[-1]), INDEX)
        start = 0
        for path, shard, file in zip(self._paths, shards, self._files.tolist(), strict=True):
            self.index["offset"][start : start + shard.records] = _offsets(path, file, shard)
            start += shard.records
        self._advise(sum(shard.bytes for shard in shards))

    def _open(self) -> None:
        _allow_open_files(len(self._paths) + 256)
        self._files = np.array([os.open(path, os.O_RDONLY) for path in self._paths], np.int32)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("_files", "index")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def __len__(self) -> int:
        return len(self.index)

    def __del__(self) -> None:
        for file in getattr(self, "_files", np.array(())).tolist():
            os.close(file)

    def read(self, numbers: np.ndarray, flips: np.ndarray, batch: np.ndarray) -> None:
        """Reads a batch of pictures.

        A record's checksum is compared the first time that it is read.

        Args:
          numbers: int64 (batch,), which examples.
          flips: bool (batch, 2), which of them are mirrored left to right, and top to bottom.
            Here, and not on the way to the model, because copying mirrored costs what copying does.
          batch: uint8 (batch, size, size, 3), which gets them, as RGB.

        Raises:
          ValueError: a record is damaged; names the file.
        """
        scratch = np.empty_like(batch[0])
        codes = _FLIP_CODES[flips[:, 0].astype(int), flips[:, 1].astype(int)].tolist()
        inside = self.index["pixels"][numbers]
        positions = (self.index["offset"][numbers] + inside).tolist()
        files = self._files[self._shards_of(numbers)].tolist()
        rows = zip(batch, codes, inside.tolist(), files, positions, strict=True)
        for row, (into, code, known, file, position) in enumerate(rows):
            image = into if code == _AS_IT_IS else scratch
            if not known or os.preadv(file, [image], position) < scratch.nbytes:
                image[...] = self._read_record(int(numbers[row]))
            if code != _AS_IT_IS:
                cv2.flip(scratch, code, dst=into)

    def _shards_of(self, numbers: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._ends, numbers, side="right")

    def _read_record(self, number: int) -> np.ndarray:
        """Reads a record, compares its checksum, and decodes its image."""
        shard, start = int(self._shards_of(np.array(number))), int(self.index["offset"][number])
        file = int(self._files[shard])
        length = int.from_bytes(os.pread(file, 8, start), "little")
        data = os.pread(file, length + 4, start + 12)
        if len(data) != length + 4 or records.masked_crc(data[:-4]) != data[-4:]:
            raise ValueError(_damaged(self._paths[shard], f"the record at byte {start}"))
        example: dict[str, Any] = records.parse(data[:-4])
        encoded = example[records.IMAGE_ENCODED]
        if self.recipe.encoding == "raw":
            self.index["pixels"][number] = 12 + _position(data, encoded)
        return records.decode_image(encoded, self.recipe.encoding, self.recipe.size)

    def _advise(self, total: int) -> None:
        """Has the system read what fits into free memory.

        Examples are read in random order; a disk that is slow at that has them in its cache soon.
        """
        if not hasattr(os, "posix_fadvise"):
            return
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if total < free / 2:
            for file in self._files.tolist():
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)


_AS_IT_IS = 2
_FLIP_CODES = np.array([[_AS_IT_IS, 0], [1, -1]])  # OpenCV's, by (left to right, top to bottom).


def _position(data: bytes, encoded: bytes) -> int:
    """Where the image is in a serialized example: a few bytes after the name of its feature.

    `data.index(encoded)` would take longer than all else, above all where pixels are alike.
    """
    key = records.IMAGE_ENCODED.encode()
    after = data.index(key) + len(key)
    return next(at for at in range(after, len(data)) if data.startswith(encoded, at))


def _offsets(path: Path, file: int, shard: "manifest.Shard") -> np.ndarray:
    """Where in a shard each record's frame begins, from the headers of the frames."""
    offsets, position = np.empty(shard.records, np.int64), 0
    for number in range(shard.records):
        header = os.pread(file, 12, position)
        if records.masked_crc(header[:8]) != header[8:]:
            raise ValueError(_damaged(path, f"record {number}"))
        offsets[number] = position
        position += int.from_bytes(header[:8], "little") + 16
    if position != shard.bytes or os.fstat(file).st_size != shard.bytes:
        raise ValueError(_damaged(path, f"{shard.records} records are {position} bytes"))
    return offsets


def _damaged(path: Path, what: str) -> str:
    return (
        f"{path} is damaged or was changed after the build: {what}. "
        "Build the data set again with drtfx-build-examples --overwrite."
    )


def _allow_open_files(count: int) -> None:
    """Every shard stays open: raises this process's own limit where the system's allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(
            resource.RLIMIT_NOFILE,
            (count if hard == resource.RLIM_INFINITY else min(count, hard), hard),
        )
