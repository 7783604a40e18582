"""The dataset of the face of dr_tfx, `load_dataset(DATA).as_tf_dataset("train")`."""

from benchmarks import synthetic_examples
from benchmarks.input_pipeline.contenders import record_files
from benchmarks.input_pipeline.contenders.augmentation import tf_float_batch
from benchmarks.input_pipeline.contenders.contender import SHUFFLE, Batches, Contender, Job


def read(job: Job) -> Batches:
    """Take the batches that anybody's `model.fit` is given."""
    from dr_tfx.dataset import manifest
    from dr_tfx.input_pipeline import tf_dataset

    yield None
    folder = job.path("records")
    experiment = synthetic_examples.experiment(job.size, encoding=job.encoding)
    batches = tf_dataset.as_tf_dataset(
        folder,
        manifest.load(folder),
        "train",
        experiment=experiment,
        batch_size=job.batch_size,
        shuffle_buffer=SHUFFLE,
        repeat=True,
    )
    for images, targets, _ in batches.map(lambda x, y, w: (tf_float_batch(job, x), y, w)):
        yield images, targets


CONTENDER = Contender("ours by tf.data", "bounded", record_files.write, read)
