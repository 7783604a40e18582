"""Random access to the examples in a split's shards: any rows, in any order, straight into a batch.

A streaming reader has to hold a buffer of examples to shuffle them, shuffles only as far as that
buffer reaches, and after an interruption reads all over again what it had passed. Here an example
is an offset in a file: an order is a sequence of indices, an epoch is shuffled as a whole, and
memory holds 10 bytes an example, the numbers among its features and, for patches, 128 bytes a mask.

A checksum is compared when a record is read for the first time, and again once the time or size of
its file has changed: after every batch the system is asked, which costs a microsecond a file.

The module loads no TensorFlow. It reads at positions (`preadv`) and never seeks.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from dr_tfx.dataset import patches, records
from dr_tfx.input_pipeline import shard_check, shard_files

if TYPE_CHECKING:  # It loads pandas, which the processes that read (`batch_readers`) do not need.
    from dr_tfx.dataset import manifest, mirrors


class ShardReader:
    """The examples of some shards, numbered from 0 in the order of the shards.

    A pickled reader comes without its `index`, which processes share.

    Args:
      data_dir: folder of the shards.
      shards: shards of one split.
      schema: what to read of every record.

    Attributes:
      schema: as given.
      index: a structured array with a row an example, see `index_dtype`.

    Raises:
      ValueError: a shard is damaged, or is not what the manifest says; the message names the file.
    """

    def __init__(
        self, data_dir: Path, shards: "Sequence[manifest.Shard]", schema: records.Schema
    ) -> None:
        self.schema = schema
        self._files = shard_files.open_shards(data_dir, shards)
        self.index = np.zeros(len(self), self.index_dtype)
        self.index["offset"] = self._files.offsets(shards)

    @property
    def index_dtype(self) -> np.dtype:
        """The dtype of the index: the fields that are known of an example.

        `offset` is where its record's frame begins in the file. All other fields are 0 until the
        record was read once and its checksum found right: `pixels`, where in the frame the image
        begins (it stays 0 if images have to be decoded); for every mask, by the feature's name,
        where in the frame it begins, and, if patches are read, its cells; and for every other
        feature its value.
        """
        masks: list[tuple[Any, ...]] = [(name, "int32") for name in self.schema.masks]
        if self.schema.patches:
            sized = ("uint8", (patches.CELL_BYTES,))
            masks += [(_cells_of(name), *sized) for name in self.schema.masks]
        return np.dtype(
            [("offset", "int64"), ("pixels", "int16"), *masks, *self.schema.numbers.items()]
        )

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "index"}

    def __len__(self) -> int:
        return int(self._files.ends[-1])

    def ask(self, numbers: np.ndarray) -> "mirrors.Coming | None":
        """Begin to fetch examples that may not be on this machine; the result is for `read`."""
        return self._files.ask(numbers)

    def read(
        self,
        numbers: np.ndarray,
        flips: np.ndarray,
        batch: Mapping[str, np.ndarray],
        *,
        draws: np.ndarray | None = None,
        asked: "mirrors.Coming | None" = None,
    ) -> None:
        """Read a batch of examples.

        A record is parsed, and its checksum compared, when it is read for the first time or its
        file was changed. Images are mirrored here, and not on the way to the model, because copying
        them mirrored costs what copying does.

        Args:
          numbers: int64 (batch,), which examples.
          flips: bool (batch, 2), which of them are mirrored left to right, and top to bottom.
          batch: arrays with the names and shapes of `Schema.shapes`, which are overwritten.
          draws: float32 (batch, patches.DRAWS), the chance that places the patches, if the schema
            has any.
          asked: what `ask` returned of these examples, if it was called.

        Raises:
          ValueError: a record is damaged or lacks a feature; the message names the file.
          StoreError: an example cannot be fetched.
        """

        def fill() -> None:
            self._fill(numbers, flips, batch, draws)

        def forget(rows: slice) -> None:
            self.index["pixels"][rows] = 0

        self._files.filled(numbers, asked, fill, forget)

    def batch(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Return a batch of examples as they are, with the names and shapes of `Schema.shapes`.

        Args and errors are those of `read`.
        """
        shapes = self.schema.shapes(len(numbers))
        made = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}
        self.read(numbers, np.zeros((len(numbers), 2), bool), made)
        return made

    def _fill(
        self,
        numbers: np.ndarray,
        flips: np.ndarray,
        batch: Mapping[str, np.ndarray],
        draws: np.ndarray | None,
    ) -> None:
        codes = _FLIP_CODES[flips[:, 0].astype(int), flips[:, 1].astype(int)].tolist()
        # They are taken once: another process may find just now that a file was changed.
        places = {"pixels": self.index["pixels"][numbers]}
        known = places["pixels"] > 0
        side, corners = self.schema.side, [(0, 0)] * len(numbers)
        for row in np.flatnonzero(~known).tolist():
            whole = self._read_record(int(numbers[row]))
            if draws is not None:
                corners[row] = self._corner(int(numbers[row]), draws[row])
            top, left = corners[row]
            for name, pixels in whole.items():
                part = pixels[top : top + side, left : left + side]
                _place(part, codes[row], batch[name][row])
        rows = np.flatnonzero(known).tolist()
        if draws is not None:
            for row in rows:
                corners[row] = self._corner(int(numbers[row]), draws[row])
        places |= {name: self.index[name][numbers] for name in self.schema.masks}
        for name, column in ((records.IMAGE, "pixels"), *((m, m) for m in self.schema.masks)):
            how = {"places": places[column], "corners": corners, "into": batch[name]}
            self._copy(numbers, rows, codes, **how)
        for name in self.schema.numbers:
            batch[name][...] = self.index[name][numbers]

    def _copy(
        self,
        numbers: np.ndarray,
        rows: Sequence[int],
        codes: Sequence[int],
        *,
        places: np.ndarray,
        corners: Sequence[tuple[int, int]],
        into: np.ndarray,
    ) -> None:
        """Copy the raw pixels of examples that were read before from the files into a batch.

        Of a patch whole rows of the picture are read, which is one call.
        """
        side, size, channels = into.shape[1], self.schema.size, into.shape[3]
        scratch = np.empty_like(into[0], shape=(side, size, channels))
        positions = (self.index["offset"][numbers] + places).tolist()
        shards = self._files.shards_of(numbers).tolist()
        for row in rows:
            code, target, (top, left) = codes[row], into[row], corners[row]
            pixels = target if code == _AS_IT_IS and side == size else scratch
            start = positions[row] + top * size * channels
            if os.preadv(self._files[shards[row]], [pixels], start) < scratch.nbytes:
                raise ValueError(self._damaged_record(int(numbers[row])))
            if pixels is not target:
                _place(scratch[:, left : left + side], code, target)

    def _corner(self, number: int, draws: np.ndarray) -> tuple[int, int]:
        """Return the top and the left of the patch of an example whose record was read before."""
        spec = self.schema.patches
        assert spec is not None  # There are draws for patches alone.
        masks = [self.index[_cells_of(name)][number] for name in self.schema.masks]
        return patches.corner(draws, masks, size=self.schema.size, spec=spec)

    def _read_record(self, number: int) -> dict[str, np.ndarray]:
        """Compare a record's checksum, parse it, note its features; return image and masks."""
        shard, start = (
            int(self._files.shards_of(np.array(number))),
            int(self.index["offset"][number]),
        )
        path, schema = self._files.paths[shard], self.schema
        data, example, arrays = shard_check.read_record(
            path, self._files[shard], start, schema=schema
        )
        try:
            if schema.encoding == "raw":
                for name in schema.masks:
                    self.index[name][number] = 12 + _position(data, name, example[name])
                name = records.IMAGE_ENCODED
                pixels = 12 + _position(data, name, example[name], most=_MOST_BEFORE)
        except records.DamagedRecord as error:
            raise ValueError(shard_check.unfit(path, start, error)) from error
        for name in schema.numbers:
            self.index[name][number] = example[name]
        if schema.patches:
            for name in schema.masks:
                found = patches.cells(arrays[name], unknown=schema.patches.unknown)
                self.index[_cells_of(name)][number] = found
        if schema.encoding == "raw":  # It is last: other processes take it as a sign of all else.
            self.index["pixels"][number] = pixels
        return arrays

    def _damaged_record(self, number: int) -> str:
        path = self._files.paths[int(self._files.shards_of(np.array(number)))]
        return shard_check.damaged(path, f"the record at byte {self.index['offset'][number]}")


_BETWEEN = 32  # Bytes between a feature's name and its value, at most,
_MOST_BEFORE = 30_000  # and in front of the name of the image: its place is an int16.
_AS_IT_IS = 2
_FLIP_CODES = np.array([[_AS_IT_IS, 0], [1, -1]])  # OpenCV's, by (left to right, top to bottom).


def _cells_of(mask: str) -> str:
    """Return the field of the index that has the cells of a mask."""
    return f"{mask}/cells"


def _place(pixels: np.ndarray, code: int, into: np.ndarray) -> None:
    """Copy an image or a mask into its place in a batch, mirrored as the code says."""
    if code == _AS_IT_IS:
        into[...] = pixels
    else:
        cv2.flip(pixels, code, dst=into)


def _position(data: bytes, name: str, value: bytes, *, most: int | None = None) -> int:
    """Return where a feature's value is in a serialized example: a few bytes after its name.

    `data.index(value)` would take longer than all else, above all where pixels are alike.

    Raises:
      DamagedRecord: it is not where `records.example` puts it, within the first `most` bytes.
    """
    key = name.encode()
    at = data.find(key, 0, most)
    while at >= 0:
        after = at + len(key)
        for start in range(after, after + _BETWEEN):
            if data.startswith(value, start):
                return start
        at = data.find(key, after, most)
    raise records.DamagedRecord(f"has its {name} elsewhere than drtfx-build-examples writes it")
