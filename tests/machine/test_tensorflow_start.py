"""What a command prints while TensorFlow starts: no notices, but the last words of a crash."""

import importlib
import signal
import subprocess
import sys

import pytest

from dr_tfx.machine import tensorflow_start

CODE = """
import os
from dr_tfx.machine import error_lines, tensorflow_start
with error_lines.dropped((*tensorflow_start._NOTICES, tensorflow_start._NO_DRIVER)):
    for line in {lines!r}:
        os.write(2, line.encode() + b"\\n")
    {end}
os.write(2, b"after\\n")
"""
NOTICES = [  # From TensorFlow 2.21 and 2.15.1.
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795908499.296594   32167 port.cc:153] oneDNN custom operations are on.",
    "E0000 00:00:1795908502.064264   32167 cuda_platform.cc:52] failed call to cuInit: INTERNAL:",
    "2026-11-29 00:35:55.45: E external/xla/cuda_dnn.cc:9261] Unable to register cuDNN factory:",
]


def said(end):
    lines = [NOTICES[0], "F0000 needs AVX", *NOTICES[1:], "E0000 another error"]
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(lines=lines, end=end)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


def test_only_the_notices_are_dropped():
    assert said("pass") == (0, ["F0000 needs AVX", "E0000 another error", "after"])


def test_the_last_words_of_a_crash_are_printed():
    assert said("os.abort()") == (-signal.SIGABRT, ["F0000 needs AVX", "E0000 another error"])


def test_packages_that_no_command_needs_seem_absent_while_it_starts(monkeypatch):
    names = ("this", "json")  # One that prints when it is imported, and one that is in use.
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with tensorflow_start._as_if_absent(names):
        with pytest.raises(ImportError):
            importlib.import_module("this")
        assert importlib.import_module("json").loads("1") == 1
    assert importlib.import_module("this").s
