"""Reads raw photographs with a trained model.

    drtfx-predict --workdir=RUN eye.jpeg other_eye.png
    drtfx-predict --workdir=RUN folder/of/photographs --output_dir=OUT

RUN is the folder that training wrote. The photographs need no preparation: the command prepares
them as the training photographs were prepared. A folder stands for the photographs directly in it.

The command prints a table with one row a photograph: its name and what the model says of it. For a
task of two classes that is

    probability  the score after the calibration that drtfx-evaluate fitted on validation; a dash
                 if there was no evaluation yet. The report says how far it can be believed, under
                 "Can a score be read as a probability?".
    score        the model's own output
    decision     the class, which follows from the score and the threshold
    threshold    the score from which the decision is the second class

OUT (RUN/predictions if not given) receives the same table as predictions.csv, and a figure of every
photograph: the original, the heat map of the places that raised the score, and the two overlaid. A
photograph that cannot be read is listed as rejected, with the reason, and the others are still
read. The exit code is 1 if none could be read. The last line printed is OUT.

--method says how heat maps are made: gradcam (as in the published recipe), gradcam++, hirescam, or
occlusion, which hides one square of the photograph after the other and takes some hundred times as
long. --colormap=jet draws them as the published recipe does; the default colours are easier to read
correctly, also for people who do not see all colours.

A model that was trained on arrays (--npy_images) reads no photographs, because nobody knows how the
arrays were prepared.

Research software, not a medical device: no result is a diagnosis.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags

from dr_tfx.cli import console
from dr_tfx.config import specs
from dr_tfx.storage import locks

if TYPE_CHECKING:
    from dr_tfx.models import bundles

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.", required=True)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the results; WORKDIR/predictions if not given."
)
_METHOD = flags.DEFINE_enum(
    "method", specs.METHODS[0], specs.METHODS, "How the heat maps are made."
)
_AVERAGE_VIEWS = flags.DEFINE_bool(
    "average_views",
    False,
    "Make each heat map the mean over the views of evaluation.views, as the score is.",
)
_COLORMAP = flags.DEFINE_enum(
    "colormap", specs.COLORMAPS[0], specs.COLORMAPS, "Colours of the heat maps."
)

_WIDTH = 11  # Characters of a column of the table.


def main(argv: Sequence[str]) -> None:
    """Read the photographs that the arguments name; print the table, then the folder."""
    if len(argv) < 2:
        raise app.UsageError("no photographs given")
    from dr_tfx.models import bundles  # Imported here, so that --help does not load TensorFlow.

    workdir = Path(_WORKDIR.value)
    output_dir = Path(_OUTPUT_DIR.value or workdir / "predictions")
    bundle = bundles.load(workdir)
    if bundle.fitted is None:
        print(
            f"note: {workdir} was not evaluated on validation yet, so that nothing is fitted. "
            f"{bundle.kind.scores.rule(None)} Run drtfx-evaluate --split=validation.",
            file=sys.stderr,
        )
    with locks.held(output_dir):
        rows = _read(bundle, argv[1:], output_dir)
    print(output_dir)
    if all(row["rejected"] for row in rows):
        sys.exit(1)


def _read(
    bundle: "bundles.Bundle", arguments: Sequence[str], output_dir: Path
) -> list[dict[str, Any]]:
    """Read and explain photographs, print a line of each, and return the rows of their table."""
    from dr_tfx.explanation import photographs as explained_photographs
    from dr_tfx.inference import photographs

    explain = explained_photographs.PhotographExplainer(
        bundle, _METHOD.value, average_views=_AVERAGE_VIEWS.value
    )
    paths, names, rows = photographs.find(arguments), bundle.kind.scores.answer_names, []
    width = max(len("photograph"), *(len(str(path)) for path in paths))
    print(f"{'photograph':<{width}}  {'  '.join(f'{name:>{_WIDTH}}' for name in names)}")
    for explained, figure in explained_photographs.write_figures(
        explain, paths, output_dir=output_dir, colormap=_COLORMAP.value
    ):
        row = explained_photographs.table_row(explained, figure, names)
        rows.append(row)
        cells = (f"{_cell(row[name]):>{_WIDTH}}" for name in names)
        print(f"{row['photo']:<{width}}  {'  '.join(cells)}{_warning(row)}", flush=True)
    explained_photographs.write_table(rows, output_dir)
    return rows


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _warning(row: dict[str, Any]) -> str:
    rejected = f"  rejected ({row['rejected']})" if row["rejected"] else ""
    return rejected + (f"  ungradable: {row['ungradable']}" if row["ungradable"] else "")


def run() -> None:
    """Start the command."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
