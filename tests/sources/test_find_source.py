"""What `--image_dir` means, whatever the kind, and what is said where it means nothing."""

import pickle
import shutil
import zipfile

import numpy as np
import pytest

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, recipes
from dr_tfx.sources import find_source, folders
from tests.helpers.places import archive

RECIPE = specs.Recipe(name="reference", size=32)


def test_a_folder_wins_though_its_name_reads_as_a_pattern(copy):
    odd = copy.rename(copy.with_name("raw [1]*?"))
    source = find_source.open_source(str(odd))
    assert isinstance(source, folders.Folder) and len(list(source.names())) == 40


@pytest.mark.parametrize("pattern", ["bucket://b/part-*/*.jpeg", "bucket://b/raw", "bucket://b/z"])
def test_an_object_store_has_folders_patterns_and_archives(raw, tmp_path, bucket, pattern):
    photograph = (raw / "10_left.jpeg").read_bytes()
    bucket |= {
        "bucket://b/part-1/x.jpeg": photograph,
        "bucket://b/part-2/x.jpeg": b"another",
        "bucket://b/part-2/deeper/y.jpeg": b"too deep",
        "bucket://b/part-2/z.txt": b"no photograph",
        "bucket://b/raw/x.jpeg": photograph,
        "bucket://b/raw/deeper/still/y.jpeg": b"deep",
        "bucket://b/raw/.cache/y.jpeg": b"hidden",
        "bucket://b/raw/masks/MA/x.png": b"a mask",
        "bucket://b/raw/heat maps/explain.json": b"{}",
        "bucket://b/raw/heat maps/overlays/0/x.png": b"a heat map",
        "bucket://b/z.zip": archive(raw, tmp_path / "z.zip").read_bytes(),
    }
    expected = {
        "bucket://b/part-*/*.jpeg": {"part-1/x.jpeg": len(photograph), "part-2/x.jpeg": 7},
        "bucket://b/raw": {"x.jpeg": len(photograph), "deeper/still/y.jpeg": 4},
        "bucket://b/z": {
            f"train/{path.name}": path.stat().st_size for path in sorted(raw.glob("*.jpeg"))
        },
    }[pattern]
    source = find_source.open_source(pattern + (".zip" if pattern.endswith("z") else ""))
    assert dict(source.names()) == expected
    first = max(expected) if pattern == "bucket://b/raw" else min(expected)
    assert source.read(first) == photograph
    assert source.path(first).startswith("bucket://b/") and source.path(first).endswith(first)


def test_a_file_of_more_bytes_than_a_photograph_is_refused(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_BYTES", 1000)
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for size in (1000, 1001):
            packed.writestr(f"{size}.png", bytes(size))
            (tmp_path / "raw" / f"{size}.png").write_bytes(bytes(size))
            bucket[f"bucket://b/raw/{size}.png"] = bytes(size)
    for place in (tmp_path / "raw", tmp_path / "raw" / "*", tmp_path / "a.zip", "bucket://b/raw"):
        source = find_source.open_source(str(place))
        assert source.read("1000.png") == bytes(1000)
        with pytest.raises(decoding.RejectedImage, match="too_large: more than 1000 bytes"):
            source.read("1001.png")


@pytest.mark.parametrize("given", ["train.zip.001", "train.zip"])
def test_an_archive_in_pieces_is_refused_with_the_command_that_joins_it(tmp_path, given):
    for part in ("001", "002"):
        (tmp_path / f"train.zip.{part}").write_bytes(b"part")
    joined = f"cat {tmp_path}/train.zip.[*] > {tmp_path}/train.zip$"
    with pytest.raises(ValueError, match=joined):
        find_source.open_source(str(tmp_path / given))


@pytest.mark.parametrize("given", ["train.zip", "train.z01"])
def test_a_split_archive_is_refused_with_the_command_that_joins_it(tmp_path, monkeypatch, given):
    for part in ("z01", "z02", "zip"):
        (tmp_path / f"train.{part}").write_bytes(b"part")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^{given}: .*: zip -s 0 train.zip --out whole.zip$"):
        find_source.open_source(given)


def test_the_last_part_of_a_split_archive_is_not_called_damaged(raw, tmp_path):
    data = archive(raw, tmp_path / "train.zip").read_bytes()
    end = data.rindex(b"PK\5\6") + 4  # Then comes the number of the part, counted from 0.
    for whole in (data, b"part" * 10 + data[end - 4 :]):  # With the table of all, or without.
        at = whole.rindex(b"PK\5\6") + 4
        (tmp_path / "train.zip").write_bytes(whole[:at] + b"\2\0" + whole[at + 2 :])
        with pytest.raises(ValueError, match="the last of 3 parts.* train.z01 and .*zip -s 0"):
            find_source.open_source(str(tmp_path / "train.zip"))


@pytest.mark.parametrize(
    "name, message",
    [
        ("x.jpeg", "x.jpeg is one photograph; .*Pass its folder, "),
        ("x.tar.gz", "another kind than .zip.*tar -xf .*x.tar.gz -C photographs$"),
        ("x.7z", "another kind than .zip.*7z x -ophotographs .*x.7z$"),
        ("x.rar", "another kind than .zip.*unrar x .*x.rar photographs/$"),
        ("x.csv", "x.csv is a file; --image_dir takes a folder, a pattern"),
    ],
)
def test_a_file_is_refused_with_what_to_do(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        find_source.open_source(str(tmp_path / name))


def test_folders_without_photographs_are_refused(raw, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; --image_dir"):
        find_source.open_source(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"\*\.jpeg: no photograph .* matches this pattern"):
        find_source.open_source(str(tmp_path / "*.jpeg"))
    with pytest.raises(ValueError, match="holds no photographs .*it holds no files at all"):
        find_source.open_source(str(tmp_path))
    for name in ("a.txt", "b/c.txt", "b/d.csv", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match="nor does any folder in it; it holds 2 .txt, 1 README"):
        find_source.open_source(str(tmp_path))
    (tmp_path / "masks" / "MA").mkdir(parents=True)
    shutil.copy(raw / "10_left.jpeg", tmp_path / "masks" / "MA")
    inside = f"{tmp_path}/masks/MA"
    with pytest.raises(ValueError, match=f"only 1 pictures in .* masks.*--image_dir={inside}$"):
        find_source.open_source(str(tmp_path))
    assert [name for name, _ in find_source.open_source(inside).names()] == ["10_left.jpeg"]


def test_archives_in_a_folder_are_named(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kaggle").mkdir()
    for name in ("test.zip", "train.zip"):
        archive(raw, tmp_path / "kaggle" / name)
    found = "kaggle/test.zip,kaggle/train.zip"
    with pytest.raises(ValueError, match=f"^kaggle holds no .*pass --image_dir={found}$"):
        find_source.open_source("kaggle")
    assert len(list(find_source.open_source(found).names())) == 80


def test_pictures_of_bytes_are_what_the_recipe_makes(raw, tmp_path):
    data = (raw / "10_left.jpeg").read_bytes()
    expected = recipes.apply_recipe(data, RECIPE).rgb
    for image_dir, name in (
        (raw, "10_left.jpeg"),
        (raw / "*.jpeg", "10_left.jpeg"),
        (archive(raw, tmp_path / "a.zip"), "train/10_left.jpeg"),
    ):
        source = find_source.open_source(str(image_dir))
        assert np.array_equal(source.prepare(source.read(name), RECIPE).rgb, expected)


def test_several_places_are_one_source(raw, tmp_path, monkeypatch):
    for folder, patients in (("a/one", (10, 11)), ("b", (12,)), ("c, d", (13,))):
        (tmp_path / folder).mkdir(parents=True)
        for patient in patients:
            shutil.copy(raw / f"{patient}_left.jpeg", tmp_path / folder / "1.jpeg")
            shutil.copy(raw / f"{patient}_left.jpeg", tmp_path / folder / f"{patient}.jpeg")
    archive(raw, tmp_path / "train.zip")
    monkeypatch.chdir(tmp_path)
    source = pickle.loads(pickle.dumps(find_source.open_source("a,b,c, d,train.zip,b/1*.jpeg")))
    found = dict(source.names())
    assert len(found) == len(list(source.names()))
    of_folders = ["a/one/1.jpeg", "a/one/10.jpeg", "a/one/11.jpeg", "b/1.jpeg", "b/12.jpeg"]
    of_folders += ["c, d/1.jpeg", "c, d/13.jpeg"]
    of_archive = [f"train.zip/train/{photograph.name}" for photograph in raw.glob("*.jpeg")]
    assert sorted(found) == sorted(of_folders + of_archive)
    for name, size in found.items():
        assert len(source.read(name)) == size and source.path(name) == f"{tmp_path}/{name}"
        assert source.modified(name) > 0
    assert source.read("b/1.jpeg") == (raw / "12_left.jpeg").read_bytes()
    assert source.read("train.zip/train/10_left.jpeg") == (raw / "10_left.jpeg").read_bytes()
    with pytest.raises(FileNotFoundError, match="^nowhere does not exist"):
        find_source.open_source("a,nowhere")


def test_several_places_of_an_object_store_and_a_disk(copy, bucket):
    bucket |= {"bucket://b/one/x.jpeg": b"1", "bucket://b/two/x.jpeg": b"22"}
    source = find_source.open_source("bucket://b/one,bucket://b/two")
    assert dict(source.names()) == {"one/x.jpeg": 1, "two/x.jpeg": 2}
    assert source.read("two/x.jpeg") == b"22"
    source = find_source.open_source(f"bucket://b/one,{copy}")
    names = dict(source.names())
    assert names["bucket://b/one/x.jpeg"] == 1 and len(names) == 41
    assert source.read(f"{copy}/10_left.jpeg") == (copy / "10_left.jpeg").read_bytes()
