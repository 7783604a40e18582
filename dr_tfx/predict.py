"""Scores of a split or of arrays, with test-time augmentation, in one streaming pass."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm import tqdm

from dr_tfx import input_pipeline, manifest, models

# What each name of specs.VIEWS does: float32 pixels 0..255 (n, size, size, 3) -> the same shape.
VIEWS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "identity": lambda x: x,
    "left_right": lambda x: tf.reverse(x, [2]),
    "up_down": lambda x: tf.reverse(x, [1]),
    "left_right_up_down": lambda x: tf.reverse(x, [1, 2]),
    "brighter": lambda x: tf.minimum(x * 1.1, 255.0),
}


def predict_split(bundle: models.Bundle, data_dir: Path, split: str) -> pd.DataFrame:
    """Scores every example of a split; only the scores are kept, never the images.

    Returns:
      One row an example, in shard order: `id`, `patient`, `stratum` (the finest label), `target`
      (0 or 1), `score` (mean probability over the views) and `score/<view>` for every view.

    Raises:
      FileNotFoundError, ValueError: no data set, another contract, or no such split.
    """
    data = manifest.load(data_dir)
    manifest.check_same_contract(bundle.manifest, data, where=str(data_dir))
    score = view_scorer(bundle)
    batch_size = bundle.experiment.evaluation.batch_size
    dataset = input_pipeline.evaluation_dataset(data_dir, data, split, batch_size=batch_size)
    total = sum(shard.records for shard in data.shards_of(split))
    parts = []
    bar = tqdm(total=total, desc=f"score {split}", unit="image")
    with bar, input_pipeline.damage_named(data_dir):
        for batch in dataset:
            scores = score(batch["image"]).numpy()
            parts.append(
                {
                    "id": [i.decode() for i in batch["id"].numpy()],
                    "patient": [p.decode() for p in batch["patient"].numpy()],
                    "stratum": batch["label"].numpy(),
                    "scores": scores,
                }
            )
            bar.update(len(scores))
    scores = np.concatenate([part["scores"] for part in parts])
    strata = np.concatenate([part["stratum"] for part in parts])
    frame = pd.DataFrame(
        {
            "id": [i for part in parts for i in part["id"]],
            "patient": [p for part in parts for p in part["patient"]],
            "stratum": strata,
            "target": np.asarray(bundle.experiment.task.label_map)[strata],
            "score": scores.mean(axis=1),
        }
    )
    for i, view in enumerate(bundle.experiment.evaluation.views):
        frame[f"score/{view}"] = scores[:, i]
    return frame


def view_scorer(bundle: models.Bundle) -> Callable[[tf.Tensor], tf.Tensor]:
    """A compiled function: uint8 images (n, size, size, 3) -> float64 scores (n, views)."""
    names = bundle.experiment.evaluation.views
    size = bundle.experiment.dataset.recipe.size

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8)])
    def score(images: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(images, tf.float32)
        views = [bundle.model(VIEWS[name](pixels), training=False)[:, 0] for name in names]
        return tf.cast(tf.stack(views, axis=1), tf.float64)

    return score
