"""The loader of dr_tfx, with what a training step does first: float32, augmented."""

import numpy as np

from benchmarks import synthetic_examples
from benchmarks.input_pipeline.contenders import record_files
from benchmarks.input_pipeline.contenders.contender import Batches, Contender, Job


def read(job: Job) -> Batches:
    """Take the batches that `dr_tfx.training.train` gives to its step."""
    from dr_tfx.machine import resources

    resources.tune_malloc()  # drtfx-train does the same.
    import tensorflow as tf

    from dr_tfx.dataset import manifest
    from dr_tfx.input_pipeline import augmentation, loader
    from dr_tfx.training import distribution

    yield None
    changes = {"horizontal_flip": True, "vertical_flip": True, "brightness": 0.1}
    experiment = synthetic_examples.experiment(
        job.size,
        encoding=job.encoding,
        batch_size=job.batch_size,
        augmentation=changes if job.augmented else None,
    )
    classes = np.array(experiment.task.label_map)
    data = manifest.load(job.path("records"))
    batches, _ = loader.train_batches(job.path("records"), data, experiment)
    for batch in distribution.distribute(batches, tf.distribute.get_strategy()):
        if job.augmented:
            spec = experiment.training.augmentation
            images = augmentation.augment(batch, spec)["image"]
        else:
            images = tf.cast(batch["image"], tf.float32)
        # Training encodes targets inside the graph of its step, so that a call of TensorFlow of
        # its own, which takes as long as reading half a batch, would measure what nobody does.
        yield images, classes[batch["label/level"].numpy()]


CONTENDER = Contender("ours", "bounded", record_files.write, read)
