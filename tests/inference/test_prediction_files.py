"""The files of predictions, row by row, in a folder of their own."""

import json

import pandas as pd
import pytest

from dr_tfx import tasks
from dr_tfx.inference import photographs, prediction_files
from tests.helpers import disks
from tests.helpers.bundled import contents

NAMES = ("score", "decision")


def read(name):
    answer = dict(zip(NAMES, (0.25, "no"), strict=True))
    return photographs.ReadPhotograph(name, reading=tasks.Reading(0.25, "no", "no", answer))


def begin(folder):
    return prediction_files.PredictionFiles(folder, NAMES, {"method": None})


def test_what_was_read_is_there_when_the_work_is_stopped(tmp_path, caplog):
    begun = begin(tmp_path)
    figures = [begun.add(read(name), b"png")["figure"] for name in ("a/eye.png", "b/eye.jpeg")]
    assert begun.add(photographs.ReadPhotograph("c.png", rejected="gone"))["figure"] == ""
    begun.add(read("\udcff\x1b[2J.png"))  # A name that is not UTF-8, and would clear a terminal.
    assert figures == ["figures/eye.png", "figures/eye-2.png"]
    table = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert list(table) == ["photo", *NAMES, "figure", "rejected", "ungradable"]
    told = ["a/eye.png", "b/eye.jpeg", "c.png", "\\udcff\\u001b[2J.png"]
    assert table["photo"].tolist() == told
    assert table["score"].tolist() == ["0.25", "0.25", "", "0.25"]
    assert table["rejected"].tolist() == ["", "", "gone", ""]
    assert begun.decided() == {"no": 3}
    begun.finish()
    mark = json.loads((tmp_path / "predict.json").read_text())
    assert mark["photographs"] == {"read": 3, "rejected": 1}
    begin(tmp_path)  # The folder is ours: its table begins anew.
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"{begun.table}, with 4 rows of an earlier call, is replaced")
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 0


def test_what_was_not_finished_goes_on_and_half_a_row_is_cut(tmp_path):
    begun = begin(tmp_path)
    begun.add(read("a/eye.png"), b"png")
    begun.add(read("=1.png"))
    whole = (tmp_path / "predictions.csv").read_bytes()
    (tmp_path / "predictions.csv").write_bytes(whole + b"b/eye.jpeg,0.2")
    again = begin(tmp_path)
    assert (tmp_path / "predictions.csv").read_bytes() == whole and again.rows == 2
    names = ("a/eye.png", "=1.png", "b/eye.jpeg")
    assert [again.has(name) for name in names] == [True, True, False]
    assert again.add(read("b/eye.jpeg"), b"other")["figure"] == "figures/eye-2.png"
    assert (tmp_path / "figures" / "eye.png").read_bytes() == b"png"
    other = prediction_files.PredictionFiles(tmp_path, NAMES, {"method": "gradcam"})
    assert other.rows == 0 and len(pd.read_csv(tmp_path / "predictions.csv")) == 0


def test_on_a_disk_that_becomes_full_every_row_is_whole(tmp_path):
    with disks.mounted(tmp_path / "disk", size=64_000) as disk:
        begun, written = begin(disk), 0
        disks.fill(disk, left=0)  # The table's first 4,096 bytes are taken already.
        with pytest.raises(OSError, match="No space left"):
            while True:
                begun.add(read(f"{written:050d}.png"))
                written += 1
        table = (disk / "predictions.csv").read_text()
    rows = table.splitlines()[1:]
    assert table.endswith("\n") and written > 10
    assert rows == [f"{number:050d}.png,0.25,no,,," for number in range(written)]


@pytest.mark.parametrize("name", ["predictions.csv", "figures/eye.png", "predict.json"])
def test_a_folder_of_somebody_else_is_left_as_it_is(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"holds {name.split('/')[0]}, which this command"):
        begin(tmp_path)
    assert contents(tmp_path) == {name: b"mine"}


def test_numbers_that_differ_look_different():
    assert prediction_files.cells([0.25, 0.5676, "normal", None]) == [
        "0.250",
        "0.568",
        "normal",
        "-",
    ]
    assert prediction_files.cells([0.5677059, "normal", 0.5677094]) == [
        "0.567706",
        "normal",
        "0.567709",
    ]
    assert prediction_files.cells([0.5, 0.5]) == ["0.500", "0.500"]
    # A probability and a score, each with its threshold: that both are nearly 1 tells nothing.
    row = [1 - 1e-15, 0.121, 1 - 1e-12, 0.299]
    assert prediction_files.cells(row) == ["1.000", "0.121", "1.000", "0.299"]
