"""Every layout in which people have labels: the labels, patients and splits that were meant."""

import dataclasses
import gzip
import unicodedata
import zipfile
from pathlib import Path

import openpyxl
import pytest

from beam_jobs.build_examples import job, planning, source_labels, text_tables
from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest, records
from tests.helpers.drawn import draw, encode
from tests.helpers.places import Named

SPEC = specs.DatasetSpec(
    image_column="image",
    label_column="level",
    label_names=("no DR", "mild", "moderate"),
    split=specs.Split(method="external"),
    max_reject_rate=1.0,
)
OFFICIAL = specs.Split(method="column", column="set", validation=0.5)


def plan(labels: Path | str, photographs: str, **changes) -> planning.Plan:
    spec = dataclasses.replace(SPEC, **changes)
    return planning.make_plan(spec, labels=str(labels), source=Named(photographs.split()))


def of_text(folder: Path, text: str | bytes, photographs: str, **changes) -> planning.Plan:
    path = folder / "labels.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return plan(path, photographs, **changes)


def labels(made: planning.Plan) -> dict[str, int]:
    return dict(zip(made.rows["name"], made.rows["label"].tolist(), strict=True))


def rejected(made: planning.Plan) -> dict[str, str]:
    return dict(zip(made.rejects["id"], made.rejects["reason"], strict=True))


def test_labels_may_be_texts_that_are_their_names(tmp_path):
    text = "image,level\na,No DR\nb,moderate\nc, Mild \nd,severe\ne,2\n"
    made = of_text(tmp_path, text, "a.png b.png c.png d.png e.png")
    assert labels(made) == {"a.png": 0, "b.png": 2, "c.png": 1, "e.png": 2}
    assert rejected(made) == {"d": "unknown_label"}


def test_a_name_that_is_a_number_is_that_label(tmp_path):
    made = of_text(tmp_path, "image,level\na,1\nb,2.0\n", "a.png b.png", label_names=("1", "2"))
    assert labels(made) == {"a.png": 0, "b.png": 1}


VALUES = ("R0=0", "R1=mild", "R1+M=mild", "R=1=2")


@pytest.mark.parametrize("values", [VALUES, ("r0=no DR", *VALUES[1:])])
def test_labels_may_be_mapped(tmp_path, values):
    text = "image,level\na,R0\nb,r1+m\nc,R=1\nd,1\ne,mild\n"
    made = of_text(tmp_path, text, "a.png b.png c.png d.png e.png", label_values=values)
    assert labels(made) == {"a.png": 0, "b.png": 1, "c.png": 2, "e.png": 1}
    assert rejected(made) == {"d": "unknown_label"}  # A number is none of the values.


@pytest.mark.parametrize("values", [("a",), ("a=3",), ("a=x",), ("=1",), ("a=0", "a=1")])
def test_a_map_that_cannot_be_is_refused(values):
    with pytest.raises(typed.ConfigError, match=r"config\.dataset\.label_values (has|gives) 'a?"):
        dataclasses.replace(SPEC, label_values=values).check()


def test_a_map_may_be_written_as_one():
    read = specs.read_dataset({"label_values": {"No": 0, "Yes": "1"}})
    assert read.label_values == ("No=0", "Yes=1") and specs.label_values(read) == {
        "No": 0,
        "Yes": 1,
    }


def test_one_column_for_each_label(tmp_path):
    text = (
        "image,N,M,S,remark\na,1,0,0,x\nb,0,0,1.0,x\nc,False,True,False,\n"
        "d,1,1,0,x\ne,0,0,0,x\nf,0,2,1,x\n"
    )
    made = of_text(tmp_path, text, "a.png b.png c.png d.png e.png f.png", label_column="N,M,S")
    assert labels(made) == {"a.png": 0, "b.png": 2, "c.png": 1}
    assert rejected(made) == dict.fromkeys("def", "unknown_label")
    assert "label 'N=1, M=1, S=0'" in made.rejects["detail"].tolist()[0]


def test_a_number_of_columns_that_fits_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="label_column names 2 columns; .* each of the 3 labels"):
        of_text(tmp_path, "image,N,M\na,1,0\n", "a.png", label_column="N,M")


def test_a_folder_for_each_label_needs_no_table():
    names = "no_dr/1.png MILD/1.png train/mild/2.png deep/moderate/x/3.png other/4.png"
    made = plan(source_labels.FOLDERS, names, label_values=("no_dr=0",))
    assert labels(made) == {
        "no_dr/1.png": 0,
        "MILD/1.png": 1,
        "train/mild/2.png": 1,
        "deep/moderate/x/3.png": 2,
    }
    assert rejected(made) == {"4": "unknown_label"}
    assert made.unlabelled.empty and "label 'other'" in made.rejects["detail"].iloc[0]
    assert set(made.rows["id"]) == {"no_dr/1", "MILD/1", "2", "3"}
    with pytest.raises(ValueError, match="folder that holds those as .*image_dir"):
        plan(source_labels.FOLDERS, "1.png 2.png")


def test_photographs_without_labels_have_the_first_one():
    made = plan(source_labels.NONE, "a.png deep/b.png")
    assert labels(made) == {"a.png": 0, "deep/b.png": 0} and not rejected(made)


@pytest.mark.parametrize(
    "names, pattern, values",
    [  # As REFUGE and ACRIMA name their photographs.
        ("train/g0001.jpg train/n0002.jpg train/x3.jpg", "^([gn])", ("n=0", "g=1")),
        ("Im310_g_ACRIMA.jpg Im001_ACRIMA.jpg x3.jpg", r"^Im\d+_(g|A)", ("A=0", "g=1")),
        (
            "glaucoma-a/b.png healthy-a/b.png x3.jpg",
            "(glaucoma|healthy)-",
            ("healthy=0", "glaucoma=1"),
        ),
    ],
)
def test_names_carry_the_labels(names, pattern, values):
    settings = {"label_names": ("normal", "glaucoma"), "label_values": values}
    made = plan(source_labels.NAMES, names, label_pattern=pattern, **settings)
    first, second, _ = names.split()
    expected = {first: values[1], second: values[0]}
    assert labels(made) == {name: int(text[-1]) for name, text in expected.items()}
    assert rejected(made) == {"x3": "missing_label"}
    with pytest.raises(ValueError, match=r"set .*label_pattern to a regular expression"):
        plan(source_labels.NAMES, names, **settings)
    with pytest.raises(typed.ConfigError, match=r"label_pattern is 'gg'; expected a \(group\)"):
        dataclasses.replace(SPEC, label_pattern="gg").check()


def test_folders_tell_the_official_split_too():
    names = "train/mild/1.png train/no_dr/2.png valid/mild/3.png Test/mild/4.png x/mild/5.png"
    split = specs.Split(method="column")
    made = plan(source_labels.FOLDERS, names, label_values=("no_dr=0",), split=split)
    assert dict(zip(made.rows["name"], made.rows["split"], strict=True)) == {
        "train/mild/1.png": "train",
        "train/no_dr/2.png": "train",
        "valid/mild/3.png": "validation",
        "Test/mild/4.png": "test",
    }
    assert rejected(made) == {"5": "unknown_split"}


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg 0\nb c.jpg 2\n",
        "a.jpg\t0\nb c.jpg\t2\n",
        "a.jpg,0\nb c.jpg,2\n",
        "0,a.jpg\n2,b c.jpg\n",
        "a,no DR\nb c,moderate\n",
    ],
)
def test_a_list_without_a_header(tmp_path, caplog, text):
    path = tmp_path / "list.txt"
    path.write_text(text)
    source = Named(["a.jpg", "b c.jpg"])
    made = planning.make_plan(SPEC, labels=str(path), source=source)
    assert labels(made) == {"a.jpg": 0, "b c.jpg": 2} and made.csv_rows == 2
    assert "list.txt: it has no header" in caplog.text


def test_an_official_split_of_a_column(tmp_path):
    text = "image,level,set\na,0,train\nb,1,Training\nc,0,val\nd,1,test set\ne,1,unused\n"
    made = of_text(tmp_path, text, "a.png b.png c.png d.png e.png", split=OFFICIAL)
    assert dict(zip(made.rows["id"], made.rows["split"], strict=True)) == {
        "a": "train",
        "b": "train",
        "c": "validation",
        "d": "test",
    }
    assert rejected(made) == {"e": "unknown_split"}


def test_an_official_split_without_validation_holds_it_out_of_train_by_patient(tmp_path):
    rows = [f"{i},{i % 2},{'test' if i < 10 else 'train'},{i // 2}" for i in range(50)]
    text = "\n".join(["image,level,set,pid", *rows])
    names = " ".join(f"{i}.png" for i in range(50))
    made = of_text(tmp_path, text, names, split=OFFICIAL, patient_column="pid")
    where = dict(zip(made.rows["id"].astype(int), made.rows["split"], strict=True))
    assert all((split == "test") == (i < 10) for i, split in where.items())
    assert sum(split == "validation" for split in where.values()) == 20  # Half of 40.
    assert all(where[i] == where[i + 1] for i in range(0, 50, 2))


def test_one_csv_for_each_split(tmp_path, caplog):
    for name, rows in (("train", "a,0\nb,1\n"), ("valid", "c,2\n"), ("test", "d,1\n")):
        (tmp_path / f"{name}.csv").write_text(f"image,level\n{rows}")
    paths = ",".join(str(tmp_path / f"{name}.csv") for name in ("train", "valid", "test"))
    caplog.set_level("INFO")
    made = plan(paths, "a.png b.png c.png d.png", split=specs.Split())
    assert labels(made) == {"a.png": 0, "b.png": 1, "c.png": 2, "d.png": 1}
    assert made.rows["split"].tolist() == ["train", "train", "validation", "test"]
    assert made.spec.split.method == "column"
    assert "the split is that of the files" in caplog.text
    (tmp_path / "more.csv").write_text("image,level\ne,1\n")
    with pytest.raises(ValueError, match=r"the name of .*more.csv tells no split"):
        plan(f"{paths},{tmp_path / 'more.csv'}", "a.png")


def test_an_official_split_that_nothing_tells_is_refused(tmp_path):
    split = specs.Split(method="column")
    with pytest.raises(ValueError, match="nothing tells the split. Set --config.dataset.split.col"):
        of_text(tmp_path, "image,level\na,0\n", "a.png", split=split)


ODIR = (
    "ID,Left-Fundus,Right-Fundus,Left-Diagnostic Keywords,Right-Diagnostic Keywords,N,D,G\n"
    "0,0_left.jpg,0_right.jpg,cataract,normal fundus,0,1,0\n"
    "1,1_left.jpg,1_right.jpg,normal fundus,normal fundus,1,0,0\n"
    "2,2_left.jpg,,glaucoma,,0,0,1\n"
)
EYES = "0_left.jpg 0_right.jpg 1_left.jpg 1_right.jpg 2_left.jpg"


@pytest.mark.parametrize(
    "label_column, expected",
    [
        ("N,D,G", [1, 1, 0, 0, 2]),
        ("Left-Diagnostic Keywords,Right-Diagnostic Keywords", [1, 0, 0, 0, 2]),
    ],
)
def test_two_eyes_in_a_row(tmp_path, label_column, expected):
    made = of_text(
        tmp_path,
        ODIR,
        EYES,
        image_column="Left-Fundus,Right-Fundus",
        label_column=label_column,
        label_values=("normal fundus=0", "cataract=1", "glaucoma=2"),
        split=specs.Split(method="hash", validation=0.5),
    )
    assert labels(made) == dict(zip(EYES.split(), expected, strict=True))
    assert made.rows["patient"].tolist() == ["0_left", "0_left", "1_left", "1_left", "2_left"]
    assert made.rows["is_told"].all() and made.csv_rows == 5 and made.rejects.empty
    assert made.rows.groupby("patient")["split"].nunique().eq(1).all()


def test_two_eyes_with_one_label_and_a_patient(tmp_path):
    text = "pid,left,right,level\np,l.png,r.png,2\n"
    made = of_text(tmp_path, text, "l.png r.png", image_column="left,right", patient_column="pid")
    assert labels(made) == {"l.png": 2, "r.png": 2}
    assert made.rows["patient"].tolist() == ["p", "p"]


def workbook(path: Path, rows: list[tuple]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.create_sheet("more").append(("image", "level"))
    book.save(path)
    return path


def test_an_excel_workbook(tmp_path):
    rows = [("image", "level"), ("007", 0), ("b", 2.0), (None, None), (9, "mild"), ("d", "=1+1")]
    made = plan(workbook(tmp_path / "labels.xlsx", rows), "007.png b.png 9.png d.png")
    assert labels(made) == {"007.png": 0, "b.png": 2, "9.png": 1}
    # Nothing has computed the formula, and we do not.
    assert rejected(made) == {"d": "missing_label"} and made.csv_rows == 4


def test_a_workbook_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    path = workbook(tmp_path / "labels.xlsx", [("image", "level"), ("a", 0)])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        ValueError, match="labels.xlsx is a damaged workbook: File is not a zip file"
    ):
        plan(path, "a.png")
    at = data.rindex(b"PK\1\2")  # The version that a program needs to read a part, by the table.
    path.write_bytes(data[: at + 6] + b"\xa7" + data[at + 7 :])
    with pytest.raises(ValueError, match="a damaged workbook: zip file version 16.7"):
        plan(path, "a.png")
    path.write_bytes(data)
    monkeypatch.setattr(text_tables, "MAX_WORKBOOK", 1000)
    with pytest.raises(ValueError, match="a workbook of more than 1,000 bytes, unpacked"):
        plan(path, "a.png")
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    with pytest.raises(ValueError, match=r"old format \(.xls\). Save it as .xlsx"):
        plan(path, "a.png")
    with zipfile.ZipFile(tmp_path / "labels.ods", "w") as archive:
        archive.writestr("content.xml", "<table/>")
    with pytest.raises(ValueError, match=r"of another program than Excel. Save it as .xlsx or"):
        plan(tmp_path / "labels.ods", "a.png")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators(tmp_path, separator):
    text = f"image{separator}level{separator}remark\na{separator}1{separator}x, y\n"
    assert labels(of_text(tmp_path, text, "a.png")) == {"a.png": 1}


def test_a_csv_packed_with_gzip(tmp_path):
    path = tmp_path / "labels.csv.gz"
    path.write_bytes(gzip.compress(b"image,level\na,1\nb,2\n"))
    assert labels(plan(path, "a.png b.png")) == {"a.png": 1, "b.png": 2}
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="labels.csv.gz cannot be read as a .*CSV"):
        plan(path, "a.png b.png")


@pytest.mark.parametrize(
    "encoding, said",
    [
        ("cp949", "it was read as cp949 (Korean, EUC-KR)"),
        ("euc-kr", "it was read as cp949 (Korean, EUC-KR)"),
        ("cp932", "it was read as cp932 (Japanese, Shift-JIS)"),
        ("shift-jis", "it was read as cp932 (Japanese, Shift-JIS)"),
        ("utf-16", "it was read as UTF-16"),
        ("utf-8-sig", ""),
        ("utf-8", ""),
    ],
)
def test_other_encodings(tmp_path, caplog, encoding, said):
    is_japanese = encoding in ("cp932", "shift-jis")
    name, sick = ("左眼_やまだ", "軽度") if is_japanese else ("왼눈_김철수", "경도")
    data = f"이미지,level\r\n{name}.png,{sick}\r\nb.png,0\r\n".replace(
        "이미지", "写真" if is_japanese else "이미지"
    ).encode(encoding)
    path = tmp_path / "labels.csv"
    path.write_bytes(data)
    made = plan(
        path,
        f"{name}.png b.png",
        image_column="写真" if is_japanese else "이미지",
        label_values=(f"{sick}=1", "0=0"),
    )
    assert labels(made) == {f"{name}.png": 1, "b.png": 0}
    told = [r.getMessage() for r in caplog.records if "it was read as" in r.getMessage()]
    assert told == ([f"{path}: {said}"] if said else [])


def test_text_of_no_known_encoding_is_told_to_be_saved_anew(tmp_path):
    with pytest.raises(ValueError, match="none of the encodings that are read: .* as UTF-8$"):
        of_text(tmp_path, "이미지,level\na,0\n".encode("utf-16-be"), "a.png")


def test_empty_rows_are_no_rows(tmp_path):
    text = 'image,level,remark,,\na,0,x,,\n\n,,,,\n" ",,,,\nb,1,,,\n,1,,,\n'
    made = of_text(tmp_path, text, "a.png b.png")
    assert labels(made) == {"a.png": 0, "b.png": 1}
    assert made.csv_rows == 3 and rejected(made) == {"": "missing_image"}


def test_empty_rows_may_be_longer_than_the_header_and_lines_keep_their_numbers(tmp_path):
    text = "image,level\r\n,,,\r\na,0\r\n;;;;\r\n" + "b,1\r\n,,,,\r\n" * 3
    made = of_text(tmp_path, text, "a.png b.png")
    assert set(labels(made)) == {"a.png", "b.png"} and made.csv_rows == 4
    with pytest.raises(ValueError, match="line 4"):
        of_text(tmp_path, "image,level\n,,,\na,0\nb,1,x,y\n", "a.png b.png")


def test_names_of_columns_may_have_spaces_around_them(tmp_path):
    made = of_text(
        tmp_path,
        "Image name , grade ,,\na,1,,\n",
        "a.png",
        image_column="Image name",
        label_column="grade",
    )
    assert labels(made) == {"a.png": 1}


def test_korean_of_macos_is_the_same_word(tmp_path):
    text = unicodedata.normalize("NFD", "사진,등급,환자\na,정상,가\nb,이상,가\n")
    columns = {"image_column": "사진", "label_column": "등급", "patient_column": "환자"}
    names = ("정상", unicodedata.normalize("NFD", "이상"))
    made = of_text(tmp_path, text, "a.png b.png", label_names=names, **columns)
    assert labels(made) == {"a.png": 0, "b.png": 1}
    assert made.rows["patient"].tolist() == ["가", "가"]


def test_a_column_that_is_there_twice_is_not_taken_for_either(tmp_path):
    text = "image,remark,level,remark, level\na,x,0,y,1\n"
    with pytest.raises(ValueError, match="has several columns 'level'.*Give the others another"):
        of_text(tmp_path, text, "a.png")
    other = text.replace(", level", ",other")
    assert labels(of_text(tmp_path, other, "a.png")) == {"a.png": 0}


def test_a_column_whose_name_has_a_comma(tmp_path):
    text = 'image,"grade, right eye"\na,1\n'
    made = of_text(tmp_path, text, "a.png", label_column="grade, right eye")
    assert labels(made) == {"a.png": 1}


def test_a_build_of_folders_keeps_the_split_and_tells_photographs_of_one_name_apart(tmp_path):
    places = [f"{part}/{label}/1.png" for part in ("train", "test") for label in ("mild", "no DR")]
    for i, place in enumerate([*places, "train/mild/2.png", "train/no DR/3.png"]):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(encode(draw(i), ".png"))
    split = specs.Split(method="column", validation=0.25)
    recipe = specs.Recipe(size=32, quality_gate="off")
    spec = dataclasses.replace(SPEC, split=split, recipe=recipe)
    out = tmp_path / "out"
    made = job.build(
        spec, image_dir=str(tmp_path), labels=source_labels.FOLDERS, output_dir=str(out)
    )
    assert manifest.load(out) == made and made.written == 6 and made.unknown_patients == 6
    found = {}
    for shard in made.shards:
        with (out / shard.name).open("rb") as stream:
            found |= dict.fromkeys(
                (name for name, _ in records.read_images(stream, 32)), shard.split
            )
    tests = {i for i, part in found.items() if part == "test"}
    assert tests == {"test/mild/1", "test/no DR/1"}
    assert set(found) - tests == {"train/mild/1", "train/no DR/1", "2", "3"}
    assert sum(part == "validation" for part in found.values()) == 1
    labels_of = {shard.label: shard.records for shard in made.shards if shard.split == "test"}
    assert labels_of == {0: 1, 1: 1}
