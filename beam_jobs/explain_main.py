"""Shows which places of every photograph raise the model's score (Grad-CAM).

    drtfx-explain --workdir=RUN --data_dir=DATA --split=validation --output_dir=OUT

RUN is what training wrote, DATA what drtfx-build-examples wrote. OUT receives three figures,
gradcam_normal.png, gradcam_abnormal.png and gradcam_final.png; index.csv with one row a photograph
(id, label, target, score, decision, shard); and the heat maps of all photographs in
heatmaps-*.tfrecord-*, one file per shard of DATA. The last line printed is OUT.

The same command again goes on where an interrupted one stopped. An OUT that was made with another
model, data set or split is left alone, unless --overwrite is given.

Every flag of Apache Beam is taken too. Without one the job runs in this process; for all cores:

    drtfx-explain ... --direct_running_mode=multi_processing --direct_num_workers=0

and on a cluster with --runner=DaskRunner --dask_client_address=HOST:PORT, if its machines see RUN,
DATA and OUT under the same paths: folders, no gs://. Every process holds the model once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from beam_jobs import runners
from dr_tfx import console

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the data set.")
_SPLIT = flags.DEFINE_string("split", "validation", "Which part of the data set to explain.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the results.")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Discard what OUT holds of earlier runs, and start again."
)


def main(argv: Sequence[str]) -> None:
    """Flags to one call; prints the folder of the results as the last line."""
    try:
        options = runners.options(argv[1:])
        console.require("workdir", "data_dir", "output_dir", others=argv[1:])
        runners.check_folders(
            options,
            workdir=_WORKDIR.value,
            data_dir=_DATA_DIR.value,
            output_dir=_OUTPUT_DIR.value,
        )
        from beam_jobs import explain  # Here: help and wrong flags do not wait for TensorFlow.

        explain.explain(
            workdir=Path(_WORKDIR.value).absolute(),
            data_dir=Path(_DATA_DIR.value).absolute(),
            split=_SPLIT.value,
            output_dir=Path(_OUTPUT_DIR.value).absolute(),
            options=options,
            overwrite=_OVERWRITE.value,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(_OUTPUT_DIR.value)


def run() -> None:
    """The console script."""
    console.run(main, module=__name__, doc=__doc__, flags_parser=runners.known_flags)


if __name__ == "__main__":
    run()
