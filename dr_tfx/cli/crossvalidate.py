"""Train and evaluate a model on every fold of a data set, for sets too small to spare a test.

    drtfx-build-examples --config=dr_binary --config.dataset.split.folds=5 \\
        --image_dir=RAW --labels=RAW/labels.csv --output_dir=DATA
    drtfx-crossvalidate --config=dr_binary --data_dir=DATA --workdir=CV

The folds are trained one after the other: fold K is tested by a model that was trained on the
others, but for the next fold, which chooses epoch, thresholds and calibration. The same command
again goes on where it was interrupted, and skips the folds that are finished.

WORKDIR/fold-K/ is the run of one fold, as drtfx-train and drtfx-evaluate write it, and can be
explained, compared and used like any other. WORKDIR/out_of_fold/ has report.html, metrics.json and
predictions.csv over all photographs. The last line printed is the path of the report. To use
several machines, train single folds with drtfx-train --fold=K --workdir=WORKDIR/fold-K first.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from dr_tfx.cli import console, data_folder, run_settings
from dr_tfx.machine import resources, tensorflow_start

_CONFIG = run_settings.define()
flags.declare_key_flag("config")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, f"Folder of a data set with folds. {data_folder.WHERE}"
)
flags.adopt_module_key_flags(data_folder)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the runs and of the report; created if it is missing."
)
_LANG = flags.DEFINE_enum("lang", *console.LANGUAGE)


def main(argv: Sequence[str]) -> None:
    """Read the flags and make one call."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    data_dir = data_folder.local(_DATA_DIR.value)
    experiment = run_settings.read(_CONFIG, data_dir)
    resources.tune_malloc()
    tensorflow_start.load()
    # Late, so that --help and refusals are fast.
    from dr_tfx.evaluation import crossvalidate, headline
    from dr_tfx.models import bundle_file

    page = crossvalidate.crossvalidate(
        experiment,
        data_dir=data_dir,
        workdir=Path(_WORKDIR.value),
        config=bundle_file.Config(*run_settings.unchanged(_CONFIG)),
    )
    print(headline.of_folds(page.parent, experiment), file=sys.stderr)
    print(page)
    runs = [str(folder) for folder in sorted(Path(_WORKDIR.value).glob("fold-*"))]
    console.tell_next("drtfx-ensemble", *runs, f"--output_dir={_WORKDIR.value}/ensemble")


def run() -> None:
    """Run the command; its console script calls this."""
    flags.mark_flags_as_required(["config", "data_dir", "workdir"])
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
