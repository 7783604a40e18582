"""Reads raw photographs with a trained model.

    drtfx-predict --workdir=RUN eye.jpeg other_eye.png
    drtfx-predict --workdir=RUN folder/of/photographs more.zip --output_dir=OUT
    drtfx-predict --model=EXPORT eye.jpeg

RUN is the folder that training wrote, and EXPORT one that drtfx-export made of it: that needs no
TensorFlow, but the extra dr_tfx[onnx], starts in a second and gives the same answers. An export in
another format needs what runs it: dr_tfx[openvino], dr_tfx[litert] or, for a saved_model,
dr_tfx[train]; a saved_model is a program, and one of a stranger is not to be trusted. The
photographs need no preparation: the command prepares them as the training photographs were
prepared. A folder stands for all photographs in it, any number of folders down, a .zip archive for
those in it, and a quoted pattern such as 'raw/*/*.jpeg' for those that match.

The command prints a table with one row a photograph: its name and what the model says of it. For a
task of two classes that is

    probability  the score after the calibration that drtfx-evaluate fitted on validation; a dash
                 if there was no evaluation yet. The report says how far it can be believed, under
                 "Can a score be read as a probability?".
    probability_threshold  the probability from which the decision is the second class
    score        the model's own output
    threshold    the score from which the decision is the second class; both thresholds say the same
    decision     the class

--masks_dir=MASKS adds `cup_to_disc`, the vertical cup-to-disc ratio, for photographs of the retina
whose optic disc and cup were outlined: MASKS/OD/NAME.png is not 0 on the disc of the photograph
NAME, and MASKS/OC/NAME.png on its cup, as drtfx-synthesize --condition=glaucoma writes them.

--lesions=LESIONS is a run that marks lesions, such as one of --config=lesions: its outlines stand
beside the heat map, and the table has for each kind how many marks there are and their share of the
picture, together and in each quadrant. The same is told of a RUN that marks lesions itself, whose
figures show its outlines.

OUT (RUN/predictions or EXPORT/predictions if not given) receives

    predictions.csv  the same table, written row by row, so that what was read before the command
                     was stopped is there
    figures/         of every photograph what the model sees, the heat map of the places that raised
                     the score, the two overlaid, and what is marked; --nofigures leaves them out,
                     which saves most of the time and 250 kB a photograph
    predict.json     how the predictions were made

A photograph that cannot be read is listed as rejected, with the reason, and the others are still
read. Nothing is written over a photograph, or into a folder that holds somebody else's files of
these names. The exit code is 1 if none could be read. The last line printed is OUT.

--method says how heat maps are made: gradcam (as in the published recipe), gradcam++, hirescam, or
occlusion, which hides one square of the photograph after the other and takes some hundred times as
long. An export draws gradcam alone. --colormap=jet draws them as the published recipe does; the
default colours are easier to read correctly, also for people who do not see all colours.

A model that was trained on arrays (--npy_images) reads no photographs, because nobody knows how the
arrays were prepared.

Research software, not a medical device: no result is a diagnosis.
"""

import collections
import contextlib
import dataclasses
import itertools
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags

from dr_tfx import tasks
from dr_tfx.cli import console
from dr_tfx.config import specs
from dr_tfx.machine import interrupts, progress, tensorflow_start
from dr_tfx.preprocessing import mask_files, optic_disc
from dr_tfx.sources import given, refusals
from dr_tfx.storage import locks, seen_text

if TYPE_CHECKING:
    from dr_tfx.explanation import figures, lesions
    from dr_tfx.explanation import photographs as explained_photographs
    from dr_tfx.inference import photographs, prediction_files
    from dr_tfx.models import bundles

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.")
_MODEL = flags.DEFINE_string("model", None, "Folder of an exported model, in place of --workdir.")
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the results; predictions/ in that of the model if not given."
)
_FIGURES = flags.DEFINE_bool(
    "figures", True, "Draw a figure of every photograph, with its heat map."
)
_LANG = flags.DEFINE_enum("lang", *console.LANGUAGE)
_METHOD = flags.DEFINE_enum(
    "method", specs.METHODS[0], specs.METHODS, "How the heat maps are made."
)
_AVERAGE_VIEWS = flags.DEFINE_bool(
    "average_views",
    False,
    "Make each heat map the mean over the views of evaluation.views, as the score is.",
)
_MASKS_DIR = flags.DEFINE_string(
    "masks_dir", None, "Folder of masks of the optic disc, OD, and of its cup, OC."
)
_LESIONS = flags.DEFINE_string(
    "lesions", None, "Folder of a run that marks lesions, to tell and show those besides."
)
_COLORMAP = flags.DEFINE_enum(
    "colormap", specs.COLORMAPS[0], specs.COLORMAPS, "Colours of the heat maps."
)

_FLAGS = refusals.BUILD_FLAGS | {"image_dir": "PHOTOGRAPHS"}
_DISC, _RATIO = ("OD", "OC"), "cup_to_disc"
_DECISIONS_SAID = 6  # Most that are counted at the end.
_WIDTH = 11  # Characters of a column of the table.


def main(argv: Sequence[str]) -> None:
    """Read the photographs that the arguments name; print the table, then the folder."""
    if len(argv) < 2:
        raise app.UsageError("no photographs given")
    folder = _model_folder()
    output_dir = Path(_OUTPUT_DIR.value or folder / "predictions")
    try:
        found = given.photographs(argv[1:])
        given.check_apart(found, output_dir)
    except refusals.UnusableInput as error:
        sys.exit(f"error: {error.told(_FLAGS)}")
    model = _exported(folder) if _MODEL.value else _bundle(folder)
    if _LESIONS.value:
        model = dataclasses.replace(model, mark=lambda: _beside(Path(_LESIONS.value)))
    with locks.held(output_dir):
        rejected = _read(model, found, output_dir)
    print(output_dir)
    if rejected == len(found):
        sys.exit(1)


@dataclasses.dataclass(frozen=True)
class _Model:
    """A bundle or an export, with what it is read by.

    Attributes:
      folder: its own.
      experiment: the settings of the run.
      alarms: those of the run's evaluations.
      read: returns a reader of photographs.
      explain: returns a reader that draws heat maps besides; None of a model that gives maps.
      mark: returns a reader that outlines lesions; None where nothing marks them.
    """

    folder: Path
    experiment: specs.Experiment
    alarms: Sequence[str]
    read: "Callable[[], photographs.PhotographReader]"
    explain: "Callable[[], explained_photographs.PhotographExplainer] | None"
    mark: "Callable[[], lesions.LesionMarker] | None" = None


def _model_folder() -> Path:
    """Return the folder of the model.

    Raises:
      UsageError: neither a run nor an export is given, both are, or a setting that an export lacks.
    """
    if (_WORKDIR.value is None) == (_MODEL.value is None):
        raise app.UsageError(
            "expected either --workdir=RUN, the folder of a training, or --model=EXPORT, what "
            "drtfx-export made of one"
        )
    if _MODEL.value and (_METHOD.value != specs.METHODS[0] or _AVERAGE_VIEWS.value):
        raise app.UsageError(
            f"an exported model draws heat maps by {specs.METHODS[0]} of the photograph as it is; "
            "--method and --average_views need --workdir"
        )
    return Path(_WORKDIR.value or _MODEL.value)


def _bundle(workdir: Path) -> _Model:
    """Load a bundle; say what a reader of the table should know about it."""
    from dr_tfx.models import bundle_file

    bundle_file.read(workdir)  # What is none is told before TensorFlow is loaded.
    tensorflow_start.load()
    # Imported here, so that --help does not load TensorFlow.
    from dr_tfx.evaluation import known_alarms
    from dr_tfx.explanation import explainer
    from dr_tfx.explanation import photographs as explained_photographs
    from dr_tfx.inference import photographs, scoring
    from dr_tfx.models import bundles

    bundle = bundles.load(workdir)
    if bundle.fitted is None:
        print(
            f"note: {workdir} was not evaluated on validation yet, so that nothing is fitted. "
            f"{bundle.kind.scores.rule(None)} Run drtfx-evaluate --split=validation.",
            file=sys.stderr,
        )
    found = known_alarms.of_run(workdir)
    for folder, alarms in found.items():
        _say(alarms, f"the evaluation on {folder.name}", f"See {folder / 'report.html'} before")

    def explain() -> "explained_photographs.PhotographExplainer":
        return explained_photographs.PhotographExplainer(
            explainer.Explainer(bundle, _METHOD.value, average_views=_AVERAGE_VIEWS.value)
        )

    return _Model(
        workdir,
        bundle.experiment,
        [alarm for alarms in found.values() for alarm in alarms],
        lambda: photographs.PhotographReader(scoring.BundleReader(bundle)),
        explain if bundle.kind.scores.explained else None,
        None if bundle.kind.scores.explained else lambda: _marker(bundle),
    )


def _marker(bundle: "bundles.Bundle") -> "lesions.LesionMarker":
    """Return what marks lesions.

    Raises:
      ValueError: the model marks no lesions.
    """
    from dr_tfx.explanation import lesions
    from dr_tfx.inference import scoring

    return lesions.LesionMarker(scoring.BundleReader(bundle))


def _beside(workdir: Path) -> "lesions.LesionMarker":
    """Return what marks lesions beside the model.

    Raises:
      FileNotFoundError, ValueError: the folder holds no run, or one that marks no lesions.
    """
    from dr_tfx.models import bundle_file

    bundle_file.read(workdir)
    tensorflow_start.load()
    from dr_tfx.models import bundles

    return _marker(bundles.load(workdir))


def _exported(folder: Path) -> _Model:
    """Load an export; say the alarms of the run that it was made of."""
    from dr_tfx.inference import exported, photographs

    model = exported.load(folder)
    if model.alarms:
        _say(model.alarms, "the run's evaluation", "See its report before")

    def explain() -> "explained_photographs.PhotographExplainer":
        from dr_tfx.explanation import photographs as explained_photographs

        return explained_photographs.PhotographExplainer(model)

    return _Model(
        folder,
        model.experiment,
        model.alarms,
        lambda: photographs.PhotographReader(model),
        explain,
    )


def _say(alarms: Sequence[str], whose: str, see: str) -> None:
    """Print the first alarm, and how many more there are."""
    more = f" ({len(alarms) - 1} more)" if len(alarms) > 1 else ""
    print(f"ALARM of {whose}: {alarms[0]}{more} {see} you rely on this model.", file=sys.stderr)


def _read(model: _Model, found: Sequence[given.GivenPhotograph], output_dir: Path) -> int:
    """Read photographs, print and write a row of each, and return how many were rejected."""
    from dr_tfx.inference import prediction_files

    masks = mask_files.open_folder(_MASKS_DIR.value, _DISC) if _MASKS_DIR.value else None
    marker = model.mark() if model.mark else None
    printed: Sequence[str] = tasks.of(model.experiment).scores.answer_names
    counted = [f"count_{kind}" for kind in marker.kinds] if marker else []
    printed = [*printed, *([_RATIO] if masks else []), *counted]
    names = list(dict.fromkeys([*printed, *(marker.names if marker else [])]))
    decided, rejected = collections.Counter[str](), 0
    made = {
        "workdir" if _WORKDIR.value else "model": str(model.folder),
        "views": list(model.experiment.evaluation.views),
        "method": _METHOD.value if _FIGURES.value and model.explain else None,
        **({"lesions": _LESIONS.value} if _LESIONS.value else {}),
        "alarms": list(model.alarms),
    }
    predictions = prediction_files.PredictionFiles(output_dir, names, made)
    width = max(len("photograph"), *(len(seen_text.printable(one.shown)) for one in found))
    widths = [max(_WIDTH, len(name)) for name in printed]
    heads = (f"{name:>{room}}" for name, room in zip(printed, widths, strict=True))
    print(f"{'photograph':<{width}}  {'  '.join(heads)}")
    # The rows show how far the work is too; a bar in a file would only part them.
    with (
        _told_how_far(predictions, len(found)),
        progress.bar(total=len(found), unit="photograph", title="predict") as bar,
    ):
        for one, figure, marks in _readings(model, marker, found):
            measured = marks | (_measured(one.name, masks) if masks else {})
            with interrupts.noted() as stopped:  # A figure and its row are there, or neither is.
                row = predictions.add(one, figure, measured)
            rejected += bool(one.rejected)
            decided.update([one.reading.decision] if one.reading else [])
            texts = prediction_files.cells([row[name] for name in printed])
            cells = (f"{cell:>{room}}" for cell, room in zip(texts, widths, strict=True))
            bar.write(
                f"{row['photo']:<{width}}  {'  '.join(cells)}{_warning(row)}", file=sys.stdout
            )
            sys.stdout.flush()
            bar.update()
            if stopped():
                raise KeyboardInterrupt
    predictions.finish({"read": len(found) - rejected, "rejected": rejected})
    print(_in_short(decided, rejected), file=sys.stderr)
    return rejected


def _in_short(decided: Mapping[str, int], rejected: int) -> str:
    """Return how many photographs were read, and what was decided how often."""
    read = sum(decided.values())
    told = f"{read:,} photograph{'s' * (read != 1)} read"
    if 0 < len(decided) <= _DECISIONS_SAID:  # Lists of lesions are hardly ever alike.
        by_number = sorted(decided.items(), key=lambda pair: -pair[1])
        told += ": " + ", ".join(f"{n:,} {seen_text.printable(name)}" for name, n in by_number)
    return told + f"; {rejected:,} rejected" * bool(rejected)


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
    model: _Model, marker: "lesions.LesionMarker | None", found: Sequence[given.GivenPhotograph]
) -> Iterator[tuple["photographs.ReadPhotograph", bytes | None, dict[str, Any]]]:
    """Yield what the model says of each photograph, with a figure and what is marked, if any is.

    The figure is a PNG.
    """
    if marker and not model.explain:  # The model itself marks lesions.
        for marks in marker(found):
            is_drawn = _FIGURES.value and not marks.rejected
            yield marks, marker.figure(marks) if is_drawn else None, marker.measured(marks)
        return
    beside = _marks(marker, found) if marker else itertools.repeat(({}, None))
    if not (_FIGURES.value and model.explain):
        for read, (measured, _) in zip(model.read()(found), beside, strict=False):
            yield read, None, measured
        return
    explain = model.explain()
    for one, (measured, outlined) in zip(explain(found), beside, strict=False):
        figure = None
        if not one.rejected:
            figure = explain.figure(one, colormap=_COLORMAP.value, outlined=outlined)
        yield one, figure, measured


def _marks(
    marker: "lesions.LesionMarker", found: Sequence[given.GivenPhotograph]
) -> Iterator[tuple[dict[str, Any], "figures.Outlined | None"]]:
    """Yield what is marked in each photograph, in numbers and outlined."""
    for marks in marker(found):  # What the one recipe takes, the other may reject.
        yield marker.measured(marks), None if marks.rejected else marker.outlined(marks)


def _measured(photograph: str, masks: mask_files.MaskFolder) -> dict[str, float | None]:
    """Return the cup-to-disc ratio by the masks of a photograph; None without both.

    Raises:
      ValueError: a mask cannot be read, or the two differ in size.
    """
    paths = masks.find(unicodedata.normalize("NFC", Path(photograph).stem))
    if set(paths) != set(_DISC):
        return {_RATIO: None}
    outlined = mask_files.read(paths)
    disc, cup = (outlined[kind] for kind in _DISC)
    return {_RATIO: optic_disc.cup_to_disc(disc, cup)}


def _warning(row: Mapping[str, Any]) -> str:
    rejected = f"  rejected ({row['rejected']})" if row["rejected"] else ""
    ungradable = f"  ungradable: {row['ungradable']}" if row["ungradable"] else ""
    return seen_text.printable(rejected + ungradable)


def run() -> None:
    """Start the command."""
    console.run(main, module=__name__, doc=__doc__, decodes=True)


if __name__ == "__main__":
    run()
