"""Reads from a store that stumbles: what is tried again, for how long, and what is told."""

import subprocess
import sys
import time

import pytest

from dr_tfx.storage import store_reads
from tests.helpers.misbehaving import Busy, Expired, Shaky


@pytest.fixture
def reader(monkeypatch):
    Shaky.begin({"b/x": b"0123456789"})
    return store_reads.StoreReader("shaky://b/")


def test_a_part_is_read_whole(reader):
    assert reader.read("x", 2, 7) == b"23456" and Shaky.read == [("b/x", 2, 7)]


def test_a_store_that_is_busy_is_asked_again_when_it_says(reader, monkeypatch):
    asked = []

    def busy_once(self, path, start, end):
        asked.append(time.monotonic())
        if len(asked) == 1:
            error = Busy(503)
            error.headers = {"retry-after": "1"}
            raise error
        return b"01"

    monkeypatch.setattr(Shaky, "cat_file", busy_once)
    assert reader.read("x", 0, 2) == b"01"
    assert 1 <= asked[1] - asked[0] < 3


def test_a_refusal_makes_a_new_client_which_finds_the_credentials_of_now(reader, monkeypatch):
    monkeypatch.setattr(store_reads, "UNPERMITTED", 0.5)
    valid = ["yesterday's"]

    def cat_file(self, path, start, end):
        self.found = getattr(self, "found", valid[-1])  # A client looks for them once.
        if self.found != valid[-1]:
            raise Expired("ExpiredToken")
        return Shaky.objects[path][start:end]

    monkeypatch.setattr(Shaky, "cat_file", cat_file)
    assert reader.read("x", 0, 2) == b"01"
    valid.append("today's")
    assert reader.read("x", 2, 4) == b"23"


def test_waits_double_up_to_a_bound_and_differ():
    waits = [[store_reads._wait(tries) for _ in range(50)] for tries in (1, 2, 3, 30)]
    for found, most in zip(waits, (0.25, 0.5, 1.0, 20.0), strict=True):
        assert most / 2 <= min(found) < max(found) <= most


def test_nobody_waits_for_what_does_not_exist(reader):
    with pytest.raises(store_reads.StoreError, match=r"shaky://b/none is not there any more"):
        reader.read("none", 0, 2)
    with pytest.raises(store_reads.StoreError, match=r"nowhere://b/x could not be read in 1 try"):
        store_reads.StoreReader("nowhere://b").read("x", 0, 2)


def test_readers_give_up_when_they_are_told_to(reader):
    code = """
import threading, time
from dr_tfx.storage import store_reads
from tests.helpers.misbehaving import Shaky
Shaky.begin({"b/x": b"0"}); Shaky.chance = 1.0; Shaky.faults = ("busy",)
reader = store_reads.StoreReader("shaky://b")
def read():
    try: reader.read("x", 0, 1)
    except store_reads.StoreError as error: print(error)
thread = threading.Thread(target=read); thread.start(); time.sleep(0.1); reader.interrupt()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "shaky://b/x was not waited for any more.\n"
