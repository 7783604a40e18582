"""Files of a disk and of an object store: each of them whole, or not there."""

import os
import re
import subprocess
import sys
import threading
import time

import pytest

from dr_tfx.storage import files
from tests.helpers.places import Bucket


@pytest.fixture(params=["disk", "store"])
def folder(request, tmp_path, bucket) -> str:
    return str(tmp_path / "made") if request.param == "disk" else "bucket://b/made"


def test_a_file_is_there_once_it_is_whole(folder):
    path = f"{folder}/x"
    with files.create(path) as stream:
        stream.write(b"half")
        assert not files.exists(path)
        stream.write(b"whole")
    assert files.read(path) == b"halfwhole" and files.sizes(folder) == {"x": 9}


def test_an_error_leaves_what_was_there_and_nothing_else(folder):
    files.write_text(f"{folder}/x", "é\r\n")
    with pytest.raises(KeyError), files.create(f"{folder}/x") as stream:
        stream.write(b"half")
        raise KeyError
    with pytest.raises(KeyboardInterrupt), files.create(f"{folder}/y"):
        raise KeyboardInterrupt
    assert files.read(f"{folder}/x") == b"\xc3\xa9\r\n" and files.sizes(folder) == {"x": 4}


def test_a_file_of_a_disk_is_flushed_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(
        os, "fsync", lambda number: done.append(os.fstat(number).st_size) or fsync(number)
    )
    monkeypatch.setattr(
        type(tmp_path), "replace", lambda *paths: done.append(paths[1]) or replace(*paths)
    )
    files.write(tmp_path / "x", b"123")
    assert done == [3, str(tmp_path / "x")]


def test_parts_of_a_file(folder):
    files.write(f"{folder}/x", b"0123456789")
    files.write(f"{folder}/empty", b"")
    assert files.read(f"{folder}/x", offset=3, length=4) == b"3456"
    assert files.read(f"{folder}/x", length=2) == b"01"
    assert files.read(f"{folder}/x", offset=7) == b"789"
    assert files.read(f"{folder}/x", offset=7, length=100) == b"789"
    assert files.read(f"{folder}/empty", length=5) == b""
    with files.open_file(f"{folder}/x") as stream:
        stream.seek(8)
        assert stream.read() == b"89"


def test_what_is_not_there_is_named(folder):
    for act in (files.read, files.open_file):
        with pytest.raises(FileNotFoundError, match=f"{folder}/none"):
            act(f"{folder}/none")
    assert not files.exists(f"{folder}/none") and files.sizes(f"{folder}/none") == {}
    files.delete(f"{folder}/none")


def test_deletion_takes_names_that_match_whole(folder):
    temporary = f".x.{'0' * 32}.tmp"
    for name in ("a-1", "a-12", "b", temporary, "below/c"):
        files.write(f"{folder}/{name}", b"")
    files.delete_all(folder, re.compile(r"a-\d"))
    assert set(files.sizes(folder)) == {"a-12", "b", temporary}
    files.delete_temporary(folder)
    files.delete(f"{folder}/b", f"{folder}/a-12", f"{folder}/gone")
    assert files.sizes(folder) == {} and files.exists(f"{folder}/below/c")
    files.delete_folder(f"{folder}/below")
    assert not files.exists(f"{folder}/below/c") and not files.exists(f"{folder}/below")


def test_a_pattern_of_a_store(bucket):
    for name in ("a/1.png", "a/b/2.png", "c/3.png", "a/4.txt", "5.png"):
        bucket[f"bucket://b/{name}"] = b"123"
    assert files.matches("bucket://b/*/?.png") == {
        "bucket://b/a/1.png": 3,
        "bucket://b/c/3.png": 3,
    }
    deep = files.matches("bucket://b/**/*.png")
    assert set(deep) == {f"bucket://b/{n}.png" for n in ("a/1", "a/b/2", "c/3", "5")}


def test_an_empty_object_has_no_range_of_bytes(bucket, monkeypatch):
    class Refused(Exception):
        code = 416

    def refuse(*_, **__):
        raise Refused

    monkeypatch.setattr(Bucket, "cat_file", refuse)
    assert files.read("bucket://b/empty", length=10) == b""
    Refused.code = 403
    with pytest.raises(OSError, match=r"bucket://b/empty may not be used \(Refused\)"):
        files.read("bucket://b/empty", length=10)


def test_no_permission_is_not_taken_for_no_file(bucket, monkeypatch):
    def refuse(*_, **__):
        raise OSError("Forbidden: b/x")

    monkeypatch.setattr(Bucket, "info", refuse)
    with pytest.raises(OSError, match="Forbidden"):
        files.exists("bucket://b/x")


def test_a_store_whose_package_is_missing_says_what_to_install():
    code = (
        "import sys; sys.modules['gcsfs'] = None\n"
        "from dr_tfx.storage import files\n"
        "try: files.read('gs://b/x')\n"
        "except OSError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "gs://b/x: gs:// needs a package" in done.stdout
    assert done.stdout.endswith(". Type: pip install 'dr_tfx[dataflow]'\n")


def test_storage_needs_no_beam():
    code = (
        "import sys; from dr_tfx.storage import files\n"
        "files.exists('/'); print({'apache_beam', 'gcsfs', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_counts_are_told_while_the_work_is_done_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LIVE_SECONDS", 0)
    path = str(tmp_path / "x.live")
    with files.Live(path) as live:
        assert files.read_live(path) == []
        live.say(3, 1)
        assert files.read_live(path) == [3, 1]
    assert not (tmp_path / "x.live").exists()


def test_a_listing_while_files_are_renamed(tmp_path):
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            files.write(tmp_path / "x", b"12")

    files.write(tmp_path / "x", b"12")
    thread = threading.Thread(target=work)
    thread.start()
    try:
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            listed = files.sizes(str(tmp_path))
            listed.pop("x", None)
            assert all(re.fullmatch(r"\.x\.[0-9a-f]{32}\.tmp", name) for name in listed)
    finally:
        stop.set()
        thread.join()
