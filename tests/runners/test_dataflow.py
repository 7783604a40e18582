"""A job for Dataflow, made by Beam's own runner up to the request, and run as a worker would."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import dr_tfx
from tests.helpers import object_store

pytest.importorskip("google.cloud.dataflow", reason="needs pip install 'dr_tfx[dataflow]'")
pytest.importorskip("gcsfs", reason="needs pip install 'dr_tfx[dataflow]'")

from beam_jobs.runners import dataflow_runner  # After the skips: it imports Google's client.

ROOT = Path(__file__).parents[2]
COMMAND = [
    *(sys.executable, "-m", "beam_jobs.cli.build_examples"),
    "--config=reference",
    "--config.dataset.name=drawn",  # Else it is that of the folder, which differs.
    "--config.dataset.recipe.size=32",
    "--config.model.output_stride=16",
    "--config.dataset.shard_examples=1",
    "--config.dataset.split.validation=0.25",
]
WORKER = """
import sys

folder, pipeline, *absent = sys.argv[1:]
sys.path.append(folder)
for module in absent:
    try:
        __import__(module)
    except ImportError:
        continue
    sys.exit(f"{module} is there")

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonEnvironment

with open(pipeline, "rb") as file:
    job = beam_runner_api_pb2.Pipeline.FromString(file.read())
for environment in job.components.environments.values():
    environment.CopyFrom(EmbeddedPythonEnvironment.default().to_runner_api(None))
FnApiRunner().run_via_runner_api(job, PipelineOptions([])).wait_until_finish()
modules = {"beam_jobs.build_examples.write_shard", "beam_jobs.build_examples.job"}
print(sorted(modules & set(sys.modules)))
"""


def run(store, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        arguments, cwd=ROOT, env=store.environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with object_store.running(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture(scope="module")
def inputs(raw, store) -> list[str]:
    folder = store.upload(raw, "raw")
    return [f"--image_dir={folder}", f"--labels={folder}/labels.csv"]


@pytest.fixture(scope="module")
def staged(inputs, store, tmp_path_factory) -> Path:
    """What the documented command uploads, and `job.json`, which it would send to Dataflow."""
    done = run(
        store,
        *COMMAND,
        *inputs,
        f"--output_dir={store.url('data')}",
        "--runner=DataflowRunner",
        "--project=some-project",
        "--region=europe-west4",
        f"--temp_location={store.url('temp')}",
        f"--template_location={store.url('template/job.json')}",  # Instead of sending it.
    )
    assert done.returncode == 1 and "--template_location" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    folder = tmp_path_factory.mktemp("staged")
    for path, content in (store.contents("temp") | store.contents("template")).items():
        (folder / Path(path).name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def worker(staged, tmp_path_factory) -> Path:
    """A folder of modules that holds what a worker is told to install, and Beam for Google's cloud.

    Nothing else: a requirement that is not stated is missing here, as in Dataflow.
    """
    folder = tmp_path_factory.mktemp("worker")
    install = ["install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    source = [f"--target={folder}", str(staged / "workflow.tar.gz")]
    subprocess.run([sys.executable, "-m", "pip", *install, *source], check=True)
    (own,) = importlib.metadata.distributions(path=[str(folder)])
    without_extras = [r for r in map(Requirement, own.requires or []) if r.marker is None]
    beam = f"apache-beam[gcp]=={importlib.metadata.version('apache-beam')}"
    told = [beam, *(staged / "requirements.txt").read_text().splitlines()]
    for name in closure([*map(str, without_extras), *told]):
        for file in importlib.metadata.distribution(name).files or []:
            link = folder / file
            if ".." not in file.parts and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(file.locate())
    return folder


def closure(requirements: list[str]) -> set[str]:
    """Installed distributions that the requirements pull in; their versions have to fit."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        wanted = todo.pop()
        version = importlib.metadata.version(wanted.name)
        assert wanted.specifier.contains(version, prereleases=True), wanted
        found.add(wanted.name)
        for extra in ["", *wanted.extras]:
            if (wanted.name, extra) not in seen:
                seen.add((wanted.name, extra))
                for required in map(Requirement, importlib.metadata.requires(wanted.name) or []):
                    if required.marker is None or required.marker.evaluate({"extra": extra}):
                        todo.append(required)
    return found


def test_the_request_names_the_source_tree_and_no_photograph(staged, raw):
    job = json.loads((staged / "job.json").read_text())
    (pool,) = job["environment"]["workerPools"]
    assert {Path(file["location"]).name for file in pool["packages"]} == {
        "requirements.txt",
        "submission_environment_dependencies.txt",
        "workflow.tar.gz",
    }
    assert pool["numThreadsPerWorker"] == 1
    pipeline = (staged / "pipeline.pb").read_bytes()
    assert len(pipeline) < 30_000  # 40 shards; the 35,126 photographs of EyePACS are 72.
    assert not [p.name for p in raw.glob("*.jpeg") if p.stem.encode() in pipeline]


def test_workers_are_told_the_versions_that_decide_pixels(staged):
    version = importlib.metadata.version
    assert (staged / "requirements.txt").read_text().splitlines() == [
        f"gcsfs=={version('gcsfs')}",
        f"numpy=={version('numpy')}",
        f"opencv-python-headless=={version('opencv-python-headless')}",
        f"pillow=={version('pillow')}",
        f"simplejpeg=={version('simplejpeg')}",
    ]
    assert (staged / "workflow.tar.gz").stat().st_size < 1_000_000
    with tarfile.open(staged / "workflow.tar.gz") as packed:
        names = {name.split("/", 1)[-1] for name in packed.getnames()}
    assert "beam_jobs/build_examples/write_shard.py" in names


def test_own_requirements_come_before_the_exact_versions(tmp_path):
    (tmp_path / "own.txt").write_text("s3fs")
    lines = dataflow_runner._requirements(str(tmp_path / "own.txt")).splitlines()
    assert lines[:2] == ["s3fs", f"gcsfs=={importlib.metadata.version('gcsfs')}"]


def test_an_installation_without_a_source_tree_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dr_tfx, "__file__", str(tmp_path / "site-packages/dr_tfx/__init__.py"))
    with pytest.raises(ValueError, match=r"site-packages/setup.py does not exist.*pip install -e"):
        dataflow_runner._setup_file()


def test_workers_with_nothing_but_what_is_stated_write_the_same_bytes(
    raw, inputs, staged, worker, store, tmp_path
):
    absent = ["tensorflow", "keras", "tensorboard", "jinja2", "configs"]
    done = run(
        store,
        *(sys.executable, "-I", "-S", "-c", WORKER),
        *(str(worker), str(staged / "pipeline.pb"), *absent),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['beam_jobs.build_examples.write_shard']\n"
    finished = run(store, *COMMAND, *inputs, f"--output_dir={store.url('data')}")
    assert finished.returncode == 0, finished.stderr
    assert "resuming: 40 of 40 shards were finished before" in finished.stderr
    folder = [f"--image_dir={raw}", f"--labels={raw}/labels.csv", f"--output_dir={tmp_path}"]
    assert run(store, *COMMAND, *folder).returncode == 0
    local = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert store.contents("data") == local


@pytest.mark.parametrize(
    "command",
    [
        [*COMMAND, "--labels=labels.csv", "--image_dir=gs://drtfx/raw", "--output_dir=here"],
        [
            *(sys.executable, "-m", "beam_jobs.cli.explain"),
            *("--workdir=run", "--data_dir=data", "--output_dir=here"),
        ],
    ],
)
def test_a_folder_of_this_machine_is_refused_before_any_work(command, store):
    done = run(store, *command, "--runner=DataflowRunner", "--project=p", "--region=r")
    assert done.returncode == 1 and "--output_dir=here" in done.stderr
    assert "; expected gs://" in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr


ON_STORE = ["--labels=gs://no/l.csv", "--image_dir=gs://no/raw", "--output_dir=gs://no/data"]
FLAGS = {"project": "some-project", "region": "europe-west4", "temp_location": "gs://no/temp"}


def alone(arguments: list[str], home: Path) -> subprocess.CompletedProcess:
    """The command on a machine that knows no store, no account and no machine of Google's."""
    kept = {name: value for name, value in os.environ.items() if "GOOGLE" not in name}
    kept |= {"HOME": str(home), "CLOUDSDK_CONFIG": str(home), "NO_GCE_CHECK": "True"}
    kept.pop("STORAGE_EMULATOR_HOST", None)
    return subprocess.run(
        [*COMMAND, *ON_STORE, "--runner=DataflowRunner", *arguments],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,  # Beam alone asks for a minute.
    )


@pytest.mark.parametrize("missing", [["project"], ["region"], ["temp_location"], list(FLAGS)])
def test_flags_that_dataflow_needs_are_asked_for_before_the_store(missing, tmp_path):
    given = [f"--{flag}={value}" for flag, value in FLAGS.items() if flag not in missing]
    done = alone(given, tmp_path)
    needed = ", ".join(f"--{flag}" for flag in missing)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: --runner=DataflowRunner needs {needed} too; --help")


def test_without_credentials_it_is_said_how_to_log_in(tmp_path):
    done = alone([f"--{flag}={value}" for flag, value in FLAGS.items()], tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: this machine has no Google cred")
    assert done.stderr.endswith("gcloud auth application-default login\n")
    assert done.stderr.count("\n") == 1
