"""What the source says of a setting."""

import dataclasses
import sys
from pathlib import Path

import pytest

from dr_tfx import tasks
from dr_tfx.config import declared
from tests.helpers import ready

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass
class Inner:
    """A group within a group."""

    depth: int = 3  # In metres.


@dataclasses.dataclass
class Outer:
    """A record as those of the settings."""

    plain: str = "a"
    # Stands before,
    # on two lines.
    before: float = 0.5
    after: tuple[int, ...] = (1, 2)  # Begins here; and
    # ends here.
    long: dict[str, int] = dataclasses.field(default_factory=dict)  # Behind the last line.
    inner: Inner = dataclasses.field(default_factory=Inner)


def test_comments_belong_to_their_settings():
    found = {setting.name: setting for setting in declared.settings(Outer)}
    assert {name: setting.comment for name, setting in found.items()} == {
        "plain": "",
        "before": "Stands before, on two lines.",
        "after": "Begins here; and ends here.",
        "long": "Behind the last line.",
        "inner": "",
    }
    assert found["after"].default == "(1, 2)"
    assert found["after"].annotation == "tuple[int, ...]"
    assert found["inner"].kind is Inner


def shown(*words):
    line = [sys.executable, "-m", "dr_tfx.cli.config", *words]
    done = ready.run(line)
    return done.returncode, done.stdout, done.stderr


def test_a_config_is_shown_with_defaults_and_meanings():
    code, text, _ = shown("--config=dr_grade", "rate", "--config.training.learning_rate=0.5")
    assert code == 0
    lines = text.splitlines()
    at = lines.index("config.training.learning_rate = 0.5")
    assert lines[at + 1] == "    float: more than 0; by default 0.001"
    assert "config.dataset.max_reject_rate = 0.02" in lines  # By default, which need not be said.
    assert "    The build fails above this fraction of rejected rows." in lines
    assert not any(line.startswith("config.training.epochs") for line in lines)


@pytest.mark.parametrize("kind", tasks.KINDS)
def test_every_setting_has_a_meaning(kind):
    defaults = tasks.defaults(kind)
    without = [
        text for text in declared.described(defaults, defaults) if len(text.splitlines()) < 3
    ]
    assert without == []


def test_the_help_of_training_lists_every_setting():
    done = ready.run([sys.executable, "-m", "dr_tfx.cli.train", "--help"])
    assert done.returncode == 0
    defaults = tasks.defaults("binary")
    for paragraph in declared.described(defaults, defaults):
        assert f"--{paragraph.splitlines()[0]}\n" in done.stdout


def test_words_that_no_setting_has_are_said():
    code, text, said = shown("nonsense")
    assert code == 1 and not text
    assert said == "error: no setting is called or described so: nonsense\n"
