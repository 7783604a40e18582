"""float32 images in memory as one tensor, gathered a batch at a time, as `model.fit` does."""

from typing import Any

import numpy as np

from benchmarks.input_pipeline.contenders import array_file
from benchmarks.input_pipeline.contenders.augmentation import tf_float_batch
from benchmarks.input_pipeline.contenders.contender import Batches, Contender, Job


def read(job: Job) -> Batches:
    """Shuffle indices by tf.data and gather their images."""
    import tensorflow as tf

    yield None
    images = tf.constant(array_file.load(job).astype(np.float32))
    classes = tf.constant(job.classes())
    epoch = array_file.one_epoch(job.classes(), batch_size=job.batch_size)
    index = np.concatenate([index for index, _ in epoch])

    def gather(chosen: Any) -> Any:
        return tf_float_batch(job, tf.gather(images, chosen)), tf.gather(classes, chosen)

    batches = tf.data.Dataset.from_tensor_slices(index).shuffle(len(index)).repeat()
    yield from batches.batch(job.batch_size).map(gather, tf.data.AUTOTUNE).prefetch(2)


CONTENDER = Contender("float32 in memory by tf.data", "memory", array_file.write, read)
