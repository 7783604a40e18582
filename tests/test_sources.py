"""Photographs from folders, patterns, archives and arrays; and what is said of bad ones."""

import concurrent.futures
import dataclasses
import io
import pickle
import shutil
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from apache_beam.io.filesystem import FileMetadata, FileSystem
from conftest import draw, encode, eyepacs_like

from beam_jobs import build_examples, build_plan, output, sources
from dr_tfx import images, specs

RECIPE = specs.Recipe(name="reference", size=32)


def names(image_dir: object) -> list[str]:
    return sorted(name for name, _ in sources.open_source(str(image_dir)).names())


def pixels(source: sources.Source, name: str) -> np.ndarray:
    return source.prepare(source.read(name), RECIPE).rgb


def archive(raw: Path, path: Path, **kwargs) -> Path:
    """The photographs of a folder as Kaggle packs them, with what a Mac adds."""
    with zipfile.ZipFile(path, "w", **kwargs) as packed:
        packed.mkdir("train")
        for photograph in sorted(raw.glob("*.jpeg")):
            packed.write(photograph, f"train/{photograph.name}")
        packed.writestr("__MACOSX/train/._10_left.jpeg", b"no photograph")
        packed.writestr("train/.DS_Store", b"no photograph")
        packed.writestr("train/._10_left.jpeg", b"no photograph")
        packed.writestr("readme.txt", b"no photograph")
    return path


class Bucket(FileSystem):
    """An object store in memory: `bucket://...`."""

    objects: ClassVar[dict[str, bytes]] = {}

    @classmethod
    def scheme(cls) -> str:
        return "bucket"

    def has_dirs(self) -> bool:
        return False

    def _list(self, prefix: str) -> Iterator[FileMetadata]:
        for path, content in self.objects.items():
            if path.startswith(prefix):
                yield FileMetadata(path, len(content))

    def open(self, path, *_, **__):
        if path not in self.objects:
            raise FileNotFoundError(2, "No such object", path)
        return io.BytesIO(self.objects[path])

    def exists(self, path):
        return path in self.objects

    def _refuse(self, *_, **__):
        raise NotImplementedError

    join = split = mkdirs = create = copy = rename = delete = _refuse
    size = last_updated = metadata = checksum = _refuse


@pytest.fixture
def bucket(monkeypatch) -> dict[str, bytes]:
    """The objects of `bucket://`."""
    objects: dict[str, bytes] = {}
    monkeypatch.setattr(Bucket, "objects", objects)
    return objects


def test_a_folder_is_its_photographs_and_not_those_below(copy):
    (copy / "notes.txt").write_text("no photograph")
    (copy / "._10_left.jpeg").write_text("no photograph: a Mac's")
    (copy / "folder.jpeg").mkdir()
    (copy / "gone.jpeg").symlink_to(copy / "nowhere.jpeg")
    (copy / "below").mkdir()
    shutil.copy(copy / "10_left.jpeg", copy / "below" / "97_left.jpeg")
    shutil.copy(copy / "10_left.jpeg", copy / "98 left.JPG")
    source = sources.open_source(str(copy))
    listed = dict(source.names())
    photographs = [f"{p}_{e}.jpeg" for p in range(10, 30) for e in ("left", "right")]
    assert sorted(listed) == sorted(["98 left.JPG", *photographs])
    assert all(size == (copy / name).stat().st_size for name, size in listed.items())
    assert source.read("98 left.JPG") == (copy / "10_left.jpeg").read_bytes()
    assert source.path("98 left.JPG") == f"{copy}/98 left.JPG"


def test_a_folder_wins_though_its_name_reads_as_a_pattern(copy):
    odd = copy.rename(copy.with_name("raw [1]*?"))
    assert len(names(odd)) == 40
    assert isinstance(sources.open_source(str(odd)), sources.Folder)


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
    source = sources.open_source(f"{copy}/**/1.jpeg")
    monkeypatch.chdir(copy)
    assert sources.open_source("**/1.jpeg") == source  # Workers may be in another folder.
    again = pickle.loads(pickle.dumps(source))
    assert again.read("b/c/1.jpeg") == (copy / "10_left.jpeg").read_bytes()
    assert again.path("b/c/1.jpeg") == f"{copy}/b/c/1.jpeg"


def test_the_same_id_in_two_folders_of_a_pattern_is_ambiguous(copy):
    for folder in ("a", "b"):
        (copy / folder).mkdir()
        shutil.copy(copy / "10_left.jpeg", copy / folder)
        shutil.copy(copy / f"1{'0ab'.index(folder)}_right.jpeg", copy / folder)
    source = sources.open_source(str(copy / "[ab]" / "*"))
    made = build_plan.make_plan(eyepacs_like(), labels=str(copy / "labels.csv"), source=source)
    assert made.rows["name"].tolist() == ["a/11_right.jpeg", "b/12_right.jpeg"]
    (detail,) = made.rejects["detail"][made.rejects["reason"] == "ambiguous_image"]
    assert detail == "a/10_left.jpeg, b/10_left.jpeg" and len(made.rejects) == 38


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
    source = sources.open_source(pattern + (".zip" if pattern.endswith("z") else ""))
    assert dict(source.names()) == expected
    first = min(expected)
    assert source.read(first) == photograph
    assert source.path(first).startswith("bucket://b/") and source.path(first).endswith(first)


def test_an_object_that_is_gone_is_a_reject(bucket):
    bucket["bucket://b/raw/x.jpeg"] = b"x"
    source = sources.open_source("bucket://b/raw")
    del bucket["bucket://b/raw/x.jpeg"]
    with pytest.raises(images.RejectedImage, match="unreadable: No such object"):
        source.read("x.jpeg")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_read_as_it_is_by_several_threads(raw, tmp_path, method):
    source = sources.open_source(str(archive(raw, tmp_path / "Train.ZIP", compression=method)))
    listed = dict(source.names())
    assert listed == {f"train/{p.name}": p.stat().st_size for p in raw.glob("*.jpeg")}
    again = pickle.loads(pickle.dumps(source))
    wanted = sorted(listed) * 10
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for name, data in zip(wanted, pool.map(again.read, wanted), strict=True):
            assert data == (raw / Path(name).name).read_bytes()
    assert source.path("train/10_left.jpeg") == f"{tmp_path}/Train.ZIP/train/10_left.jpeg"


def test_an_archive_gives_the_shards_of_its_folder(raw, tmp_path):
    shards = []
    for image_dir in (raw, archive(raw, tmp_path / "train.zip")):
        out = tmp_path / f"out{len(shards)}"
        made = build_examples.build(
            eyepacs_like(),
            image_dir=str(image_dir),
            labels=str(raw / "labels.csv"),
            output_dir=str(out),
        )
        assert made.written == 40 and made.unlabelled == 0
        shards.append({path.name: path.read_bytes() for path in out.glob("*.tfrecord-*")})
    assert shards[0] == shards[1] and len(shards[0]) > 4


def test_a_replaced_archive_is_read_anew(raw, tmp_path):
    for content in (b"first", b"second"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
            packed.writestr("x.png", content)
        assert sources.open_source(str(tmp_path / "a.zip")).read("x.png") == content


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_a_reject_and_the_others_are_read(raw, tmp_path, method):
    path = archive(raw, tmp_path / "a.zip", compression=method)
    with zipfile.ZipFile(path) as packed:
        middle = packed.getinfo("train/15_left.jpeg")
    data = bytearray(path.read_bytes())
    start = middle.header_offset + middle.compress_size // 2
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    source = sources.open_source(str(path))
    with pytest.raises(images.RejectedImage, match="unreadable: damaged in its archive"):
        source.read("train/15_left.jpeg")
    assert source.read("train/15_right.jpeg") == (raw / "15_right.jpeg").read_bytes()


def flagged(path: Path, *, at: int, value: int) -> Path:
    """An archive whose table of contents has another byte in each of its entries."""
    data = bytearray(path.read_bytes())
    entry = data.find(b"PK\x01\x02")
    while entry >= 0:
        data[entry + at] = value
        entry = data.find(b"PK\x01\x02", entry + 4)
    path.write_bytes(data)
    return path


def test_archives_that_cannot_be_used_are_refused(raw, tmp_path):
    whole = archive(raw, tmp_path / "whole.zip")
    (tmp_path / "cut.zip").write_bytes(whole.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cut.zip is not a whole .zip archive.*unzip -t"):
        sources.open_source(str(tmp_path / "cut.zip"))
    shutil.copy(whole, tmp_path / "secret.zip")
    flagged(tmp_path / "secret.zip", at=8, value=1)
    with pytest.raises(ValueError, match=r"10_left.jpeg is encrypted\. Unpack it"):
        sources.open_source(str(tmp_path / "secret.zip"))
    shutil.copy(whole, tmp_path / "deflate64.zip")
    flagged(tmp_path / "deflate64.zip", at=10, value=9)
    with pytest.raises(ValueError, match=r"by method 9, neither stored nor deflated\. Unpack it"):
        sources.open_source(str(tmp_path / "deflate64.zip"))
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as packed:
        packed.writestr("train.zip", b"")
    with pytest.raises(ValueError, match=r"holds no photographs .*only train.zip.*unpacked"):
        sources.open_source(str(tmp_path / "outer.zip"))


@pytest.mark.parametrize(
    "changes", [{6: 255}, {9: 8, 46: 0xFF}], ids=["version", "name that is not UTF-8"]
)
def test_an_archive_with_a_damaged_table_of_contents_is_refused(raw, tmp_path, changes):
    path = archive(raw, tmp_path / "a.zip")
    for at, value in changes.items():
        flagged(path, at=at, value=value)
    with pytest.raises(ValueError, match=r"a.zip is not a whole .zip archive.*unzip -t"):
        sources.open_source(str(path))


def moved(path: Path) -> None:
    """The table of contents says to be elsewhere, so that members are before the file's start."""
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06") + 16
    struct.pack_into("<I", data, end, struct.unpack_from("<I", data, end)[0] + 1_000_000)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "change", [moved, lambda path: flagged(path, at=8, value=0x20)], ids=["place", "patch"]
)
def test_a_member_that_cannot_be_opened_is_a_reject(raw, tmp_path, change):
    path = archive(raw, tmp_path / "a.zip")
    change(path)
    source = sources.open_source(str(path))
    with pytest.raises(images.RejectedImage, match="unreadable: damaged in its archive"):
        source.read("train/10_left.jpeg")


def test_a_member_that_is_gone_is_a_reject_and_a_sick_disk_is_not(raw, tmp_path, monkeypatch):
    source = sources.open_source(str(archive(raw, tmp_path / "a.zip")))
    with pytest.raises(images.RejectedImage, match="unreadable: .*no item named"):
        source.read("train/gone.jpeg")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(zipfile.ZipExtFile, "read", fail)
    with pytest.raises(OSError, match="Input/output error"):
        source.read("train/10_left.jpeg")


def test_a_file_of_more_bytes_than_a_photograph_is_refused(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for size in (1000, 1001):
            packed.writestr(f"{size}.png", bytes(size))
            (tmp_path / "raw" / f"{size}.png").write_bytes(bytes(size))
            bucket[f"bucket://b/raw/{size}.png"] = bytes(size)
    for place in (tmp_path / "raw", tmp_path / "raw" / "*", tmp_path / "a.zip", "bucket://b/raw"):
        source = sources.open_source(str(place))
        assert source.read("1000.png") == bytes(1000)
        with pytest.raises(images.RejectedImage, match="too_large: more than 1000 bytes"):
            source.read("1001.png")


@pytest.mark.parametrize("says, reason", [(30_000_000, "too_large"), (100, "unreadable")])
def test_a_bomb_in_an_archive_is_not_inflated(tmp_path, monkeypatch, says, reason):
    monkeypatch.setattr(images, "MAX_BYTES", 1_000_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", compression=zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("x.png", bytes(30_000_000))
    for at, value in enumerate(struct.pack("<I", says), start=24):
        flagged(tmp_path / "a.zip", at=at, value=value)
    source = sources.open_source(str(tmp_path / "a.zip"))
    tracemalloc.start()
    with pytest.raises(images.RejectedImage) as caught:
        source.read("x.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.reason == reason and peak < 1_000_000


@pytest.mark.parametrize("given", ["train.zip.001", "train.zip"])
def test_an_archive_in_parts_is_refused_with_the_command_that_joins_it(tmp_path, given):
    for part in ("001", "002"):
        (tmp_path / f"train.zip.{part}").write_bytes(b"part")
    joined = f"cat {tmp_path}/train.zip.[*] > {tmp_path}/train.zip$"
    with pytest.raises(ValueError, match=joined):
        sources.open_source(str(tmp_path / given))


def test_bad_image_folders_are_refused(raw, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; --image_dir"):
        sources.open_source(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"\*\.jpeg: no photograph .* matches this pattern"):
        sources.open_source(str(tmp_path / "*.jpeg"))
    with pytest.raises(ValueError, match="holds no photographs"):
        sources.open_source(str(tmp_path))
    (tmp_path / "photo.jpeg").write_bytes(b"")
    with pytest.raises(ValueError, match="photo.jpeg is a file; --image_dir takes a folder"):
        sources.open_source(str(tmp_path / "photo.jpeg"))
    (tmp_path / "photo.jpeg").unlink()
    shutil.copytree(raw, tmp_path / "images")
    with pytest.raises(ValueError, match=f"holds 40: pass --image_dir={tmp_path}/images"):
        sources.open_source(str(tmp_path) + "/")
    (tmp_path / "more").mkdir()
    shutil.copy(raw / "10_left.jpeg", tmp_path / "more")
    with pytest.raises(ValueError, match=f"2 folders in it hold 41, .*'{tmp_path}/[*]/[*]'"):
        sources.open_source(str(tmp_path))
    archive(raw, tmp_path / "more" / "train.zip")
    (tmp_path / "more" / "10_left.jpeg").unlink()
    with pytest.raises(ValueError, match=f"--image_dir={tmp_path}/more/train.zip"):
        sources.open_source(str(tmp_path / "more"))


def test_a_photograph_that_vanishes_during_the_build_is_a_reject(copy, tmp_path, monkeypatch):
    run = build_examples._run

    def vanish(*args):
        (copy / "12_left.jpeg").unlink()
        run(*args)

    monkeypatch.setattr(build_examples, "_run", vanish)
    made = build_examples.build(
        dataclasses.replace(eyepacs_like(), max_reject_rate=0.5),
        image_dir=str(copy),
        labels=str(copy / "labels.csv"),
        output_dir=str(tmp_path / "out"),
    )
    assert made.rejected == {"unreadable": 1} and made.written == 39
    line = (tmp_path / "out" / "rejects.csv").read_text().splitlines()[1]
    assert line == f"12_left,{copy}/12_left.jpeg,unreadable,No such file or directory"


def test_what_may_not_be_read_is_a_reject_and_a_sick_disk_is_not(raw, monkeypatch):
    source = sources.open_source(str(raw))

    def read(error: OSError) -> bytes:
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(output, "read", fail)
        return source.read("10_left.jpeg")

    with pytest.raises(images.RejectedImage, match="unreadable: Permission denied"):
        read(PermissionError(13, "Permission denied"))
    with pytest.raises(OSError, match="Input/output error"):
        read(OSError(5, "Input/output error"))


def test_pictures_of_bytes_are_what_the_recipe_makes(raw, tmp_path):
    data = (raw / "10_left.jpeg").read_bytes()
    expected = images.apply_recipe(data, RECIPE).rgb
    for image_dir, name in (
        (raw, "10_left.jpeg"),
        (raw / "*.jpeg", "10_left.jpeg"),
        (archive(raw, tmp_path / "a.zip"), "train/10_left.jpeg"),
    ):
        assert np.array_equal(pixels(sources.open_source(str(image_dir)), name), expected)


def photographs(count: int = 6) -> np.ndarray:
    """uint8 (count, 32, 32, 3) with every value in each."""
    values = np.arange(count * 32 * 32 * 3) + np.repeat(np.arange(count), 32 * 32 * 3)
    return (values % 256).astype(np.uint8).reshape(count, 32, 32, 3)


@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", ">f4", "float64", "fortran"])
def test_arrays_give_back_their_photographs(tmp_path, kind):
    wanted = photographs()
    stored = (wanted / 255).astype(kind) if "f" in kind and kind != "fortran" else wanted
    stored = np.asfortranarray(stored) if kind == "fortran" else stored
    np.save(tmp_path / "X_train.npy", stored)
    source = pickle.loads(pickle.dumps(sources.open_arrays(str(tmp_path / "X_train.npy"), RECIPE)))
    size = 32 * 32 * 3 * stored.itemsize
    assert list(source.names()) == [(f"X_train-000000{i}", size) for i in range(6)]
    assert source.count() == 6
    for i, (name, _) in enumerate(source.names()):
        got = pixels(source, name)
        assert got.dtype == np.uint8 and got.flags["C_CONTIGUOUS"]
        assert np.array_equal(got, wanted[i])
        assert source.read(name) == stored[i].tobytes()
    assert source.path("X_train-0000003") == f"{tmp_path}/X_train.npy[3]"


@pytest.mark.parametrize("value, words", [(np.nan, "nan"), (1.5, "to 1.5"), (-0.1, "from -0.1")])
def test_a_photograph_of_an_array_out_of_range_is_a_reject(tmp_path, value, words):
    stored = photographs() / 255
    stored[4, 3, 2, 1] = value
    np.save(tmp_path / "X.npy", stored)
    source = sources.open_arrays(str(tmp_path / "X.npy"), RECIPE)
    with pytest.raises(images.RejectedImage, match=f"unreadable: values .*{words}.*0 to 1"):
        pixels(source, "X-0000004")
    assert np.array_equal(pixels(source, "X-0000005"), photographs()[5])


def test_an_array_is_never_in_memory_as_a_whole(tmp_path):
    np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.uint8, (20_000, 32, 32, 3)).flush()
    tracemalloc.start()
    source = sources.open_arrays(str(tmp_path / "X.npy"), RECIPE)
    for _ in source.names():
        pass
    pixels(source, "X-0019999")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000  # Of 61 million.


@pytest.mark.parametrize(
    "array, message",
    [
        (
            np.zeros((2, 48, 48, 3), np.uint8),
            "48x48 .*size is 32. Pass --config.dataset.recipe.s.*=48",
        ),
        (np.zeros((2, 48, 32, 3), np.uint8), "48x32 pixels.*Make it square"),
        (
            np.zeros((2, 32, 32), np.uint8),
            r"array \(2, 32, 32\) of uint8; expected \(photographs, h",
        ),
        (np.zeros((2, 3, 32, 32), np.float32), r"\(2, 3, 32, 32\) of float32; expected"),
        (np.zeros((2, 32, 32, 3), np.int64), "of int64; expected .* uint8 or of floats"),
        (np.zeros((0, 32, 32, 3), np.uint8), r"\(0, 32, 32, 3\)"),
        (np.array([{}, 1]), "cannot be read as an .npy array: .*numpy.save"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, array, message):
    np.save(tmp_path / "X.npy", array)
    with pytest.raises(ValueError, match=message):
        sources.open_arrays(str(tmp_path / "X.npy"), RECIPE)


def test_files_that_are_no_array_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="X.npy does not exist; --npy_images names"):
        sources.open_arrays(str(tmp_path / "X.npy"), RECIPE)
    with pytest.raises(ValueError, match="--npy_images needs a file on a disk"):
        sources.open_arrays("bucket://b/X.npy", RECIPE)
    np.savez(tmp_path / "several.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(ValueError, match=r"holds several arrays \(a, b\); --npy_images needs"):
        sources.open_arrays(str(tmp_path / "several.npz"), RECIPE)
    np.save(tmp_path / "cut.npy", photographs())
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-100])
    for name, content in (("cut.npy", None), ("empty.npy", b""), ("x.npy", encode(draw(0)))):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read as an .npy array"):
            sources.open_arrays(str(tmp_path / name), RECIPE)
