"""Writes a trained model as files that read photographs without TensorFlow.

    drtfx-export --workdir=RUN --data_dir=DATA
    drtfx-export --workdir=RUN --data_dir=DATA --output_dir=EXPORT

RUN is a finished run that drtfx-evaluate has judged on validation, so that its thresholds are
known, and DATA is the data set that it was trained on. EXPORT (RUN/export/onnx if not given)
receives

    model.onnx    the network in float32, with all views of test-time augmentation
    heatmap.onnx  what makes the heat map of one photograph of its last features
    export.json   the recipe that makes its pictures, labels, thresholds, calibration and alarms
    model_card.md what the run is, was trained on and is worth, as its evaluation has written it

Both the run and the export score the validation pictures. An export whose outputs differ by more
than 0.0001, or whose heat maps by more than 0.001, is refused. The command prints these
differences, the size and the speed of the export, and EXPORT as the last line.

It is used by

    drtfx-predict --model=EXPORT eye.jpeg
    dr_tfx.load_export("EXPORT").predict("eye.jpeg")

with `pip install 'dr_tfx[onnx]'` and without TensorFlow, or by any program that runs ONNX: the
input `photographs` is uint8 RGB (n, size, size, 3) as the recipe makes it, and `outputs` is float32
(n, views, ...).

The command itself needs the extra dr_tfx[export].

Research software, not a medical device: no result is a diagnosis.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from dr_tfx.cli import console, data_folder
from dr_tfx.machine import tensorflow_start
from dr_tfx.models import bundle_file

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.", required=True)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    f"Folder of the data set that it was trained on. {data_folder.WHERE}",
    required=True,
)
flags.adopt_module_key_flags(data_folder)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the files; WORKDIR/export/onnx if not given."
)


def main(argv: Sequence[str]) -> None:
    """Make the call that the flags describe; print what was compared, then the folder."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    bundle_file.read(Path(_WORKDIR.value))  # What is none is told before TensorFlow is loaded.
    tensorflow_start.load()
    from dr_tfx.serving import onnx_export  # Not above: --help need not wait for TensorFlow.

    workdir = Path(_WORKDIR.value)
    output_dir = Path(_OUTPUT_DIR.value or onnx_export.usual_folder(workdir))
    found = onnx_export.export(
        workdir=workdir, data_dir=data_folder.local(_DATA_DIR.value), output_dir=output_dir
    )
    print(
        f"{found.images} pictures of {found.split}: outputs differ by at most {found.outputs:.1e}, "
        f"heat maps by {found.heatmaps:.1e}"
    )
    print(
        f"{found.bytes / 1e6:.1f} MB, {found.of_bundle:.2f} times the run's weights; a batch takes "
        f"{found.times:.2f} times as long as with the run"
    )
    print(output_dir)


def run() -> None:
    """Start the command."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
