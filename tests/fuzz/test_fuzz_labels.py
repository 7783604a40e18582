"""Hundreds of damaged files of labels; tens of thousands are run by hand."""

import subprocess
import sys
from pathlib import Path


def test_damaged_labels_are_planned_or_refused():
    script = Path(__file__).with_name("fuzz_labels.py")
    done = subprocess.run(
        [sys.executable, str(script), "1", "250"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for outcome in ("planned ", "planned+rejects", "refused"):
        assert outcome in done.stdout
