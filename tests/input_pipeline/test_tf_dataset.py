"""A split as a tf.data.Dataset: what it gives, in which shares, and that Keras takes it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import dr_tfx
from dr_tfx.dataset import mirrors
from dr_tfx.input_pipeline import tf_dataset
from tests.helpers import datasets
from tests.helpers.misbehaving import Shaky

LABEL = "label/level"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records whose label is another than that of their shard: 0, 1, 2, 0, ... by their number."""
    path = tmp_path_factory.mktemp("data")
    spec = datasets.experiment().dataset
    return path, datasets.write(path, spec, features=lambda number: {LABEL: number % 3})


def taken(dataset, batches=None):
    """Numbers of the examples in order, their targets and their weights."""
    images, targets, weights = zip(*dataset.take(-1 if batches is None else batches), strict=True)
    images, targets, weights = (np.concatenate(part) for part in (images, targets, weights))
    assert images.dtype == np.float32 and images.shape[1:] == (32, 32, 3)
    assert np.array_equal(images, np.broadcast_to(images[:, :1, :1, :1], images.shape))
    assert weights.dtype == np.float32
    return images[:, 0, 0, 0].astype(int), targets, weights


def stratum(numbers):
    return np.searchsorted([24, 30], numbers, side="right")


def test_without_a_config_the_target_is_the_label_of_the_record(folder):
    dataset = tf_dataset.as_tf_dataset(*folder, "train", batch_size=8)
    assert isinstance(dataset, tf.data.Dataset) and dataset.cardinality() == 5  # Of 33 examples.
    numbers, targets, weights = taken(dataset)
    assert targets.dtype == np.int64 and np.array_equal(targets, numbers % 3)
    assert weights.tolist() == [1] * len(numbers)


def test_with_a_config_targets_and_weights_are_those_of_the_task(folder):
    experiment = datasets.experiment(class_weights=(1.0, 3.0), balance="none")
    dataset = tf_dataset.as_tf_dataset(*folder, "train", experiment=experiment)
    numbers, targets, weights = taken(dataset)
    assert np.array_equal(targets[:, 0], numbers % 3 > 0)
    assert np.array_equal(weights, np.where(numbers % 3 > 0, 3, 1))
    held_out = tf_dataset.as_tf_dataset(*folder, "validation", experiment=experiment)
    numbers, targets, weights = taken(held_out)
    assert np.array_equal(targets[:, 0], numbers % 3 > 0) and set(weights) == {1}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_comes_in_order_once(folder, split):
    dataset = tf_dataset.as_tf_dataset(*folder, split, batch_size=4, shuffle_buffer=0)
    expected = list(range(33)) if split == "train" else list(range(33, 44))
    assert dataset.cardinality() == -(-len(expected) // 4)
    for _ in range(2):
        assert taken(dataset)[0].tolist() == expected


@pytest.mark.parametrize(
    ("settings", "shares"),
    [
        ({}, [24 / 33, 6 / 33, 3 / 33]),
        ({"label_weights": (1, 1, 2)}, [0.25, 0.25, 0.5]),
        ({"experiment": {}}, [1 / 2, 1 / 3, 1 / 6]),
        ({"experiment": {"balance": "none"}}, [24 / 33, 6 / 33, 3 / 33]),
        ({"experiment": {}, "label_weights": (2, 1, 1)}, [0.5, 0.25, 0.25]),
    ],
)
def test_strata_are_mixed_as_asked(folder, settings, shares):
    if "experiment" in settings:
        settings = {**settings, "experiment": datasets.experiment(**settings["experiment"])}
    dataset = tf_dataset.as_tf_dataset(*folder, "train", repeat=True, **settings)
    numbers, _, _ = taken(dataset, 100)
    assert set(numbers) == set(range(33))
    found = np.bincount(stratum(numbers)) / len(numbers)
    assert np.abs(found - shares).max() < 4 * np.sqrt(0.25 / len(numbers))


def test_an_epoch_is_as_long_as_in_training(folder):
    balanced = tf_dataset.as_tf_dataset(*folder, "train", experiment=datasets.experiment())
    assert balanced.cardinality() == 2  # Two times 24 of the majority, by 32.
    assert sum(1 for _ in balanced) == 2


def test_the_order_is_that_of_the_seed_and_another_in_every_epoch(folder):
    def epochs(seed):
        dataset = tf_dataset.as_tf_dataset(*folder, "train", batch_size=11, seed=seed)
        return [taken(dataset)[0].tolist() for _ in range(2)]

    first, again, other = epochs(3), epochs(3), epochs(4)
    assert first == again
    assert first[0] != first[1] and first[0] != other[0]
    assert first[0] != sorted(first[0])


def test_what_is_in_order_may_be_repeated_too(folder):
    dataset = tf_dataset.as_tf_dataset(*folder, "validation", batch_size=11, repeat=True)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    assert taken(dataset, 2)[0].tolist() == 2 * list(range(33, 44))


def test_png_records_are_decoded(tmp_path):
    experiment = datasets.experiment(encoding="png")
    data = datasets.write(tmp_path, experiment.dataset)
    numbers, targets, _ = taken(tf_dataset.as_tf_dataset(tmp_path, data, "train"))
    assert np.array_equal(targets, stratum(numbers))


@pytest.mark.parametrize("weights", [(1, 1), (1, 0, 1), (1, 1, 1, 1)])
def test_weights_that_do_not_fit_the_labels_are_refused(folder, weights):
    with pytest.raises(ValueError, match="a number above 0 for each of 3 labels: a, b, c"):
        tf_dataset.as_tf_dataset(*folder, "train", label_weights=weights)


def test_a_split_of_a_store_is_fetched_first_and_has_to_fit_into_the_cache(folder, tmp_path):
    path, data = folder
    Shaky.begin({f"b/data/{file.name}": file.read_bytes() for file in path.iterdir()})
    size = sum(shard.bytes for shard in data.shards_of("validation"))
    given = {"cache_dir": tmp_path, "cache_gb": size / 1e9}
    opened = dr_tfx.load_dataset("shaky://b/data", **given)
    validation = opened.as_tf_dataset("validation", batch_size=4)
    asked = len(Shaky.read)
    for _ in range(2):
        assert taken(validation)[0].tolist() == list(range(33, 44))
    assert len(Shaky.read) == asked
    with pytest.raises(ValueError, match=r"no room: .*--cache_gb"):
        opened.as_tf_dataset("train")
    mirrors._opened.cache_clear()


def test_a_split_that_is_not_there_is_refused(folder):
    with pytest.raises(ValueError, match="no examples in split 'test'"):
        tf_dataset.as_tf_dataset(*folder, "test")


def test_a_plain_keras_model_is_fitted_with_it(folder):
    model = keras.Sequential(
        [
            keras.layers.Input((32, 32, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    train = tf_dataset.as_tf_dataset(*folder, "train", batch_size=8)
    validation = tf_dataset.as_tf_dataset(*folder, "validation", batch_size=8)
    history = model.fit(train, validation_data=validation, epochs=2, verbose=0).history
    assert len(history["loss"]) == 2 and np.isfinite(history["val_loss"]).all()
    assert model.optimizer.iterations.numpy() == 2 * 5
    endless = tf_dataset.as_tf_dataset(*folder, "train", batch_size=8, repeat=True)
    model.fit(endless, steps_per_epoch=7, verbose=0)
    assert model.optimizer.iterations.numpy() == 2 * 5 + 7
