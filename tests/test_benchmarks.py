"""Whether the benchmarks run and give their tables; no figure of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("psutil")

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(script, *arguments):
    result = subprocess.run(
        [sys.executable, BENCHMARKS / script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("script", ["gradcam.py", "input.py", "memory.py"])
def test_help_says_what_is_measured_and_how(script):
    text = run(script, "--help")
    assert f"python benchmarks/{script}" in text
    assert "Every" in text


def test_time_and_memory_of_a_plan_is_a_table_of_both_splits():
    first, header, *rows = run("build.py", "plan", "--rows=2000").splitlines()
    assert first == "2,000 rows" and header.split() == ["s", "peak", "bytes", "a", "row"]
    assert [row.split()[0] for row in rows] == ["patient", "hash"]


def test_speed_of_ours_and_of_arrays_is_a_table_of_both(tmp_path):
    text = run(
        "input.py",
        "speed",
        "--count=200",
        "--size=32",
        "--rounds=1",
        "--seconds=0.2",
        "--contenders=uint8 in memory,ours",
        f"--work_dir={tmp_path}",
    )
    first, header, *rows = text.splitlines()
    assert first.startswith("200 examples of 32 px, 1 rounds")
    assert "samples/s" in header and "augmented" in header and "peak MiB" in header
    cells = [re.split(r"\s{2,}", row) for row in rows]
    assert [row[:2] for row in cells] == [["uint8 in memory", "memory"], ["ours", "bounded"]]
    assert all(float(row[2].replace(",", "")) > 0 for row in cells)
    assert not list(tmp_path.iterdir())


def test_memory_of_ours_and_of_arrays_is_a_table_of_both(tmp_path):
    text = run("memory.py", "--cases=32:200", "--batches=3", f"--work_dir={tmp_path}")
    _, header, row = text.splitlines()
    assert header.split() == ["float32", "array", "in", "memory", "ours"]
    assert row.startswith("32 px, 200 examples")
    in_memory, ours = row.split()[-2:]
    assert float(in_memory.replace(",", "")) > 0 and float(ours.replace(",", "")) > 0
    assert not list(tmp_path.iterdir())


def test_heat_maps_are_held_against_the_published_function():
    text = run("gradcam.py", "--sizes=32", "--batch_size=2", "--singles=1", "--rounds=1")
    first, _, *rows = text.splitlines()
    assert first == "MobileNetV2, 32 px, batches of 2, 1 rounds"
    ratios = {row[:28].strip(): float(row.split()[-1].rstrip("x")) for row in rows}
    assert ratios["Grad-CAM, in batches"] == 1
    assert {"published, one by one", "backbone forward and back", "explain, 1 view"} < set(ratios)
