"""Beam's DataflowRunner, whose workers install this very source tree, without any of its extras.

Dataflow's machines know only what a job brings along. `setup.py` states what the build job
requires, and TensorFlow is not part of it. Whatever decides pixels is installed on the workers in
the very version that this machine has, and so is the client of the object store.
"""

import importlib.metadata
import tempfile
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, SetupOptions
from apache_beam.runners.dataflow import dataflow_runner
from apache_beam.runners.portability import stager

import dr_tfx

_EXACT = ("gcsfs", "numpy", "opencv-python-headless", "pillow", "simplejpeg")


class DataflowRunner(dataflow_runner.DataflowRunner):
    """Brings the source tree along. Beam checks the flags of a class of this very name."""

    def run_pipeline(
        self, pipeline: beam.Pipeline, options: PipelineOptions, pipeline_proto: None = None
    ) -> dataflow_runner.DataflowPipelineResult:
        """Upload all that workers need and start the job.

        Raises:
          ValueError: dr_tfx was not installed from a clone, so that there is nothing to upload.
        """
        setup, debug = options.view_as(SetupOptions), options.view_as(DebugOptions)
        # Otherwise Beam also pickles the driver's `__main__`, whose modules no worker has.
        setup.save_main_session = False
        if debug.number_of_worker_harness_threads is None:
            # One process a core runs already. Beam would have twelve threads in each of them, and
            # so twelve shards and their photographs in its memory.
            debug.number_of_worker_harness_threads = 1
        if setup.setup_file is None:
            setup.setup_file = str(_setup_file())
        if setup.requirements_cache is None:
            # Otherwise Beam downloads every requirement here, to upload it for the workers.
            setup.requirements_cache = stager.SKIP_REQUIREMENTS_CACHE
        with tempfile.TemporaryDirectory() as folder:
            requirements = Path(folder) / "requirements.txt"
            requirements.write_text(_requirements(setup.requirements_file), encoding="utf-8")
            setup.requirements_file = str(requirements)
            return super().run_pipeline(pipeline, options, pipeline_proto)


def _setup_file() -> Path:
    """Return the path of this source tree's setup.py.

    Raises:
      ValueError: there is none.
    """
    path = Path(dr_tfx.__file__).parents[1] / "setup.py"
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist: dr_tfx was not installed from a clone of its repository, "
            "which --runner=DataflowRunner sends to the workers. Type pip install -e "
            "'.[dataflow]' in a clone, or name a setup.py with --setup_file"
        )
    return path


def _requirements(given: str | None) -> str:
    """Return the lines of a requirements file: those of the user's own, then exact versions."""
    own = Path(given).read_text(encoding="utf-8").splitlines() if given else []
    exact = [f"{name}=={importlib.metadata.version(name)}" for name in _EXACT]
    return "".join(f"{line}\n" for line in [*own, *exact])
