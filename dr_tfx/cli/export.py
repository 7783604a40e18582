"""Writes a trained model as files that other programs run, with all that reads photographs.

    drtfx-export --workdir=RUN --data_dir=DATA
    drtfx-export --workdir=RUN --data_dir=DATA --format=litert --quantize=int8 --output_dir=EXPORT

RUN is a finished run that drtfx-evaluate has judged on validation, so that its thresholds are
known, and DATA is the data set that it was trained on. EXPORT (RUN/export/onnx if not given, or
likewise by the format) receives

    model.*       the network, with all views of test-time augmentation
    heatmap.*     what makes the heat map of one photograph of its last features; a model that marks
                  lesions has none
    export.json   the recipe that makes its pictures, labels, thresholds, calibration and alarms
    model_card.md what the run is, was trained on and is worth, as its evaluation has written it

--format says who is to run them:

    onnx          ONNX Runtime and many others: model.onnx; what to take if in doubt
    openvino      OpenVINO, on processors of Intel: model.xml and model.bin
    litert        LiteRT, on phones: model.tflite, which takes one photograph at a time
    saved_model   TensorFlow and TensorFlow Serving: the folder model/
    triton        Triton Inference Server, whose model repository EXPORT then is: the ONNX files,
                  and the model `photographs`, which takes the bytes of files and gives answers

--quantize makes the files smaller, and not those of saved_model: float16 stores the weights in half
of the bytes, and computes as before; int8 computes in integers, whose ranges are measured on 256
photographs of the training.

Both the run and the export score the validation pictures. An export whose outputs differ by more
than 0.0001, or whose heat maps by more than 0.001, is refused. A quantised one is refused if its
AUC falls by more than 0.005, or if more than 1 % of the decisions change, at the threshold as it
is; of a model that marks lesions, if the AUPR of one falls by as much, or if more than 1 % of the
pixels that either of the two marks are marked by one alone. The command prints these differences,
the size and the speed of the export, and EXPORT as the last line.

It is used by

    drtfx-predict --model=EXPORT eye.jpeg
    dr_tfx.load_export("EXPORT").predict("eye.jpeg")

with `pip install 'dr_tfx[onnx]'`, or [openvino] or [litert], and without TensorFlow, or by any
program that runs the format: the input `photographs` is uint8 RGB (n, size, size, 3) as the recipe
makes it, and `outputs` is float32 (n, views, ...). A model that marks lesions takes whole pictures
or tiles of them, uint8 (n, side, side, 3), and gives the mean map of all views, float32
(n, side, side, kinds).

The command itself needs the extra dr_tfx[export], and for openvino dr_tfx[openvino] besides.

Research software, not a medical device: no result is a diagnosis.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from dr_tfx.cli import console, data_folder
from dr_tfx.machine import tensorflow_start
from dr_tfx.models import bundle_file, drift_file, export_file

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.", required=True)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    f"Folder of the data set that it was trained on. {data_folder.WHERE}",
    required=True,
)
flags.adopt_module_key_flags(data_folder)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the files; WORKDIR/export/FORMAT if not given."
)
_FORMAT = flags.DEFINE_enum("format", "onnx", list(export_file.ENDINGS), "Who is to run the files.")
_QUANTIZE = flags.DEFINE_enum(
    "quantize", None, export_file.QUANTIZED, "How numbers are stored; in float32 if not given."
)


def main(argv: Sequence[str]) -> None:
    """Make the call that the flags describe; print what was compared, then the folder."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    content = bundle_file.read(Path(_WORKDIR.value))  # Before TensorFlow is loaded.
    tensorflow_start.load()
    from dr_tfx.serving import export  # Not above: --help need not wait for TensorFlow.

    workdir, quantize = Path(_WORKDIR.value), _QUANTIZE.value or ""
    usual = export.usual_folder(workdir, _FORMAT.value, quantize)
    output_dir = Path(_OUTPUT_DIR.value or usual)
    found = export.export(
        workdir=workdir,
        data_dir=data_folder.local(_DATA_DIR.value),
        output_dir=output_dir,
        form=_FORMAT.value,
        quantize=quantize,
    )
    area, what = found.words
    auc = (
        f"no {area} is defined" if found.auc is None else f"the {area} changes by {-found.auc:+.4f}"
    )
    maps = "" if found.heatmaps is None else f", heat maps by {found.heatmaps:.1e}"
    print(
        f"{found.images} pictures of {found.split}: outputs differ by at most {found.outputs:.1e}"
        f"{maps}; {auc}, and {100 * found.changed:.2f} % of the {what} change"
    )
    print(
        f"{found.bytes / 1e6:.1f} MB, {found.of_bundle:.2f} times the run's weights; a batch takes "
        f"{found.times:.2f} times as long as with the run"
    )
    if quantize != "int8" and not (output_dir / drift_file.FILE).is_file():
        data = bundle_file.trained_on(content, workdir)
        print(f"note: {drift_file.untold(data, workdir, export=False)}", file=sys.stderr)
    print(output_dir)
    console.tell_next("drtfx-predict", f"--model={output_dir}", "PHOTOGRAPH")


def run() -> None:
    """Start the command."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
