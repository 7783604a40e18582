"""Beam's DataflowRunner, with a package for its workers: what writes a shard, and no TensorFlow.

Dataflow's machines know only what a job brings along. A `--setup_file` would bring all that dr_tfx
requires, a gigabyte on every machine. The package made here holds the modules that a worker
imports and requires what these do; what decides pixels, in the very version that this machine has.
It is a wheel, because a worker that has to build a package downloads a build system first.
"""

import base64
import hashlib
import importlib.metadata
import tempfile
import zipfile
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, SetupOptions
from apache_beam.runners.dataflow import dataflow_runner
from packaging.requirements import Requirement

import dr_tfx

_FILES = (
    "beam_jobs/__init__.py",
    "beam_jobs/build_examples/__init__.py",
    "beam_jobs/build_examples/write_shard.py",
    "beam_jobs/sources/__init__.py",
    "beam_jobs/sources/archives.py",
    "beam_jobs/sources/arrays.py",
    "beam_jobs/sources/folders.py",
    "dr_tfx/__init__.py",
    "dr_tfx/config/__init__.py",
    "dr_tfx/config/specs.py",
    "dr_tfx/dataset/__init__.py",
    "dr_tfx/dataset/records.py",
    "dr_tfx/preprocessing/__init__.py",
    "dr_tfx/preprocessing/decoding.py",
    "dr_tfx/preprocessing/dicom.py",
    "dr_tfx/preprocessing/geometry.py",
    "dr_tfx/preprocessing/photometry.py",
    "dr_tfx/preprocessing/quality.py",
    "dr_tfx/preprocessing/recipes.py",
    "dr_tfx/storage/__init__.py",
    "dr_tfx/storage/files.py",
)
_REQUIRED = ("google-crc32c", "pillow", "protobuf")
_REQUIRED_EXACTLY = ("numpy", "opencv-python-headless")


class DataflowRunner(dataflow_runner.DataflowRunner):
    """Brings the workers' package along. Beam checks the flags of a class of this very name."""

    def run_pipeline(
        self, pipeline: beam.Pipeline, options: PipelineOptions, pipeline_proto: None = None
    ) -> dataflow_runner.DataflowPipelineResult:
        """Uploads all that workers need and starts the job."""
        setup, debug = options.view_as(SetupOptions), options.view_as(DebugOptions)
        # Else Beam also pickles the driver's `__main__`, whose modules no worker has.
        setup.save_main_session = False
        if debug.number_of_worker_harness_threads is None:
            # One process a core runs already; Beam would have twelve threads in each, and so
            # twelve shards and their photographs in its memory.
            debug.number_of_worker_harness_threads = 1
        with tempfile.TemporaryDirectory() as folder:
            package = make_worker_package(Path(folder))
            setup.extra_packages = [*(setup.extra_packages or []), str(package)]
            return super().run_pipeline(pipeline, options, pipeline_proto)


def make_worker_package(folder: Path) -> Path:
    """Writes a wheel of what a worker of the build job imports, and returns its path.

    Its bytes depend on the code and the versions alone.

    Raises:
      ValueError: dr_tfx is not installed, so that nothing says what it requires.
    """
    version, root = dr_tfx.__version__, Path(__file__).parents[2]
    info = f"dr_tfx_worker-{version}.dist-info"
    files = {name: (root / name).read_bytes() for name in _FILES}
    files[f"{info}/METADATA"] = _lines(
        "Metadata-Version: 2.1",
        "Name: dr_tfx_worker",
        f"Version: {version}",
        *(f"Requires-Dist: {requirement}" for requirement in _requirements()),
    )
    files[f"{info}/WHEEL"] = _lines(
        "Wheel-Version: 1.0", "Generator: dr_tfx", "Root-Is-Purelib: true", "Tag: py3-none-any"
    )
    record = [f"{name},{_digest(content)},{len(content)}" for name, content in files.items()]
    files[f"{info}/RECORD"] = _lines(*record, f"{info}/RECORD,,")
    path = folder / f"dr_tfx_worker-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            # The date of a ZipInfo is constant.
            wheel.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def _requirements() -> list[str]:
    """What a worker has to have besides Beam, which Dataflow's machines hold."""
    try:
        stated = importlib.metadata.requires("dr_tfx") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(
            "dr_tfx is not installed, and what its workers require is read from its installation: "
            "pip install -e '.[dataflow]' in its folder"
        ) from error
    bounds = {
        requirement.name: str(requirement)
        for requirement in map(Requirement, stated)
        if requirement.marker is None  # No extra's.
    }
    exact = [f"{name}=={importlib.metadata.version(name)}" for name in _REQUIRED_EXACTLY]
    return [*(bounds[name] for name in _REQUIRED), *exact]


def _lines(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return f"sha256={digest.decode().rstrip('=')}"
