"""The plan: which photograph belongs to which row, who is rejected, and what a row costs."""

import dataclasses
import json
import shutil
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from beam_jobs.build_examples import planning
from dr_tfx.config import specs
from dr_tfx.sources import arrays, find_source
from tests.helpers import ready
from tests.helpers.drawn import draw, encode, eyepacs_like
from tests.helpers.places import Named

ROOT = Path(__file__).parents[2]
SPEC = eyepacs_like()
HASHED = dataclasses.replace(SPEC, split=specs.Split(method="hash", validation=0.25))
FORGIVING = dataclasses.replace(SPEC, max_reject_rate=1.0)
ANYWHERE = dataclasses.replace(FORGIVING, split=specs.Split(method="external"))


def plan(raw: Path, *, spec: specs.DatasetSpec = SPEC) -> planning.Plan:
    source = find_source.open_source(str(raw))
    return planning.make_plan(spec, labels=str(raw / "labels.csv"), source=source)


def plan_of(
    folder: Path, text: str, names: list[str], *, spec: specs.DatasetSpec = SPEC, **kwargs
) -> planning.Plan:
    """The plan of a CSV and of photographs that are only names."""
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    source = Named(names)
    return planning.make_plan(spec, labels=str(folder / "labels.csv"), source=source, **kwargs)


def test_split_does_not_depend_on_missing_photographs(copy):
    before = plan(copy).rows.set_index("id")["split"]
    (copy / "12_left.jpeg").unlink()
    after = plan(copy).rows.set_index("id")["split"]
    assert after.to_dict() == before.drop("12_left").to_dict()


def test_a_pattern_that_matches_nothing_is_told(copy, caplog):
    made = plan(copy, spec=dataclasses.replace(SPEC, patient_pattern=r"^(\d+)-eye$"))
    assert "no id matches config.dataset.patient_pattern" in caplog.text
    assert made.rows["patient"].tolist() == made.rows["id"].tolist()


BY_COLUMN = dataclasses.replace(SPEC, patient_column="pid", patient_pattern="")


@pytest.mark.parametrize("method", ["patient", "hash"])
def test_rows_of_one_patient_of_a_column_are_in_one_split(tmp_path, caplog, method):
    # Three photographs of each patient, whose names do not tell him.
    names = [f"{(7 * i) % 60:03d}" for i in range(60)]
    rows = [f"{name},{i % 3},{i // 3}.0" for i, name in enumerate(names)]
    text = "\n".join(["image,level,pid", *rows])
    spec = dataclasses.replace(BY_COLUMN, split=specs.Split(method=method, validation=0.3))
    made = plan_of(tmp_path, text, [f"{name}.png" for name in names], spec=spec)
    patient = dict(zip(names, (str(i // 3) for i in range(60)), strict=True))
    assert made.rows["patient"].tolist() == [patient[i] for i in made.rows["id"]]
    of_patient = made.rows.groupby("patient")["split"].nunique()
    assert len(of_patient) == 20 and (of_patient == 1).all()
    assert set(made.rows["split"]) == {"train", "validation"}
    assert "not known" not in caplog.text
    # Without the column, some patient's photographs are parted, and that is told.
    apart = plan_of(
        tmp_path,
        text,
        [f"{n}.png" for n in names],
        spec=dataclasses.replace(spec, patient_column=""),
    )
    parted = apart.rows.assign(of=[patient[i] for i in apart.rows["id"]]).groupby("of")["split"]
    assert (parted.nunique() == 2).any()
    assert "the patients of 60 of 60 photographs are not known" in caplog.text


def test_a_pattern_finds_the_patient_in_the_id_or_else_in_the_path(tmp_path):
    text = "image,level\np1/a.png,0\np1/b.png,1\np2/7_c.png,2\np2/d.png,0\ne.png,1\n"
    names = ["p1/a.png", "p1/b.png", "p2/7_c.png", "p2/d.png", "e.png"]
    spec = dataclasses.replace(ANYWHERE, patient_pattern=r"^(p\d(?=/)|\d+(?=_))")
    made = plan_of(tmp_path, text, names, spec=spec)
    assert made.rows["id"].tolist() == ["a", "b", "7_c", "d", "e"]
    assert made.rows["patient"].tolist() == ["p1", "p1", "7", "p2", "e"]
    assert made.rows["is_told"].tolist() == [True] * 4 + [False]


def test_a_patient_that_the_column_does_not_tell_is_his_own(tmp_path, caplog):
    text = "image,level,pid\na,0,7\nb,1,7\nc,2,\nd,0,8\n"
    made = plan_of(tmp_path, text, [f"{i}.png" for i in "abcd"], spec=BY_COLUMN)
    assert made.rows["patient"].tolist() == ["7", "7", "c", "8"]
    assert "the patients of 1 of 4 photographs are not known" in caplog.text
    said = planning.summary(made, classes=("none", "some"), class_of=(0, 1, 1))
    assert said["unknown_patients"].startswith("the patients of 1 of 4 photographs are not known")


@pytest.mark.parametrize(
    "text, message",
    [
        ("image,level\na,0\n", "no column 'pid'; .* Set --config.dataset.patient_column"),
        ("image,level,pid\na,0,\n", "'pid' is empty in every row"),
    ],
)
def test_a_column_of_patients_that_tells_none_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        plan_of(tmp_path, text, ["a.png"], spec=BY_COLUMN)


def test_plan_of_eyepacs_has_the_published_numbers(tmp_path):
    grades = np.repeat(np.arange(5), (25_810, 2_443, 5_292, 873, 708))
    grades = np.random.default_rng(0).permutation(grades)
    lines = [f"{i // 2}_{('left', 'right')[i % 2]},{grade}" for i, grade in enumerate(grades)]
    (tmp_path / "trainLabels.csv").write_text("\n".join(["image,level", *lines]))
    done = ready.run(
        [
            *(sys.executable, "-m", "beam_jobs.cli.build_examples", "--plan"),
            *("--config=configs/reference.py", f"--labels={tmp_path / 'trainLabels.csv'}"),
        ]
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["rows"] == 35_126 and printed["rejected"] == {}
    assert printed["classes"] == {
        "train": {"normal": 20_647, "abnormal": 7_453},
        "validation": {"normal": 5_163, "abnormal": 1_863},
    }
    totals = [
        sum(split[name] for split in printed["counts"].values())
        for name in ("no DR", "mild", "moderate", "severe", "proliferative")
    ]
    assert totals == [25_810, 2_443, 5_292, 873, 708]
    assert sum(printed["shards"]["records"].values()) == 35_126
    assert printed["shards"]["number"] == len(printed["shards"]["records"])
    assert max(printed["shards"]["records"].values()) <= 512
    patients = printed["patients"]
    assert printed["shared_patients"] == patients["train"] + patients["validation"] - 35_126 // 2
    assert printed["shared_patients"] > 0 and "leaks on purpose" in done.stderr
    assert printed["twins"].startswith("not looked for")


@pytest.mark.parametrize(
    "line, name, expected",
    [
        ("10_left", "10_left.JPG", "10_left"),
        ("10_left.jpg", "10_left.JPG", "10_left"),
        ("nowhere/10_left.jpeg", "10_left.jpeg", "10_left"),  # The source lies in `nowhere`.
        ("./train/10_left", "a/train/10_left.jpeg", "10_left"),
        ("../../train/10_left", "a/train/10_left.jpeg", "10_left"),
        ("train\\10_left.jpeg", "train/10_left.jpeg", "10_left"),
        ("D:\\kaggle\\train\\10_left.jpeg", "train/10_left.jpeg", "10_left"),
        ("/mnt/kaggle/train/10_left.jpeg", "train/10_left.jpeg", "10_left"),
        ("gs://bucket/train/10_left.jpeg", "train/10_left.jpeg", "10_left"),
        ("train/10_left.jpeg", "train.zip/10_left.jpeg", "10_left"),
        ("007", "007.png", "007"),
        ("1e5", "1e5.png", "1e5"),
        ("v1.2", "v1.2.png", "v1.2"),
        ('"a, b (1)"', "a, b (1).png", "a, b (1)"),
        ('"say ""ah"""', 'say "ah".png', 'say "ah"'),
        ("#3 100%25 [x]", "#3 100%25 [x].png", "#3 100%25 [x]"),
        ("NA", "NA.png", "NA"),
        ("Zoe\u0308", "Zo\u00eb.png", "Zo\u00eb"),  # Decomposed in the CSV,
        ("Zo\u00eb", "Zoe\u0308.png", "Zo\u00eb"),  # or by a Mac's file system.
    ],
)
def test_a_row_finds_its_photograph(tmp_path, line, name, expected):
    text = f"image,level\n{line},1\nother,0\nthird,0\n"
    made = plan_of(tmp_path, text, [name, "other.png", "third.png"])
    assert made.rejects.empty and made.unlabelled.empty
    assert made.rows["id"].tolist() == [expected, "other", "third"]
    assert made.rows["name"].tolist() == [name, "other.png", "third.png"]
    assert made.rows["label"].tolist() == [1, 0, 0]


def located(folder: Path, rows: str, names: list[str]) -> dict[str, str]:
    """Path in the CSV -> name of the photograph, or the reason and detail of the reject."""
    lines = rows.split()
    text = "image,level\n" + "".join(f"{line},{i % 3}\n" for i, line in enumerate([*lines, "z"]))
    made = plan_of(folder, text, [*names, "z.png", "y.png"], spec=ANYWHERE)
    said = dict(zip(made.rows["id"], made.rows["name"], strict=True))
    rejects = made.rejects[["id", "reason", "detail"]].itertuples(index=False, name=None)
    said |= {i: f"{reason}: {detail}" for i, reason, detail in rejects}
    del said["z"]
    return said


@pytest.mark.parametrize(
    "rows, names, expected",
    [
        # A folder or an extension in the CSV decides, and is never another's.
        (
            "test/1.jpg",
            ["train/1.jpg"],
            {"1": "missing_image: there is no test/1.jpg, only train/1.jpg"},
        ),
        ("a/b/1.jpg", ["b/1.jpg"], {"1": "missing_image: there is no a/b/1.jpg, only b/1.jpg"}),
        ("test/1.jpg", ["train/1.jpg", "test/1.jpg"], {"1": "test/1.jpg"}),
        ("test/im/1", ["train/im/1.jpg", "test/im/1.jpg"], {"1": "test/im/1.jpg"}),
        ("x.jpg", ["x.jpg", "x.png"], {"x": "x.jpg"}),
        ("x.jpg", ["x.png"], {"x": "missing_image: there is no x.jpg, only x.png"}),
        ("x.jpg", ["x.JPG", "x.jpg"], {"x": "x.jpg"}),
        # Without them, several photographs may be meant, of which one may lie just there.
        ("x", ["x.jpg", "x.png"], {"x": "ambiguous_image: x.jpg, x.png"}),
        ("x.jpg", ["a/x.jpg", "b/x.jpg"], {"x": "ambiguous_image: a/x.jpg, b/x.jpg"}),
        ("x.jpg", ["x.jpg", "b/x.jpg"], {"x": "x.jpg"}),
        ("a/x", ["a/x.jpg", "b/a/x.jpg"], {"x": "a/x.jpg"}),
        # An id is as long as it takes.
        (
            "p1/v.jpg p2/v.jpg p3/w.jpg",
            ["p1/v.jpg", "p2/v.jpg", "p3/w.jpg"],
            {"p1/v": "p1/v.jpg", "p2/v": "p2/v.jpg", "w": "p3/w.jpg"},
        ),
        (
            "c/1/v a/1/v a/2/v",
            ["a/1/v.png", "a/2/v.png", "c/1/v.png"],
            {"a/1/v": "a/1/v.png", "2/v": "a/2/v.png", "c/1/v": "c/1/v.png"},
        ),
        ("a/x a/x.jpg", ["a/x.jpg"], {"x": "duplicate_id: rows of this id have different labels"}),
        ("x.jpg x.png", ["x.jpg", "x.png"], {"x.jpg": "x.jpg", "x.png": "x.png"}),
        # All of one computer's paths share folders that another need not have.
        (
            "/kaggle/in/a/1.png /kaggle/in/b/1.png",
            ["a/1.png", "b/1.png"],
            {"a/1": "a/1.png", "b/1": "b/1.png"},
        ),
        (
            "/kaggle/a/1.png /kaggle/b/2.png",
            ["b/1.png", "b/2.png"],
            {"1": "missing_image: there is no /kaggle/a/1.png, only b/1.png", "2": "b/2.png"},
        ),
        # Two rows of one photograph, whatever they call it.
        (
            "x a/x.jpg",
            ["a/x.jpg"],
            {
                "x": "duplicate_id: rows of this id have different labels",
                "a/x": "duplicate_id: rows of this id have different labels",
            },
        ),
    ],
)
def test_what_the_csv_names_is_what_is_read(tmp_path, rows, names, expected):
    assert located(tmp_path, rows, names) == expected


def test_numbers_that_have_lost_their_zeros_are_joined_where_nothing_else_is_meant(
    tmp_path, caplog
):
    """Patients and the ids of the data set are by the photographs' names."""
    rows = ["id,level", "0,0", "5,1", "7,0", "12,1", "123,0", "8,1", "08,1"]
    names = ["000.png", "005.png", "7.png", "007.png", "012.png", "0012.png", "123.png", "008.png"]
    spec = dataclasses.replace(ANYWHERE, image_column="id", patient_pattern=r"^(\d\d)")
    made = plan_of(tmp_path, "\n".join(rows), names, spec=spec)
    found = made.rows.set_index("id")
    assert found["name"].to_dict() == {
        "000": "000.png",
        "005": "005.png",
        "7": "7.png",  # Not 007: a photograph has the row's own name.
        "123": "123.png",
    }
    assert found["patient"]["000"] == found["patient"]["005"] == "00"
    # Two photographs are the twelfth, and two rows the eighth.
    assert sorted(made.rejects["id"]) == ["08", "12", "8"]
    assert "2 rows are joined with photographs by their number" in caplog.text
    assert "'0' is '000'" in caplog.text


def test_many_photographs_of_one_name_are_found_in_time(tmp_path):
    rows = [f"p{i}/view.jpg" for i in range(3000)]
    start = time.perf_counter()
    found = located(tmp_path, " ".join(rows), rows)
    assert found == {row.removesuffix(".jpg"): row for row in rows}
    assert time.perf_counter() - start < 10  # Each against each would take minutes.


def test_names_of_real_files_are_found(tmp_path):
    names = ["a b#1.PNG", "50%.png", "[x].png", "Zoe\u0308.png"]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(encode(draw(i), ".png"))
    ids = [unicodedata.normalize("NFC", Path(name).stem) for name in names]
    (tmp_path / "labels.csv").write_text("image,level\n" + "".join(f"{i},1\n" for i in ids))
    made = plan(tmp_path)
    assert dict(zip(made.rows["id"], made.rows["name"], strict=True)) == dict(
        zip(ids, names, strict=True)
    )
    assert len(made.rows) == 4 and made.rejects.empty


def test_rejects_of_every_kind(tmp_path):
    text = "image,level\na,1\nb,1.5\nc,3\nd,0\ne,1\ne,1\nf,0\nf,1\ng,2\nh,2\nshort\ni,0\n"
    names = ["a.png", "d.jpeg", "x/d.png", "e.png", "f.png", "g.png", "i.png", "z.png", "y.png"]
    made = plan_of(tmp_path, text, [*names, "b.png"])
    expected = {
        ("b", "unknown_label", "label '1.5', expected 0 to 2"),
        ("short", "missing_label", "the label is empty"),
        ("c", "label_out_of_range", "label 3, expected 0 to 2"),
        ("d", "ambiguous_image", "d.jpeg, x/d.png"),
        ("e", "duplicate_id", "an earlier row has the same id and label"),
        ("f", "duplicate_id", "rows of this id have different labels"),
        ("h", "missing_image", "no photograph of this name"),
    }
    columns = made.rejects[["id", "reason", "detail"]]
    assert set(columns.itertuples(index=False, name=None)) == expected
    assert len(made.rejects) == 8 and (made.rejects["path"] == "").all()
    assert made.rows["id"].tolist() == ["a", "e", "g", "i"]
    assert made.csv_rows == 12
    # b and f have a row, though it cannot be used.
    assert made.unlabelled.tolist() == ["y.png", "z.png"]


def test_photographs_without_a_label_are_told(copy, caplog):
    for name in ("95_left.jpeg", "94_left.jpeg"):
        (copy / name).write_bytes(encode(draw(99)))
    made = plan(copy)
    assert made.unlabelled.tolist() == ["94_left.jpeg", "95_left.jpeg"]
    assert "2 photographs have no label: not used; the first are 94_left" in caplog.text


def test_a_missing_photograph_is_no_stray_one(copy):
    (copy / "12_left.jpeg").rename(copy / "12 left.jpeg")
    made = plan(copy, spec=FORGIVING)
    assert made.rejects["id"].tolist() == ["12_left"]
    assert made.unlabelled.tolist() == ["12 left.jpeg"]


def test_the_contract_says_which_input_is_another(copy):
    before = plan(copy).contract()
    assert plan(copy).contract() == before

    (copy / "99_left.jpeg").write_bytes(encode(draw(99)))  # Without a row: of no consequence.
    stray = plan(copy).contract()
    assert stray["fingerprint"] == before["fingerprint"]
    (copy / "99_left.jpeg").unlink()

    photograph = copy / "12_left.jpeg"
    content = photograph.read_bytes()
    photograph.write_bytes(content + b" ")
    longer = plan(copy).contract()
    assert longer["inputs"]["labels"] == before["inputs"]["labels"]
    assert longer["inputs"]["photographs"] != before["inputs"]["photographs"]
    assert longer["fingerprint"] != before["fingerprint"]
    photograph.write_bytes(content)

    labels = (copy / "labels.csv").read_text()
    (copy / "labels.csv").write_text(labels.replace("12_left,0", "12_left,1"))
    other = plan(copy).contract()
    assert other["inputs"]["labels"] != before["inputs"]["labels"]
    assert other["inputs"]["photographs"] == before["inputs"]["photographs"]
    assert other["fingerprint"] != before["fingerprint"]

    # Only what the rows say counts, not how the file writes it.
    (copy / "labels.csv").write_bytes(labels.replace("\n", "\r\n").encode("utf-8-sig"))
    assert plan(copy).contract() == before


def test_the_limit_of_rejects_is_no_part_of_the_contract(copy):
    assert plan(copy, spec=FORGIVING).contract() == plan(copy).contract()


@pytest.mark.parametrize("limit, is_refused", [(0.03, True), (0.5, False)])
def test_a_plan_says_that_its_build_will_be_refused(copy, caplog, limit, is_refused):
    with (copy / "labels.csv").open("a") as stream:
        stream.write(",x\n90_left,x\n")
    made = plan(copy, spec=dataclasses.replace(SPEC, max_reject_rate=limit))
    caplog.clear()
    said = planning.summary(made, classes=("none", "some"), class_of=(0, 1, 1))["refused"]
    assert ("max_reject_rate=0.03 allows" in said) == is_refused
    assert [record.getMessage() for record in caplog.records] == (
        [f"the build will be refused: {said}"] * is_refused
    )
    assert not is_refused or (said.startswith("2 of 42 rows") and "first are (empty), 90_" in said)


def test_shards_come_one_by_one_and_hold_all_rows(copy):
    made = plan(copy)
    shards = made.shards()
    assert iter(shards) is shards
    found = [i for _, rows in shards for i in rows["id"]]
    assert sorted(found) == sorted(made.rows["id"]) and len(found) == 40


def test_numbers_are_those_of_a_count_by_hand(tmp_path):
    text = "image,level\n" + "".join(f"{p}_{e},{p % 3}\n" for p in range(40) for e in "ab")
    spec = dataclasses.replace(SPEC, patient_pattern=r"^(\d+)_", split=specs.Split(method="image"))
    made = plan_of(tmp_path, text, [f"{p}_{e}.png" for p in range(40) for e in "ab"], spec=spec)
    where = {}
    for patient, name in zip(made.rows["patient"], made.rows["split"], strict=True):
        where.setdefault(patient, []).append(name)
    per_split = {
        name: sum(name in names for names in where.values()) for name in ("train", "validation")
    }
    shared = sorted(patient for patient, names in where.items() if len(set(names)) == 2)
    assert shared
    assert planning.count_patients(made.rows) == (per_split, shared)
    counts = planning.count_labels(made.rows, SPEC.label_names)
    assert [sum(counts[name][label] for name in counts) for label in SPEC.label_names] == [
        28,
        26,
        26,
    ]
    assert set(counts) == {"train", "validation"}


def test_by_hash_no_photograph_is_read_and_none_moves_when_others_come(copy, caplog):
    photograph = copy / "10_left.jpeg"
    shutil.copy(photograph, copy / "29_right.jpeg")
    before = plan(copy, spec=HASHED)
    assert before.twins == ()
    with (copy / "labels.csv").open("a") as stream:
        for patient in range(30, 60):
            shutil.copy(photograph, copy / f"{patient}_left.jpeg")
            stream.write(f"{patient}_left,{patient % 3}\n")
    after = plan(copy, spec=HASHED).rows.set_index("id")["split"]
    old = before.rows.set_index("id")["split"]
    assert after[old.index].tolist() == old.tolist() and len(after) == 70
    names = [path.name for path in copy.glob("*.jpeg")]
    text = (copy / "labels.csv").read_text()
    assert len(plan_of(copy, text, names, spec=HASHED).rows) == 70  # `Named` refuses to be read.


def test_a_split_that_stays_empty_is_told(tmp_path, caplog):
    # blake2b puts patient 10 at .242 and patient 11 at .778, as test_splits has it.
    spec = dataclasses.replace(HASHED, split=specs.Split(method="hash", validation=0.2))
    plan_of(
        tmp_path, "image,level\n10_left,1\n11_left,0\n", ["10_left.png", "11_left.png"], spec=spec
    )
    assert "no photograph is in split validation" in caplog.text


def test_a_plan_holds_few_bytes_a_row(tmp_path):
    count = 20_000
    ids = [f"{100_000 + i // 2}_{('left', 'right')[i % 2]}" for i in range(count)]
    text = "image,level\n" + "".join(f"{name},{i % 3}\n" for i, name in enumerate(ids))
    made = plan_of(tmp_path, text, [f"{name}.jpeg" for name in ids], spec=HASHED)
    assert len(made.rows) == count
    assert "object" not in set(map(str, made.rows.dtypes))
    assert made.rows.memory_usage(deep=True).sum() < 100 * count


def test_the_same_id_in_two_folders_of_a_pattern_is_ambiguous(copy):
    for folder in ("a", "b"):
        (copy / folder).mkdir()
        shutil.copy(copy / "10_left.jpeg", copy / folder)
        shutil.copy(copy / f"1{'0ab'.index(folder)}_right.jpeg", copy / folder)
    source = find_source.open_source(str(copy / "[ab]" / "*"))
    made = planning.make_plan(SPEC, labels=str(copy / "labels.csv"), source=source)
    assert made.rows["name"].tolist() == ["a/11_right.jpeg", "b/12_right.jpeg"]
    (detail,) = made.rejects["detail"][made.rejects["reason"] == "ambiguous_image"]
    assert detail == "a/10_left.jpeg, b/10_left.jpeg" and len(made.rejects) == 38


def test_photographs_of_an_array_are_their_own_patients(tmp_path, caplog):
    np.save(tmp_path / "X.npy", np.zeros((30, 32, 32, 3), np.uint8))
    np.save(tmp_path / "y.npy", np.arange(30) % 3)
    source = arrays.open_arrays(str(tmp_path / "X.npy"), SPEC.recipe)
    labels = str(tmp_path / "y.npy")
    made = planning.make_plan(SPEC, labels=labels, source=source, find_twins=False)
    assert made.rows["patient"].tolist() == made.rows["id"].tolist()
    assert made.rejects.empty and made.unlabelled.empty
    assert "recipe is not applied" in caplog.text and "its own patient" in caplog.text
    assert made.is_prepared and made.contract()["prepared"] == "elsewhere"
    by_recipe = dataclasses.replace(made, is_prepared=False).contract()
    assert "prepared" not in by_recipe  # Data sets of photographs keep their fingerprint.
    assert by_recipe["fingerprint"] != made.contract()["fingerprint"]


def test_a_csv_of_other_photographs_is_refused(copy):
    (copy / "labels.csv").write_text("image,level\nother,1\nmore,2\n")
    with pytest.raises(ValueError, match=r"no photograph in .*10_left.jpeg.*'other'.*None of its"):
        plan(copy)
    (copy / "labels.csv").write_text("image,eye,level\nother,10_left.jpeg,1\nmore,11_left,2\n")
    with pytest.raises(ValueError, match=r"The column 'eye' names .*: set --config.*image_column"):
        plan(copy)


@pytest.mark.parametrize(
    "row, names, message",
    [
        ("x.jpg", ["x.png"], "'x': there is no x.jpg, only x.png. Where the CSV gives .*: rename"),
        ("b/x.jpg", ["a/x.jpg"], "'x': there is no b/x.jpg, only a/x.jpg. .* as --image_dir"),
        ("x", ["x.jpg", "x.png"], "'x': x.jpg, x.png. Give the folder .* 'nowhere/[*].jpg'"),
    ],
)
def test_a_csv_that_names_no_photograph_clearly_is_told_why(tmp_path, row, names, message):
    with pytest.raises(ValueError, match=message) as refused:
        plan_of(tmp_path, f"image,level\n{row},1\n", names)
    assert "image_column" not in str(refused.value)


def test_the_plan_says_where_photographs_are_and_what_was_left_out(copy, caplog):
    for folder in ("deep/er", "masks"):
        (copy / folder).mkdir(parents=True)
        (copy / folder / "x.png").write_bytes(b"")
    caplog.set_level("INFO")
    plan(copy)
    assert "41 photographs: 40 in the folder itself, 1 in deep/er" in caplog.text
    assert "1 pictures in folders called mask or masks are not taken" in caplog.text


def test_an_official_split_and_folds_contradict(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("image,level\n" + f"{name}_1,0\n{name}_2,1\n")
    labels = f"{tmp_path}/train.csv,{tmp_path}/test.csv"
    spec = specs.DatasetSpec(split=specs.Split(folds=3))
    told = "split of their own, which --config.dataset.split.folds=3"
    with pytest.raises(ValueError, match=told):
        planning.make_plan(spec, labels=labels, source=None)
