"""What `--image_dir` means, whatever the kind, and what is said where it means nothing."""

import shutil
import zipfile

import numpy as np
import pytest

from beam_jobs.sources import find_source, folders
from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, recipes
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
        "bucket://b/raw/deeper/y.jpeg": b"too deep",
        "bucket://b/z.zip": archive(raw, tmp_path / "z.zip").read_bytes(),
    }
    expected = {
        "bucket://b/part-*/*.jpeg": {"part-1/x.jpeg": len(photograph), "part-2/x.jpeg": 7},
        "bucket://b/raw": {"x.jpeg": len(photograph)},
        "bucket://b/z": {
            f"train/{path.name}": path.stat().st_size for path in sorted(raw.glob("*.jpeg"))
        },
    }[pattern]
    source = find_source.open_source(pattern + (".zip" if pattern.endswith("z") else ""))
    assert dict(source.names()) == expected
    first = min(expected)
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
def test_an_archive_in_parts_is_refused_with_the_command_that_joins_it(tmp_path, given):
    for part in ("001", "002"):
        (tmp_path / f"train.zip.{part}").write_bytes(b"part")
    joined = f"cat {tmp_path}/train.zip.[*] > {tmp_path}/train.zip$"
    with pytest.raises(ValueError, match=joined):
        find_source.open_source(str(tmp_path / given))


def test_bad_image_folders_are_refused(raw, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; --image_dir"):
        find_source.open_source(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"\*\.jpeg: no photograph .* matches this pattern"):
        find_source.open_source(str(tmp_path / "*.jpeg"))
    with pytest.raises(ValueError, match="holds no photographs"):
        find_source.open_source(str(tmp_path))
    (tmp_path / "photo.jpeg").write_bytes(b"")
    with pytest.raises(ValueError, match="photo.jpeg is a file; --image_dir takes a folder"):
        find_source.open_source(str(tmp_path / "photo.jpeg"))
    (tmp_path / "photo.jpeg").unlink()
    shutil.copytree(raw, tmp_path / "images")
    with pytest.raises(ValueError, match=f"holds 40: pass --image_dir={tmp_path}/images"):
        find_source.open_source(str(tmp_path) + "/")
    (tmp_path / "more").mkdir()
    shutil.copy(raw / "10_left.jpeg", tmp_path / "more")
    with pytest.raises(ValueError, match=f"2 folders in it hold 41, .*'{tmp_path}/[*]/[*]'"):
        find_source.open_source(str(tmp_path))
    archive(raw, tmp_path / "more" / "train.zip")
    (tmp_path / "more" / "10_left.jpeg").unlink()
    with pytest.raises(ValueError, match=f"--image_dir={tmp_path}/more/train.zip"):
        find_source.open_source(str(tmp_path / "more"))


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
