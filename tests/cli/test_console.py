"""A command line that cannot be run is answered by one line that says what to do."""

import dataclasses
import json
import sys

import pytest

from dr_tfx.dataset import manifest
from tests.helpers import datasets, ready
from tests.helpers.commands import COMMANDS

CONFIG = "--config=configs/dr_binary.py"


@pytest.mark.parametrize(
    ("command", "arguments", "expected"),
    [
        ("train", [CONFIG, "--data_dir=d"], "--workdir must be given."),
        ("evaluate", [], "--workdir, --data_dir must be given."),
        ("evaluate", ["--workdir=w", "--labels=l.csv"], "--image_dir must be given."),
        (
            "evaluate",
            ["--workdir=w", "--external_dir=e", "--labels=l", "--split=test"],
            "--split and --image_dir are both given",
        ),
        ("explain", ["--workdir=w"], "--output_dir must be given."),
        ("explain", ["--workdr=w"], "knows --workdr=w. A typing error?"),
        ("build-examples", [CONFIG, "--plan"], "--labels must be given."),
        (
            "build-examples",  # Beam has a flag --label.
            [CONFIG, "--plan", "--label=x.csv"],
            "--labels must be given; --label=x.csv is no flag of this command: a typing error?",
        ),
        ("synthesize", ["--output_dir=o", "--num_patients=few"], "flag --num_patients=few: "),
        (
            "train",
            [CONFIG, "--epochs=3"],
            "flag 'epochs'. Settings are given as --config.training.epochs=VALUE.",
        ),
        ("train", [CONFIG, "--training.lr=3"], "given as --config.training.learning_rate=VALUE."),
        ("train", [CONFIG, "--config.training.lr=3"], "did you mean 'training.learning_rate'?"),
        ("train", ["--nonsense=3"], "Unknown command line flag 'nonsense'."),
        ("train", [CONFIG, "--data_dir=d", "--workdir=w", "x"], "Unexpected arguments: x."),
        ("build-examples", [CONFIG, "--config.dataset.split.test=abc"], "split.test=abc: could"),
        ("train", [CONFIG, "--config.dataset.split.test=abc"], "split.test=abc: could"),
        (
            "train",
            [CONFIG, "--config.dataset.label_colum=grade"],
            "label_colum=grade: there is no setting 'label_colum'; did you mean 'label_column'?",
        ),
        ("train", [CONFIG, "--config.dataset.zzz=1"], "zzz=1: there is no setting 'zzz'."),
        (
            "train",
            [CONFIG, "--noconfig.training.determinstic"],
            "determinstic: there is no setting 'determinstic'; did you mean 'deterministic'?",
        ),
        ("train", [CONFIG, "--config.model=3"], "flag --config.model=3: Failed to parse '3'"),
        (
            "build-examples",
            ["--config=configs/binary.py", "--labels=x", "--plan"],
            "--config=configs/binary.py: there is no such file, and no config of this name; did "
            "you mean dr_binary?",
        ),
        (
            "build-examples",
            ["--config=xyz", "--labels=x", "--plan"],
            "--config=xyz: there is no such file, and no config of this name; there are base, ",
        ),
        ("train", ["--config", "/nowhere/c.py"], "--config=/nowhere/c.py: there is no such file"),
        ("train", ["--config=lesions:disk"], "lesions.py:disk: lesions.py has no variant 'disk'; "),
        ("build-examples", [CONFIG, "--labels=tests", "--plan"], "--labels=tests is a folder;"),
    ],
)
def test_one_line_says_what_is_wrong(command, arguments, expected):
    done = ready.run([sys.executable, "-m", COMMANDS[f"drtfx-{command}"], *arguments])
    assert done.returncode == 1 and not done.stdout
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert expected in lines[-1] and "\\" not in lines[-1]
    assert "Traceback" not in done.stderr and "FATAL" not in done.stderr


def test_a_build_prints_labels_in_their_order_and_twins_that_contradict_each_other(tmp_path):
    names = ("none", "mild", "a lot")
    spec = dataclasses.replace(datasets.experiment().dataset, label_names=names)
    made = dataclasses.replace(
        datasets.write(tmp_path, spec),
        counts={
            split: dict(zip(names, counts, strict=True))
            for split, counts in datasets.COUNTS.items()
        },
        patients=dict.fromkeys(datasets.COUNTS, 3),
        twins=(
            {"ids": ["n1", "n2"], "labels": [0, 2], "splits": ["train", "train"]},
            {"ids": ["n3", "n4"], "labels": [1, 1], "splits": ["train", "train"]},
        ),
    )
    read = manifest.from_dict(json.loads(made.to_json()))  # A second run reads the manifest.
    printed = read.describe()
    assert printed == made.describe()
    header = printed.splitlines()[0]
    assert header.index("none") < header.index("mild") < header.index("a lot")
    assert "of different labels: n1, n2" in printed and "n3" not in printed


def test_a_name_that_the_font_cannot_write_is_no_warning():
    code = """
from matplotlib.figure import Figure
from dr_tfx.cli import console

def main(argv):
    figure = Figure()
    figure.text(0, 0, "\ud658\uc790")
    figure.savefig("/dev/null", format="png")

console.run(main, module="__main__", doc="")
"""
    done = ready.run([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (0, "")
