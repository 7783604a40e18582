"""Patients by the tags of DICOM files: together in a split, and never in clear."""

import dataclasses
import hashlib
import hmac

import pandas as pd
import pytest

from beam_jobs.build_examples import patients, planning
from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.sources import find_source, refusals
from tests.helpers.builds import SPEC, build, contents
from tests.helpers.dicom_files import dicom
from tests.helpers.drawn import draw

BY_TAG = dataclasses.replace(
    SPEC, patient_column="PatientID", patient_pattern="", split=specs.Split(validation=0.3)
)
PATIENTS = 8


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Three slices of each of eight patients, whom nothing but the tags tells, and one without."""
    folder, lines = tmp_path_factory.mktemp("raw"), ["image,level"]
    for number in range(3 * PATIENTS + 1):
        name = "" if number == 3 * PATIENTS else f"SECRET-{number % PATIENTS}"
        data = dicom(draw(number, width=64, height=64), PatientID=name)
        (folder / f"{number:03}.dcm").write_bytes(data)
        lines.append(f"{number:03},{number % PATIENTS % 2}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def plan(raw, **changes) -> pd.DataFrame:
    spec = dataclasses.replace(BY_TAG, **changes)
    source = find_source.open_source(str(raw))
    made = planning.make_plan(spec, labels=str(raw / "labels.csv"), source=source)
    return made.rows.set_index("id")


def test_slices_of_a_patient_are_in_one_split(raw):
    rows = plan(raw)
    number = rows.index.astype(int)
    told = rows[number < 3 * PATIENTS]
    assert told["patient"].groupby(told.index.astype(int) % PATIENTS).nunique().max() == 1
    assert told["patient"].nunique() == PATIENTS and told["is_told"].all()
    assert told.groupby("patient")["split"].nunique().max() == 1
    assert rows["patient"]["024"] == "024" and not rows["is_told"]["024"]
    clear = plan(raw, patient_tags="clear")
    assert clear["patient"]["003"] == "SECRET-3"
    assert rows["split"].tolist() == clear["split"].tolist()


def test_no_name_is_written_in_clear_and_the_same_input_gives_the_same_bytes(raw, tmp_path):
    for name in ("first", "second"):
        build(raw, tmp_path / name, spec=BY_TAG)
    first = contents(tmp_path / "first")
    assert first == contents(tmp_path / "second")
    assert not any(b"SECRET" in data for data in first.values())
    shards = sorted((tmp_path / "first").glob("*.tfrecord-*"))
    parsed = [records.parse(each) for path in shards for each in records.read(path.open("rb"))]
    names = {example[records.IMAGE_PATIENT].decode() for example in parsed}
    assert len(names) == PATIENTS + 1


def test_a_key_gives_a_patient_one_name_everywhere(raw, monkeypatch):
    without = plan(raw)["patient"]["005"]
    monkeypatch.setenv(patients.KEY, "only we know")
    expected = hmac.new(b"only we know", b"SECRET-5", hashlib.sha256).hexdigest()
    assert expected.startswith(plan(raw)["patient"]["005"])
    assert plan(raw)["patient"]["005"] != without
    by_hash = dataclasses.replace(BY_TAG.split, method="hash")
    assert plan(raw, split=by_hash)["patient"]["005"] == plan(raw)["patient"]["005"]


def test_a_split_by_hash_takes_a_key(raw, monkeypatch):
    monkeypatch.delenv(patients.KEY, raising=False)
    with pytest.raises(refusals.UnusableInput, match=r"environment variable DRTFX_PATIENT_KEY"):
        plan(raw, split=dataclasses.replace(BY_TAG.split, method="hash"))


def test_a_tag_that_no_file_has_is_told(raw):
    with pytest.raises(refusals.UnusableInput, match="none of the 25 files has it"):
        plan(raw, patient_column="SeriesInstanceUID")


def test_a_column_of_the_name_counts_for_more(raw, tmp_path):
    table = pd.read_csv(raw / "labels.csv", dtype=str)
    table.assign(PatientID="one").to_csv(tmp_path / "labels.csv", index=False)
    source = find_source.open_source(str(raw))
    made = planning.make_plan(
        dataclasses.replace(BY_TAG, split=specs.Split(method="image", validation=0.3)),
        labels=str(tmp_path / "labels.csv"),
        source=source,
    )
    assert set(made.rows["patient"]) == {"one"}
