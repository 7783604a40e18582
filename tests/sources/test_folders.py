"""Photographs from folders and patterns, of a disk and of an object store."""

import os
import pickle
import shutil
import zipfile

import pytest

from dr_tfx.preprocessing import decoding
from dr_tfx.sources import find_source, folders, trees
from dr_tfx.storage import files


def names(image_dir: object) -> list[str]:
    return sorted(name for name, _ in find_source.open_source(str(image_dir)).names())


def test_a_folder_is_all_photographs_below_it(copy):
    (copy / "notes.txt").write_text("no photograph")
    (copy / "._10_left.jpeg").write_text("no photograph: a Mac's")
    (copy / "folder.jpeg").mkdir()
    (copy / "gone.jpeg").symlink_to(copy / "nowhere.jpeg")
    for folder in ("below/and below", "below/.git", "__MACOSX", "@eaDir", "below/Masks/MA"):
        (copy / folder).mkdir(parents=True)
        shutil.copy(copy / "10_left.jpeg", copy / folder / "97_left.jpeg")
    shutil.copy(copy / "10_left.jpeg", copy / "98 left.JPG")
    shutil.copy(copy / "10_left.jpeg", copy / "below" / "contact_sheet.png")
    source = find_source.open_source(str(copy))
    listed = dict(source.names())
    photographs = [f"{p}_{e}.jpeg" for p in range(10, 30) for e in ("left", "right")]
    assert sorted(listed) == sorted(["98 left.JPG", "below/and below/97_left.jpeg", *photographs])
    assert all(size == (copy / name).stat().st_size for name, size in listed.items())
    assert source.read("98 left.JPG") == (copy / "10_left.jpeg").read_bytes()
    deep = "below/and below/97_left.jpeg"
    assert source.read(deep) == (copy / "10_left.jpeg").read_bytes()
    assert source.path(deep) == f"{copy}/{deep}"
    assert source.left_out() == {"in folders called mask or masks": 1}


@pytest.mark.parametrize("file", ["bundle.json", "compare.json", "explain.json", "predictions.csv"])
def test_results_of_our_own_are_no_photographs(copy, file):
    (copy / "results" / "overlays").mkdir(parents=True)
    (copy / "results" / file).write_text("")
    shutil.copy(copy / "10_left.jpeg", copy / "results" / "overlays" / "10_left.png")
    source = find_source.open_source(str(copy))
    assert len(list(source.names())) == 40
    assert source.left_out() == {"in folders of results": 1}
    assert names(copy / "results") == ["overlays/10_left.png"]  # A person who names it means it.


def test_links_are_followed_once(raw, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(raw, root / "z real")
    outside = shutil.copytree(raw, tmp_path / "outside")
    (root / "a loop").symlink_to(root)
    (root / "z real" / "loop").symlink_to(root / "z real")
    (root / "b again").symlink_to(root / "z real")
    (root / "outside").symlink_to(outside)
    (outside / "back").symlink_to(root)
    (root / "x").symlink_to(root / "y")  # These two lead nowhere, and so does the third.
    (root / "y").symlink_to(root / "x")
    (root / "itself.jpeg").symlink_to(root / "itself.jpeg")
    expected = {
        f"{folder}/{p.name}" for p in raw.glob("*.jpeg") for folder in ("z real", "outside")
    }
    assert names(root) == sorted(expected)


def test_where_photographs_are_is_told():
    found = [
        f"{folder}/x{i}.png"
        for folder, n in zip("abcdefg", range(9, 2, -1), strict=True)
        for i in range(n)
    ]
    assert trees.describe(["x.png", *found]) == (
        "43 photographs: 9 in a, 8 in b, 7 in c, 6 in d, 5 in e, 8 in 3 more folders"
    )
    assert trees.describe(["x.png", "a/y.png", "z.png"]) == (
        "3 photographs: 2 in the folder itself, 1 in a"
    )


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

        monkeypatch.setattr(files, "open_file", fail)
        return source.read("10_left.jpeg")

    with pytest.raises(decoding.RejectedImage, match="unreadable: Permission denied"):
        read(PermissionError(13, "Permission denied"))
    with pytest.raises(OSError, match="Input/output error"):
        read(OSError(5, "Input/output error"))


def test_only_regular_files_of_moderate_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "large.png").open("wb") as stream:
        stream.truncate(decoding.MAX_BYTES + 1)  # A file that takes no place on the disk.
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name, reason in (
        (str(tmp_path / "pipe.png"), "unreadable: it is a pipe"),
        ("/dev/zero", "unreadable: it is a device"),
        (str(tmp_path / "folder.png"), "unreadable: it is a folder"),
        (str(tmp_path / "loop.png"), "unreadable: Too many levels"),
        (str(tmp_path / f"{'x' * 300}.png"), "unreadable: File name too long"),
        ("a\0b", "unreadable: "),
        (str(tmp_path / "large.png"), "too_large: "),
    ):
        with pytest.raises(decoding.RejectedImage, match=reason):
            folders.read_file(name)
        with pytest.raises(decoding.RejectedImage, match=reason):
            next(folders.file_blocks(name))


def test_a_photograph_is_the_same_in_blocks(raw, tmp_path, bucket):
    data = bytes(range(256)) * 10_000  # More than one block.
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x.png").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(tmp_path / "photos" / "x.png", "photos/x.png")
    bucket["bucket://photos/x.png"] = data
    places = [tmp_path / "photos", tmp_path / "x.zip", "bucket://photos"]
    for place, blocks in zip([*places, f"{places[0]},{places[1]}"], (3, 3, 1, 3), strict=True):
        source = find_source.open_source(str(place))
        (name, size), *_ = source.names()
        found = list(source.blocks(name))
        assert (len(found), b"".join(found)) == (blocks, data) and source.size(name) in (0, size)
        with source.reading(name) as read:
            assert read == data
