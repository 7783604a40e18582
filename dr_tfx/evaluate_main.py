"""Evaluates a trained model on one split of a data set and writes a report.

    drtfx-evaluate --workdir=WORKDIR --data_dir=DATA_DIR --split=validation
    drtfx-evaluate --workdir=WORKDIR --data_dir=DATA_DIR --split=test

WORKDIR is what training wrote, DATA_DIR what build_examples wrote. Run `validation` first: it
chooses the thresholds above which a score counts as positive, fits the calibration, and stores both
in WORKDIR. Every other split uses what is stored. Figures on `validation` are optimistic, since
all that and the checkpoint were chosen there; believe those on `test`.

The operating points are settings of `evaluation`: accuracy, Youden's, one for each sensitivity in
`min_sensitivity` and each specificity in `min_specificity`; `threshold_rule` says which decides.

Results go to WORKDIR/evaluation/<split>/: report.html (open it in any browser, it needs no
network), metrics.json, predictions.csv (one row an image) and the figures as PNG. The last line
printed is the path of the report. Alarms, such as a model that always gives the same answer, are
logged and stand at the top of the page.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from dr_tfx import console

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the data set.", required=True)
_SPLIT = flags.DEFINE_string("split", "validation", "Split to evaluate; validation comes first.")


def main(argv: Sequence[str]) -> None:
    """Flags to one call; prints the path of the report as the last line."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    from dr_tfx import evaluate  # Here, so that --help does not wait for TensorFlow.

    try:
        page = evaluate.evaluate(
            workdir=Path(_WORKDIR.value), data_dir=Path(_DATA_DIR.value), split=_SPLIT.value
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(page)


def run() -> None:
    """The console script."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
