"""Scores of a split or of arrays, with test-time augmentation, in one streaming pass."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.dataset import folds, manifest, records
from dr_tfx.inference import plain_numbers, tiles, views
from dr_tfx.input_pipeline import in_order
from dr_tfx.machine import progress
from dr_tfx.models import bundles, last_features


def predict_split(
    bundle: bundles.Bundle, data_dir: Path, split: str, *, external: bool = False
) -> pd.DataFrame:
    """Score every example of a split; only the scores are kept, never the images.

    Args:
      bundle: the model.
      data_dir: the data set that it was trained on; or, if `external`, one of other photographs
        that was built for it.
      split: which part of it.
      external: whether the photographs come from elsewhere.

    Returns:
      One row an example, in shard order: `id`, `patient`, the columns of the kind of task, which
      are what the record tells (`DataSide.truth`) and what the model tells (`ScoreSide.columns`),
      and those of `plain_numbers`.

    Raises:
      FileNotFoundError: there is no data set in the folder.
      ValueError: it was built for another model, or has no such split, or a score is not finite.
    """
    bundle, data = _of_data(bundle, data_dir, external=external)
    return stream(bundle, view_scorer(bundle), data_dir, data=data, split=split)


def predict_altered(
    bundle: bundles.Bundle, data_dir: Path, split: str, *, external: bool = False
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Score a split once for each of the kind's `ScoreSide.alterations` of its pictures.

    The arguments and errors are those of `predict_split`.

    Yields:
      The name of an alteration, and a table as `predict_split` returns it.
    """
    alterations = bundle.kind.scores.alterations
    if not alterations:
        return
    bundle, data = _of_data(bundle, data_dir, external=external)
    score = view_scorer(bundle)
    for name, alter in alterations.items():

        def altered(
            images: tf.Tensor, alter: Callable[[np.ndarray], np.ndarray] = alter
        ) -> tf.Tensor:
            return score(tf.constant(np.stack([alter(rgb) for rgb in images.numpy()])))

        yield name, stream(bundle, altered, data_dir, data=data, split=split)


def _of_data(
    bundle: bundles.Bundle, data_dir: Path, *, external: bool
) -> tuple[bundles.Bundle, manifest.Manifest]:
    """Return a bundle as it reads a data set, and the manifest of that; see `predict_split`."""
    if not external:
        return bundle, folds.load_trained_on(bundle.manifest, data_dir)
    data = manifest.load(data_dir)
    manifest.check_same_recipe(bundle.manifest, data, where=str(data_dir))
    # The label's column may have another name elsewhere, and so has its feature in the shards.
    experiment = dataclasses.replace(bundle.experiment, dataset=data.dataset)
    return dataclasses.replace(bundle, experiment=experiment), data


def stream(
    bundle: bundles.Bundle,
    score: Callable[[tf.Tensor], tf.Tensor],
    data_dir: Path,
    *,
    data: manifest.Manifest,
    split: str,
) -> pd.DataFrame:
    """Make one pass over a split with a compiled scorer.

    Args:
      bundle: the model, for its kind of task and the size of its batches.
      score: what `view_scorer` returns, or the like.
      data_dir: folder of the data set, which is not compared with the bundle.
      data: its manifest.
      split: which part of it.

    Returns:
      A table as `predict_split` returns it.

    Raises:
      ValueError: the data set has no such split, a shard is damaged, or a score is not finite.
    """
    (table,) = side_by_side(bundle, [score], data_dir, data=data, split=split)
    return table


def side_by_side(
    bundle: bundles.Bundle,
    scorers: Sequence[Callable[[tf.Tensor], tf.Tensor]],
    data_dir: Path,
    *,
    data: manifest.Manifest,
    split: str,
) -> list[pd.DataFrame]:
    """Do as `stream` does with several scorers, each of which is given each batch in turn."""
    batch_size, kind = bundle.experiment.evaluation.batch_size, bundle.kind
    features = {**kind.data.features, **plain_numbers.OF_RECORDS}
    batches = in_order.Batches(
        data_dir,
        data,
        split,
        batch_size=batch_size,
        features=features,
        texts=tuple(_TEXTS.values()),
    )
    tables: list[list[pd.DataFrame]] = [[] for _ in scorers]
    external = data.dataset.split.method == "external"  # The name of its split says nothing.
    title = f"score {data.dataset.name if external else split}"
    with progress.bar(total=batches.examples, unit="image", title=title) as bar:
        for batch in batches:
            images = batch.pop(records.IMAGE)
            known = {short: batch.pop(key) for short, key in _TEXTS.items()}
            plain = {name: batch.pop(name) for name in plain_numbers.OF_RECORDS}
            plain |= plain_numbers.of_pixels(images)
            truth, seen = kind.data.truth(batch), tf.constant(images)
            for score, parts in zip(scorers, tables, strict=True):
                outputs = score(seen).numpy()
                told = truth | bundle.columns(outputs) | kind.scores.compared(batch, outputs)
                parts.append(pd.DataFrame({**known, **told, **plain}))
            bar.update(len(images))
    return [pd.concat(parts, ignore_index=True) for parts in tables]


_TEXTS = {"id": records.IMAGE_ID, "patient": records.IMAGE_PATIENT}


def view_scorer(bundle: bundles.Bundle) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a compiled function: uint8 images (n, size, size, 3) -> float64 (n, views, ...).

    The model is traced once for all views, and takes them one after the other. Each view is made
    when its turn comes, so that a batch needs the memory of one view.

    Of a model that gives maps, the function returns their mean over the views, float32 (n, size,
    size, ...): each is moved back to the photograph, and where a view does not show the photograph,
    the first view's map stands in. A model that was trained on patches looks at each view tile by
    tile (`tiles`), and its function is not compiled as a whole.
    """
    if bundle.kind.scores.gives_maps:
        return _map_scorer(bundle)
    names = bundle.experiment.evaluation.views
    size = bundle.experiment.dataset.recipe.size

    @tf.function(
        input_signature=[tf.TensorSpec((None, size, size, 3), tf.float32)], autograph=False
    )
    def forward(pixels: tf.Tensor) -> tf.Tensor:
        return bundle.model(pixels, training=False)

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8)], autograph=False)
    def score(images: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(images, tf.float32)
        outputs: list[tf.Tensor] = []
        for name in names:
            with tf.control_dependencies(outputs[-1:]):
                shown = views.VIEWS[name].apply({records.IMAGE: tf.identity(pixels)})
                outputs.append(forward(shown[records.IMAGE]))
        return tf.cast(tf.stack(outputs, axis=1), tf.float64)

    return score


def seeing_scorer(bundle: bundles.Bundle) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return what `view_scorer` returns, for a function that gives features, too.

    They are the mean of the last features of the photograph as it is over their places, float32
    (n, channels); a model that gives maps has none.
    """
    first, *others = bundle.experiment.evaluation.views
    size, model = bundle.experiment.dataset.recipe.size, last_features.seeing(bundle.model)

    @tf.function(
        input_signature=[tf.TensorSpec((None, size, size, 3), tf.float32)], autograph=False
    )
    def forward(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        output, seen = model(pixels, training=False)
        return output, seen

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8)], autograph=False)
    def score(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.cast(images, tf.float32)
        output, seen = forward(views.VIEWS[first].apply({records.IMAGE: pixels})[records.IMAGE])
        outputs = [output]
        for name in others:
            with tf.control_dependencies(outputs[-1:]):
                shown = views.VIEWS[name].apply({records.IMAGE: tf.identity(pixels)})
                outputs.append(forward(shown[records.IMAGE])[0])
        return tf.cast(tf.stack(outputs, axis=1), tf.float64), seen

    return score


def _map_scorer(bundle: bundles.Bundle) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function: uint8 images (n, size, size, 3) -> float32 (n, size, size, k)."""
    shown = [views.VIEWS[name] for name in bundle.experiment.evaluation.views]
    size, side, model = bundle.experiment.dataset.recipe.size, bundle.kind.side, map_maker(bundle)

    @tf.function(
        input_signature=[tf.TensorSpec((None, side, side, 3), tf.float32)], autograph=False
    )
    def whole(pixels: tf.Tensor) -> tf.Tensor:
        return model(pixels, training=False)

    def in_tiles(pixels: tf.Tensor) -> tf.Tensor:
        return tf.convert_to_tensor(tiled(pixels.numpy()))

    tiled = tiles.tiled(lambda part: whole(part).numpy(), tile=side, size=size)
    forward = whole if side == size else in_tiles

    def found(images: tf.Tensor) -> Iterator[tf.Tensor]:
        pixels = tf.cast(images, tf.float32)
        before: list[tf.Tensor] = []
        for view in shown:
            with tf.control_dependencies(before):
                pixels_of_view = view.apply({records.IMAGE: tf.identity(pixels)})[records.IMAGE]
                before = [forward(pixels_of_view)]
            yield before[0]

    def score(images: tf.Tensor) -> tf.Tensor:
        return mean_map(shown, found(images))

    if side < size:
        return score
    spec = tf.TensorSpec((None, size, size, 3), tf.uint8)
    return tf.function(score, input_signature=[spec], autograph=False)


def map_maker(bundle: bundles.Bundle) -> keras.Model:
    """Return what of a network makes its maps, without what it learned from besides."""
    maps = bundle.model.get_layer(bundle.kind.averaging.maps).output
    return keras.Model(bundle.model.inputs, maps)


def mean_map(shown: Sequence[views.View], maps: Iterable[tf.Tensor]) -> tf.Tensor:
    """Return the mean of the maps of several views, each moved back to the photograph.

    Where a view does not show the photograph, the first view's map stands in.

    Args:
      shown: the views.
      maps: float32 (n, h, w, k) of each, which are taken one after the other.
    """
    each = iter(maps)
    plain = total = next(each)
    for view, found in zip(shown[1:], each, strict=True):
        moved = tf.stack([view.undo(one) for one in tf.unstack(found, axis=-1)], axis=-1)
        seen = view.undo(tf.ones_like(found[..., 0]))[..., tf.newaxis]
        total += moved + (1 - seen) * plain
    return total / len(shown)


class BundleReader:
    """A bundle as a reader of pictures. Compiles the model once.

    Attributes:
      experiment: the settings of the run.
      manifest: the manifest of the data set that the model was trained on.
    """

    def __init__(self, bundle: bundles.Bundle):
        self.experiment, self.manifest = bundle.experiment, bundle.manifest
        self._bundle, gives_maps = bundle, bundle.kind.scores.gives_maps
        self._see = None if gives_maps else seeing_scorer(bundle)
        self._score = view_scorer(bundle) if gives_maps else None

    def read(self, rgb: np.ndarray) -> list[tasks.Reading]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3)."""
        if self._score:
            return self._readings(self._score(tf.convert_to_tensor(rgb)).numpy())
        assert self._see
        outputs, seen = self._see(tf.convert_to_tensor(rgb))
        return tasks.with_features(self._readings(outputs.numpy()), seen.numpy())

    def mark(self, rgb: np.ndarray) -> list[tuple[tasks.Reading, np.ndarray]]:
        """Return what a model that gives maps says of pictures, and what it marks in each.

        Args:
          rgb: uint8 RGB (n, size, size, 3).

        Returns:
          For each picture its reading, and bool (kinds, size, size).
        """
        assert self._score
        outputs = self._score(tf.convert_to_tensor(rgb)).numpy()
        marked = self._bundle.kind.scores.marked(outputs, self._bundle.fitted)
        return list(zip(self._readings(outputs), marked, strict=True))

    def _readings(self, outputs: np.ndarray) -> list[tasks.Reading]:
        table = pd.DataFrame(self._bundle.columns(outputs))
        return self._bundle.kind.scores.read(table, self._bundle.fitted)


def explained_scorer(bundle: bundles.Bundle) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function: uint8 images (n, size, size, 3) -> the number that heat maps explain (n,).

    It is combined over the views of the bundle's evaluation.
    """
    score = view_scorer(bundle)

    def explained(images: np.ndarray) -> np.ndarray:
        table = pd.DataFrame(bundle.columns(score(tf.convert_to_tensor(images)).numpy()))
        readings = bundle.kind.scores.read(table, bundle.fitted)
        return np.array([reading.number for reading in readings])

    return explained
