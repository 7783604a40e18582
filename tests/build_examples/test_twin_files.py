"""Byte-identical files are found, told of and not parted."""

import csv
import dataclasses
import shutil

import numpy as np
import pytest

from beam_jobs.build_examples import planning, twin_files
from dr_tfx.config import specs
from dr_tfx.sources import arrays, find_source, folders
from tests.helpers.drawn import eyepacs_like

SPEC = eyepacs_like()


@pytest.mark.parametrize("method", ["patient", "image"])
def test_byte_identical_files_are_found_and_told(copy, method, caplog):
    shutil.copy(copy / "10_left.jpeg", copy / "29_right.jpeg")  # Labels 0 and 2.
    shutil.copy(copy / "10_left.jpeg", copy / "20_left.jpeg")  # Label 2.
    padding = (copy / "10_left.jpeg").stat().st_size - (copy / "11_left.jpeg").stat().st_size
    if padding > 0:  # Equal size alone makes no twin.
        (copy / "11_left.jpeg").write_bytes((copy / "11_left.jpeg").read_bytes() + bytes(padding))
    spec = dataclasses.replace(SPEC, split=specs.Split(method=method, validation=0.4))
    source = find_source.open_source(str(copy))
    (twin,) = planning.make_plan(spec, labels=str(copy / "labels.csv"), source=source).twins
    labels = dict(list(csv.reader((copy / "labels.csv").open()))[1:])
    assert twin["ids"] == ["10_left", "20_left", "29_right"]
    assert twin["labels"] == [int(labels[i]) for i in twin["ids"]]
    assert "different labels" in caplog.text
    assert len(set(twin["splits"])) == 1
    assert ("leaks on purpose" in caplog.text) == (method == "image")


@pytest.mark.parametrize("at_a_time", [1, 5, 1024])
def test_equal_rows_of_an_array_are_twins(tmp_path, monkeypatch, at_a_time):
    monkeypatch.setattr(twin_files, "_AHEAD", at_a_time)
    pictures = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    pictures[7] = pictures[2]
    np.save(tmp_path / "X.npy", pictures)
    np.save(tmp_path / "y.npy", np.arange(12) % 3)
    source = arrays.open_arrays(str(tmp_path / "X.npy"), SPEC.recipe)
    (twin,) = planning.make_plan(SPEC, labels=str(tmp_path / "y.npy"), source=source).twins
    assert twin["ids"] == ["X-0000002", "X-0000007"] and len(set(twin["splits"])) == 1


def test_a_photograph_that_cannot_be_read_has_no_twin(copy, monkeypatch):
    shutil.copy(copy / "10_left.jpeg", copy / "29_right.jpeg")
    source = find_source.open_source(str(copy))
    listed = list(source.names())
    (copy / "29_right.jpeg").unlink()
    monkeypatch.setattr(folders.Folder, "names", lambda _: iter(listed))
    labels = str(copy / "labels.csv")
    made = planning.make_plan(SPEC, labels=labels, source=source)
    assert made.twins == () and len(made.rows) == 40
