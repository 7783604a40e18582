"""The training stream: balanced, complete, reproducible; augmentation."""

import contextlib
import dataclasses
import itertools
import math

import numpy as np
import psutil
import pytest
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import patches, records
from dr_tfx.input_pipeline import (
    augmentation,
    batch_readers,
    in_order,
    kept_order,
    loader,
    mixing,
)
from dr_tfx.machine import resources
from dr_tfx.tasks import labels
from tests.helpers import datasets

LABEL = "label/level"
FEATURES = {LABEL: records.Feature("int64")}
STRATA = {0: range(0, 24), 1: range(24, 30), 2: range(30, 33)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    return path, datasets.write(path, datasets.experiment().dataset)


def epochs_seen(folder, *, first_step=0, epochs=3, **training):
    """The numbers of the examples of each epoch, in order, and their labels."""
    path, data = folder
    experiment = datasets.experiment(epochs=epochs, **training)
    stream, steps = loader.train_batches(path, data, experiment, first_step=first_step)
    batches = list(itertools.islice(stream, epochs * steps - first_step))
    numbers = np.concatenate([b["image"][:, 0, 0, 0] for b in batches]).astype(int)
    labels = np.concatenate([b[LABEL] for b in batches])
    assert labels.dtype == np.int64
    if first_step:
        return numbers, labels
    return numbers.reshape(epochs, -1), labels.reshape(epochs, -1)


def test_an_epoch_is_two_times_the_majority_and_balanced(folder):
    numbers, labels = epochs_seen(folder, epochs=40)
    assert numbers.shape == (40, 48)
    positives = (numbers >= 24).mean()
    assert abs(positives - 0.5) < 4 * math.sqrt(0.25 / numbers.size)
    # Within the positive class the labels keep their 6 : 3.
    last = (numbers >= 30).mean()
    assert abs(last - 0.5 / 3) < 4 * math.sqrt(1 / 6 * 5 / 6 / numbers.size)
    assert np.array_equal(labels, np.searchsorted([24, 30], numbers, side="right"))


def test_an_exact_mix_holds_by_count_in_every_epoch(folder):
    numbers, _ = epochs_seen(folder, epochs=4, mix="exact")
    for epoch in numbers:
        by_label = [(np.isin(epoch, list(members))).sum() for members in STRATA.values()]
        assert by_label == [24, 16, 8]
        assert sorted(set(epoch) & set(range(24))) == list(range(24))
    assert not np.array_equal(numbers[0], numbers[1])


def test_without_balance_an_epoch_is_the_training_split(folder):
    numbers, _ = epochs_seen(folder, balance="none", epochs=2, batch_size=11)
    assert numbers.shape == (2, 33)
    exact, _ = epochs_seen(folder, balance="none", epochs=2, batch_size=11, mix="exact")
    assert sorted(exact[0]) == sorted(exact[1]) == list(range(33))


def test_labels_are_drawn_by_their_weights(folder):
    numbers, _ = epochs_seen(folder, label_weights=(2.0, 1.0, 1.0), mix="exact", epochs=2)
    assert [(np.isin(numbers[0], list(m))).mean() for m in STRATA.values()] == [0.5, 0.25, 0.25]


@pytest.mark.parametrize(("mix", "error"), [("exact", 1.5 / 48), ("random", 4 * 0.5 / 48**0.5)])
def test_the_mix_fades_from_balanced_to_natural(folder, mix, error):
    numbers, _ = epochs_seen(folder, epochs=4, anneal_epochs=2, mix=mix)
    shares = [(epoch >= 24).mean() for epoch in numbers]
    natural = 9 / 33
    expected = [0.5, (0.5 + natural) / 2, natural, natural]
    assert np.allclose(shares, expected, atol=error)


@pytest.mark.parametrize("mix", ["random", "exact"])
def test_no_example_comes_twice_before_all_of_its_label_came_once(folder, mix):
    seen = epochs_seen(folder, epochs=5, mix=mix)[0].ravel()  # Passes cross the ends of epochs.
    for members in STRATA.values():
        of_label = seen[np.isin(seen, list(members))]
        passes = [
            of_label[i : i + len(members)].tolist() for i in range(0, len(of_label), len(members))
        ]
        assert all(len(set(part)) == len(part) for part in passes)
        assert len({tuple(part) for part in passes[:-1]}) > 1 or len(passes) < 3


def test_the_stream_is_a_function_of_seed_and_step(folder):
    whole, _ = epochs_seen(folder, epochs=7)  # 42 steps, which are drawn 16 at a time.
    again, _ = epochs_seen(folder, epochs=7)
    other, _ = epochs_seen(folder, epochs=7, seed=1)
    assert np.array_equal(whole, again)
    for step in (1, 5, 8, 16, 35):
        resumed, _ = epochs_seen(folder, epochs=7, first_step=step)
        assert np.array_equal(whole.ravel()[step * 8 :], resumed)
    assert not np.array_equal(whole[0], whole[1])
    assert not np.array_equal(whole[0], other[0])


def test_a_place_that_was_kept_gives_the_same_batches(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_order, "_EVERY", 1)
    path, data = folder
    experiment = datasets.experiment(checkpoint_steps=16)

    def seen(first_step, kept_in):
        batches, _ = loader.train_batches(
            path, data, experiment, first_step=first_step, kept_in=kept_in
        )
        with contextlib.closing(batches):
            found = list(itertools.islice(batches, 42 - first_step))
        return [(b["image"][:, 0, 0, 0], b["draws"]) for b in found]

    whole = seen(0, tmp_path)
    assert len(list(tmp_path.glob("*.index"))) > 1
    for (image, draws), (same, same_draws) in zip(seen(37, tmp_path), whole[37:], strict=True):
        assert np.array_equal(image, same) and np.array_equal(draws, same_draws)


def test_it_begins_anywhere_with_batches_that_no_block_is_a_multiple_of(folder):
    # 37 * 300 examples are in the third block of 4,096 numbers, and in the third 16 steps.
    path, data = folder
    experiment = datasets.experiment(batch_size=300)

    def seen(first_step):
        batches, _ = loader.train_batches(path, data, experiment, first_step=first_step)
        with contextlib.closing(batches):
            return [
                (b["image"][:, 0, 0, 0], b["draws"])
                for b in itertools.islice(batches, 41 - first_step)
            ]

    for (image, draws), (same_image, same_draws) in zip(seen(0)[37:], seen(37), strict=True):
        assert np.array_equal(image, same_image) and np.array_equal(draws, same_draws)


def test_what_reads_runs_from_the_call_on_and_ends_with_close(folder):
    path, data = folder

    def running():
        processes = psutil.Process().children()
        return {p.pid for p in processes if batch_readers.__name__ in " ".join(p.cmdline())}

    before = running()
    batches, _ = loader.train_batches(path, data, datasets.experiment())
    assert (
        len(running() - before)
        == loader._reading(specs.Training(), loader.schema_of(data, FEATURES), 8)[0]
    )
    batches.close()
    assert not running() - before


def test_draws_are_a_function_of_seed_and_step_too(folder):
    path, data = folder
    experiment = datasets.experiment()

    def draws(first_step):
        batches = loader.train_batches(path, data, experiment, first_step=first_step)[0]
        return np.concatenate([b["draws"] for b in itertools.islice(batches, 40 - first_step)])

    whole = draws(0)
    for step in (4, 16, 35):
        assert np.array_equal(whole[step * 8 :], draws(step))
    assert whole.min() >= 0 and whole.max() < 1 and len(np.unique(whole)) > 0.99 * whole.size


def workers_see(path, data, experiment, workers, batches):
    """The numbers of the examples that each worker sees, in order, and the names of its shards."""
    seen = []
    for worker in range(workers):
        stream, _ = loader.train_batches(path, data, experiment, worker=worker, workers=workers)
        with contextlib.closing(stream):
            images = [batch["image"] for batch in itertools.islice(stream, batches)]
        assert images[0].shape == (experiment.training.batch_size // workers, 32, 32, 3)
        seen.append(np.concatenate(images)[:, 0, 0, 0].astype(int))
    return seen


@pytest.mark.parametrize("mix", ["random", "exact"])
@pytest.mark.parametrize(("workers", "parts"), [(2, (12, 3)), (3, (8, 2))])
def test_workers_see_equal_parts_of_each_label_and_none_what_another_sees(
    folder, workers, parts, mix
):
    path, data = folder
    experiment = datasets.experiment(batch_size=12, mix=mix)
    seen = workers_see(path, data, experiment, workers, 60)
    for label, count in zip((0, 1), parts, strict=True):
        members = [numbers[np.isin(numbers, STRATA[label])] for numbers in seen]
        assert sorted(np.concatenate([np.unique(own) for own in members])) == list(STRATA[label])
        for own in members:
            passes = own[: len(own) // count * count].reshape(-1, count)
            assert all(len(set(part)) == count for part in passes)
    shares = np.array([(numbers >= 24).mean() for numbers in seen])
    assert np.all(abs(shares - 0.5) < 4 * 0.5 / math.sqrt(len(seen[0])))
    # Each has chance of its own.
    assert not np.array_equal(*[numbers[:100] >= 24 for numbers in seen[:2]])


def test_workers_go_on_at_any_step(folder):
    path, data = folder

    def seen(first_step):
        stream, _ = loader.train_batches(
            path, data, datasets.experiment(), first_step=first_step, worker=1, workers=2
        )
        with contextlib.closing(stream):
            batches = list(itertools.islice(stream, 40 - first_step))
        return [np.concatenate([b[name] for b in batches]) for name in ("image", "draws", LABEL)]

    whole = seen(0)
    for step in (1, 16, 35):
        assert all(np.array_equal(a[step * 4 :], b) for a, b in zip(whole, seen(step), strict=True))


def relabelled(number):
    """Another label than that of the shard, whatever the example."""
    return {LABEL: 2 - number % 3}


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_the_target_is_that_of_the_record_not_of_its_shard(tmp_path, encoding):
    experiment = datasets.experiment(encoding=encoding)
    data = datasets.write(tmp_path, experiment.dataset, features=relabelled)
    numbers, labels = epochs_seen((tmp_path, data), encoding=encoding)
    assert np.array_equal(labels, 2 - numbers % 3)
    validation = in_order.validation(tmp_path, data, experiment)
    targets = np.concatenate([y.numpy()[:, 0] for _, y in validation])
    assert np.array_equal(targets, 2 - np.arange(33, 44) % 3 > 0)


MASK = "mask/lesion"


def lesion(number, size=64):
    """A photograph with a lesion at a place of its own, and its mask."""
    mask = datasets.disc(26 + number % 11, 24 + number % 16, size=size, radius=4)
    return {records.IMAGE_ENCODED: datasets.with_lesion(mask), MASK: mask}


def test_mixed_and_compressed_batches_go_on_as_they_would_have(folder):
    path, data = folder
    changes = {"jpeg": 0.9, "mixup": 1.0}
    experiment = datasets.experiment(augmentation=changes)

    def seen(first, count):
        stream, _ = loader.train_batches(path, data, experiment, first_step=first)
        with contextlib.closing(stream):
            return list(itertools.islice(stream, count))

    whole, rest = seen(0, 4), seen(2, 2)
    for before, after in zip(whole[2:], rest, strict=True):
        assert before.keys() == after.keys() > {"image", "draws", mixing.SHARE}
        assert all(np.array_equal(before[name], after[name]) for name in before)
    # A picture has its number at each corner, but for compression and another one's share.
    plain, _ = epochs_seen(folder, epochs=1)
    corners = np.concatenate([batch["image"][:, 0, 0, 0] for batch in whole])
    assert (corners != plain.ravel()[: len(corners)]).mean() > 0.5


@pytest.fixture
def masks_too(monkeypatch):
    """Targets of the task are made of a mask besides."""
    own = {**FEATURES, MASK: records.Feature("uint8", is_mask=True)}
    monkeypatch.setattr(labels.LabelData, "features", property(lambda self: own))
    return own


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_a_mask_stays_on_its_lesion_from_the_record_to_the_step(tmp_path, masks_too, encoding):
    changes = {"vertical_flip": True, "rotation": 0.5, "zoom": 0.2, "brightness": 0.1}
    experiment = datasets.experiment(size=64, encoding=encoding, augmentation=changes)
    data = datasets.write(tmp_path, experiment.dataset, features=lesion)
    stream, _ = loader.train_batches(tmp_path, data, experiment)
    with contextlib.closing(stream):
        for batch in itertools.islice(stream, 8):
            assert batch[MASK].shape == (8, 64, 64, 1) and batch[MASK].dtype == np.uint8
            spec = experiment.training.augmentation
            changed = augmentation.augment({k: tf.constant(v) for k, v in batch.items()}, spec)
            for image, mask in zip(changed["image"].numpy(), changed[MASK].numpy(), strict=True):
                seen = datasets.centre(datasets.lesion_seen(image))
                assert np.abs(datasets.centre(mask) - seen).max() <= 0.5


def test_png_shards_give_the_same_batches(folder, tmp_path):
    experiment = datasets.experiment(encoding="png", size=32)
    data = datasets.write(tmp_path, experiment.dataset)
    raw, raw_labels = epochs_seen(folder)
    png, png_labels = epochs_seen((tmp_path, data), encoding="png")
    assert np.array_equal(raw, png) and np.array_equal(raw_labels, png_labels)


def test_a_class_without_examples_is_refused(folder):
    path, data = folder
    experiment = datasets.experiment()
    plain = typed.to_dict(experiment)
    plain["dataset"]["label_names"] = ["a", "b", "c", "d"]
    plain["task"]["label_map"] = [0, 0, 0, 1]
    with pytest.raises(ValueError, match="no example of class 'positive'"):
        loader.train_batches(path, data, tasks.from_config(plain))


def test_a_shard_that_was_changed_is_refused_by_name(tmp_path):
    data = datasets.write(tmp_path, datasets.experiment().dataset)
    shard = data.shards_of("train")[0]
    with (tmp_path / shard.name).open("r+b") as stream:
        stream.seek(200)
        stream.write(b"x")
    batches, steps = loader.train_batches(tmp_path, data, datasets.experiment())
    named = f"{shard.name} is damaged .* --overwrite"
    with pytest.raises(ValueError, match=named):
        list(itertools.islice(batches, steps))


@pytest.mark.parametrize(
    ("cores", "size", "encoding", "gigabytes", "processes", "ahead"),
    [
        (2, 512, "raw", 30, 1, 4),
        (2, 512, "png", 30, 2, 5),
        (64, 512, "raw", 30, 8, 11),
        (64, 512, "raw", 4, 3, 3),  # A twentieth of 4 GB: 3 batches of 64 * 512 * 512 * 3 bytes.
        (64, 512, "raw", 0.5, 1, 1),
        (2, 96, "raw", 30, 1, 12),
        (2, 128, "raw", 30, 1, 7),  # 24 MB.
    ],
)
def test_reading_ahead_is_sized_from_cores_and_the_ceiling_of_memory(
    monkeypatch, cores, size, encoding, gigabytes, processes, ahead
):
    monkeypatch.setattr(resources, "cores", lambda: cores)
    training = specs.Training(max_memory_gb=gigabytes)
    schema = records.Schema(size, encoding, FEATURES)
    assert loader._reading(training, schema, 64) == (processes, ahead)


def test_masks_count_in_what_is_read_ahead(monkeypatch):
    monkeypatch.setattr(resources, "cores", lambda: 64)
    training = specs.Training(max_memory_gb=4)
    mask = {MASK: records.Feature("uint8", is_mask=True)}
    # A twentieth of 4 GB is 3.97 batches of 64 * 512 * 512 * 3 bytes, and 2.98 of 4 channels.
    for features, ahead in ((FEATURES, 3), (mask, 2)):
        schema = records.Schema(512, "raw", features)
        assert loader._reading(training, schema, 64) == (ahead, ahead)


def test_of_large_pictures_the_patches_count_in_what_is_read_ahead(monkeypatch):
    """Those of 256 pixels of a picture of 1,792, and not the 49 times as much of the whole."""
    monkeypatch.setattr(resources, "cores", lambda: 2)
    training = specs.Training(max_memory_gb=0.1)
    mask = {MASK: records.Feature("uint8", is_mask=True)}
    part = patches.Patches(256, 512, each=4, share=0.5, unknown=255)
    # A twentieth of 0.1 GB is 2.4 batches of 8 * 256 * 256 * 4 bytes.
    schema = records.Schema(1792, "raw", mask, part)
    assert loader._reading(training, schema, 8) == (1, 2)
    whole = records.Schema(1792, "raw", mask)
    assert loader._reading(dataclasses.replace(training, max_memory_gb=4.9), whole, 8) == (1, 2)
