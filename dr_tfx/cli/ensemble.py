"""Join several trained runs to one model: the mean of their calibrated probabilities, or maps.

    drtfx-ensemble --output_dir=ENSEMBLE RUN_A RUN_B RUN_C
    drtfx-ensemble --output_dir=ENSEMBLE CV/fold-*

RUN_A, RUN_B, ... are folders that drtfx-train wrote, and that drtfx-evaluate has evaluated on
validation. They are of one task, were trained on one data set and look at photographs in the same
views; seeds, backbones and trainings may differ. ENSEMBLE receives a bundle like that of a run,
which is evaluated, explained, compared and used by the same commands:

    drtfx-evaluate --workdir=ENSEMBLE --data_dir=DATA --split=validation
    drtfx-evaluate --workdir=ENSEMBLE --data_dir=DATA --split=test

The runs of all folds of a cross-validation can be joined, too. Then each photograph of the data set
was trained on by some of them: thresholds and calibration are fitted out of fold, evaluations on
that data set are refused, and only other photographs can test the ensemble. The last line printed
is the folder.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from dr_tfx.cli import console
from dr_tfx.machine import resources, tensorflow_start

_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder of the ensemble; created if it is missing."
)
_LANG = flags.DEFINE_enum("lang", *console.LANGUAGE)


def main(argv: Sequence[str]) -> None:
    """Turn flags into one call, and print the folder as the last line."""
    if len(argv) < 3:
        raise app.UsageError(f"expected two runs or more, RUN_A RUN_B; got {len(argv) - 1}")
    resources.tune_malloc()
    tensorflow_start.load()
    from dr_tfx.evaluation import ensemble  # Late, so that --help and refusals are fast.

    folders = [Path(folder) for folder in argv[1:]]
    print(ensemble.ensemble(folders, output_dir=Path(_OUTPUT_DIR.value)))


def run() -> None:
    """Run the command; its console script calls this."""
    flags.mark_flags_as_required(["output_dir"])
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
