"""One writer in a folder: the lock names its process, and a killed one leaves the folder free."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from dr_tfx.storage import locks

HOLD = """
import sys, time
from dr_tfx.storage import locks
with locks.held(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/folder."""
    folder = tmp_path / "folder"
    line = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process, folder
        process.kill()


def test_a_second_process_is_told_who_writes(holder):
    process, folder = holder
    with pytest.raises(BlockingIOError) as refused, locks.held(folder):
        pass
    assert f"{folder} is in use: process {process.pid} on {socket.gethostname()}" in str(
        refused.value
    )
    assert process.poll() is None and (folder / locks.FILE).exists()


def test_a_killed_process_leaves_the_folder_free(holder):
    process, folder = holder
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / locks.FILE).exists()
    unfinished = folder / f".x.{'0' * 32}.tmp"
    unfinished.write_bytes(b"")
    with locks.held(folder):
        assert json.loads((folder / locks.FILE).read_text())["process"] == os.getpid()
        assert not unfinished.exists()
    assert not list(folder.iterdir())


def test_two_writers_of_one_process_exclude_each_other(tmp_path):
    (tmp_path / "mine").touch()
    with locks.held(tmp_path):
        with pytest.raises(BlockingIOError), locks.held(tmp_path):
            pass
        with locks.held(tmp_path / "another" / "folder"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_writer_on_another_machine_counts_as_long_as_it_gives_signs_of_life(tmp_path):
    """Its lock does not reach this machine, as on a shared disk without locks; its file does."""
    theirs = {"host": "elsewhere", "process": 7, "command": "drtfx-train", "since": "today"}
    file = tmp_path / locks.FILE
    file.write_text(json.dumps(theirs))
    for _ in range(2):  # To be refused is no sign of life of the other one.
        seen = time.time() - locks.SILENCE + 30
        os.utime(file, (seen, seen))
        refused = pytest.raises(BlockingIOError, match="process 7 on elsewhere .* 60 s ago")
        with refused, locks.held(tmp_path):
            pass
        assert abs(file.stat().st_mtime - seen) < 1e-3 and file.read_text() == json.dumps(theirs)
    seen = time.time() - locks.SILENCE - 1
    os.utime(file, (seen, seen))
    with locks.held(tmp_path):
        pass
    assert not file.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "3",
        "[" * 4096,
        '{"host": 1}',
        '{"host": "h", "process": [], "command": "", "since": ""}',
    ],
)
def test_a_lock_file_that_names_nobody_is_taken(tmp_path, text):
    (tmp_path / locks.FILE).write_text(text)
    with locks.held(tmp_path):
        assert json.loads((tmp_path / locks.FILE).read_text())["process"] == os.getpid()


def test_a_holder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.01)
    file = tmp_path / locks.FILE
    with locks.held(tmp_path):
        os.utime(file, (1, 1))
        until = time.monotonic() + 10
        while file.stat().st_mtime < 2:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_place_that_cannot_be_written_is_named_and_not_the_lock(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as refused, locks.held(tmp_path / "file"):
        pass
    assert refused.value.filename == str(tmp_path / "file")
    with pytest.raises(OSError) as refused, locks.held("/proc/1"):
        pass
    assert refused.value.filename == "/proc/1"


def test_an_object_store_has_no_lock(bucket):
    with locks.held("bucket://folder"), locks.held("bucket://folder"):
        pass
    assert not bucket


def test_what_a_killed_process_left_in_a_finished_folder_is_cleared(holder):
    process, folder = holder
    locks.clear(folder)
    assert (folder / locks.FILE).exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    locks.clear(folder)
    assert not list(folder.iterdir())
