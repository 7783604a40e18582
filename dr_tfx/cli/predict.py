"""Reads raw photographs with a trained model.

    drtfx-predict --workdir=RUN eye.jpeg other_eye.png
    drtfx-predict --workdir=RUN folder/of/photographs more.zip --output_dir=OUT
    drtfx-predict --workdir=RUN --image_dir=folder/of/photographs --output_dir=OUT
    drtfx-predict --model=EXPORT eye.jpeg

RUN is the folder that training wrote, and EXPORT one that drtfx-export made of it: that needs no
TensorFlow, but the extra dr_tfx[onnx], starts in a second and gives the same answers. An export in
another format needs what runs it: dr_tfx[openvino], dr_tfx[litert] or, for a saved_model,
dr_tfx[train]; a saved_model is a program, and one of a stranger is not to be trusted. The
photographs need no preparation: the command prepares them as the training photographs were
prepared. A folder stands for all photographs in it, any number of folders down, a .zip archive for
those in it, and a quoted pattern such as 'raw/*/*.jpeg' for those that match. For a model of head
CT, a DICOM file of several frames stands for its slices, called series.dcm/frame_0001 and so on.

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

--lesions=LESIONS is a run that marks lesions, such as one of --config=lesions, or an export of one:
its outlines stand beside the heat map, and the table has for each kind how many marks there are and
their share of the picture, together and in each quadrant. The same is told of a RUN or EXPORT that
marks lesions itself, whose figures show its outlines.

OUT (RUN/predictions or EXPORT/predictions if not given) receives

    predictions.csv  the same table, written row by row, so that what was read before the command
                     was stopped is there
    figures/         of every photograph what the model sees, the heat map of the places that raised
                     the score, the two overlaid, and what is marked; --nofigures leaves them out,
                     which saves most of the time and 250 kB a photograph
    drift.html       whether the photographs are like those of validation, or camera or population
                     seem to be others; the sentence is printed, too
    predict.json     how the predictions were made

A command that was interrupted goes on when it is given again: what has a row keeps it. --watch
waits for photographs that come into the folders given, and answers each once, also after it was
stopped and started again.

Many photographs are read as an Apache Beam job, whose flags the command then takes: by all cores of
this machine, by several processes, or by a Dask cluster that sees all folders as this machine does.
Photographs are named by --image_dir, no figures are drawn (drtfx-explain draws heat maps of many),
and the rows move into predictions.csv when all are there:

    drtfx-predict --workdir=RUN --image_dir=FOLDER --output_dir=OUT --runner=DirectRunner
    drtfx-predict ... --runner=DaskRunner --dask_client_address=tcp://SCHEDULER:8786

--dicom_results writes DICOM objects for an archive of images (PACS), of every photograph that is a
DICOM file of one frame: OUT/dicom/NAME-sr.dcm, a Structured Report of the answer, counts and areas,
and, where something marks lesions, OUT/dicom/NAME-seg.dcm, a Segmentation with a segment a kind.
They name the patient, as the original does; nothing else in OUT does. It needs dr_tfx[dicom].

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

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags

from dr_tfx.cli import console, opened_models
from dr_tfx.config import specs
from dr_tfx.preprocessing import mask_files, optic_disc
from dr_tfx.sources import given, refusals
from dr_tfx.storage import locks

if TYPE_CHECKING:
    from dr_tfx.explanation import answering

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.")
_MODEL = flags.DEFINE_string("model", None, "Folder of an exported model, in place of --workdir.")
_IMAGE_DIR = flags.DEFINE_list(
    "image_dir",
    [],
    "The same as words without a flag: photographs, folders, quoted patterns, .zip archives.",
)
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
    "lesions", None, "Folder of a run, or of an export, that marks lesions, to show those besides."
)
_DICOM_RESULTS = flags.DEFINE_bool(
    "dicom_results",
    False,
    "Write a DICOM Segmentation and Structured Report of every photograph that is a DICOM file.",
)
_WATCH = flags.DEFINE_bool(
    "watch", False, "Wait for photographs in the folders given, until Ctrl-C or SIGTERM."
)
_COLORMAP = flags.DEFINE_enum(
    "colormap", specs.COLORMAPS[0], specs.COLORMAPS, "Colours of the heat maps."
)

_FLAGS = refusals.BUILD_FLAGS | {"image_dir": "PHOTOGRAPHS"}


def main(argv: Sequence[str]) -> None:
    """Read the photographs that the arguments name; print the table, then the folder."""
    places = [*_IMAGE_DIR.value, *argv[1:]]
    if not places:
        raise app.UsageError("no photographs given")
    folder = model_folder()
    output_dir = Path(_OUTPUT_DIR.value or folder / "predictions")
    recipe = recipe_of(folder)
    try:
        found = [] if _WATCH.value else _given(places, output_dir, recipe)
    except refusals.UnusableInput as error:
        sys.exit(f"error: {error.told(_FLAGS)}")
    model = opened(folder)
    if _LESIONS.value:
        model = dataclasses.replace(model, mark=lambda: opened_models.beside(Path(_LESIONS.value)))
    from dr_tfx.explanation import answering  # Here, so that --help is quick.

    with locks.held(output_dir):
        answers = answering.Answering(
            model,
            output_dir,
            is_drawn=_FIGURES.value,
            colormap=_COLORMAP.value,
            masks=_masks(),
            has_objects=_DICOM_RESULTS.value,
            made=made(folder, model),
        )
        if _WATCH.value:
            answers.watch(lambda: _there(places, output_dir, recipe))
        else:
            answers(found)
            answers.files.finish()
        told = model.drifted(answers.files, answers.kept)
    print(told, file=sys.stderr)
    print(answers.files.in_short(), file=sys.stderr)
    print(output_dir)
    if not (answers.files.decided() or _WATCH.value):
        sys.exit(1)


def recipe_of(folder: Path) -> specs.Recipe:
    """Return the recipe of the model, from its JSON file alone.

    Raises:
      FileNotFoundError, ValueError: the folder holds no model, or a damaged one.
    """
    from dr_tfx.models import bundle_file, export_file  # Here, so that --help is quick.

    if _MODEL.value:
        return export_file.read(folder).experiment.dataset.recipe
    return bundle_file.experiment(bundle_file.read(folder), folder).dataset.recipe


def _given(
    arguments: Sequence[str], output_dir: Path, recipe: specs.Recipe
) -> list[given.GivenPhotograph]:
    """Return the photographs that arguments name, as the recipe takes them.

    Raises:
      UnusableInput: there are none, or one lies in the folder of the results.
    """
    found = given.photographs(arguments, recipe)
    given.check_apart(found, output_dir)
    return found


def _there(
    arguments: Sequence[str], output_dir: Path, recipe: specs.Recipe
) -> list[given.GivenPhotograph]:
    """Return the photographs that are in watched folders now.

    Raises:
      UnusableInput: one lies in the folder of the results.
    """
    found = []
    for folder in arguments:
        with contextlib.suppress(refusals.UnusableInput, FileNotFoundError):  # It is empty as yet.
            found += given.photographs([folder], recipe)
    given.check_apart(found, output_dir)
    return found


def _masks() -> mask_files.MaskFolder | None:
    """Return the masks of the optic disc and its cup, if there are any."""
    given_folder = _MASKS_DIR.value
    return mask_files.open_folder(given_folder, optic_disc.MASKS) if given_folder else None


def model_folder() -> Path:
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


def made(folder: Path, model: "answering.AnsweringModel") -> dict[str, str | None]:
    """Return how the predictions are made, besides what the model says of that."""
    return {
        "workdir" if _WORKDIR.value else "model": str(folder),
        "method": _METHOD.value if _FIGURES.value and model.explain else None,
        "lesions": _LESIONS.value,
    }


def opened(folder: Path) -> "answering.AnsweringModel":
    """Load the model of a folder; say what a reader of the table should know about it.

    Raises:
      FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    if _MODEL.value:
        return opened_models.of_export(folder)
    return opened_models.of_run(folder, _METHOD.value, average_views=_AVERAGE_VIEWS.value)


def run() -> None:
    """Start the command."""
    console.run(main, module=__name__, doc=__doc__, decodes=True)


if __name__ == "__main__":
    run()
