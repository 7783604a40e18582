"""The commands of a report are typed, and give every setting of the run."""

from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from dr_tfx import tasks
from dr_tfx.config import typed
from dr_tfx.evaluation import reproduce
from dr_tfx.models import bundle_file
from tests.helpers import configs
from tests.helpers.screening import ADDONS, EXPERIMENT

STAGED = tasks.from_config(
    {"training": {"stages": ({"trainable_layers": 0, "learning_rate": 0.01, "epochs": 2},)}}
)


@pytest.mark.parametrize("experiment", [EXPERIMENT, ADDONS, STAGED, tasks.from_config({})])
def test_the_commands_say_every_setting_of_the_run(experiment):
    build, train, *_ = reproduce.commands(
        experiment, workdir=Path("w"), data_dir=Path("d"), split="validation"
    )
    holder = flags.FlagValues()
    assert build[1] == train.pop(1) == "--config=base"
    assert not any(word.startswith("--config.dataset") for word in train)  # They are DATA's.
    train += [word for word in build if word.startswith("--config.dataset")]
    config_flags.DEFINE_config_dict("config", configs.load("base"), "", holder, sys_argv=train)
    for name in ("workdir", "data_dir"):
        flags.DEFINE_string(name, None, "", holder)
    assert holder(train) == ["drtfx-train"]
    assert tasks.from_config(holder.config) == experiment


def test_the_commands_are_changes_of_the_persons_own_config():
    begun = typed.to_dict(tasks.from_config(configs.load("smoke").to_dict()))
    training = {**begun["training"], "epochs": 99}
    experiment = tasks.from_config({**begun, "training": training})
    _, train, *_ = reproduce.commands(
        experiment,
        workdir=Path("w"),
        data_dir=Path("d"),
        split="validation",
        config=bundle_file.Config("mine/smoke.py", begun),
    )
    given = ["--config=mine/smoke.py", "--workdir=w", "--data_dir=d", "--config.training.epochs=99"]
    assert train == ["drtfx-train", *given]


def test_a_model_of_lesions_is_built_again_from_masks():
    experiment = tasks.from_config(configs.load("lesions", "disc").to_dict())
    build, *_ = reproduce.commands(
        experiment, workdir=Path("w"), data_dir=Path("d"), split="validation"
    )
    assert build[2:6] == [
        "--image_dir=IMAGES",
        "--labels=masks",
        "--masks_dir=MASKS",
        "--output_dir=d",
    ]


def test_members_of_an_ensemble_are_changes_of_the_config_of_each():
    begun = typed.to_dict(tasks.from_config(configs.load("smoke").to_dict()))
    members = [
        bundle_file.Member(
            folder=f"run-{seed}",
            experiment={**begun, "training": {**begun["training"], "seed": seed}},
            precision="float32",
            best_epoch=1,
            fitted={},
            weights="",
            config=f"mine/{seed}.py",
            config_settings=begun,
        )
        for seed in (5, 6)
    ]
    _, first, _, second, *_ = reproduce.commands(
        EXPERIMENT, workdir=Path("w"), data_dir=Path("d"), split="validation", members=members
    )
    for train, seed in ((first, 5), (second, 6)):
        assert train[:2] == ["drtfx-train", f"--config=mine/{seed}.py"]
        folders = [f"--workdir=run-{seed}", "--data_dir=d"]
        assert train[2:] == [*folders, f"--config.training.seed={seed}"]


@pytest.mark.parametrize(
    ("split", "evaluated"),
    [("validation", ["validation"]), ("test", ["validation", "test"])],
)
def test_validation_is_evaluated_first(split, evaluated):
    commands = reproduce.commands(EXPERIMENT, workdir=Path("w"), data_dir=Path("d"), split=split)
    assert [words[-1] for words in commands[2:]] == [f"--split={name}" for name in evaluated]


def test_a_command_is_quoted_and_fits_the_page():
    text = reproduce.shell(["drtfx-train", "--workdir=a folder", *["--flag=" + 20 * "x"] * 8])
    assert text.startswith("drtfx-train '--workdir=a folder' --flag=")
    lines = text.split(" \\\n    ")
    assert len(lines) == 3 and max(map(len, lines)) <= 100
