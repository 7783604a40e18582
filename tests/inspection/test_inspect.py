"""A first look: what is said of a folder, and that the config and command that it prints build."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from beam_jobs.build_examples import job
from beam_jobs.inspection import guess_columns, look_at_labels, look_at_photographs, proposal
from dr_tfx import tasks
from dr_tfx.config import config_files
from dr_tfx.dataset import manifest
from dr_tfx.sources import find_source
from tests.helpers import ready
from tests.helpers.dicom_files import HEAD_CT, dicom
from tests.helpers.enhanced import Frame, enhanced_ct
from tests.helpers.slices import units

ROOT = Path(__file__).parents[2]
PHOTOGRAPHS = [f"{patient}_{eye}" for patient in range(10, 30) for eye in ("left", "right")]


def proposed(place: str, labels: str = "") -> proposal.Proposal:
    source = find_source.open_source(place)
    photographs = look_at_photographs.look(source, given=place, sample=10)
    found = look_at_labels.of_photographs(labels, source.path(""), photographs)
    return proposal.propose(photographs, found)


def built(made: proposal.Proposal, folder: Path) -> manifest.Manifest:
    """Build as the printed command does."""
    flags = dict(word.removeprefix("--").split("=", 1) for word in made.command[1:])
    assert made.command[0] == "drtfx-build-examples" and set(flags) == {
        "config",
        "image_dir",
        "labels",
        "output_dir",
    }
    config = folder / flags["config"]
    config.write_text(made.config)
    return job.build(
        tasks.from_config(config_files.load(config)).dataset,
        image_dir=flags["image_dir"],
        labels=flags["labels"],
        output_dir=str(folder / flags["output_dir"]),
    )


def table(lines: list[str], path: Path, encoding: str = "utf-8") -> None:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))


def test_a_folder_with_a_csv(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = built(proposed("raw"), tmp_path)
    assert made.written == 40 and made.dataset.name == "raw"
    assert made.dataset.label_names == ("0", "1", "2")
    assert made.patients and sum(made.patients.values()) == 20


def test_slices_of_head_ct_and_their_patients(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    lines = ["image,bleeds"]
    for number in range(12):
        units = np.full((48, 48), 1024 + 30, np.int16)
        units[number : number + 9, 20:30] += 40
        data = dicom(units, **HEAD_CT, PatientID=f"name {number // 2}")
        Path("raw", f"{number:03}.dcm").write_bytes(data)
        lines.append(f"{number:03},{number // 2 % 2}")
    table(lines, Path("raw/labels.csv"))
    made = built(proposed("raw"), tmp_path)
    assert made.written == 12 and sum(made.patients.values()) == 6
    assert made.dataset.recipe.name == "ct_windows" and made.dataset.patient_tags == "hashed"


@pytest.mark.parametrize("is_by_frame", [False, True])
def test_series_in_one_file_and_labels_of_files_or_frames(tmp_path, monkeypatch, is_by_frame):
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    lines = ["image,bleeds"]
    for number in range(6):
        slices = [Frame((units(9 * number + i) + 1024).astype(np.uint16), i) for i in range(3)]
        Path("raw", f"{number}.dcm").write_bytes(enhanced_ct(slices, PatientID=f"{number}"))
        names = [f"{number}.dcm/frame_000{i}" for i in range(1, 4)] if is_by_frame else [number]
        lines += [f"{name},{number % 2}" for name in names]
    table(lines, Path("raw/labels.csv"))
    made = built(proposed("raw"), tmp_path)
    assert made.written == 18 and sum(made.patients.values()) == 6
    assert {label: sum(c[label] for c in made.counts.values()) for label in "01"} == {
        "0": 9,
        "1": 9,
    }


def test_a_folder_for_each_class(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (copy / "labels.csv").unlink()
    for i, name in enumerate(PHOTOGRAPHS):
        folder = copy / ("glaucoma" if i % 4 else "normal eyes")
        folder.mkdir(exist_ok=True)
        (copy / f"{name}.jpeg").rename(folder / f"{name}.jpeg")
    made = proposed("raw")
    assert "--labels=folders" in made.command
    assert not any("healthy" in line for line in made.look)
    done = built(made, tmp_path)
    assert done.written == 40 and done.dataset.label_names == ("normal eyes", "glaucoma")
    assert sum(done.counts[split]["glaucoma"] for split in done.counts) == 30


def test_an_archive_beside_a_table_in_korean(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(tmp_path / "사진.zip", "w") as packed:
        for name in PHOTOGRAPHS:
            packed.write(copy / f"{name}.jpeg", f"학습/{name}.jpeg")
    rows = [
        f"{name}.jpeg;환자{name[:2]};{'정상' if i % 3 else '당뇨망막병증'}"
        for i, name in enumerate(PHOTOGRAPHS)
    ]
    table(["파일명;환자번호;진단", *rows], tmp_path / "라벨.csv", "cp949")
    shutil.rmtree(copy)
    made = proposed("사진.zip")
    assert "config.dataset.patient_column = '환자번호'" in made.config
    done = built(made, tmp_path)
    assert done.written == 40 and done.dataset.label_names == ("정상", "당뇨망막병증")
    assert sum(done.patients.values()) == 20


def test_a_split_column_and_a_patient_column(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        f"{i},{name[:2]},{name},{i % 2},{'val' if int(name[:2]) > 25 else 'train'}"
        for i, name in enumerate(PHOTOGRAPHS)
    ]
    table(["index,patient_id,id_code,diagnosis,fold", *rows], copy / "labels.csv")
    done = built(proposed("raw", "raw/labels.csv"), tmp_path)
    assert {split: sum(of.values()) for split, of in done.counts.items()} == {
        "train": 32,
        "validation": 8,
    }


def test_a_table_for_each_split_with_paths_of_another_computer(copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file, eye in (("train.csv", "left"), ("valid.csv", "right")):
        rows = [f"/home/me/raw/{p}_{eye}.jpeg,{p % 2},{p}" for p in range(10, 30)]
        table(["path,class,patient", *rows], tmp_path / file)
    made = proposed("raw", "train.csv,valid.csv")
    done = built(made, tmp_path)
    assert {split: sum(of.values()) for split, of in done.counts.items()} == {
        "train": 20,
        "validation": 20,
    }


def test_what_cannot_be_built_is_said(copy, tmp_path):
    (copy / "labels.csv").unlink()
    made = proposed(str(copy))
    assert not made.command and made.look == ["No labels were found: pass --labels=FILE."]
    (copy / "README.txt").write_text("A licence,\nof\nmany, many, words\n")
    (copy / "masks" / "EX").mkdir(parents=True)
    shutil.copy(copy / "10_left.jpeg", copy / "masks" / "EX")
    (sentence,) = proposed(str(copy)).look
    assert sentence.startswith("No labels were found") and "--labels=masks" in sentence
    shutil.rmtree(copy / "masks")
    table(["a,b", "x,0", "y,1"], tmp_path / "other.csv")
    made = proposed(str(copy), str(tmp_path / "other.csv"))
    assert not made.command and "names photographs: the first is '10_left.jpeg', " in made.look[0]
    for photograph in copy.glob("*.jpeg"):
        photograph.with_suffix(".png").touch()  # A mask beside it.
    table(["a,b", "10_left,0", "10_right,1"], tmp_path / "other.csv")
    made = proposed(str(copy), str(tmp_path / "other.csv"))
    assert not made.command and made.look[0].startswith(
        "'10_left' in column 'a' may mean 10_left.jpeg or 10_left.png: pass only what is meant, "
    )


def test_damaged_and_identical_files_and_lost_rows_are_found(copy):
    shutil.copy(copy / "10_left.jpeg", copy / "99_left.jpeg")
    damaged = copy / "12_left.jpeg"
    damaged.write_bytes(damaged.read_bytes()[:500])
    (copy / "13_left.jpeg").unlink()
    source = find_source.open_source(str(copy))
    found = look_at_photographs.look(source, given="raw", sample=0)
    assert found.looked_at == 40 and [name for name, _ in found.damaged] == ["12_left.jpeg"]
    assert found.twins == [["10_left.jpeg", "99_left.jpeg"]]
    assert found.formats == {"JPEG": 39} and found.sizes == {"160 x 120": 39}
    told = look_at_labels.look(str(copy / "labels.csv"), source.path(""), found.names).told
    assert "1 rows have no photograph: 13_left" in told
    assert "1 photographs have no row: 99_left.jpeg" in told


def test_rows_that_are_lost_and_files_that_are_damaged_are_counted_together(copy, monkeypatch):
    monkeypatch.chdir(copy.parent)
    for name in PHOTOGRAPHS[:20]:
        (copy / f"{name}.jpeg").unlink()
    for name in PHOTOGRAPHS[20:30]:
        (copy / f"{name}.jpeg").write_bytes(b"no photograph")
    made = proposed("raw")  # Half of the rows are lost, and half of the others damaged.
    assert any(line.startswith("75 % of the rows will give no example") for line in made.look)
    assert "config.dataset.max_reject_rate = 0.76" in made.config


def test_the_photographs_of_a_row_are_known_to_be_one_patients(copy, monkeypatch):
    monkeypatch.chdir(copy.parent)
    for i, name in enumerate(PHOTOGRAPHS):  # Names that tell no patient.
        (copy / f"{name}.jpeg").rename(copy / f"x{i:03}.jpeg")
    rows = [f"x{2 * i:03}.jpeg,x{2 * i + 1:03}.jpeg,{i % 2}" for i in range(20)]
    table(["left,right,level", *rows], copy / "labels.csv")
    made = proposed("raw")
    assert "The photographs of a row count as one patient's" in made.look
    assert not any("Nothing tells the patients" in line for line in made.look)


def test_a_pattern_that_the_shell_has_replaced_is_understood(copy):
    photographs = sorted(map(str, copy.glob("*.jpeg")))
    line = [sys.executable, "-m", "beam_jobs.cli.inspect_input", "--sample=1"]
    done = ready.run([*line, "--image_dir", *photographs, f"--labels={copy / 'labels.csv'}"])
    assert done.returncode == 0, done.stderr
    assert f"# {copy}/*.jpeg\n#   {len(photographs)} photographs" in done.stdout
    done = ready.run([*line, str(copy), "other"])
    assert done.returncode == 1 and "expected one folder, pattern or archive" in done.stderr


def test_what_is_printed_can_be_run_and_names_stay_harmless(copy, tmp_path):
    (copy / "masks").mkdir()
    shutil.copy(copy / "10_left.jpeg", copy / "masks")
    shutil.copy(copy / "10_left.jpeg", copy / "x\ntouch harmed\n.jpeg")
    place = copy.rename(tmp_path / 'my \'photographs\'""" $(touch harmed)')
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    line = [sys.executable, "-m", "beam_jobs.cli.inspect_input", place.name]
    done = ready.run(line, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "left out: 1 pictures in folders called mask or masks" in done.stdout
    command = tmp_path / "bin" / "drtfx-build-examples"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m beam_jobs.cli.build_examples "$@"\n')
    command.chmod(0o755)
    environment["PATH"] = f"{command.parent}{os.pathsep}{environment['PATH']}"
    ran = subprocess.run(
        ["sh"],
        input=done.stdout,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "data"
    assert manifest.load(tmp_path / "data").written == 40
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    "lines, settings, values",
    [
        (
            ["ID,Sex,Left-Fundus,Right-Fundus,N,D,G"]
            + [f"{p},F,{p}_left.jpeg,{p}_right.jpeg,{p % 2},{1 - p % 2},0" for p in range(10, 30)],
            {
                "dataset.image_column": "Left-Fundus,Right-Fundus",
                "dataset.label_column": "D,G,N",
            },
            ["D", "G", "N"],
        ),
        ([f"{name}.jpeg {i % 3}" for i, name in enumerate(PHOTOGRAPHS)], {}, ["0", "1", "2"]),
        (
            ["\ufefffile;dr grade;age;set"]
            + [
                f"raw\\{name}.jpeg;{(i % 4) * 2}.0;{i % 9};{'Training' if i % 5 else 'b. Testing'}"
                for i, name in enumerate(PHOTOGRAPHS)
            ],
            {
                "dataset.image_column": "file",
                "dataset.label_column": "dr grade",
                "dataset.split.method": "column",
                "dataset.split.column": "set",
            },
            ["0", "1", "2", "3", "4", "5", "6"],
        ),
        (
            ["name,finding"]
            + [f"{n},{'No DR' if i % 3 else 'DR'}" for i, n in enumerate(PHOTOGRAPHS)],
            {"dataset.image_column": "name", "dataset.label_column": "finding"},
            ["No DR", "DR"],
        ),
    ],
    ids=["two eyes a row, a column for each label", "no header", "semicolons", "texts"],
)
def test_columns_are_recognised(tmp_path, lines, settings, values):
    table(lines, tmp_path / "labels.csv")
    found = look_at_labels.look(
        str(tmp_path / "labels.csv"), "/raw/", [f"{n}.jpeg" for n in PHOTOGRAPHS]
    )
    assert found.settings == settings and found.values == values and found.matched == 40


def test_labels_that_begin_at_one_and_rows_that_are_lost_are_provided_for(
    copy, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rows = [f"{name},{1 + i % 3}" for i, name in enumerate(PHOTOGRAPHS)]
    table(["image,grade", *rows, "gone,1", "lost,2", "10_left,2", "11_left,"], copy / "labels.csv")
    (tmp_path / "own.py").write_text("mine")
    made = proposed("raw")
    assert made.file == "own-2.py" and (tmp_path / "own.py").read_text() == "mine"
    assert "config.task.label_map = (0, 0, 1, 1)" in made.config
    assert "--output_dir=data-2" in made.command
    assert made.after[0] == "drtfx-train --config=own-2.py --data_dir=data-2 --workdir=run-2"
    done = built(made, tmp_path)
    assert done.written == 39  # The rows of 10_left contradict each other.
    assert done.dataset.label_names == ("0", "1", "2", "3")


def test_numbers_that_happen_to_name_photographs_are_not_taken_for_them(tmp_path):
    rows = [f"{i},{i % 7},{20 - i}.png,{i % 2}" for i in range(1, 20)]
    table(["row,age,photo,label", *rows], tmp_path / "labels.csv")
    found = look_at_labels.look(
        str(tmp_path / "labels.csv"), "/raw/", [f"{i}.png" for i in range(20)]
    )
    assert found.settings == {"dataset.image_column": "photo", "dataset.label_column": "label"}


@pytest.mark.parametrize(
    "names, labels",
    [
        (["train/0/1.png", "train/1/2.png", "val/0/3.png", "val/1/4.png"] * 5, ["0", "1"]),
        (["a/1.png", "b/2.png"] * 5, ["a", "b"]),
        (["train/1.png", "test/2.png"] * 5, None),
        (["a/1.png", "2.png"] * 5, None),
        ([f"patient {i}/1.png" for i in range(20)], None),
    ],
)
def test_folders_are_labels_where_they_look_so(names, labels):
    found = look_at_labels.of_folders(names)
    assert (found and found.values) == labels
    if labels == ["0", "1"]:
        assert found.settings == {"dataset.split.method": "column"}


@pytest.mark.parametrize("stems, is_so", [(PHOTOGRAPHS, True), (["1_a", "2_b"], False)])
def test_patients_are_told_by_the_names_of_eyes(stems, is_so):
    assert bool(guess_columns.patient_pattern(stems)) == is_so


def test_a_slip_in_the_labels_is_asked_about(tmp_path):
    rows = [f"{name},{i % 2}" for i, name in enumerate(PHOTOGRAPHS[1:])]
    table(["image,grade", f"{PHOTOGRAPHS[0]},7", *rows], tmp_path / "labels.csv")
    names = [f"{name}.jpeg" for name in PHOTOGRAPHS]
    told = look_at_labels.look(str(tmp_path / "labels.csv"), "/raw/", names).told
    assert "'7' occurs once: is it a slip?" in told
    assert "no row has the label 2, 3, 4, 5, 6: is the highest one a slip?" in told
