"""Shows which places of every photograph raise the model's score, and whether lesions are there.

    drtfx-explain --workdir=RUN --data_dir=DATA --split=validation --output_dir=OUT
    drtfx-explain --workdir=RUN --image_dir=RAW --output_dir=OUT

RUN is the folder that training wrote, DATA the one that drtfx-build-examples wrote. RAW holds
photographs as they come from the camera: a folder with all folders below it, a pattern in quotes
('raw/*/*.jpeg'), a .zip archive or a folder in it, or several of these with commas between. They
are prepared as the training photographs were, and OUT/rejects.csv lists those that cannot be used.
Two flags tell more about raw photographs:

    --labels=CSV     their labels, in the columns of the training's CSV, or whatever else
                     drtfx-build-examples takes for them: the page then shows which decisions are
                     correct
    --data_dir=DATA  the data set that RUN was trained on: the page then shows which photographs
                     are in it, because their maps flatter the model

OUT receives

    index.html       a page to look through all photographs by label, decision and score
    index.csv        one row a photograph
    overlays/        the heat map over each photograph, as PNG
    photographs/     each photograph beneath, as JPEG; thumbnails/ has small overlays of large ones
    heatmaps-*       the heat maps as arrays, one file per shard of DATA or per 64 photographs
    gradcam_*.png    figures of a few photographs: one for each group of labels (for two classes,
                     gradcam_normal.png and gradcam_abnormal.png), and gradcam_final.png for all

The last line printed is OUT.

Overlays of raw photographs are as large as the photographs: at 12 megapixels an overlay takes some
9 MB and half a second of a core, and the photograph 2 MB, so that 35,000 take 390 GB.
--overlays=small writes them at the model's size, 70 kB each, and --overlays=none writes none. The
overlays of DATA are always small.

A model that marks places itself is explained by its own maps: at each place the highest probability
of all that it looks for. --method is left out then.

Do the maps show lesions? With masks of the lesions the job measures it:

    drtfx-explain ... --image_dir=RAW --masks_dir=MASKS --method=gradcam,occlusion

MASKS has a folder for each kind of lesion (MA, HE, EX, SE ...). In each, NAME.png or NAME_MA.png is
the mask of a photograph that has such a lesion, 0 where there is none. drtfx-synthesize writes such
folders, and the IDRiD data set has them. A photograph without any mask has no lesions. The page and
localization.csv then tell how often the highest place of a map is on a lesion, how much of a map
lies on lesions, and whether the score depends on the places that a map marks, each compared with
chance. All methods that are named are measured, and the first one makes the overlays. Beyond the
maps this takes some hundred scorings a photograph.

The same command continues where an interrupted one stopped. It leaves an OUT alone that was made
with another model, data or settings, unless --overwrite is given.

Every flag of Apache Beam is accepted too. Without one the job runs in this process. On all cores:

    drtfx-explain ... --direct_running_mode=multi_processing --direct_num_workers=0

On a cluster: --runner=DaskRunner --dask_client_address=HOST:PORT. All machines must see RUN, DATA,
RAW and OUT under the same paths, as folders and not as gs:// addresses. Every process holds the
model once.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from dr_tfx.cli import console, data_folder
from dr_tfx.config import specs
from dr_tfx.machine import tensorflow_start
from dr_tfx.models import bundle_file
from dr_tfx.sources import given

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Folder of the data set. With --image_dir: say which raw photographs are in it. "
    f"{data_folder.WHERE}",
)
flags.adopt_module_key_flags(data_folder)
_SPLIT = flags.DEFINE_string("split", "validation", "Split of the data set to explain.")
_IMAGE_DIR = flags.DEFINE_string(
    "image_dir",
    "",
    "Raw photographs instead: a folder, a pattern, a .zip archive, or several with commas between.",
)
_LABELS = flags.DEFINE_string("labels", "", "CSV with the labels of the raw photographs, if any.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the results.")
_LANG = flags.DEFINE_enum("lang", *console.LANGUAGE)
_OVERLAYS = flags.DEFINE_enum(
    "overlays",
    "full",
    ["full", "small", "none"],
    "Overlays as PNG files: at the photograph's size, at the model's size, or none.",
)
_METHOD = flags.DEFINE_list(
    "method",
    list(specs.METHODS[:1]),
    f"How heat maps are made: {', '.join(specs.METHODS)}; several to compare them.",
)
_AVERAGE_VIEWS = flags.DEFINE_bool(
    "average_views",
    False,
    "Make each heat map the mean over the views of evaluation.views, as the score is.",
)
_COLORMAP = flags.DEFINE_enum(
    "colormap", specs.COLORMAPS[0], specs.COLORMAPS, "Colours of overlays and figures."
)
_MASKS_DIR = flags.DEFINE_string(
    "masks_dir", None, "Lesion masks of the raw photographs, in a folder for each kind."
)
_LESIONS = flags.DEFINE_list(
    "lesions",
    [],
    "Folders of --masks_dir that count as lesions; if not given, all but OD, the optic disc.",
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Discard the results of earlier runs in OUT, and start again."
)


def main(argv: Sequence[str]) -> None:
    """Run the job that the flags describe; print the folder of the results as the last line."""
    from beam_jobs.runners import beam_flags  # Late: Beam loads for two seconds.

    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    # The error of a worker on this machine is raised here too, so it need not be logged.
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    flags.FLAGS.image_dir, words = given.unexpanded(_IMAGE_DIR.value, argv[1:])
    options = beam_flags.options(words)
    console.require("workdir", "output_dir", others=words)
    if not (_DATA_DIR.value or _IMAGE_DIR.value):
        raise app.UsageError("--data_dir, a data set, or --image_dir, photographs, must be given")
    folders = {"workdir": _WORKDIR.value, "output_dir": _OUTPUT_DIR.value}
    inputs = {"data_dir": _DATA_DIR.value, "image_dir": _IMAGE_DIR.value}
    beam_flags.check_folders(options, **folders, **{k: v for k, v in inputs.items() if v})
    bundle_file.read(Path(_WORKDIR.value))  # What is none is told before TensorFlow is loaded.
    tensorflow_start.load()
    # Imported here, so that --help and wrong flags do not wait for TensorFlow.
    from beam_jobs.explain import job, plan, results

    request = plan.ExplainRequest(
        workdir=Path(_WORKDIR.value).absolute(),
        output_dir=Path(_OUTPUT_DIR.value).absolute(),
        data_dir=data_folder.local(_DATA_DIR.value).absolute() if _DATA_DIR.value else None,
        split=_SPLIT.value,
        image_dir=_IMAGE_DIR.value,
        labels=_LABELS.value,
        methods=tuple(_METHOD.value),
        average_views=_AVERAGE_VIEWS.value,
        colormap=_COLORMAP.value,
        overlays=_OVERLAYS.value,
        masks_dir=Path(_MASKS_DIR.value).absolute() if _MASKS_DIR.value else None,
        lesions=tuple(_LESIONS.value),
        overwrite=_OVERWRITE.value,
    )
    job.explain(request, options)
    for sentence in results.headline(request.output_dir):
        print(sentence, file=sys.stderr)
    print(f"Open {request.output_dir / 'index.html'}", file=sys.stderr)
    print(_OUTPUT_DIR.value)


def run() -> None:
    """Start the command."""
    console.run(main, module=__name__, doc=__doc__, flags_parser=console.known_flags, decodes=True)


if __name__ == "__main__":
    run()
