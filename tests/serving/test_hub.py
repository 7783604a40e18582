"""A run is pushed to a Hub as its own library talks to it; what is pushed names nobody."""

import base64
import dataclasses
import http.server
import json
import socket
import threading
import typing

import pytest

from dr_tfx.evaluation import evaluate
from dr_tfx.models import bundle_file, bundles
from dr_tfx.serving import hub
from tests.helpers import bundled, datasets, screening


class StandIn(http.server.BaseHTTPRequestHandler):
    """The part of the Hub that a commit of files takes that are not large."""

    kept: typing.ClassVar[dict[str, bytes]] = {}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            StandIn.created = json.loads(body)
            self.answer({"url": "https://huggingface.co/eyes/model", "name": "model"})
        elif self.path == "/api/models/eyes/model/preupload/main":
            files = [one["path"] for one in json.loads(body)["files"]]
            way = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer({"files": [{"path": name, **way} for name in files]})
        else:
            assert self.path == "/api/models/eyes/model/commit/main", self.path
            self.commit([json.loads(line) for line in body.splitlines()])

    def commit(self, lines):
        assert lines[0]["key"] == "header"
        for line in lines[1:]:
            value = line["value"]
            assert (line["key"], value["encoding"]) == ("file", "base64")
            self.kept[value["path"]] = base64.b64decode(value["content"])
        there = "https://huggingface.co/eyes/model/commit/7"
        self.answer({"success": True, "commitOid": "7", "commitUrl": there, "hookOutput": ""})

    def answer(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setattr(StandIn, "kept", {})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_TOKEN", "hf_nobody")
        yield
        server.shutdown()


@pytest.fixture
def run(tmp_path):
    """An evaluated run, whose data set has a photograph of ann twice, and bob in two splits."""
    experiment = datasets.experiment()
    data = datasets.write(tmp_path / "data", experiment.dataset)
    twin = {"ids": ["ann_left", "ann"], "labels": [0, 0], "splits": ["train", "test"]}
    data = dataclasses.replace(data, twins=(twin,), shared_names=("bob",), shared_patients=1)
    workdir = bundled.make_bundle(tmp_path / "run", experiment, data)
    bundles.save_fitted(workdir, datasets.fitted(0.45))
    scored = screening.scored(screening.predictions(40), workdir=workdir, data=data)
    evaluate.write(scored, evaluate.metrics_of(scored))
    return workdir


def test_a_run_is_pushed_with_its_card_and_without_names(run, endpoint):
    pytest.importorskip("huggingface_hub", reason="needs dr_tfx[hub]")
    assert hub.push(run, "eyes/model") == "https://huggingface.co/eyes/model/commit/7"
    private = {"private": True, "visibility": "private"}  # As the version of the library says it.
    assert private.items() & StandIn.created.items()
    kept = StandIn.kept
    assert set(kept) == {"README.md", "bundle.json", "model.keras", "weights.safetensors"}
    for name in ("model.keras", "weights.safetensors"):
        assert kept[name] == (run / name).read_bytes()
    assert kept["README.md"].startswith(b"---\nlibrary_name: dr_tfx\n")
    for data in kept.values():
        assert not any(word in data for word in (b"ann_left", b'"ann"', b'"bob"', b"\xff\xd8\xff"))
    copy = run.parent / "copy"
    copy.mkdir()
    for name, data in kept.items():
        (copy / name).write_bytes(data)
    there, here = bundles.load(copy), bundles.load(run)
    assert there.fitted == here.fitted
    assert there.manifest.twins[0]["ids"] == ["photograph-1", "photograph-2"]
    assert there.manifest.shared_names == ("patient-3",)


def test_a_hub_that_is_away_is_named(run, monkeypatch):
    pytest.importorskip("huggingface_hub", reason="needs dr_tfx[hub]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(ConnectionError, match=r"the Hub at http://127\.0\.0\.1:"):
            hub.push(run, "eyes/model")
    with pytest.raises(ValueError, match="expected USER/NAME"):
        hub.push(run, "eyes/my/model")


def test_a_run_that_is_not_evaluated_or_has_changed_since_is_refused(run):
    (weights := run / "weights.safetensors").write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(ValueError, match="is not the file that was written"):
        hub.contents(run)
    content = json.loads((run / "bundle.json").read_text())
    content["files"]["weights.safetensors"] = bundle_file.digest(weights.read_bytes())
    (run / "bundle.json").write_text(json.dumps(content))
    again = f"Run first: drtfx-evaluate --workdir={run} --data_dir=DATA_DIR --split=validation"
    with pytest.raises(ValueError, match=f"no model card of its present weights.*{again}"):
        hub.contents(run)
