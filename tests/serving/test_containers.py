"""The images, compose.yaml and the examples for Kubernetes hold together, and fit their schemas.

No daemon is needed: linters and schemas read the files, and where CI is set, the steps of the
image for serving are done on this machine, in a folder.
"""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from tests.helpers import exports, images
from tests.helpers.commands import COMMANDS

ROOT = images.ROOT
DEPLOY = ROOT / "docs" / "deploy"
SERVES = ("serve", "triton", "jobs")
# What a predictor of KServe has beside what a pod has.
OF_KSERVE = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
KEY = "a key of the tests"


def _lint(*line: str) -> None:
    program = Path(sys.executable).with_name(line[0])
    if not program.exists():
        pytest.skip(f"there is no {line[0]}; the extra `lint` has it")
    done = subprocess.run([program, *line[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_has_no_lint():
    _lint("hadolint", "Dockerfile")


def test_compose_fits_its_schema():
    _lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


@pytest.mark.parametrize("image", ["build", "build-jobs", "triton"])
def test_an_image_copies_what_is_there_and_packages_by_their_hashes(image):
    kept = set((ROOT / ".dockerignore").read_text().split())
    steps = images.images()[image]
    sources = [source for step in steps if step.name == "COPY" for source in step.sources]
    assert {"setup.py", "dr_tfx", "beam_jobs"} < set(sources)
    for source in sources:
        assert (ROOT / source).exists() and f"!{source}" in kept, source
    of_lock, of_project = [step.rest for step in steps if step.name == "RUN"]
    (lock,) = [source for source in sources if source.startswith("locks/")]
    assert "--require-hashes" in of_lock and of_lock.endswith(f"--requirement {lock}")
    assert "--no-deps --no-build-isolation" in of_project


@pytest.mark.parametrize("image", SERVES)
def test_an_image_is_nobodys_and_says_how_it_is(image):
    steps = {step.name: step for step in images.images()[image]}
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", steps["USER"].rest)
    health = steps["HEALTHCHECK"]
    assert (health.rest == "NONE") == (image == "jobs")
    if image == "serve":
        command, *flags = steps["ENTRYPOINT"].words
        text = (ROOT / COMMANDS[command].replace(".", "/")).with_suffix(".py").read_text()
        for flag in [*flags, *steps["CMD"].words]:
            name = flag.removeprefix("--").partition("=")[0]
            assert re.search(rf'DEFINE_\w+\(\s*"{name}"', text), flag


def test_services_are_closed_and_a_plain_start_has_the_server_alone():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert [name for name, one in services.items() if "profiles" not in one] == ["serve"]
    for name, one in services.items():
        assert one["read_only"] and one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"] and one["mem_limit"], name
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", ())), name
        own = [mount.split(":")[0] for mount in one["volumes"] if mount.startswith("./")]
        assert all((ROOT / path).is_file() for path in own), name
        # What is asked for in a service is asked for by all, whatever the profile.
        asked = set(re.findall(r"\$\{(\w+):\?", json.dumps(one)))
        assert asked <= {"DRTFX_API_KEY", "DRTFX_EXPORT"}, name
    assert services["triton"]["build"]["target"] in images.images()
    assert [*images.images()][-1] == "serve"  # What is built without a target.


@pytest.mark.parametrize("name", ["kubernetes", "kserve"])
def test_examples_for_kubernetes_fit_their_schema(name):
    yaml = pytest.importorskip("yaml")
    documents = [*yaml.safe_load_all((DEPLOY / f"{name}.yaml").read_text())]
    pods = []
    for document in documents:
        if document["kind"] == "InferenceService":
            predictor = document["spec"]["predictor"]
            pods.append({key: one for key, one in predictor.items() if key not in OF_KSERVE})
        if document["kind"] == "Deployment":
            pods.append(document["spec"]["template"]["spec"])
    (pod,) = pods
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert not any("value" in one for one in container["env"])  # A key is in a Secret.
    validator = pytest.importorskip(
        "kubernetes_validate", reason="there is no kubernetes-validate: its schemas are 100 MB"
    )
    head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "drtfx"}}
    for one in [*documents, {**head, "spec": pod}]:
        if one["kind"] != "InferenceService":  # Its schema is in KServe alone.
            validator.validate(one, "1.32", strict=True)


@pytest.mark.skipif(
    not os.environ.get("CI") or importlib.util.find_spec("tensorflow_addons") is not None,
    reason="installs an image's packages, which takes a minute; CI=true does it, on one stack",
)
def test_the_steps_of_the_image_make_a_server_that_is_well_and_writes_nothing():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export = exports.write(folder)
        images.build("build", folder)
        steps = {step.name: step for step in images.images()["serve"]}
        path = images.below(folder, "/opt/dr_tfx/bin")
        settings = dict(setting.split("=") for setting in steps["ENV"].rest.split())
        settings |= {"PATH": f"{path}:{os.environ['PATH']}", "DRTFX_API_KEY": KEY}
        installed = _files(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command, *flags = steps["ENTRYPOINT"].words
        line = [f"{path}/{command}", *flags, f"--model={export}", f"--port={port}"]
        line.append("--host=127.0.0.1")
        server = subprocess.Popen(line, cwd="/tmp", env=settings)
        try:
            check = [w.replace(":8000", f":{port}") for w in steps["HEALTHCHECK"].words]
            for _ in range(600):
                assert server.poll() is None, "the server has ended"
                if not subprocess.run(check, env=settings, capture_output=True).returncode:
                    break
                time.sleep(0.2)
            told = {"Authorization": f"Bearer {KEY}"}
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/v1/models", headers=told)
            with urllib.request.urlopen(asked) as answer:
                assert json.load(answer)["models"][0]["recipe"]["size"] == exports.SIZE
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        assert _files(folder) == installed  # The root of a container may be read-only.


def _files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
