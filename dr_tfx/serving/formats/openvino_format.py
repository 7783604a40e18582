"""Files of OpenVINO (https://docs.openvino.ai), made of an ONNX file."""

import tempfile
from pathlib import Path

import numpy as np
import openvino

from dr_tfx.models import export_file
from dr_tfx.serving.formats import TracedNetwork, onnx_format

RESAMPLES = onnx_format.RESAMPLES
QUANTIZES = export_file.QUANTIZED
LIBRARIES = (*onnx_format.LIBRARIES, "openvino")


def write(
    network: TracedNetwork, quantize: str = "", pictures: np.ndarray | None = None
) -> export_file.Files:
    """Return the files of a network; see `formats`."""
    of_onnx = onnx_format.write(network, quantize if quantize == "int8" else "", pictures)
    model = openvino.Core().read_model(model=of_onnx[".onnx"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        openvino.save_model(model, path, compress_to_fp16=quantize == "float16")
        endings = export_file.ENDINGS["openvino"]
        return {ending: path.with_suffix(ending).read_bytes() for ending in endings}
