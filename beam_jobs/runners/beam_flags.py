"""Beam's share of a job's command line: its flags and its runner.

A job's binary gives the command line to absl and Beam in turn:

    def main(argv):
        options = beam_flags.options(argv[1:])  # The words that absl left over.
        with beam.Pipeline(runner=beam_flags.create(options), options=options) as pipeline: ...

    console.run(main, flags_parser=console.known_flags, ...)
"""

import argparse
import os
from collections.abc import Sequence

import apache_beam.pipeline
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
)
from apache_beam.runners.runner import PipelineRunner, create_runner
from apache_beam.utils import interactive_utils

from beam_jobs.runners import local_runner
from dr_tfx.machine import resources
from dr_tfx.sources import find_source

_LOCAL = "beam_jobs.runners.local_runner.LocalRunner"
_DASK = "beam_jobs.runners.dask_runner.DaskRunner"
_DATAFLOW = "beam_jobs.runners.dataflow_runner.DataflowRunner"
_CLASSES = {  # Beam's own short names mean other classes, or none.
    "": _LOCAL,
    "direct": _LOCAL,
    "directrunner": _LOCAL,
    "dask": _DASK,
    "daskrunner": _DASK,
    "dataflow": _DATAFLOW,
    "dataflowrunner": _DATAFLOW,
}


def options(beam_args: Sequence[str]) -> PipelineOptions:
    """Return Beam's options from the words that the job's flags left over.

    Raises:
      ValueError: a word that Beam does not know either, a value of the wrong type, or a runner
        that does not exist. Beam itself would only warn of a misspelt flag, and run without it.
    """
    result = PipelineOptions(list(beam_args))
    create(result)  # The import of a runner makes its flags known, such as --dask_client_address.
    parsers: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    parsers[0].exit_on_error = False
    try:
        unknown = parsers[0].parse_known_args(list(beam_args))[1]
    except argparse.ArgumentError as error:
        raise ValueError(f"Beam does not accept a flag's value: {error}") from error
    if unknown:
        raise ValueError(
            f"neither this command nor Apache Beam knows {' '.join(unknown)}. A typing error? "
            "--help lists this command's flags."
        )
    return result


def create(options: PipelineOptions, *, with_model: bool = False) -> PipelineRunner:
    """Return the runner that `--runner` names; LocalRunner for none and for DirectRunner.

    Beam's own DirectRunner first tries Prism, for which it downloads a program. LocalRunner needs
    no network. It runs in this process, or in several with `--direct_running_mode=multi_processing
    --direct_num_workers=0` (0: one a core).

    Args:
      options: Beam's options.
      with_model: whether the work takes a model, for which local workers load TensorFlow.

    Raises:
      ValueError: there is no runner of that name, or its package is not installed.
    """
    _run_in_notebooks_as_elsewhere()
    name = options.view_as(StandardOptions).runner or ""
    try:
        runner = create_runner(_CLASSES.get(name.lower(), name))
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"--runner={name} cannot be loaded: {error}. Dask needs pip install 'dr_tfx[dask]', "
            "Dataflow needs pip install 'dr_tfx[dataflow]'"
        ) from error
    if isinstance(runner, local_runner.LocalRunner):
        runner.with_model = with_model
    return runner


def _run_in_notebooks_as_elsewhere() -> None:
    """Keep Beam from naming a pipeline's steps after the cells of a notebook.

    For that it loads its data frames, which cannot be imported beside pandas 3.
    """
    for module in (apache_beam.pipeline, interactive_utils):
        module.is_in_ipython = lambda: False


def check_folders(options: PipelineOptions, **folders: str) -> None:
    """Refuse folders that no worker of the runner can see, before anything is paid for.

    Args:
      options: Beam's options.
      folders: paths by the name of their flag.

    Raises:
      ValueError: a folder is on this machine's disk, which Dataflow's machines do not see.
    """
    name = options.view_as(StandardOptions).runner or ""
    given = {flag: find_source.places(path) for flag, path in folders.items()}
    local = [
        f"--{flag}={path}" for flag, paths in given.items() for path in paths if "://" not in path
    ]
    if _CLASSES.get(name.lower()) == _DATAFLOW and local:
        raise ValueError(
            f"--runner={name} works on machines that do not see this one's disk, but got "
            f"{' '.join(local)}; expected gs://BUCKET/FOLDER"
        )


def check_dataflow(options: PipelineOptions, *paths: str) -> None:
    """Refuse a job for Dataflow that lacks a flag or credentials, before it asks Google.

    Otherwise the job would look for photographs first, and fail after a minute of warnings.

    Args:
      options: Beam's options. Those of other runners are accepted.
      paths: the paths of the job, some of them in Google's object store.

    Raises:
      ValueError: a flag is missing, or this machine has no credentials.
    """
    name = options.view_as(StandardOptions).runner or ""
    if _CLASSES.get(name.lower()) != _DATAFLOW:
        return
    cloud = options.view_as(GoogleCloudOptions)
    given = {
        "project": cloud.project,
        "region": cloud.region,
        "temp_location": cloud.temp_location or cloud.staging_location,
    }
    if missing := ", ".join(f"--{flag}" for flag, value in given.items() if not value):
        raise ValueError(f"--runner={name} needs {missing} too; --help has a whole command")
    # An emulator of the store asks for no credentials.
    if not any(path.startswith("gs://") for path in paths) or "STORAGE_EMULATOR_HOST" in os.environ:
        return
    import google.auth.exceptions  # Not above: only the extra `dataflow` installs it.

    try:
        google.auth.default()
    except google.auth.exceptions.DefaultCredentialsError as error:
        raise ValueError(
            f"this machine has no Google credentials for gs://: {str(error).rstrip('.')}. Log in "
            "with: gcloud auth application-default login"
        ) from error


def threads_per_worker(options: PipelineOptions) -> int:
    """Return how many threads a worker may use: its share of this machine's cores, else one.

    A cluster's runner has as many workers on each machine as it is told to.
    """
    if not isinstance(create(options), local_runner.LocalRunner):
        return 1
    cores = resources.cores()
    return max(1, cores // (options.view_as(DirectOptions).direct_num_workers or cores))
