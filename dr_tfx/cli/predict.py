"""Reads raw photographs with a trained model.

    drtfx-predict --workdir=RUN eye.jpeg other_eye.png
    drtfx-predict --workdir=RUN folder/of/photographs --output_dir=OUT

RUN is what training wrote. The photographs need no preparation: what was done to the training
photographs is done to them; a model of arrays (--npy_images), of which that is not known, is
refused. A folder stands for the photographs directly in it.

Prints a table: photograph, probability, score, decision. The score is the model's own, and what the
threshold is for; the probability is the score after the calibration that drtfx-evaluate fitted on
validation, a dash before that. How far it can be believed is in the report, under "Can a score be
read as a probability?". OUT (RUN/predictions if not given) receives the same as predictions.csv,
and a picture of every photograph: the original, the heat map of which places raised the score, and
the two overlaid. What cannot be read is listed as rejected with the reason, and the others are
still read; the exit code is 1 if none could be. The last line printed is OUT.

--method chooses how heat maps are made: gradcam (the published recipe's), gradcam++, hirescam, or
occlusion, which hides one square of the photograph after the other and takes some hundred times as
long. --colormap=jet draws them as the published recipe does; the default is read more reliably,
also by people who do not see all colours.

Research software, not a medical device: no result is a diagnosis.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags

from dr_tfx.cli import console
from dr_tfx.config import specs

if TYPE_CHECKING:
    from dr_tfx.explanation import photographs

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.", required=True)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the results; WORKDIR/predictions if not given."
)
_METHOD = flags.DEFINE_enum(
    "method", specs.METHODS[0], specs.METHODS, "How the heat maps are made."
)
_AVERAGE_VIEWS = flags.DEFINE_bool(
    "average_views", False, "Maps are means over the views of evaluation.views, as scores are."
)
_COLORMAP = flags.DEFINE_enum(
    "colormap", specs.COLORMAPS[0], specs.COLORMAPS, "Colours of the heat maps."
)


_WIDTH = 11  # Characters of a column of the table.


def main(argv: Sequence[str]) -> None:
    """Reads the photographs that the arguments name; prints the table, then the folder."""
    if len(argv) < 2:
        raise app.UsageError("no photographs given")
    # Here, so that --help does not wait for TensorFlow.
    from dr_tfx.explanation import photographs
    from dr_tfx.models import bundles

    workdir = Path(_WORKDIR.value)
    output_dir = Path(_OUTPUT_DIR.value or workdir / "predictions")
    paths = photographs.find(argv[1:])
    found = []
    try:
        bundle = bundles.load(workdir)
        if bundle.fitted is None:
            print(
                f"note: {workdir} was not evaluated on validation yet: nothing is calibrated, and "
                "decisions are at the default threshold. Run drtfx-evaluate --split=validation.",
                file=sys.stderr,
            )
        names = bundle.kind.scores.answer_names
        width = max(len("photograph"), *(len(str(path)) for path in paths))
        print(f"{'photograph':<{width}}  {'  '.join(f'{name:>{_WIDTH}}' for name in names)}")
        for one in photographs.read_all(
            bundle,
            paths,
            output_dir=output_dir,
            method=_METHOD.value,
            average_views=_AVERAGE_VIEWS.value,
            colormap=_COLORMAP.value,
        ):
            found.append(one)
            print(f"{one.photo:<{width}}  {_result(one, names)}", flush=True)
        photographs.write_table(found, names, output_dir)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(output_dir)
    if all(one.rejected for one in found):
        sys.exit(1)


def _result(one: "photographs.ReadPhotograph", names: Sequence[str]) -> str:
    """Return what follows the photograph's name in its row."""
    answer = one.reading.answer if one.reading else dict.fromkeys(names)
    cells = (f"{_cell(answer[name]):>{_WIDTH}}" for name in names)
    warning = f"  rejected ({one.rejected})" if one.rejected else ""
    warning += f"  ungradable: {one.ungradable}" if one.ungradable else ""
    return "  ".join(cells) + warning


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def run() -> None:
    """The console script."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
