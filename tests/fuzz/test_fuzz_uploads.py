"""Sixty hostile uploads; thousands are sent by hand."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_hostile_uploads_are_answered_with_a_reason():
    for name in ("fastapi", "pydicom", "pillow_heif"):
        pytest.importorskip(name)
    command = [sys.executable, str(Path(__file__).with_name("fuzz_uploads.py")), "0", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "'200'" in done.stdout and "'415'" in done.stdout and "'422'" in done.stdout
