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


def main(argv: Sequence[str]) -> None:
    """Reads the photographs that the arguments name; prints the table, then the folder."""
    if len(argv) < 2:
        raise app.UsageError("no photographs given")
    # Here, so that --help does not wait for TensorFlow.
    from dr_tfx.explanation import explainer, photographs
    from dr_tfx.models import models

    workdir = Path(_WORKDIR.value)
    output_dir = Path(_OUTPUT_DIR.value or workdir / "predictions")
    paths = photographs.find(argv[1:])
    readings = []
    try:
        bundle = models.load_bundle(workdir)
        if bundle.threshold is None:
            print(
                f"note: {workdir} has no threshold yet; {explainer.DEFAULT_THRESHOLD} is used. "
                "drtfx-evaluate --split=validation chooses one, and calibrates the score.",
                file=sys.stderr,
            )
        found = photographs.read_all(
            bundle,
            paths,
            output_dir=output_dir,
            method=_METHOD.value,
            average_views=_AVERAGE_VIEWS.value,
            colormap=_COLORMAP.value,
        )
        width = max(len("photograph"), *(len(str(path)) for path in paths))
        print(f"{'photograph':<{width}}  probability  score  decision")
        for reading in found:
            readings.append(reading)
            print(f"{reading.photo:<{width}}  {_result(reading)}", flush=True)
        photographs.write_table(readings, output_dir)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(output_dir)
    if all(reading.rejected for reading in readings):
        sys.exit(1)


def _result(reading: "photographs.Reading") -> str:
    """What follows the photograph's name in its row."""
    if reading.rejected:
        return f"{'-':>11}  {'-':>5}  rejected ({reading.rejected})"
    warning = f", ungradable: {reading.ungradable}" if reading.ungradable else ""
    decision = f"{reading.decision} (threshold of the score {reading.threshold:.3f}{warning})"
    probability = "-" if reading.probability is None else f"{reading.probability:.3f}"
    return f"{probability:>11}  {reading.score:5.3f}  {decision}"


def run() -> None:
    """The console script."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
