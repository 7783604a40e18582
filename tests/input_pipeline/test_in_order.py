"""Splits that are judged: whole, in order, untouched, and no more in memory than is said."""

import threading
import time

import numpy as np
import pytest

from dr_tfx.dataset import records
from dr_tfx.input_pipeline import in_order, shard_check
from tests.helpers import datasets

LABEL = "label/level"
MASK = "mask/lesion"
FEATURES = {LABEL: records.Feature("int64")}
TEXTS = (records.IMAGE_ID, records.IMAGE_PATIENT)


def lesion(number):
    """A photograph with a lesion at a place of its own, and its mask."""
    mask = datasets.disc(26 + number % 11, 24 + number % 16, size=64, radius=4)
    return {records.IMAGE_ENCODED: datasets.with_lesion(mask), MASK: mask}


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_a_split_is_complete_in_order_and_untouched_in_every_pass(tmp_path, encoding):
    data = datasets.write(tmp_path, datasets.experiment(encoding=encoding).dataset)
    batches = in_order.Batches(
        tmp_path, data, "validation", batch_size=4, features=FEATURES, texts=TEXTS
    )
    assert (len(batches), batches.examples) == (3, 11)
    for _ in range(2):
        found = list(batches)
        assert [len(batch["image"]) for batch in found] == [4, 4, 3]
        images = np.concatenate([batch["image"] for batch in found])
        assert images.dtype == np.uint8 and images.shape == (11, 32, 32, 3)
        assert np.array_equal(images[:, 3, 5, 1], np.arange(33, 44))
        ids = [one for batch in found for one in batch[records.IMAGE_ID]]
        assert ids == [f"n{i}" for i in range(33, 44)]
        labels = np.concatenate([batch[LABEL] for batch in found])
        assert labels.dtype == np.int64 and labels.tolist() == [0] * 5 + [1] * 4 + [2] * 2
        assert set(found[0]) == {"image", LABEL, *TEXTS}
        assert found[0][records.IMAGE_PATIENT][0] == "p16"


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_masks_come_with_their_images(tmp_path, encoding):
    own = {**FEATURES, MASK: records.Feature("uint8", is_mask=True)}
    dataset = datasets.experiment(size=64, encoding=encoding).dataset
    data = datasets.write(tmp_path, dataset, features=lesion)
    found = list(in_order.Batches(tmp_path, data, "validation", batch_size=4, features=own))
    drawn = [lesion(number) for number in range(33, 44)]
    for name, key in (("image", records.IMAGE_ENCODED), (MASK, MASK)):
        whole = np.concatenate([batch[name] for batch in found])
        assert np.array_equal(whole, [one[key] for one in drawn])


@pytest.mark.parametrize("pictures, ahead", [(1, 1), (14, 2), (1000, 8)])
def test_no_more_is_ahead_than_its_memory_holds(tmp_path, monkeypatch, pictures, ahead):
    """Memory in pictures, of which a batch has five."""
    monkeypatch.setattr(datasets, "COUNTS", {"validation": (70, 20, 10)})
    data = datasets.write(tmp_path, datasets.experiment().dataset, shard_examples=30)
    read, count = shard_check.read_record, []

    def counted(*given, **named):
        count.append(1)
        return read(*given, **named)

    monkeypatch.setattr(shard_check, "read_record", counted)
    batches = in_order.Batches(
        tmp_path,
        data,
        "validation",
        batch_size=5,
        features=FEATURES,
        memory=pictures * 3 * 32**2,
    )
    coming = iter(batches)
    for taken in range(1, 6):
        next(coming)
        wanted = 5 * (taken + ahead)
        ends = time.monotonic() + 20
        while len(count) < wanted and time.monotonic() < ends:
            time.sleep(0.01)
        time.sleep(0.02)
        assert len(count) == wanted
    coming.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("in order")]


def test_what_changed_between_two_passes_is_not_read_for_the_old(tmp_path):
    data = datasets.write(tmp_path, datasets.experiment().dataset)
    shard = data.shards_of("validation")[1]
    batches = in_order.Batches(tmp_path, data, "validation", batch_size=4, features=FEATURES)
    list(batches)
    with (tmp_path / shard.name).open("r+b") as stream:
        stream.seek(200)
        stream.write(b"x")
    with pytest.raises(ValueError, match=f"{shard.name} is damaged .* --overwrite"):
        list(batches)
    (tmp_path / shard.name).unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        list(batches)
