r"""Make a data set for training from a folder of photographs and a CSV of their labels.

    drtfx-build-examples --config=dr_binary --image_dir=RAW/train \
        --labels=RAW/trainLabels.csv --output_dir=DATA

config.dataset says which columns name the photograph (folders and extension decide where they are
given), its label (a number or a text) and its patient. DATA receives

    *.tfrecord-*        the examples
    contact_sheet.png   a few photographs before and after preprocessing
    rejects.csv         every row of the CSV that gave no example, with the reason
    unlabelled.csv      photographs without a row, if there are any
    ungradable.png      photographs that the quality gate flagged, if there are any
    dataset.json        the manifest, written last

If the command is stopped half-way, the same command again goes on where it was.

Print what would be made, in a second and without reading a photograph:

    drtfx-build-examples --config=dr_binary --labels=RAW/trainLabels.csv --plan

Use other columns and another size; any setting of the config can be given like this:

    drtfx-build-examples --config=dr_binary --image_dir=RAW/images \
        --labels=RAW/grades.csv --output_dir=DATA_512 --config.dataset.recipe.size=512 \
        --config.dataset.image_column=id_code --config.dataset.label_column=diagnosis

Take photographs from all folders below one, from some, from a packed archive or a folder in it,
from several of these, or from arrays prepared before:

    drtfx-build-examples ... --image_dir=RAW
    drtfx-build-examples ... --image_dir='RAW/*/*.jpeg'
    drtfx-build-examples ... --image_dir='train.zip/a. Training Set'
    drtfx-build-examples ... --image_dir=RAW/2019,RAW/2020,more.zip
    drtfx-build-examples --config=reference --npy_images=X_train.npy \
        --npy_labels=y_train.npy --output_dir=DATA

Take a data set that TensorFlow Datasets has prepared in TFDS_DATA_DIR or ~/tensorflow_datasets,
with its labels and its splits train, validation and test. If --labels is given too, those labels
and the config's split count instead:

    drtfx-build-examples --config=dr_binary --output_dir=DATA \
        --from_tfds=diabetic_retinopathy_detection/btgraham-300

The job uses all cores of this machine. Every flag that is not listed below is one of Apache Beam's.
With these, the job uses four processes instead of threads:

    drtfx-build-examples ... --direct_running_mode=multi_processing --direct_num_workers=4

Use a cluster, all of whose machines have `dr_tfx[dask]` and see DATA as this one does:

    drtfx-build-examples --config=dr_binary --image_dir=/mnt/raw/train \
        --labels=/mnt/raw/trainLabels.csv --output_dir=/mnt/data \
        --runner=DaskRunner --dask_client_address=tcp://SCHEDULER:8786

Use Google's Dataflow from a clone of the repository, with `pip install -e '.[dataflow]'`. Its
machines install the same code and the same versions of whatever decides pixels:

    drtfx-build-examples --config=dr_binary --image_dir=gs://BUCKET/train \
        --labels=gs://BUCKET/trainLabels.csv --output_dir=gs://BUCKET/data \
        --runner=DataflowRunner --project=PROJECT --region=REGION \
        --temp_location=gs://BUCKET/temp

The last line printed is the folder that was made.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence

from absl import flags

from beam_jobs.build_examples import planning, source_labels
from dr_tfx import tasks
from dr_tfx.cli import console, run_settings
from dr_tfx.sources import find_source, given, tfds

_CONFIG = run_settings.define()
flags.declare_key_flag("config")
_IMAGE_DIR = flags.DEFINE_string(
    "image_dir",
    None,
    "The photographs: a folder, a quoted pattern, a .zip archive, or several with commas between.",
)
_LABELS = flags.DEFINE_string(
    "labels",
    None,
    "The labels: a CSV or Excel file, one a split with commas between; folders, names, "
    "masks or none.",
)
_MASKS_DIR = flags.DEFINE_string(
    "masks_dir", "", "The masks that config.dataset.masks names, in a folder for each kind."
)
_NPY_IMAGES = flags.DEFINE_string(
    "npy_images", None, "An .npy array of photographs, in place of --image_dir."
)
_NPY_LABELS = flags.DEFINE_string(
    "npy_labels", None, "An .npy array of labels, in place of --labels."
)
_FROM_TFDS = flags.DEFINE_string(
    "from_tfds",
    None,
    "A prepared data set of TensorFlow Datasets, NAME[/CONFIG][:VERSION] or its folder, with its "
    "labels and splits: neither --image_dir nor --labels is needed.",
)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "The folder for the data set.")
_LANG = flags.DEFINE_enum("lang", *console.LANGUAGE)
_PLAN = flags.DEFINE_bool("plan", False, "Print what would be made, as JSON, and make nothing.")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Delete an earlier build in --output_dir, finished or not."
)

_EITHER = (
    ("image_dir", "npy_images"),
    ("image_dir", "from_tfds"),
    ("npy_images", "from_tfds"),
    ("labels", "npy_labels"),
)  # Flags of which one excludes the other.


def main(argv: Sequence[str]) -> None:
    """Make the call that the flags describe; print a summary, and the folder as the last line."""
    # Late, because Beam loads for two seconds, which --help does not need.
    from beam_jobs.build_examples import job
    from beam_jobs.runners import beam_flags

    flags.FLAGS.image_dir, words = given.unexpanded(_IMAGE_DIR.value, argv[1:])
    logging.getLogger("beam_jobs").setLevel(logging.INFO)
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    # The error of a worker on this machine is raised here too, so it need not be logged.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    options = beam_flags.options(words)
    place, labels = _input(words)
    experiment = tasks.from_config(_CONFIG.value)
    spec = experiment.dataset
    if _PLAN.value:
        source = find_source.open_photographs(place, spec.recipe) if place else None
        plan = planning.make_plan(
            spec, labels=labels, source=source, masks_dir=_MASKS_DIR.value, find_twins=False
        )
        data = tasks.of(experiment).data
        told = planning.summary(plan, classes=data.groups, class_of=data.group_of)
        _warn(told["classes"])
        print(json.dumps(told, indent=2))
        return
    made = job.build(
        spec,
        image_dir=place,
        labels=labels,
        output_dir=_OUTPUT_DIR.value,
        masks_dir=_MASKS_DIR.value,
        overwrite=_OVERWRITE.value,
        options=options,
    )
    kind = tasks.of(experiment)
    _warn({split: kind.images(made, split) for split in made.counts})
    print(made.describe())
    print(_OUTPUT_DIR.value)
    config = f"--config={run_settings.typed_name(_CONFIG)}"
    train = "drtfx-crossvalidate" if spec.split.folds else "drtfx-train"
    console.tell_next(train, config, f"--data_dir={_OUTPUT_DIR.value}", "--workdir=run")


def _input(words: Sequence[str]) -> tuple[str, str]:
    """Return the photographs, "" if they are not needed, and the labels that the flags name.

    Args:
      words: what is left of the command line.

    Raises:
      UsageError, ValueError: too few flags are given, or some that exclude each other.
      FileNotFoundError: there is no such prepared data set.
    """
    for one, other in _EITHER:
        if flags.FLAGS[one].value and flags.FLAGS[other].value:
            raise ValueError(f"--{one} and --{other} are both given; expected one of them")
    place = _IMAGE_DIR.value or _NPY_IMAGES.value or ""
    labels = _LABELS.value or _NPY_LABELS.value
    needs_npy_labels = _NPY_LABELS.value or (_NPY_IMAGES.value and not _LABELS.value)
    needs_npy_images = _NPY_IMAGES.value or (_NPY_LABELS.value and not _IMAGE_DIR.value)
    needed = ["config"]
    if not _FROM_TFDS.value:
        needed.append("npy_labels" if needs_npy_labels else "labels")
    if not (_PLAN.value or _FROM_TFDS.value):
        needed.append("npy_images" if needs_npy_images else "image_dir")
    if not _PLAN.value:
        needed.append("output_dir")
    console.require(*needed, others=words)
    if labels and os.path.isdir(labels) and labels not in source_labels.WORDS:
        raise ValueError(
            f"--labels={labels} is a folder; expected the CSV of the labels, or "
            f"--labels={source_labels.FOLDERS} where the photographs of each label are in a "
            "folder of their own"
        )
    if _FROM_TFDS.value:
        place = tfds.find(_FROM_TFDS.value)
    return place, labels or place


def _warn(images: Mapping[str, Mapping[str, int]]) -> None:
    """Log which splits lack a class.

    Args:
      images: how many images of each class the splits have, by the names of both.
    """
    for sentence in tasks.lacking(images):
        logging.getLogger("beam_jobs").warning("%s", sentence)


def run() -> None:
    """Run the console script."""
    console.run(main, module=__name__, doc=__doc__, flags_parser=console.known_flags, decodes=True)


if __name__ == "__main__":
    run()
