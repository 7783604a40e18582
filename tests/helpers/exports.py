"""A small exported model, written without TensorFlow: what it says of a picture is known by hand.

The score is the sigmoid of the mean of red less that of blue, in greys, over 64, plus a bias. The
features are the picture in squares of 8, and the heat map is the mean of their channels, over 255.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dr_tfx import tasks
from dr_tfx.config import typed
from dr_tfx.inference import drift as watching
from dr_tfx.models import bundle_file, drift_file, export_file
from dr_tfx.statistics import drift
from tests.helpers import datasets

SIZE = 32
_OPSET, _IR = 17, 8
_SCALE = 64.0


def write(folder: Path, *, bias: float = 0.0, gate: str = "count", batch_size: int = 8) -> Path:
    """Write an export with the threshold 0.45, and return its folder."""
    experiment = datasets.experiment(size=SIZE)
    recipe = dataclasses.replace(experiment.dataset.recipe, quality_gate=gate)
    experiment = dataclasses.replace(
        experiment,
        dataset=dataclasses.replace(
            experiment.dataset, recipe=recipe, patient_pattern=r"^(\d+)_(?:left|right)"
        ),
        evaluation=dataclasses.replace(
            experiment.evaluation, batch_size=batch_size, views=("identity",)
        ),
    )
    data = datasets.write(folder / "data", experiment.dataset)
    files = {"model.onnx": _model(bias), "heatmap.onnx": _heatmap()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    export_file.write(
        folder,
        export_file.ExportFile(
            experiment=typed.to_dict(experiment),
            manifest=data.to_dict(),
            fitted=datasets.fitted(0.45).to_dict(),
            alarms=(),
            compared={},
            bundle="00",
            libraries={},
            files={name: bundle_file.digest(content) for name, content in files.items()},
        ),
    )
    return folder


def score(rgb: np.ndarray, bias: float = 0.0) -> float:
    """Return the score of a picture, uint8 RGB (32, 32, 3)."""
    red, _, blue = rgb.reshape(-1, 3).mean(axis=0)
    return 1 / (1 + np.exp(-((red - blue) / _SCALE + bias)))


def _model(bias: float) -> bytes:
    weights = np.array([[1 / _SCALE], [0], [-1 / _SCALE]], np.float32)
    constants = {"weights": weights, "bias": np.array([bias], np.float32), "axis": np.array([1])}
    pool = {"kernel_shape": [8, 8], "strides": [8, 8]}
    nodes = [
        helper.make_node("Cast", [export_file.PHOTOGRAPHS], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
        helper.make_node("Unsqueeze", ["score", "axis"], [export_file.OUTPUTS]),
        helper.make_node("Transpose", ["float"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["first"], ["pooled"], **pool),
        helper.make_node("Transpose", ["pooled"], [export_file.FEATURES], perm=[0, 2, 3, 1]),
    ]
    given = _value(export_file.PHOTOGRAPHS, TensorProto.UINT8, ["n", SIZE, SIZE, 3])
    made = [
        _value(export_file.FEATURES, TensorProto.FLOAT, ["n", SIZE // 8, SIZE // 8, 3]),
        _value(export_file.OUTPUTS, TensorProto.FLOAT, ["n", 1, 1]),
    ]
    return _network(nodes, given, made, constants)


def _heatmap() -> bytes:
    nodes = [
        helper.make_node("ReduceMean", [export_file.FEATURES], ["mean"], axes=[3], keepdims=0),
        helper.make_node("Div", ["mean", "white"], [export_file.HEATMAP]),
    ]
    given = _value(export_file.FEATURES, TensorProto.FLOAT, [1, SIZE // 8, SIZE // 8, 3])
    made = [_value(export_file.HEATMAP, TensorProto.FLOAT, [1, SIZE // 8, SIZE // 8])]
    return _network(nodes, given, made, {"white": np.array([255], np.float32)})


def _value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def _network(nodes, given, made, constants: dict[str, np.ndarray]) -> bytes:
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "small", [given], made, initializers)
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def picture(number: int) -> np.ndarray:
    """Return a picture, uint8 RGB (32, 32, 3), of some colour and noise."""
    rng = np.random.default_rng(number)
    noise = rng.normal(rng.uniform(90, 160, 3), 20, (SIZE, SIZE, 3))
    return noise.clip(0, 255).astype(np.uint8)


def reading(rgb: np.ndarray) -> tasks.Reading:
    """Return what the export says of a picture, with its features: the means of the colours."""
    features = rgb.reshape(-1, 3).mean(axis=0).astype(np.float32)
    return tasks.Reading(0.0, "", "", {"score": score(rgb)}, features=features)


def reference(numbers: Sequence[int]) -> drift.Reference:
    """Return what some pictures look like to the export, each of a patient."""
    pictures = [picture(number) for number in numbers]
    return reference_of(pictures, [reading(rgb) for rgb in pictures])


def reference_of(
    pictures: Sequence[np.ndarray], readings: Sequence[tasks.Reading]
) -> drift.Reference:
    """Return what pictures look like to what has read them, each of a patient."""
    told = np.stack([watching.numbers_of(rgb) for rgb in pictures])
    return drift.reference(
        {"score": np.array([one.answer["score"] for one in readings])},
        dict(zip(watching.PICTURES, told.T, strict=True)),
        np.stack([one.features for one in readings]),
        np.arange(len(pictures)),
        verdicts={"black": 1},
        judged=len(pictures) + 1,
    )


def know_run(workdir: Path) -> None:
    """Let a run say what validation looked like: pictures as `picture` returns them."""
    from dr_tfx.inference import scoring  # They load TensorFlow.
    from dr_tfx.models import bundles

    pictures = [picture(number) for number in range(40)]
    readings = scoring.BundleReader(bundles.load(workdir)).read(np.stack(pictures))
    content, path = bundle_file.read(workdir), drift_file.usual_path(workdir)
    key = drift_file.key(content.files[bundle_file.WEIGHTS_FILE], content.fitted)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(drift_file.to_bytes(reference_of(pictures, readings), key=key))


def know(folder: Path, known: drift.Reference) -> Path:
    """Let an export say what validation looked like."""
    path = folder / export_file.EXPORT_FILE
    content = json.loads(path.read_text())
    data = drift_file.to_bytes(known, key=drift_file.key(content["bundle"], content["fitted"]))
    (folder / drift_file.FILE).write_bytes(data)
    content["files"][drift_file.FILE] = bundle_file.digest(data)
    path.write_text(json.dumps(content))
    return folder
