"""Show the settings of a config: the value, type, range, default and meaning of each.

    drtfx-config                            # the defaults of a binary task
    drtfx-config --config=base:grades       # those of another kind of task
    drtfx-config --config=dr_binary         # a config that comes with dr_tfx
    drtfx-config --config=own.py rate fold  # the settings that have these words in name or meaning

A setting is changed in a file or on the command line, as --config.training.epochs=2, here as for
the commands that build and train. Where the value is not the default, the default is shown too.
"""

from collections.abc import Sequence

from dr_tfx import tasks
from dr_tfx.cli import console, run_settings
from dr_tfx.config import declared

_CONFIG = run_settings.define(default="base")


def main(argv: Sequence[str]) -> None:
    """Print the settings that the words choose.

    Raises:
      ValueError: they choose none.
    """
    words = [word.lower() for word in argv[1:]]
    experiment = tasks.from_config(_CONFIG.value)
    texts = declared.described(experiment, tasks.defaults(experiment.task.kind))
    parts = [text for text in texts if all(word in text.lower() for word in words)]
    if not parts:
        raise ValueError(f"no setting is called or described so: {' '.join(argv[1:])}")
    print("\n\n".join(parts))


def run() -> None:
    """Run the console script."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
