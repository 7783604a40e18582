"""Trains a model on a data set that drtfx-build-examples wrote.

Writes into --workdir: model.keras and bundle.json (all that is needed to score a raw photograph),
model.weights.h5, history.csv, checkpoints/ and tensorboard/. Kill it and give the same command
again: it goes on after the last finished epoch.

Example:

    drtfx-train --config=configs/dr_binary.py --data_dir=DATA --workdir=RUN

Any setting can be changed on the command line:

    drtfx-train --config=configs/dr_binary.py --data_dir=DATA --workdir=RUN \\
        --config.training.epochs=2 --config.model.weights=none

Backbone weights, --config.model.weights: imagenet (downloaded), none (from scratch), or the path
of a Keras .weights.h5 file. Precision, --config.training.precision: auto, float32, mixed_float16
or mixed_bfloat16.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from dr_tfx import console, specs

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, for example configs/dr_binary.py.", lock_config=True
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder written by drtfx-build-examples.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the run; created if missing.")


def main(argv: Sequence[str]) -> None:
    """Flags plus one call."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}.")
    try:
        experiment = specs.from_config(_CONFIG.value)
        from dr_tfx import train  # Here, so that --help and a wrong config do not wait.

        workdir = train.train(
            experiment, data_dir=Path(_DATA_DIR.value), workdir=Path(_WORKDIR.value)
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(workdir)


def run() -> None:
    """The console script."""
    flags.mark_flags_as_required(["config", "data_dir", "workdir"])
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
