"""How labels are read, and which of them cannot be used."""

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from beam_jobs.build_examples import label_table
from dr_tfx.sources import arrays, folders
from tests.helpers.drawn import eyepacs_like

SPEC = eyepacs_like()


def read(raw: Path) -> label_table.LabelTable:
    return label_table.read(str(raw / "labels.csv"), SPEC, None)


def test_csv_of_another_taste_is_read(copy):
    text = (copy / "labels.csv").read_text().replace("image,level", "image,eye colour,level")
    lines = [line.replace(",", ".JPEG, ,", 1) if "_" in line else line for line in text.split("\n")]
    (copy / "labels.csv").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    made = read(copy)
    assert len(made.rows) == 40 and made.rejects.empty


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "does not exist; --labels"),
        (b"", "is empty"),
        (b"image,level\n", "header but no rows"),
        (b"id_code,diagnosis\n1,2\n", "'image'; it has 'id_code', 'diagnosis'.*image_column"),
        (b"image,grade\n1,2\n", "'level'; it has 'image', 'grade'.*label_column"),
        (b"image,level\n1,2\n1,2,3,4\n", "cannot be read as a UTF-8 CSV"),
        (
            b"image,level\n1,2,3\n1,2\n",
            "labels.csv cannot .* CSV: rows have more fields",
        ),
        (b"image,level\n1,2,\n1,2,\n", "rows have more fields than its header"),
        (b"PK\3\4\x14\0\xff", r"labels.csv is a .zip archive; unpack it: unzip /.*labels.csv$"),
        (b"image,level\n\xff\xfe,2\n", "in none of the encodings that are read"),
        (b"10_left,x,0\n10_right,y,1\n", "no column 'image': its header .* missing.*'10_left,x,0'"),
        (b"10_left.jpeg,a,2\n", "Put the line 'image,level', or what the columns are called"),
        (b"image,level\n10_left,x\n", "none of the 1 rows.*unknown_label.*10_left"),
        (
            b"image,level\n1,sick\n2,well\n",
            "labels are 'sick', 'well'. .* calls 'no DR', 'mild', 'moderate', say which is which: "
            r"--config.dataset.label_values='\(.sick=0., .well=0.,\)'. If they are others, set --c",
        ),
        (b"image,level\n1,7\n", "Does --config.dataset.label_names name every label[?]$"),
        (b"image,level\n1,0\n1,1\n1,1\n", "Does --config.dataset.image_column name the right"),
    ],
)
def test_bad_labels_are_refused(copy, content, message):
    (copy / "labels.csv").unlink()
    if content is not None:
        (copy / "labels.csv").write_bytes(content)
    error = FileNotFoundError if content is None else ValueError
    with pytest.raises(error, match=message):
        read(copy)


def test_labels_that_may_not_be_read_are_named_once(copy):
    (copy / "labels.csv").unlink()
    (copy / "labels.csv").mkdir()
    with pytest.raises(ValueError, match=r"labels.csv cannot be read .*: Is a directory$"):
        read(copy)


@pytest.mark.parametrize("text, label", [("0.0", 0), ("2.000", 2), (" 1.0 ", 1)])
def test_whole_numbers_may_have_a_point_and_zeros(copy, text, label):
    plain = (copy / "labels.csv").read_text()
    (copy / "labels.csv").write_text(f"{plain}a,{label}\n")
    before = read(copy)
    (copy / "labels.csv").write_text(f"{plain}a,{text}\n")
    made = read(copy)
    assert made.rejects.empty and made.rows["label"].tolist()[-1] == label
    assert made.digest == before.digest  # The same labels, the same input.


@pytest.mark.parametrize("text", ["2.5", "1e0", "1.0e0", "1.", ".0", "1.0.0", "1.0x", "nan", "0x1"])
def test_other_numbers_are_rejects(copy, text):
    with (copy / "labels.csv").open("a") as stream:
        stream.write(f"a,{text}\n")
    made = read(copy)
    assert made.rejects["reason"].tolist() == ["unknown_label"]
    assert made.rejects["detail"].tolist() == [f"label {text!r}, expected 0 to 2"]


def in_arrays(folder: Path, labels: np.ndarray, *, size: int = 32) -> tuple[arrays.Arrays, str]:
    np.save(folder / "X_train.npy", np.zeros((len(labels), size, size, 3), np.uint8))
    np.save(folder / "Y_train.npy", labels)
    source = arrays.open_arrays(str(folder / "X_train.npy"), SPEC.recipe)
    return source, str(folder / "Y_train.npy")


LABELS = np.arange(30) % 3


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS.astype(np.uint8)[:, None],
        LABELS.astype(np.float32),
        np.eye(3)[LABELS],
        np.eye(3, dtype=bool)[LABELS],
    ],
)
def test_labels_of_an_array(tmp_path, labels):
    source, path = in_arrays(tmp_path, labels)
    made = label_table.read(path, SPEC, source)
    assert made.rows["label"].tolist() == LABELS.tolist()
    assert made.rows["id"].tolist()[:2] == ["X_train-0000000", "X_train-0000001"]
    assert made.rejects.empty


@pytest.mark.parametrize(
    "labels, details",
    [
        (np.array([0, 1, 2, 5, -1, 0]), ["label 5, expected 0 to 2", "label -1, expected 0 to 2"]),
        (np.array([0, 1, 2, 1.5, np.nan, 0]), ["label '1.5'", "label 'nan'"]),
        (
            np.r_[np.eye(3), [[0, 0, 0], [1, 1, 0], [0, 0, 1]]],
            ["[0.0, 0.0, 0.0]", "[1.0, 1.0, 0.0]"],
        ),
    ],
)
def test_a_label_of_an_array_that_cannot_be_used_is_a_reject(tmp_path, labels, details):
    source, path = in_arrays(tmp_path, labels)
    made = label_table.read(path, SPEC, source)
    assert made.rejects["id"].tolist() == ["X_train-0000003", "X_train-0000004"]
    assert all(d in got for d, got in zip(details, made.rejects["detail"], strict=True))


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.eye(4)[[0, 1, 2, 3]], r"\(4, 4\) of float64; expected labels .*one-hot .*, 3\)"),
        (np.array(["a", "b"]), r"of <U1; expected labels"),
        (np.zeros((2, 3, 1)), r"\(2, 3, 1\)"),
        (np.full(3, 7), "none of the 3 rows can be used: .*label_names name every label[?]$"),
        (np.array([{}, {}]), "cannot be read as an .npy array: .*Python objects"),
    ],
)
def test_bad_arrays_of_labels_are_refused(tmp_path, labels, message):
    source, path = in_arrays(tmp_path, labels)
    with pytest.raises(ValueError, match=message):
        label_table.read(path, SPEC, source)


def test_an_array_of_labels_belongs_to_one_of_photographs(raw, tmp_path):
    source, path = in_arrays(tmp_path, LABELS)
    np.save(path, LABELS[:7])
    with pytest.raises(ValueError, match=r"Y_train.npy has 7 labels, .*X_train.npy 30 photogr"):
        label_table.read(path, SPEC, source)
    with pytest.raises(ValueError, match="give --npy_images too"):
        label_table.read(path, SPEC, folders.Folder(str(raw)))
    with pytest.raises(FileNotFoundError, match="--npy_labels names"):
        label_table.read(str(tmp_path / "no.npy"), SPEC, source)


DIGITS = "9" * 1_000_000


def test_a_field_of_a_million_digits_is_a_reject_in_few_words(copy):
    with (copy / "labels.csv").open("a") as stream:
        stream.write(f"a,{DIGITS}\n{DIGITS},1\n{DIGITS},2\n")
    made = read(copy)
    details = dict(zip(made.rejects["id"].str[:3], made.rejects["detail"], strict=True))
    assert details["a"] == f"label '{DIGITS[:60]}… (1,000,000 characters)', expected 0 to 2"
    assert "different labels" in details["999"] and made.rejects["id"].str.len().max() == 4096


@pytest.mark.parametrize(
    "text, message",
    [
        ("image,level," + ",".join(f"c{i}" for i in range(100_000)) + "\n1,0\n", "than 4,096 col"),
        ("a" + "," * 1_000_000 + "\n", "has more than 4,096 columns"),
        ("," * 1_000_000 + "\n", "is empty"),  # A row of nothing is none.
        ("x" * 3_000_000, "cannot be read as a UTF-8 CSV: a line has more than 1,048,576 char"),
        ("image,level\n1," + "0" * 3_000_000, "a line has more than 1,048,576 characters"),
        ("x" * 1_500_000 + "\n1,0\n", "first line has more than 1,048,576 characters"),
        ("image,level\n1,0" + ",0" * 10_000, "cannot be read as a UTF-8 CSV"),
        ('image,level\n"1,0\n2,1\n', "cannot be read as a UTF-8 CSV"),
    ],
)
def test_what_takes_memory_is_refused_before_it_does(copy, text, message):
    (copy / "labels.csv").write_text(text)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        read(copy)
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()


def test_a_packed_line_without_end_is_refused(copy):
    (copy / "labels.csv").write_bytes(gzip.compress(b"image,level\n1," + bytes(100_000_000)))
    with pytest.raises(ValueError, match="a line has more than 1,048,576 characters"):
        read(copy)


HOSTILE = [
    ("../../etc/passwd", "passwd"),
    ("a/../../b", "b"),
    ("/root/x", "x"),
    ("..", ""),
    ("<script>alert(1)</script>", "script>"),  # What lies behind a slash; pages escape the rest.
    ("=HYPERLINK(1)", "=HYPERLINK(1)"),
    ("a\u202egnp", "a\\u202egnp"),
    ("a\0b", "a␀b"),
    ("a\x1b[2Jb", "a\\u001b[2Jb"),
]


@pytest.mark.parametrize("name, expected", HOSTILE)
def test_ids_stay_where_they_belong_and_look_as_they_are(copy, name, expected):
    with (copy / "labels.csv").open("a") as stream:
        stream.write(f'"{name}",1\n')
    assert read(copy).rows["id"].iloc[-1] == expected
