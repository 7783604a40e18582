"""Hundreds of damaged photographs; tens of thousands are run by hand."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_damaged_files_are_rejected_or_give_a_picture():
    """Never another exception, a crash, a hang or a huge allocation. Native code: own process."""
    pytest.importorskip("pydicom")
    pytest.importorskip("pillow_heif")
    script = Path(__file__).with_name("fuzz_images.py")
    command = [sys.executable, str(script), "0", "600"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "accepted" in done.stdout and "unreadable" in done.stdout
