"""A model repository has what Triton asks for, and its Python gives the answers of drtfx-predict.

A server is started where there is a `tritonserver`, with its backends in the folder beside that of
the program, as in the wheel nvidia-pytriton; Triton's Python is then that of the tests, whose stub
lies in the folder of the Python backend.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import types
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

import dr_tfx
from dr_tfx.inference import exported
from dr_tfx.serving import export as exporting
from dr_tfx.serving import triton_backend
from tests.helpers import bundled, exports
from tests.serving.test_export import make


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A folder with `run`, `data`, `photographs` and the export `triton`."""
    folder = make(tmp_path_factory.mktemp("triton"), backbone="tiny", views=("identity", "up_down"))
    bundled.write_photographs(folder / "photographs")
    words = {"workdir": folder / "run", "data_dir": folder / "data"}
    exporting.export(**words, output_dir=folder / "triton", form="triton")
    return folder


def test_the_folder_is_a_model_repository_whose_settings_may_be_changed(repository):
    folder = repository / "triton"
    found = {name for name in bundled.contents(folder) if "/" in name}
    networks = {"model/1/model.onnx", "heatmap/1/model.onnx"}
    settings = {f"{name}/config.pbtxt" for name in ("model", "heatmap", "photographs")}
    assert found == networks | settings | {"photographs/1/model.py"}
    assert set(json.loads((folder / "export.json").read_text())["files"]) == networks
    config = (folder / "model" / "config.pbtxt").read_text()
    assert 'name: "photographs", data_type: TYPE_UINT8, dims: [ 32, 32, 3 ]' in config
    assert 'name: "outputs", data_type: TYPE_FP32, dims: [ 2, 1 ]' in config
    assert "dynamic_batching {" in config and "zero_data: true" in config
    assert "max_batch_size: 392" in config  # 16 pictures of 224 pixels, times 49, over two views.
    assert "max_batch_size: 0" in (folder / "heatmap" / "config.pbtxt").read_text()
    (folder / "model" / "config.pbtxt").write_text(config + "\n# changed\n")
    eye = repository / "photographs" / "eye.jpeg"
    expected = dr_tfx.load_bundle(repository / "run").predict(eye)
    assert dr_tfx.load_export(folder).predict(eye) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("network", ["", "model"])
def test_requests_share_the_network_and_each_photograph_has_its_answer(
    tmp_path, monkeypatch, network
):
    """Triton's own module is not there without Triton: this has the four names that are used."""
    export = exports.write(tmp_path)
    of_onnx, running, asked = dr_tfx.load_export(export), exported.load(export), []

    def infer(model_name, requested_output_names, inputs, preferred_memory):
        (given,) = inputs
        asked.append((model_name, given.name, given.array.shape))
        outputs = running._run(given.array, *requested_output_names)
        named = zip(requested_output_names, outputs, strict=True)
        response = types.SimpleNamespace(has_error=lambda: False, tensors=dict(named))
        return types.SimpleNamespace(exec=lambda: response)

    utils = types.SimpleNamespace(
        Tensor=lambda name, array: types.SimpleNamespace(name=name, array=array),
        InferenceResponse=lambda tensors: tensors,
        InferenceRequest=infer,
        PreferredMemory=lambda where: where,
        TRITONSERVER_MEMORY_CPU=0,
        get_input_tensor_by_name=lambda request, name: _tensor(request[name]),
        get_output_tensor_by_name=lambda response, name: _tensor(response.tensors[name]),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    model = triton_backend.TritonPythonModel()
    config = {"parameters": {"network": {"string_value": network}}}
    model.initialize(
        {"model_repository": f"{export}/photographs", "model_config": json.dumps(config)}
    )
    red, blue = (_png(colour) for colour in ((20, 40, 90), (90, 40, 20)))
    requests = [np.array([[red], [b"no photograph"]], object), np.array([[blue]], object)]
    responses = model.execute([{"photograph": given} for given in requests])
    assert [tensor.array.shape for (tensor,) in responses] == [(2, 1), (1, 1)]
    told = [json.loads(one) for (tensor,) in responses for one in tensor.array.reshape(-1)]
    assert told[1] == {
        "rejected": "unreadable: not an image of a known format",
        "ungradable": "",
    }
    for data, answer in ((red, told[0]), (blue, told[2])):
        assert answer.pop("rejected") == "" and isinstance(answer.pop("ungradable"), str)
        assert answer == pytest.approx(of_onnx.predict(data), abs=1e-6)
    assert asked == ([("model", "photographs", (2, 32, 32, 3))] if network else [])


def _tensor(array):
    return types.SimpleNamespace(as_numpy=lambda: array)


def _png(bgr):
    picture = np.zeros((80, 100, 3), np.uint8)
    cv2.circle(picture, (50, 40), 36, bgr, -1)
    return cv2.imencode(".png", picture)[1].tobytes()


@pytest.mark.skipif(not shutil.which("tritonserver"), reason="there is no tritonserver")
def test_a_server_answers_as_drtfx_predict_does(repository, tmp_path):
    folder, port = shutil.copytree(repository / "triton", tmp_path / "repository"), _port()
    config = folder / "photographs" / "config.pbtxt"
    config.write_text(config.read_text().replace('string_value: "model"', 'string_value: ""'))
    program = Path(shutil.which("tritonserver")).resolve()
    line = [str(program), f"--model-repository={folder}", "--model-control-mode=explicit"]
    line += ["--load-model=photographs", "--http-address=127.0.0.1", f"--http-port={port}"]
    line += ["--allow-grpc=false", "--allow-metrics=false"]
    line += [f"--backend-directory={program.parents[1] / 'backends'}"]
    root = str(Path(__file__).parents[2])
    paths = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": root}
    names = ("eye.jpeg", "b/eye.png", "broken.jpg")
    data = [(repository / "photographs" / name).read_bytes() for name in names]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(line, env={**os.environ, **paths}, stdout=log, stderr=log)
    try:
        found = _asked(f"http://127.0.0.1:{port}/v2/models/photographs", data, server)
    finally:
        server.terminate()
        server.wait(60)
    model = dr_tfx.load_bundle(repository / "run")
    assert found[2]["rejected"].startswith("unreadable")
    for name, answer in zip(names[:2], found, strict=False):
        expected = model.predict(repository / "photographs" / name)
        assert {k: answer[k] for k in expected} == pytest.approx(expected, abs=1e-5)


def _port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _asked(url, data, server):
    """Wait for a server, and ask it in the binary form of the protocol v2."""
    for _ in range(600):
        assert server.poll() is None, "the server has ended"
        try:
            urllib.request.urlopen(f"{url}/ready").close()
            break
        except OSError:
            time.sleep(0.1)
    body = b"".join(len(one).to_bytes(4, "little") + one for one in data)
    given = {"name": "photograph", "shape": [len(data), 1], "datatype": "BYTES"}
    given["parameters"] = {"binary_data_size": len(body)}
    head = json.dumps({"inputs": [given]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    request = urllib.request.Request(f"{url}/infer", head + body, headers)
    with urllib.request.urlopen(request) as response:
        (answer,) = json.load(response)["outputs"]
    return [json.loads(one) for one in answer["data"]]
