"""Show the settings of a config: the value, type, range, default and meaning of each.

    drtfx-config                            # the defaults of a binary task
    drtfx-config --config=base:grades       # those of another kind of task
    drtfx-config --config=dr_binary         # a config that comes with dr_tfx
    drtfx-config --config=own.py rate fold  # the settings that have these words in name or meaning

A setting is changed in a file or on the command line, as --config.training.epochs=2, here as for
the commands that build and train. Where the value is not the default, the default is shown too.
"""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from dr_tfx import tasks
from dr_tfx.cli import console, run_settings
from dr_tfx.config import declared, specs

_CONFIG = run_settings.define(default="base")
_WIDTH = 100


def main(argv: Sequence[str]) -> None:
    """Print the settings that the words choose.

    Raises:
      ValueError: they choose none.
    """
    words = [word.lower() for word in argv[1:]]
    experiment = tasks.from_config(_CONFIG.value)
    parts = [text for text in _described(experiment) if all(w in text.lower() for w in words)]
    if not parts:
        raise ValueError(f"no setting is called or described so: {' '.join(argv[1:])}")
    print("\n\n".join(parts))


def _described(experiment: specs.Experiment) -> Iterator[str]:
    defaults = tasks.defaults(experiment.task.kind)
    for group in declared.settings(specs.Experiment):
        record, default = getattr(experiment, group.name), getattr(defaults, group.name)
        yield from _group(record, default, f"config.{group.name}")


def _group(record: Any, default: Any, path: str) -> Iterator[str]:
    """Yield a paragraph on each setting of a record, and of the records in it."""
    for setting in declared.settings(type(record)):
        name = f"{path}.{setting.name}"
        value, usual = getattr(record, setting.name), getattr(default, setting.name)
        if setting.is_group:
            yield from _group(value, usual, name)
            continue
        by_default = f"; by default {usual!r}" if value != usual else ""
        lines = [f"{name} = {value!r}"]
        for text in (f"{setting.annotation}{by_default}", setting.comment):
            lines += textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")
        yield "\n".join(lines)


def run() -> None:
    """Run the console script."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
