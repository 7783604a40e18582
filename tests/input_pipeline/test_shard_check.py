"""Shards as a stranger may make them: every reader names the file, and nothing crashes."""

import dataclasses
import struct

import numpy as np
import pytest

from dr_tfx.dataset import manifest, records
from dr_tfx.evaluation import evaluate
from dr_tfx.input_pipeline import in_order, loader, shard_check, shard_reader, tf_dataset
from dr_tfx.models import bundle_file
from dr_tfx.storage import checksums, files
from tests.helpers import bundled, datasets

LABEL = "label/level"
FEATURES = {LABEL: records.Feature("int64")}


def written(path, serialized):
    """Write records as a shard, and return what a stranger's manifest would say of it."""
    with path.open("wb") as stream:
        writer = records.RecordWriter(stream)
        for record in serialized:
            writer.write(record)
    return {"records": writer.records, "bytes": writer.bytes, "sha256": writer.sha256}


def tampered(folder, changes, *, encoding="raw"):
    """Write a data set whose sixth validation record is another; return manifest and shard."""
    experiment = datasets.experiment(encoding=encoding)
    data = datasets.write(folder, experiment.dataset, shard_examples=100)
    shard = data.shards_of("validation")[1]
    path = folder / shard.name
    with path.open("rb") as stream:
        whole = [records.parse(serialized) for serialized in records.read(stream)]
    first = {k: v for k, v in (whole[0] | changes).items() if v is not None}
    made = dataclasses.replace(
        shard, **written(path, [records.example(first), *map(records.example, whole[1:])])
    )
    shards = tuple(made if one == shard else one for one in data.shards)
    data = dataclasses.replace(data, shards=shards)
    files.write_text(folder / manifest.FILE_NAME, data.to_json())
    return data, made


def validation(folder, data):
    """Its validation split as evaluations read it."""
    read = {"features": FEATURES, "texts": (records.IMAGE_ID, records.IMAGE_PATIENT)}
    return in_order.Batches(folder, data, "validation", batch_size=4, **read)


SMALL = np.zeros((16, 16, 3), np.uint8)
CASES = [
    ({LABEL: -1}, "has the label/level -1; expected 0 to 2"),
    ({LABEL: 3}, "has the label/level 3; expected 0 to 2"),
    ({LABEL: 1.0}, "has label/level as float32; expected int64"),
    ({LABEL: None}, "but not label/level"),
    ({records.IMAGE_ID: None}, "but not image/id"),
    ({records.IMAGE_ID: "../../x"}, "has the image/id '../../x'; expected a name, or folders"),
    ({records.IMAGE_ID: "a\x1b[2J"}, r"has the image/id 'a\\u001b\[2J'; expected no control char"),
    ({records.IMAGE_PATIENT: b"\xff"}, r"has the image/patient b'\\xff'; expected UTF-8"),
    ({records.IMAGE_ENCODED: SMALL.tobytes()}, "of 768 bytes; expected 3,072, 32 x 32 pixels of 3"),
]


@pytest.mark.parametrize("changes, told", CASES)
def test_a_record_that_is_not_what_it_has_to_be_is_named(tmp_path, changes, told):
    data, shard = tampered(tmp_path, changes)
    named = f"{tmp_path}/{shard.name} cannot be used: the record at byte 0 .*{told}"
    with pytest.raises(ValueError, match=named):
        list(validation(tmp_path, data))
    if LABEL in changes or records.IMAGE_ENCODED in changes:
        schema = loader.schema_of(data, FEATURES)
        reader = shard_reader.ShardReader(tmp_path, data.shards_of("validation"), schema)
        with pytest.raises(ValueError, match=named):
            reader.batch(np.array([5]))


def test_png_files_that_are_damaged_are_named(tmp_path):
    small = records.encode_image(SMALL, "png")
    whole = records.encode_image(np.zeros((32, 32, 3), np.uint8), "png")
    at = whole.index(b"IDAT") + 8
    broken = whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]
    for name, picture, told in (
        ("small", small, "has the image/encoded that is no whole PNG file of 32 x 32 pixels"),
        ("broken", broken, "that is a damaged PNG file"),
    ):
        folder = tmp_path / name
        data, shard = tampered(folder, {records.IMAGE_ENCODED: picture}, encoding="png")
        with pytest.raises(ValueError, match=f"{shard.name} .*{told}"):
            list(validation(folder, data))
    for picture in (small, b"", b"x" * 99, whole[:60], whole[:-3]):
        with pytest.raises(records.DamagedRecord, match="no whole PNG file of 32 x 32 pixels"):
            records.decode_image(picture, "png", 32)


@pytest.mark.parametrize("length", [2**31, 2**40, 2**62, 2**63, 2**64 - 1])
def test_a_length_that_no_record_has_is_refused_before_anything_is_read(tmp_path, length):
    """Its checksum is right, so that TensorFlow's reader would take memory for it."""
    data = datasets.write(tmp_path, datasets.experiment().dataset, shard_examples=100)
    shard = data.shards_of("validation")[0]
    path = tmp_path / shard.name
    header = struct.pack("<Q", length)
    with path.open("r+b") as stream:
        stream.write(header + checksums.masked_crc(header))
    schema = loader.schema_of(data, FEATURES)
    named = f"{shard.name} is damaged .* record 0 of 5 at byte 0 is cut short"
    with pytest.raises(ValueError, match=named):
        validation(tmp_path, data)
    with pytest.raises(ValueError, match=named):
        tf_dataset.as_tf_dataset(tmp_path, data, "validation")
    with pytest.raises(ValueError, match=named):
        shard_reader.ShardReader(tmp_path, data.shards_of("validation"), schema)
    with path.open("rb") as stream, pytest.raises(ValueError, match="which none has|damaged"):
        list(records.read_images(stream, 32))


def test_another_number_of_records_is_refused(tmp_path):
    data = datasets.write(tmp_path, datasets.experiment().dataset, shard_examples=100)
    for more in (-1, 1, 10**11):
        shards = [dataclasses.replace(s, records=s.records + more) for s in data.shards]
        with pytest.raises(ValueError, match=f"{shards[0].name} is damaged or was changed"):
            shard_check.places(tmp_path, shards)


def test_an_evaluation_of_tampered_data_leaves_the_bundle_as_it_was(tmp_path):
    """A label of -1 was accepted and reported; a record too few failed after all was fitted."""
    experiment = datasets.experiment()
    data, shard = tampered(tmp_path / "data", {LABEL: -1})
    run = bundled.make_bundle(tmp_path / "run", experiment, data)
    with pytest.raises(ValueError, match=f"{shard.name} .* has the label/level -1"):
        evaluate.evaluate(workdir=run, data_dir=tmp_path / "data", split="validation")
    shards = (dataclasses.replace(s, records=s.records + (s == shard)) for s in data.shards)
    more = dataclasses.replace(data, shards=tuple(shards), written=45, rows=45)
    files.write_text(tmp_path / "data" / manifest.FILE_NAME, more.to_json())
    with pytest.raises(ValueError, match=f"{shard.name} is damaged"):
        evaluate.evaluate(workdir=run, data_dir=tmp_path / "data", split="validation")
    assert bundle_file.read(run).fitted is None
