"""Hundreds of damaged arrays and archives; tens of thousands are run by hand."""

import subprocess
import sys
from pathlib import Path


def test_damaged_arrays_and_archives_are_read_or_refused():
    """In a process of its own: a crash of native code fails this test and not the run."""
    script = Path(__file__).with_name("fuzz_sources.py")
    done = subprocess.run(
        [sys.executable, str(script), "1", "600"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for outcome in ("npy refused", "npy read", "zip refused", "zip read", "zip read+unreadable"):
        assert outcome in done.stdout
