"""Compare trained models on the images that all of them were evaluated on.

    drtfx-compare --split=test RUN_A RUN_B
    drtfx-compare --split=test --output_dir=COMPARISON RUN_A RUN_B RUN_C
    drtfx-compare CV_A CV_B

RUN_A, RUN_B, ... are folders that drtfx-train wrote. Each has been evaluated on the split by
drtfx-evaluate, with what was fitted for it on `validation`, such as its threshold. Differences are
against RUN_A and paired image by image, with 95 % intervals; for a binary task that of the AUC is
by DeLong's method, and those of sensitivity and specificity are by a bootstrap over patients. Runs
of another task or on other images are refused. Photographs from elsewhere go by the name that
drtfx-evaluate --name gave them, such as --split=clinic_b.

CV_A, CV_B, ... are folders that drtfx-crossvalidate wrote, of the same folds. Fold is compared with
fold, image by image, so that all photographs of a small data set tell which way to train is better;
figures and differences are means over the folds.

compare.html (which opens in any browser and needs no network), compare.json, compare.csv and the
figures go to --output_dir, by default RUN_A/comparison/<split>-<the other runs>. The last line
printed is the path of the page.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from dr_tfx.cli import console

_SPLIT = flags.DEFINE_string("split", "test", "Split, or name, that every run was evaluated on.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder of the comparison.")
_LANG = flags.DEFINE_enum("lang", *console.LANGUAGE)


def main(argv: Sequence[str]) -> None:
    """Turn flags into one call, and print the path of the page as the last line."""
    if len(argv) < 3:
        raise app.UsageError(f"expected two runs or more, RUN_A RUN_B; got {len(argv) - 1}")
    from dr_tfx.evaluation import compare, compare_folds, headline  # Here, so that --help is quick.

    output_dir = Path(_OUTPUT_DIR.value) if _OUTPUT_DIR.value else None
    written = [f"--split={_SPLIT.value}"]
    if output_dir:
        written.append(f"--output_dir={output_dir}")
    folders = [Path(folder) for folder in argv[1:]]
    dealt = compare_folds.are_crossvalidations(folders)
    page = (compare_folds.compare_folds if dealt else compare.compare)(
        folders,
        split=_SPLIT.value,
        output_dir=output_dir,
        command=["drtfx-compare", *argv[1:], *written],
    )
    for sentence in headline.of_comparison(page.parent, compare_folds.first_run(folders[0])):
        print(sentence, file=sys.stderr)
    print(page)


def run() -> None:
    """Run the console script."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
