"""Small disks, which are full or cannot be written: real ones, in memory."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path, *, size: int) -> Iterator[Path]:
    """Mount a disk of so many bytes on a folder; the test is skipped where that is not allowed."""
    folder.mkdir(exist_ok=True)
    line = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def make_read_only(folder: Path) -> None:
    """Make a mounted disk read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def fill(folder: Path, *, left: int) -> None:
    """Fill a mounted disk, but for some bytes."""
    status = subprocess.run(
        ["df", "-B1", "--output=avail", str(folder)], capture_output=True, text=True, check=True
    )
    free = int(status.stdout.split()[-1])
    (folder / "filled").write_bytes(bytes(max(0, free - left)))
