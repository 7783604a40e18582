r"""Evaluate a trained model on a split of its data set or on photographs from elsewhere.

    drtfx-evaluate --workdir=WORKDIR --data_dir=DATA_DIR --split=validation
    drtfx-evaluate --workdir=WORKDIR --data_dir=DATA_DIR --split=test

WORKDIR is the folder that drtfx-train wrote, DATA_DIR the one that drtfx-build-examples wrote. Run
`validation` first: it chooses the thresholds above which a score counts as positive, fits the
calibration, and stores both in WORKDIR. Every other split uses what is stored. Figures on
`validation` are optimistic, because the thresholds, the calibration and the checkpoint were chosen
there; believe those on `test`.

The settings `evaluation` of the config name the operating points: best accuracy, Youden's, one for
each sensitivity in `min_sensitivity` and each specificity in `min_specificity`. `threshold_rule`
names the one that decides.

Evaluate raw photographs of another clinic or camera, with a CSV of their labels:

    drtfx-evaluate --workdir=WORKDIR --image_dir=PHOTOS --labels=PHOTOS/labels.csv \
        --name=clinic_b --data_dir=DATA_DIR

They are prepared as the model's own were, and its threshold is used unchanged. PHOTOS is a folder
with all folders below it, a quoted pattern such as 'PHOTOS/*/*.jpeg', a .zip archive or a folder in
it, or several of these with commas between. The CSV, or what else drtfx-build-examples takes for
labels, has the columns of the model's own, unless --image_column and --label_column name others,
and labels of the same meaning; where they are written otherwise, say which is which, as in
--label_values='healthy=0,sick=1'. Every row is scored, or listed in data/rejects.csv beside the
report, with the reason: of a CSV with a column of splits, give the rows that you mean alone.
--data_dir is optional here: with the model's own data set, photographs and patients that are in
both are found and named.

--lesions=LESIONS is a run that marks lesions, such as one of --config=lesions, or an export of one:
in the report of a model that grades, the photographs that are shown stand beside the outlines of
what it marks, with the number and area of each kind of lesion, in whole and in each quadrant, which
lesions.csv has, too. It looks at the photographs themselves, where the smallest lesions are: at
those of --image_dir, or, for a split of DATA_DIR, at those that --photographs names, from which the
data set was built.

    drtfx-evaluate --workdir=WORKDIR --data_dir=DATA_DIR --split=test \
        --lesions=LESIONS --photographs=RAW

--setting gives a setting of `evaluation` in place of the one that the model was trained with, such
as --setting=batch_size=8 for less memory, or, for a model of lesions, what more contrast costs it:

    drtfx-evaluate --workdir=WORKDIR --data_dir=DATA_DIR --split=test \
        --setting='clip_limits=(1, 2, 4, 8)'

Settings that change a score are refused, as thresholds were fitted to the scores of the others.

Results go to --output_dir, by default WORKDIR/evaluation/<split or name>/: report.html, which any
browser opens without a network, metrics.json, predictions.csv with one row per image, and the
figures as PNG. The page and the figures are in English, or in Korean with --lang=ko. A WORKDIR
that cannot be written needs --output_dir. The last line printed is the path of the report. Alarms,
such as a model that always gives the same answer, are logged and stand at the top of the page.
"""

import ast
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app, flags

from dr_tfx import tasks
from dr_tfx.cli import console, data_folder
from dr_tfx.machine import tensorflow_start
from dr_tfx.models import bundle_file
from dr_tfx.sources import given, refusals

if TYPE_CHECKING:
    from dr_tfx.evaluation import lesions_beside

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the trained bundle.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, f"The folder of the model's data set. {data_folder.WHERE}"
)
flags.adopt_module_key_flags(data_folder)
_SPLIT = flags.DEFINE_string(
    "split", "validation", "The split to evaluate; validation comes first."
)
_IMAGE_DIR = flags.DEFINE_string(
    "image_dir",
    None,
    "Photographs from elsewhere: a folder, a quoted pattern, a .zip archive, or several of these "
    "with commas between.",
)
flags.DEFINE_alias("external_dir", "image_dir")  # Its former name.
_LABELS = flags.DEFINE_string(
    "labels", None, "Their labels: a CSV or Excel file, several with commas between, or 'folders'."
)
_MASKS_DIR = flags.DEFINE_string(
    "masks_dir", None, "Their masks, for a model of lesions: a folder for each kind."
)
_NAME = flags.DEFINE_string(
    "name", "", "Their name in the report; the default is that of their folder."
)
_IMAGE_COLUMN = flags.DEFINE_string(
    "image_column", None, "The column of the file names, if it is another."
)
_LABEL_COLUMN = flags.DEFINE_string(
    "label_column", None, "The column of the labels, if it is another."
)
_LABEL_VALUES = flags.DEFINE_list(
    "label_values",
    None,
    "What their labels mean, as text=label with commas between, if it is another; '': they are the "
    "model's own names or numbers.",
)
_PATIENT_COLUMN = flags.DEFINE_string(
    "patient_column", None, "The column of the patients, if it is another; '': there is none."
)
_PATIENT_PATTERN = flags.DEFINE_string(
    "patient_pattern",
    None,
    "A regex whose first group is the patient, if it is another; '': patients are not known.",
)
_LESIONS = flags.DEFINE_string(
    "lesions",
    None,
    "Folder of a run, or of an export, that marks lesions, to show those in the photographs of the "
    "report, too.",
)
_PHOTOGRAPHS = flags.DEFINE_string(
    "photographs",
    None,
    "The photographs that DATA_DIR was built from, in which --lesions looks, given like "
    "--image_dir.",
)
_SETTING = flags.DEFINE_multi_string(
    "setting",
    [],
    "NAME=VALUE of a setting of `evaluation` in place of the training's; may be given several "
    "times. It has to be one that changes no score.",
)
_LANG = flags.DEFINE_enum("lang", *console.LANGUAGE)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder of the report; WORKDIR/evaluation/<split or name> if not given."
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Prepare these photographs in the place of others of the same name."
)


def main(argv: Sequence[str]) -> None:
    """Make the call that the flags describe; print the path of the report as the last line."""
    flags.FLAGS.image_dir, words = given.unexpanded(_IMAGE_DIR.value, argv[1:])
    if words:
        raise app.UsageError(f"unexpected arguments: {' '.join(words)}")
    is_external = _IMAGE_DIR.value or _LABELS.value
    console.require("workdir", *(("image_dir", "labels") if is_external else ("data_dir",)))
    if is_external and flags.FLAGS["split"].present:
        raise app.UsageError("--split and --image_dir are both given; expected one of them")
    if _PHOTOGRAPHS.value and (is_external or not _LESIONS.value):
        raise app.UsageError("--photographs is given; expected --lesions and --data_dir beside it")
    if _LESIONS.value and not is_external:
        console.require("photographs")
    workdir, settings = Path(_WORKDIR.value), _settings()
    # A folder that holds none is told before TensorFlow is loaded.
    experiment = bundle_file.experiment(bundle_file.read(workdir), workdir)
    tensorflow_start.load()
    page = _external(settings) if is_external else _split(settings)
    from dr_tfx.evaluation import headline, reproduce

    print(headline.of(page.parent, workdir), file=sys.stderr)
    print(page)
    if not is_external and tasks.of(experiment).scores.explained:
        console.tell_next(*reproduce.explain_commands(workdir, _DATA_DIR.value, _SPLIT.value)[0])


def _output_dir() -> Path | None:
    return Path(_OUTPUT_DIR.value) if _OUTPUT_DIR.value else None


def _split(settings: Mapping[str, Any]) -> Path:
    from dr_tfx.evaluation import evaluate  # Not above: --help need not wait for TensorFlow.

    return evaluate.evaluate(
        workdir=Path(_WORKDIR.value),
        data_dir=data_folder.local(_DATA_DIR.value),
        split=_SPLIT.value,
        output_dir=_output_dir(),
        beside=_beside(_PHOTOGRAPHS.value),
        settings=settings,
    )


def _settings() -> dict[str, Any]:
    """Return what --setting gives: names and values.

    Raises:
      UsageError: one is not written so.
    """
    found = {}
    for text in _SETTING.value:
        name, _, value = text.partition("=")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise app.UsageError(
                f"--setting={text}; expected a name and a value, such as batch_size=8 or "
                "clip_limits=(1, 2, 4, 8) in quotes"
            ) from error
    return found


def _beside(photographs: str) -> "lesions_beside.LesionsBeside | None":
    """Return what marks lesions in photographs, if anything is to."""
    if not _LESIONS.value:
        return None
    from beam_jobs.external import photographs_by_id
    from dr_tfx.cli import opened_models
    from dr_tfx.evaluation import lesions_beside

    words = [f"--lesions={_LESIONS.value}"]
    if _PHOTOGRAPHS.value:
        words.append(f"--photographs={_PHOTOGRAPHS.value}")
    return lesions_beside.LesionsBeside(
        opened_models.beside(Path(_LESIONS.value)),
        photographs_by_id.find(photographs),
        where=photographs,
        flags=words,
    )


def _external(settings: Mapping[str, Any]) -> Path:
    from beam_jobs.external import evaluate_external

    logging.getLogger("beam_jobs").setLevel(logging.INFO)
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    photographs = evaluate_external.ExternalPhotographs(
        image_dir=_IMAGE_DIR.value,
        labels=_LABELS.value,
        masks_dir=_MASKS_DIR.value,
        name=_NAME.value,
        image_column=_IMAGE_COLUMN.value,
        label_column=_LABEL_COLUMN.value,
        label_values=None if _LABEL_VALUES.value is None else tuple(_LABEL_VALUES.value),
        patient_column=_PATIENT_COLUMN.value,
        patient_pattern=_PATIENT_PATTERN.value,
    )
    try:
        return evaluate_external.run(
            photographs,
            workdir=Path(_WORKDIR.value),
            data_dir=data_folder.local(_DATA_DIR.value) if _DATA_DIR.value else None,
            output_dir=_output_dir(),
            overwrite=_OVERWRITE.value,
            beside=_beside(_IMAGE_DIR.value),
            settings=settings,
        )
    except refusals.UnusableInput as error:
        of_folder = {"output_dir": "--output_dir"} if _OUTPUT_DIR.value else {}
        sys.exit(f"error: {error.told(evaluate_external.FLAGS | of_folder)}")


def run() -> None:
    """Run the console script."""
    console.run(main, module=__name__, doc=__doc__, decodes=True)


if __name__ == "__main__":
    run()
