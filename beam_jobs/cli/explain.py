"""Shows which places of every photograph raise the model's score, and whether lesions are there.

    drtfx-explain --workdir=RUN --data_dir=DATA --split=validation --output_dir=OUT
    drtfx-explain --workdir=RUN --image_dir=RAW --output_dir=OUT

RUN is what training wrote, DATA what drtfx-build-examples wrote. RAW are photographs as they come
from the camera: a folder, a pattern in quotes ('raw/*/*.jpeg') or a .zip archive; what was done to
the training photographs is done to them, and those that cannot be used are listed in
OUT/rejects.csv. With --labels=CSV, in the columns of the training's, the page knows which
decisions are right; with --data_dir=DATA beside --image_dir, which photographs are in the data set
that RUN was trained on: their maps flatter it.

OUT receives index.html, to look through all photographs by grade, decision and score; index.csv,
one row a photograph; an overlay of each as PNG under overlays/; the heat maps as arrays in
heatmaps-*, one file per shard of DATA or per 64 photographs; and three figures,
gradcam_normal.png, gradcam_abnormal.png and gradcam_final.png. The last line printed is OUT.

Overlays of raw photographs are as large as these: at 12 megapixels some 9 MB and half a second of
a core each, so that 35,000 take 320 GB. --overlays=small writes them at the model's size, 70 kB
each, and --overlays=none not at all. Those of DATA are small in any case.

Do the maps show lesions? With masks of the lesions the job measures it:

    drtfx-explain ... --image_dir=RAW --masks_dir=MASKS --method=gradcam,occlusion

MASKS has a folder for each kind of lesion (MA, HE, EX, SE ...) and in it NAME.png or NAME_MA.png
for each photograph that has some, 0 where there is none: as drtfx-synthesize writes them, and
IDRiD. A photograph without any file has no lesions. The page and localization.csv then tell how
often a map's highest place is on a lesion, how much of a map is, and whether the score depends on
what a map marks, each against chance; for every method that is named, the first of which makes the
overlays. Beyond the maps that is some hundred scorings a photograph.

The same command again goes on where an interrupted one stopped. An OUT that was made with another
model, data or settings is left alone, unless --overwrite is given.

Every flag of Apache Beam is taken too. Without one the job runs in this process; for all cores:

    drtfx-explain ... --direct_running_mode=multi_processing --direct_num_workers=0

and on a cluster with --runner=DaskRunner --dask_client_address=HOST:PORT, if its machines see RUN,
DATA, RAW and OUT under the same paths: folders, no gs://. Every process holds the model once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from beam_jobs.runners import beam_flags
from dr_tfx.cli import console
from dr_tfx.config import specs

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of the data set; with --image_dir, to look for photographs in both."
)
_SPLIT = flags.DEFINE_string("split", "validation", "Which part of the data set to explain.")
_IMAGE_DIR = flags.DEFINE_string(
    "image_dir", "", "Raw photographs instead: a folder, a pattern or a .zip archive."
)
_LABELS = flags.DEFINE_string("labels", "", "CSV with the labels of the raw photographs, if any.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the results.")
_OVERLAYS = flags.DEFINE_enum(
    "overlays",
    "full",
    ["full", "small", "none"],
    "Overlays as PNG: at the photograph's size, at the model's, or none.",
)
_METHOD = flags.DEFINE_list(
    "method",
    list(specs.METHODS[:1]),
    f"How maps are made, of {', '.join(specs.METHODS)}; several to compare them.",
)
_AVERAGE_VIEWS = flags.DEFINE_bool(
    "average_views", False, "Maps are means over the views of evaluation.views, as scores are."
)
_COLORMAP = flags.DEFINE_enum(
    "colormap", specs.COLORMAPS[0], specs.COLORMAPS, "Colours of overlays and figures."
)
_MASKS_DIR = flags.DEFINE_string(
    "masks_dir", None, "Lesion masks of the raw photographs, in a folder for each kind."
)
_LESIONS = flags.DEFINE_list(
    "lesions", [], "Folders of --masks_dir that count; all but OD, the optic disc, if not given."
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Discard what OUT holds of earlier runs, and start again."
)


def main(argv: Sequence[str]) -> None:
    """Flags to one call; prints the folder of the results as the last line."""
    try:
        options = beam_flags.options(argv[1:])
        console.require("workdir", "output_dir", others=argv[1:])
        if not (_DATA_DIR.value or _IMAGE_DIR.value):
            raise app.UsageError(
                "--data_dir, a data set, or --image_dir, photographs, must be given"
            )
        folders = {"workdir": _WORKDIR.value, "output_dir": _OUTPUT_DIR.value}
        given = {"data_dir": _DATA_DIR.value, "image_dir": _IMAGE_DIR.value}
        beam_flags.check_folders(options, **folders, **{k: v for k, v in given.items() if v})
        from beam_jobs.explain import job  # Here: help and wrong flags do not wait for TensorFlow.

        request = job.Request(
            workdir=Path(_WORKDIR.value).absolute(),
            output_dir=Path(_OUTPUT_DIR.value).absolute(),
            data_dir=Path(_DATA_DIR.value).absolute() if _DATA_DIR.value else None,
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
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(_OUTPUT_DIR.value)


def run() -> None:
    """The console script."""
    console.run(main, module=__name__, doc=__doc__, flags_parser=beam_flags.known_flags)


if __name__ == "__main__":
    run()
