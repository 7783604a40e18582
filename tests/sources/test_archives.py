"""Photographs from .zip archives, the damaged ones among them."""

import concurrent.futures
import pickle
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from beam_jobs.build_examples import job
from dr_tfx.preprocessing import decoding
from dr_tfx.sources import archives, find_source
from tests.helpers.drawn import eyepacs_like
from tests.helpers.places import archive


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_read_as_it_is_by_several_threads(raw, tmp_path, method):
    source = find_source.open_source(str(archive(raw, tmp_path / "Train.ZIP", compression=method)))
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
        made = job.build(
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
        assert archives.open_archive(str(tmp_path / "a.zip")).read("x.png") == content


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_a_reject_and_the_others_are_read(raw, tmp_path, method):
    path = archive(raw, tmp_path / "a.zip", compression=method)
    with zipfile.ZipFile(path) as packed:
        middle = packed.getinfo("train/15_left.jpeg")
    data = bytearray(path.read_bytes())
    start = middle.header_offset + middle.compress_size // 2
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    source = archives.open_archive(str(path))
    with pytest.raises(decoding.RejectedImage, match="unreadable: damaged in its archive"):
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
        archives.open_archive(str(tmp_path / "cut.zip"))
    shutil.copy(whole, tmp_path / "secret.zip")
    flagged(tmp_path / "secret.zip", at=8, value=1)
    with pytest.raises(ValueError, match=r"10_left.jpeg is encrypted\. Unpack it"):
        archives.open_archive(str(tmp_path / "secret.zip"))
    shutil.copy(whole, tmp_path / "deflate64.zip")
    flagged(tmp_path / "deflate64.zip", at=10, value=9)
    with pytest.raises(ValueError, match=r"by method 9, neither stored nor deflated\. Unpack it"):
        archives.open_archive(str(tmp_path / "deflate64.zip"))
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as packed:
        packed.writestr("train.zip", b"")
    with pytest.raises(ValueError, match=r"holds no photographs .*only train.zip.*unpacked"):
        archives.open_archive(str(tmp_path / "outer.zip"))


@pytest.mark.parametrize(
    "changes", [{6: 255}, {9: 8, 46: 0xFF}], ids=["version", "name that is not UTF-8"]
)
def test_an_archive_with_a_damaged_table_of_contents_is_refused(raw, tmp_path, changes):
    path = archive(raw, tmp_path / "a.zip")
    for at, value in changes.items():
        flagged(path, at=at, value=value)
    with pytest.raises(ValueError, match=r"a.zip is not a whole .zip archive.*unzip -t"):
        archives.open_archive(str(path))


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
    source = archives.open_archive(str(path))
    with pytest.raises(decoding.RejectedImage, match="unreadable: damaged in its archive"):
        source.read("train/10_left.jpeg")


def test_a_member_that_is_gone_is_a_reject_and_a_sick_disk_is_not(raw, tmp_path, monkeypatch):
    source = archives.open_archive(str(archive(raw, tmp_path / "a.zip")))
    with pytest.raises(decoding.RejectedImage, match="unreadable: .*no item named"):
        source.read("train/gone.jpeg")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(zipfile.ZipExtFile, "read", fail)
    with pytest.raises(OSError, match="Input/output error"):
        source.read("train/10_left.jpeg")


@pytest.mark.parametrize("says, reason", [(30_000_000, "too_large"), (100, "unreadable")])
def test_a_bomb_in_an_archive_is_not_inflated(tmp_path, monkeypatch, says, reason):
    monkeypatch.setattr(decoding, "MAX_BYTES", 1_000_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", compression=zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("x.png", bytes(30_000_000))
    for at, value in enumerate(struct.pack("<I", says), start=24):
        flagged(tmp_path / "a.zip", at=at, value=value)
    source = archives.open_archive(str(tmp_path / "a.zip"))
    tracemalloc.start()
    with pytest.raises(decoding.RejectedImage) as caught:
        source.read("x.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.reason == reason and peak < 1_000_000


KOREAN = ["정상/눈 사진 1.png", "정상/눈 사진 2.png", "녹내장/왼쪽.png"]
JAPANESE = ["正常/ソース左眼.png", "正常/みぎ.png"]
LATIN = ["Müller/Auge größer.png", "España/ojo señal.png", "élève.png"]


class Unmarked(zipfile.ZipInfo):
    """A member whose name has an encoding that the archive does not tell."""

    def __init__(self, raw: bytes):
        super().__init__(raw.decode("latin1"))
        self.raw = raw

    def _encodeFilenameFlags(self):  # noqa: N802 (zipfile calls it)
        return self.raw, 0


@pytest.mark.parametrize(
    "names, encoding, said",
    [
        (KOREAN, "cp949", "read as cp949"),
        (KOREAN, "utf-8", "read as utf-8"),
        (JAPANESE, "cp932", "read as cp932"),
        (LATIN, "cp437", ""),
        (["plain.png"], "ascii", ""),
    ],
)
def test_names_that_are_not_marked_are_read_in_their_encoding(
    tmp_path, caplog, names, encoding, said
):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name in names:
            packed.writestr(Unmarked(name.encode(encoding)), name.encode())
    source = archives.open_archive(str(tmp_path / "a.zip"))
    assert sorted(name for name, _ in source.names()) == sorted(names)
    for name in names:
        assert source.read(name) == name.encode()
    assert (said in caplog.text) if said else not caplog.text


def test_a_name_in_utf_8_beside_another_one_is_taken(tmp_path):
    raw, name = "눈.png".encode("cp949"), "눈.png"
    extra = struct.pack("<HHBI", 0x7075, 5 + len(name.encode()), 1, zlib.crc32(raw)) + name.encode()
    member = Unmarked(raw)
    member.extra = extra
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(member, b"content")
    source = archives.open_archive(str(tmp_path / "a.zip"))
    assert [n for n, _ in source.names()] == [name] and source.read(name) == b"content"


def test_names_stay_below_their_folder(tmp_path):
    given = [
        "a\\b\\1.png",
        "../2.png",
        "/etc/3.png",
        "C:\\x\\4.png",
        "a/../../5.png",
        "a\\.\\6.png",
    ]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("a\\b\\", b"")
        packed.writestr("__MACOSX\\._1.png", b"")
        for name in given:
            packed.writestr(name, name.encode())
    source = archives.open_archive(str(tmp_path / "a.zip"))
    wanted = ["a/b/1.png", "2.png", "etc/3.png", "x/4.png", "a/5.png", "a/6.png"]
    assert sorted(name for name, _ in source.names()) == sorted(wanted)
    for name, stored in zip(wanted, given, strict=True):
        assert source.read(name) == stored.encode()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_contents_of_one_name_are_refused_and_the_same_twice_is_one(tmp_path):
    for name in ("1.png", "./1.png"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
            packed.writestr("1.png", b"one")
            packed.writestr(name, b"one")
            packed.writestr("readme.txt", b"one")
            packed.writestr("readme.txt", b"another")
        assert dict(archives.open_archive(str(tmp_path / "a.zip")).names()) == {"1.png": 3}
        with zipfile.ZipFile(tmp_path / "a.zip", "a") as packed:
            packed.writestr(name, b"two")
        with pytest.raises(ValueError, match="1.png is there twice, with different contents"):
            archives.open_archive(str(tmp_path / "a.zip"))


def test_a_link_in_an_archive_is_a_reject(tmp_path):
    link = zipfile.ZipInfo("x.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(decoding.RejectedImage, match="unreadable: a symbolic link"):
        archives.open_archive(str(tmp_path / "a.zip")).read("x.png")


def test_a_folder_in_an_archive(raw, tmp_path, monkeypatch, bucket):
    with zipfile.ZipFile(tmp_path / "IDRiD.zip", "w") as packed:
        for i, photograph in enumerate(sorted(raw.glob("*.jpeg"))):
            folder = "B. Grading/1. Originals/" + ("a. Training Set" if i % 4 else "b. Testing Set")
            packed.write(photograph, f"{folder}/{photograph.name}")
        packed.writestr("A. Segmentation/masks/MA/10_left.png", b"a mask")
    monkeypatch.chdir(tmp_path)
    bucket["bucket://b/IDRiD.zip"] = (tmp_path / "IDRiD.zip").read_bytes()
    for place in ("IDRiD.zip", f"{tmp_path}/IDRiD.zip", "bucket://b/IDRiD.zip"):
        source = find_source.open_source(f"{place}/B. Grading/1. Originals/a. Training Set/")
        names = sorted(name for name, _ in source.names())
        assert len(names) == 30 and names[0] == "10_right.jpeg"
        assert source.read(names[0]) == (raw / names[0]).read_bytes()
        assert source.path(names[0]).endswith(
            f"IDRiD.zip/B. Grading/1. Originals/a. Training Set/{names[0]}"
        )
        assert len(list(find_source.open_source(place).names())) == 40
    originals = "IDRiD.zip/B. Grading/1. Originals"
    two = f"{originals}/a. Training Set,{originals}/b. Testing Set"
    both = sorted(name for name, _ in find_source.open_source(two).names())
    assert len(both) == 40 and both[-1] == "b. Testing Set/28_left.jpeg"
    expected = (
        r"^IDRiD.zip has no folder 'Originals'. Its photographs are in 'B. Grading/1. Originals/"
        r"a. Training Set' \(30\), 'B. Grading/1. Originals/b. Testing Set' \(10\)"
    )
    with pytest.raises(FileNotFoundError, match=expected):
        find_source.open_source("IDRiD.zip/Originals")
    with pytest.raises(ValueError, match="only 1 pictures in folders called mask or masks"):
        find_source.open_source("IDRiD.zip/A. Segmentation")
    masks = find_source.open_source("IDRiD.zip/A. Segmentation/masks/MA")
    assert dict(masks.names()) == {"10_left.png": 6}


def test_an_archive_with_zip64_fields_is_read(raw, tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w") as packed,
        packed.open("x.jpeg", "w", force_zip64=True) as member,
    ):
        member.write((raw / "10_left.jpeg").read_bytes())
    assert (
        archives.open_archive(str(tmp_path / "a.zip")).read("x.jpeg")
        == (raw / "10_left.jpeg").read_bytes()
    )


def test_a_table_of_contents_that_claims_gigabytes_is_not_read(tmp_path):
    with (tmp_path / "a.zip").open("wb") as stream:
        stream.truncate(2**31)  # A sparse file, whose every byte may be read.
        stream.seek(2**31)
        stream.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 2**31 - 10, 0, 0))
    tracemalloc.start()
    with pytest.raises(ValueError, match="a.zip is not a whole .*claims 2,147,483,638 bytes"):
        archives.open_archive(str(tmp_path / "a.zip"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_member_that_reads_as_another_is_a_reject(tmp_path):
    """Many entries of the table share one member, as in bombs whose members overlap."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("0.png", bytes(1_000_000))
    data = (tmp_path / "a.zip").read_bytes()
    start, end = data.index(b"PK\1\2"), data.rindex(b"PK\5\6")
    table = b"".join(data[start:end].replace(b"0.png", b"%d.png" % i) for i in range(10))
    last = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 10, 10, len(table), start, 0)
    (tmp_path / "a.zip").write_bytes(data[:start] + table + last)
    source = archives.open_archive(str(tmp_path / "a.zip"))
    assert len(list(source.names())) == 10 and len(source.read("0.png")) == 1_000_000
    with pytest.raises(decoding.RejectedImage, match="unreadable: damaged in its archive"):
        source.read("1.png")
