"""The examples of a split by their numbers, for whoever reads so: PyTorch, Grain, a notebook.

The module loads no TensorFlow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np

from dr_tfx.dataset import manifest, records
from dr_tfx.input_pipeline import shard_reader


class Examples(Sequence[dict[str, Any]]):
    """The examples of a split, in the order of its shards, of which none is held in memory.

    An example is a dict: `image`, uint8 RGB (size, size, 3); `label`, an int, whose names are
    `Manifest.dataset.label_names`; and each mask by its name, uint8 (size, size, 1). It can be
    pickled: processes that are given it read by themselves.

    Args:
      data_dir: folder of the shards.
      data: their manifest.
      split: which of its splits.

    Raises:
      ValueError: there is no such split, or a shard is damaged; names it.
    """

    def __init__(self, data_dir: Path, data: manifest.Manifest, split: str) -> None:
        spec = data.dataset
        self._label = records.LABEL_PREFIX + spec.label_column
        mask = records.Feature("uint8", is_mask=True)
        features = {self._label: records.Feature("int64", values=len(spec.label_names))}
        features |= {records.MASK_PREFIX + name: mask for name in spec.masks}
        schema = records.Schema(spec.recipe.size, spec.recipe.encoding, features)
        self._reader = shard_reader.ShardReader(data_dir, data.shards_of(split), schema)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "index": self._reader.index}

    def __setstate__(self, state: dict[str, Any]) -> None:
        index = state.pop("index")
        vars(self).update(state)
        self._reader.index = index

    def __len__(self) -> int:
        return len(self._reader)

    @overload
    def __getitem__(self, number: SupportsIndex) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, number: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, number: SupportsIndex | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return an example, or those of a slice.

        Raises:
          IndexError: there is no such number.
          ValueError: the record is damaged; names the file.
          StoreError: it cannot be fetched from the object store of the data set.
        """
        if isinstance(number, slice):
            return self.__getitems__(range(len(self))[number])
        return self.__getitems__([range(len(self))[number]])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return the examples of some numbers, in their order, as PyTorch asks for a batch."""
        wanted = np.array([range(len(self))[number] for number in numbers], np.int64)
        shapes = self._reader.schema.shapes(len(wanted))
        batch = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}
        self._reader.read(wanted, np.zeros((len(wanted), 2), bool), batch)
        labels = batch.pop(self._label).tolist()
        pictures = {name.removeprefix(records.MASK_PREFIX): batch[name] for name in batch}
        return [
            {**{name: pictures[name][i] for name in pictures}, "label": label}
            for i, label in enumerate(labels)
        ]
