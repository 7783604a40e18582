"""Reads raw photographs with a trained model.

    drtfx-predict --workdir=RUN eye.jpeg other_eye.png
    drtfx-predict --workdir=RUN folder/of/photographs more.zip --output_dir=OUT

RUN is the folder that training wrote. The photographs need no preparation: the command prepares
them as the training photographs were prepared. A folder stands for all photographs in it, any
number of folders down, a .zip archive for those in it, and a quoted pattern such as
'raw/*/*.jpeg' for those that match.

The command prints a table with one row a photograph: its name and what the model says of it. For a
task of two classes that is

    probability  the score after the calibration that drtfx-evaluate fitted on validation; a dash
                 if there was no evaluation yet. The report says how far it can be believed, under
                 "Can a score be read as a probability?".
    score        the model's own output
    decision     the class, which follows from the score and the threshold
    threshold    the score from which the decision is the second class

OUT (RUN/predictions if not given) receives

    predictions.csv  the same table, written row by row, so that what was read before the command
                     was stopped is there
    figures/         of every photograph the original, the heat map of the places that raised the
                     score, and the two overlaid; --nofigures leaves them out, which saves most of
                     the time and 250 kB a photograph
    predict.json     how the predictions were made

A photograph that cannot be read is listed as rejected, with the reason, and the others are still
read. Nothing is written over a photograph, or into a folder that holds somebody else's files of
these names. The exit code is 1 if none could be read. The last line printed is OUT.

--method says how heat maps are made: gradcam (as in the published recipe), gradcam++, hirescam, or
occlusion, which hides one square of the photograph after the other and takes some hundred times as
long. --colormap=jet draws them as the published recipe does; the default colours are easier to read
correctly, also for people who do not see all colours.

A model that was trained on arrays (--npy_images) reads no photographs, because nobody knows how the
arrays were prepared.

Research software, not a medical device: no result is a diagnosis.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags
from tqdm import tqdm

from dr_tfx.cli import console
from dr_tfx.config import specs
from dr_tfx.machine import interrupts, tensorflow_start
from dr_tfx.sources import given, refusals
from dr_tfx.storage import locks, seen_text

if TYPE_CHECKING:
    from dr_tfx.inference import photographs, prediction_files
    from dr_tfx.models import bundles

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.", required=True)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the results; WORKDIR/predictions if not given."
)
_FIGURES = flags.DEFINE_bool(
    "figures", True, "Draw a figure of every photograph, with its heat map."
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

_FLAGS = refusals.BUILD_FLAGS | {"image_dir": "PHOTOGRAPHS"}
_WIDTH = 11  # Characters of a column of the table.


def main(argv: Sequence[str]) -> None:
    """Read the photographs that the arguments name; print the table, then the folder."""
    if len(argv) < 2:
        raise app.UsageError("no photographs given")
    workdir = Path(_WORKDIR.value)
    output_dir = Path(_OUTPUT_DIR.value or workdir / "predictions")
    try:
        found = given.photographs(argv[1:])
        given.check_apart(found, output_dir)
    except refusals.UnusableInput as error:
        sys.exit(f"error: {error.told(_FLAGS)}")
    tensorflow_start.load()
    from dr_tfx.models import bundles  # Imported here, so that --help does not load TensorFlow.

    bundle = bundles.load(workdir)
    alarms = _warn(bundle, workdir)
    with locks.held(output_dir):
        rejected = _read(bundle, found, output_dir, alarms)
    print(output_dir)
    if rejected == len(found):
        sys.exit(1)


def _warn(bundle: "bundles.Bundle", workdir: Path) -> list[str]:
    """Say what a reader of the table should know about the model; return the known alarms."""
    from dr_tfx.evaluation import known_alarms

    if bundle.fitted is None:
        print(
            f"note: {workdir} was not evaluated on validation yet, so that nothing is fitted. "
            f"{bundle.kind.scores.rule(None)} Run drtfx-evaluate --split=validation.",
            file=sys.stderr,
        )
    found = known_alarms.of_run(workdir)
    for folder, alarms in found.items():
        more = f" ({len(alarms) - 1} more)" if len(alarms) > 1 else ""
        print(
            f"ALARM of the evaluation on {folder.name}: {alarms[0]}{more} See "
            f"{folder / 'report.html'} before you rely on this model.",
            file=sys.stderr,
        )
    return [alarm for alarms in found.values() for alarm in alarms]


def _read(
    bundle: "bundles.Bundle",
    found: Sequence[given.GivenPhotograph],
    output_dir: Path,
    alarms: Sequence[str],
) -> int:
    """Read photographs, print and write a row of each, and return how many were rejected."""
    from dr_tfx.inference import prediction_files

    names, rejected = bundle.kind.scores.answer_names, 0
    made = {
        "workdir": str(_WORKDIR.value),
        "views": list(bundle.experiment.evaluation.views),
        "method": _METHOD.value if _FIGURES.value else None,
        "alarms": list(alarms),
    }
    predictions = prediction_files.PredictionFiles(output_dir, names, made)
    width = max(len("photograph"), *(len(seen_text.printable(one.shown)) for one in found))
    print(f"{'photograph':<{width}}  {'  '.join(f'{name:>{_WIDTH}}' for name in names)}")
    # The rows show how far the work is too; a bar in a file would only part them.
    with (
        _told_how_far(predictions, len(found)),
        tqdm(total=len(found), desc="predict", unit="photograph", disable=None) as bar,
    ):
        for one, figure in _readings(bundle, found):
            with interrupts.noted() as stopped:  # A figure and its row are there, or neither is.
                row = predictions.add(one, figure)
            rejected += bool(one.rejected)
            printed = prediction_files.cells([row[name] for name in names])
            cells = (f"{cell:>{_WIDTH}}" for cell in printed)
            bar.write(
                f"{row['photo']:<{width}}  {'  '.join(cells)}{_warning(row)}", file=sys.stdout
            )
            sys.stdout.flush()
            bar.update()
            if stopped():
                raise KeyboardInterrupt
    predictions.finish({"read": len(found) - rejected, "rejected": rejected})
    return rejected


@contextlib.contextmanager
def _told_how_far(
    predictions: "prediction_files.PredictionFiles", photographs: int
) -> Iterator[None]:
    """Say of an interrupt how many rows are there, and that the next start writes them anew."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"interrupted. {predictions.table} has the rows of {predictions.rows:,} of "
            f"{photographs:,} photographs. The same command begins anew."
        ) from stop


def _readings(
    bundle: "bundles.Bundle", found: Sequence[given.GivenPhotograph]
) -> Iterator[tuple["photographs.ReadPhotograph", bytes | None]]:
    """Yield what the model says of each photograph, with its figure, a PNG, if there is one."""
    if not _FIGURES.value:
        from dr_tfx.inference import photographs

        for read in photographs.PhotographReader(bundle)(found):
            yield read, None
        return
    from dr_tfx.explanation import photographs as explained_photographs

    explain = explained_photographs.PhotographExplainer(
        bundle, _METHOD.value, average_views=_AVERAGE_VIEWS.value
    )
    for explained in explain(found):
        figure = None
        if not explained.rejected:
            figure = explain.figure(explained, colormap=_COLORMAP.value)
        yield explained, figure


def _warning(row: Mapping[str, Any]) -> str:
    rejected = f"  rejected ({row['rejected']})" if row["rejected"] else ""
    ungradable = f"  ungradable: {row['ungradable']}" if row["ungradable"] else ""
    return seen_text.printable(rejected + ungradable)


def run() -> None:
    """Start the command."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
