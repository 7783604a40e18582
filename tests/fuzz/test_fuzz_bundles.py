"""Hundreds of damaged bundles and manifests; tens of thousands are run by hand."""

import subprocess
import sys
from pathlib import Path


def test_damaged_and_hostile_bundles_and_manifests_are_loaded_or_refused():
    """In a process of its own: a crash of native code fails this test and not the run."""
    script = Path(__file__).with_name("fuzz_bundles.py")
    done = subprocess.run(
        [sys.executable, str(script), "1", "300"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for file in ("bundle.json", "dataset.json", "weights.safetensors"):
        for outcome in ("damaged refused", "mutated refused"):
            assert f"{file} {outcome}" in done.stdout
    for file in ("bundle.json", "dataset.json", "model.keras"):
        assert f"{file} mutated loaded" in done.stdout
