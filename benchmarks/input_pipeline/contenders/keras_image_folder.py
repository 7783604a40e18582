"""Keras' `image_dataset_from_directory` over PNG files, once for each class."""

from typing import Any

import cv2

from benchmarks.input_pipeline.contenders.augmentation import tf_float_batch
from benchmarks.input_pipeline.contenders.contender import Batches, Contender, Job


def write(job: Job) -> None:
    """Write a PNG file per example, in a folder per class."""
    for number, picture, label in job.examples():
        folder = job.path("files") / str(min(label, 1))
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), picture[..., ::-1])


def read(job: Job) -> Batches:
    """Join half a batch of each class."""
    import keras
    import tensorflow as tf

    keras.utils.image_dataset_from_directory  # noqa: B018 - Keras imports what it needs now.
    yield None
    halves = [
        keras.utils.image_dataset_from_directory(
            str(job.path("files") / str(c)),
            labels=None,
            batch_size=job.batch_size // 2,
            image_size=(job.size, job.size),
            verbose=False,
        ).repeat()
        for c in (0, 1)
    ]
    classes = tf.repeat(tf.constant([0, 1], tf.int64), job.batch_size // 2)

    def join(*parts: Any) -> Any:
        images = tf.concat(parts, 0)
        return tf_float_batch(job, images), classes[: tf.shape(images)[0]]

    yield from tf.data.Dataset.zip(*halves).map(join, tf.data.AUTOTUNE).prefetch(2)


CONTENDER = Contender("Keras image folder", "bounded", write, read)
