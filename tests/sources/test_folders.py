"""Photographs from folders and patterns, of a disk and of an object store."""

import pickle
import shutil

import pytest

from beam_jobs.sources import find_source
from dr_tfx.preprocessing import decoding
from dr_tfx.storage import files


def names(image_dir: object) -> list[str]:
    return sorted(name for name, _ in find_source.open_source(str(image_dir)).names())


def test_a_folder_is_its_photographs_and_not_those_below(copy):
    (copy / "notes.txt").write_text("no photograph")
    (copy / "._10_left.jpeg").write_text("no photograph: a Mac's")
    (copy / "folder.jpeg").mkdir()
    (copy / "gone.jpeg").symlink_to(copy / "nowhere.jpeg")
    (copy / "below").mkdir()
    shutil.copy(copy / "10_left.jpeg", copy / "below" / "97_left.jpeg")
    shutil.copy(copy / "10_left.jpeg", copy / "98 left.JPG")
    source = find_source.open_source(str(copy))
    listed = dict(source.names())
    photographs = [f"{p}_{e}.jpeg" for p in range(10, 30) for e in ("left", "right")]
    assert sorted(listed) == sorted(["98 left.JPG", *photographs])
    assert all(size == (copy / name).stat().st_size for name, size in listed.items())
    assert source.read("98 left.JPG") == (copy / "10_left.jpeg").read_bytes()
    assert source.path("98 left.JPG") == f"{copy}/98 left.JPG"


def test_a_pattern_names_photographs_from_its_fixed_folder_on(copy, monkeypatch):
    for folder in ("a", "b/c"):
        (copy / folder).mkdir(parents=True)
        shutil.copy(copy / "10_left.jpeg", copy / folder / "1.jpeg")
        (copy / folder / "2.txt").write_text("no photograph")
    assert names(copy / "*" / "*.jpeg") == ["a/1.jpeg"]
    assert names(copy / "*" / "*") == ["a/1.jpeg"]
    assert names(f"{copy}/**/1.jpeg") == ["a/1.jpeg", "b/c/1.jpeg"]
    assert names(copy / "[a-b]" / "**" / "?.jpeg") == ["a/1.jpeg", "b/c/1.jpeg"]
    assert len(names(copy / "1*_left.jpeg")) == 10
    source = find_source.open_source(f"{copy}/**/1.jpeg")
    monkeypatch.chdir(copy)
    assert find_source.open_source("**/1.jpeg") == source  # Workers may be in another folder.
    again = pickle.loads(pickle.dumps(source))
    assert again.read("b/c/1.jpeg") == (copy / "10_left.jpeg").read_bytes()
    assert again.path("b/c/1.jpeg") == f"{copy}/b/c/1.jpeg"


def test_an_object_that_is_gone_is_a_reject(bucket):
    bucket["bucket://b/raw/x.jpeg"] = b"x"
    source = find_source.open_source("bucket://b/raw")
    del bucket["bucket://b/raw/x.jpeg"]
    with pytest.raises(decoding.RejectedImage, match="unreadable: No such object"):
        source.read("x.jpeg")


def test_what_may_not_be_read_is_a_reject_and_a_sick_disk_is_not(raw, monkeypatch):
    source = find_source.open_source(str(raw))

    def read(error: OSError) -> bytes:
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(files, "read", fail)
        return source.read("10_left.jpeg")

    with pytest.raises(decoding.RejectedImage, match="unreadable: Permission denied"):
        read(PermissionError(13, "Permission denied"))
    with pytest.raises(OSError, match="Input/output error"):
        read(OSError(5, "Input/output error"))
