"""The predict command in a process of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.special import expit, logit

from tests.helpers import datasets, ready
from tests.helpers.bundled import contents, evaluated_bundle, write_photographs


def test_the_predict_command_prints_what_it_writes(tmp_path):
    workdir = evaluated_bundle(tmp_path, backbone="MobileNetV2")  # Another process reads it.
    folder = write_photographs(tmp_path / "photographs")
    os.mkfifo(tmp_path / "pipe.png")
    evaluation = workdir / "evaluation" / "test"
    evaluation.mkdir(parents=True)
    (evaluation / "metrics.json").write_text(json.dumps({"alarms": ["It guesses.", "More."]}))
    given = contents(folder)
    for kind, height in (("OD", 60), ("OC", 45)):
        (tmp_path / "masks" / kind).mkdir(parents=True)
        mask = np.zeros((120, 160), np.uint8)
        mask[30 : 30 + height, 40:80] = 1
        cv2.imwrite(str(tmp_path / "masks" / kind / "eye.png"), mask)

    def predict(*arguments):
        line = [sys.executable, "-m", "dr_tfx.cli.predict", f"--workdir={workdir}", *arguments]
        return ready.run(line)

    masks = f"--masks_dir={tmp_path / 'masks'}"
    given_both = (str(folder), str(tmp_path / "pipe.png"))
    some = predict(*given_both, f"--output_dir={tmp_path / 'some'}", masks)
    none = predict("--image_dir=nothing.png", f"--output_dir={tmp_path / 'none'}", "--nofigures")
    over = predict(str(folder / "eye.jpeg"), f"--output_dir={folder}")
    lines = some.stdout.splitlines()
    assert some.returncode == 0 and lines[-1] == str(tmp_path / "some")
    assert "ALARM of the evaluation on test: It guesses. (1 more) See " in some.stderr
    names = ["probability", "probability_threshold", "score", "threshold", "decision"]
    assert lines[0].split() == ["photograph", *names, "cup_to_disc"]
    table = pd.read_csv(tmp_path / "some" / "predictions.csv").set_index("photo")
    assert len(table) == 5 and table["figure"].notna().sum() == 3
    assert all((tmp_path / "some" / figure).is_file() for figure in table["figure"].dropna())
    counts = table["decision"].dropna().value_counts()
    decided = ", ".join(f"{count} {name}" for name, count in counts.items())
    assert f"\n3 photographs read: {decided}; 2 rejected\n" in some.stderr
    row = table.loc[str(folder / "eye.jpeg")]
    assert table["cup_to_disc"].dropna().tolist() == [0.75, 0.75]  # Of eye.jpeg and b/eye.png.
    words = next(line for line in lines if "eye.jpeg" in line).split()
    slope, intercept = datasets.SCALING
    assert words[1:] == [
        *(f"{row['probability']:.3f}", f"{expit(logit(0.45) * slope + intercept):.3f}"),
        *(f"{row['score']:.3f}", "0.450", row["decision"], "0.750"),
    ]
    assert next(line for line in lines if "black.png" in line).endswith("  ungradable: black")
    broken = next(line for line in lines if "broken.jpg" in line)
    assert broken.split()[1:9] == [*6 * ["-"], "rejected", "(unreadable:"]
    assert next(line for line in lines if "pipe.png" in line).endswith("a pipe or socket)")
    assert "No such file" in none.stdout and none.returncode == 1
    assert sorted(contents(tmp_path / "none")) == ["predict.json", "predictions.csv"]
    assert over.returncode == 1 and "eye.jpeg; choose another folder" in over.stderr
    assert contents(folder) == given


def test_a_watched_folder_is_answered_once_also_after_a_kill(tmp_path):
    """One photograph comes in two parts, and the command is killed and started again."""
    workdir = evaluated_bundle(tmp_path, backbone="UNetEncoder")
    photographs = write_photographs(tmp_path / "photographs")
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    eye = (photographs / "eye.jpeg").read_bytes()
    given = [f"--workdir={workdir}", f"--output_dir={out}", "--watch", "--nofigures", str(inbox)]
    line = [sys.executable, "-m", "dr_tfx.cli.predict", *given]

    def rows():
        table = out / "predictions.csv"
        text = table.read_text() if table.is_file() else ""
        return [Path(row.split(",")[0]).name for row in text.splitlines()[1:]]

    def until(count):
        for _ in range(600):
            if len(rows()) >= count:
                return
            time.sleep(0.1)
        raise AssertionError(f"{rows()} after a minute; expected {count} rows")

    with ready.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        (inbox / "1.jpeg").write_bytes(eye)
        until(1)
        with (inbox / "2.jpeg").open("wb") as coming:
            coming.write(eye[:500])
            coming.flush()
            (inbox / "3.jpeg").write_bytes(eye)
            time.sleep(0.5)
            coming.write(eye[500:])
        until(3)
        process.kill()
    (inbox / "4.jpeg").write_bytes(eye)
    with ready.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(4)
        process.terminate()
        printed, said = process.communicate()
    assert process.returncode == 0 and printed.splitlines()[-1] == str(out)
    assert said.endswith(("4 positive\n", "4 negative\n")) and "4 photographs read: " in said
    assert sorted(rows()) == [f"{n}.jpeg" for n in (1, 2, 3, 4)]
    assert pd.read_csv(out / "predictions.csv")["score"].nunique() == 1
