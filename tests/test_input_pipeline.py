"""The training stream: balanced, complete, reproducible; evaluation in order; augmentation."""

import collections
import math

import cv2
import datasets
import numpy as np
import pytest
import tensorflow as tf

from dr_tfx import input_pipeline, specs

STRATA = {0: range(0, 24), 1: range(24, 30), 2: range(30, 33)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    return path, datasets.write(path, datasets.experiment().dataset)


def epochs_seen(folder, *, first_epoch=0, **training):
    """The numbers of the examples of each epoch, in order, and their targets."""
    path, data = folder
    experiment = datasets.experiment(**training)
    stream, steps = input_pipeline.train_dataset(path, data, experiment, first_epoch=first_epoch)
    numbers, targets = [], []
    for images, batch_targets in stream:
        numbers.append(images.numpy()[:, 0, 0, 0].astype(int))
        targets.append(batch_targets.numpy()[:, 0].astype(int))
    split = range(0, len(numbers), steps)
    return (
        [np.concatenate(numbers[i : i + steps]) for i in split],
        [np.concatenate(targets[i : i + steps]) for i in split],
    )


def test_an_epoch_is_two_times_the_majority_and_balanced(folder):
    numbers, targets = epochs_seen(folder, epochs=40)
    assert [len(epoch) for epoch in numbers] == [48] * 40
    seen = np.concatenate(numbers)
    n = len(seen)
    positives = (seen >= 24).mean()
    assert abs(positives - 0.5) < 4 * math.sqrt(0.25 / n)
    # Within the positive class the labels keep their 6 : 3.
    last = (seen >= 30).mean()
    assert abs(last - 0.5 / 3) < 4 * math.sqrt(1 / 6 * 5 / 6 / n)
    assert np.array_equal(np.concatenate(targets), (seen >= 24).astype(int))


def test_without_balance_an_epoch_is_the_training_split(folder):
    numbers, _ = epochs_seen(folder, balance="none", epochs=2)
    assert [len(epoch) for epoch in numbers] == [33, 33]


def test_no_example_comes_twice_before_all_of_its_label_came_once(folder):
    numbers, _ = epochs_seen(folder, epochs=3)
    for epoch in numbers:
        for members in STRATA.values():
            of_label = [i for i in epoch if i in members]
            for start in range(0, len(of_label), len(members)):
                part = of_label[start : start + len(members)]
                assert max(collections.Counter(part).values()) == 1


def test_the_stream_is_a_function_of_seed_and_epoch(folder):
    whole, _ = epochs_seen(folder)
    again, _ = epochs_seen(folder)
    resumed, _ = epochs_seen(folder, first_epoch=2)
    other, _ = epochs_seen(folder, seed=1)
    assert np.array_equal(np.stack(whole), np.stack(again))
    assert np.array_equal(whole[2], resumed[0])
    assert not np.array_equal(whole[0], whole[1])
    assert not np.array_equal(whole[0], other[0])


def test_augmentation_is_reproduced_too(folder):
    path, data = folder
    settings = {"rotation": 0.1, "zoom": 0.1, "contrast": 0.1, "brightness": 0.2}
    experiment = datasets.experiment(augmentation=settings)

    def batches(first_epoch):
        return input_pipeline.train_dataset(path, data, experiment, first_epoch=first_epoch)[0]

    whole = [images.numpy() for images, _ in batches(0)]
    resumed = [images.numpy() for images, _ in batches(1)]
    assert np.array_equal(np.concatenate(whole[6:]), np.concatenate(resumed))


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_evaluation_is_complete_in_order_and_untouched(tmp_path, encoding):
    experiment = datasets.experiment(encoding=encoding)
    data = datasets.write(tmp_path, experiment.dataset)
    batches = list(input_pipeline.evaluation_dataset(tmp_path, data, "validation", batch_size=4))
    images = np.concatenate([b["image"].numpy() for b in batches])
    assert images.dtype == np.uint8 and images.shape == (11, 32, 32, 3)
    assert np.array_equal(images[:, 3, 5, 1], np.arange(33, 44))
    assert [i for b in batches for i in b["id"].numpy()] == [
        f"n{i}".encode() for i in range(33, 44)
    ]
    assert (
        np.concatenate([b["label"].numpy() for b in batches]).tolist()
        == [0] * 5 + [1] * 4 + [2] * 2
    )


def test_a_class_without_examples_is_refused(folder):
    path, data = folder
    experiment = datasets.experiment()
    plain = specs.to_dict(experiment)
    plain["dataset"]["label_names"] = ["a", "b", "c", "d"]
    plain["task"]["label_map"] = [0, 0, 0, 1]
    with pytest.raises(ValueError, match="no example of class 'positive'"):
        input_pipeline.train_dataset(path, data, specs.from_config(plain))


def photograph(seed=0, size=64):
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def test_flips_are_exact_and_about_half():
    images = np.stack([photograph()] * 200)
    spec = specs.Augmentation(horizontal_flip=True, vertical_flip=True)
    result = input_pipeline.augment(tf.constant(images), spec, tf.constant([3, 4])).numpy()
    image = images[0].astype(np.float32)
    kinds = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
    found = [next(k for k, kind in enumerate(kinds) if np.array_equal(r, kind)) for r in result]
    assert min(collections.Counter(found).values()) > 25


def test_rotation_and_zoom_agree_with_opencv():
    image, angle, scale = photograph().astype(np.float32), 0.3, 1.1
    result = input_pipeline._rotate_and_zoom(
        tf.constant(image[np.newaxis]), tf.constant([angle]), tf.constant([scale])
    ).numpy()[0]
    # OpenCV's matrix maps source to target: the inverse turn and scale about the same centre.
    matrix = cv2.getRotationMatrix2D((31.5, 31.5), math.degrees(angle), 1 / scale)
    expected = cv2.warpAffine(image, matrix, (64, 64), flags=cv2.INTER_LINEAR)
    assert np.abs(result - expected)[16:48, 16:48].mean() < 1.0


def test_contrast_and_brightness_stay_in_range_and_within_limits():
    image = photograph().astype(np.float32)
    batch = tf.constant(np.stack([image] * 50).astype(np.uint8))
    bright = specs.Augmentation(horizontal_flip=False, brightness=0.2)
    result = input_pipeline.augment(batch, bright, tf.constant([1, 2])).numpy()
    ratio = result.mean(axis=(1, 2, 3)) / np.floor(image).mean()
    assert ratio.min() >= 0.79 and ratio.max() <= 1.21 and ratio.std() > 0.05
    assert result.min() >= 0 and result.max() <= 255
    contrast = specs.Augmentation(horizontal_flip=False, contrast=0.3)
    result = input_pipeline.augment(batch, contrast, tf.constant([1, 2])).numpy()
    spread = result.std(axis=(1, 2)) / np.floor(image).std(axis=(0, 1))
    assert spread.min() >= 0.69 and spread.max() <= 1.31 and spread.std() > 0.05
