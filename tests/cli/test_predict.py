"""The predict command in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pandas as pd

from tests.helpers.bundled import evaluated_bundle, write_photographs

ROOT = Path(__file__).parents[2]


def test_the_predict_command_prints_what_it_writes(tmp_path):
    workdir = evaluated_bundle(tmp_path, backbone="MobileNetV2")  # Another process reads it.
    folder = write_photographs(tmp_path / "photographs")

    def start(photographs, out):
        command = [sys.executable, "-m", "dr_tfx.cli.predict", f"--workdir={workdir}"]
        command += [str(photographs), f"--output_dir={tmp_path / out}"]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    some, none = start(folder, "some"), start("nothing.png", "none")
    lines = some.communicate()[0].splitlines()
    assert some.returncode == 0 and lines[-1] == str(tmp_path / "some")
    names = ["probability", "score", "decision", "threshold"]
    assert lines[0].split() == ["photograph", *names]
    table = pd.read_csv(tmp_path / "some" / "predictions.csv").set_index("photo")
    assert len(table) == 3
    row = table.loc[str(folder / "eye.jpeg")]
    words = next(line for line in lines if "eye.jpeg" in line).split()
    assert words[1:] == [
        *(f"{row['probability']:.3f}", f"{row['score']:.3f}", row["decision"], "0.450")
    ]
    assert next(line for line in lines if "black.png" in line).endswith("  ungradable: black")
    broken = next(line for line in lines if "broken.jpg" in line)
    assert broken.split()[1:7] == ["-", "-", "-", "-", "rejected", "(unreadable:"]
    assert "no such file" in none.communicate()[0] and none.returncode == 1
