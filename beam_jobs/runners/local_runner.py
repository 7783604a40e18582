"""Beam's runner on this machine, with processes that end with the job and listen here alone.

Beam starts a worker process through a shell, and waits for ever for one that was killed. Its
processes speak to each other over ports without encryption, which it opens to every network.
"""

import functools
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import apache_beam as beam
import grpc  # type: ignore[import-untyped]  # It has none.
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, worker_handlers
from apache_beam.runners.runner import PipelineResult
from google.protobuf import json_format, text_format

from beam_jobs.runners import local_worker

_ENDED = "the worker process ended with exit code "
_LOG = logging.getLogger(__name__)
_SECONDS = 0.1  # Between two looks at what is still asked of a worker that has ended.


class LocalRunner(FnApiRunner):
    """Runs a job in this process, or in several with `--direct_running_mode=multi_processing`.

    Attributes:
      with_model: whether the work takes a model. Workers then load TensorFlow, if this process has.
    """

    with_model = False

    def run_pipeline(self, pipeline: beam.Pipeline, options: PipelineOptions) -> PipelineResult:
        """Run the job to its end.

        Raises:
          KeyboardInterrupt: Ctrl-C was pressed.
          OSError: a worker process has ended before its time.
          RuntimeError: the work failed; the last line is the error of the worker.
        """
        worker_handlers.grpc = _LocalServers()
        worker_handlers.BasicLoggingService = _Logs
        loaded = {"tensorflow"} & set(sys.modules) if self.with_model else set()
        worker_handlers.WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(
            functools.partial(_Worker, loaded)
        )
        told = threading.excepthook
        threading.excepthook = lambda raised: (
            None if issubclass(raised.exc_type, grpc.RpcError) else told(raised)
        )  # The thread that reads from a worker fails when that worker is killed.
        try:
            return super().run_pipeline(pipeline, options)
        except RuntimeError as error:
            last = str(error).strip().splitlines()[-1]
            if "KeyboardInterrupt" in last:  # Work in this process passes it on as its error.
                raise KeyboardInterrupt from error
            if _ENDED in last:
                raise OSError(
                    f"{last}, for want of memory perhaps. What is finished is kept: run the same "
                    "command again, with fewer workers"
                ) from error
            raise
        finally:
            threading.excepthook = told


class _LocalServers:
    """The module grpc, but for servers that listen on this machine alone."""

    def __getattr__(self, name: str) -> Any:
        return getattr(grpc, name)

    def server(self, *arguments: Any, **settings: Any) -> grpc.Server:
        made = grpc.server(*arguments, **settings)
        listen = made.add_insecure_port
        made.add_insecure_port = lambda address: listen(address.replace("[::]", "localhost"))
        return made


class _Logs(worker_handlers.BasicLoggingService):
    """The warnings of workers, and not what Beam says about an error that is raised here too."""

    def Logging(  # noqa: N802 - Beam's name.
        self, log_messages: Iterable[beam_fn_api_pb2.LogEntry.List], context: Any = None
    ) -> Iterator[beam_fn_api_pb2.LogControl]:
        yield beam_fn_api_pb2.LogControl()
        for entry in (entry for some in log_messages for entry in some.log_entries):
            level = worker_handlers.LOGENTRY_TO_LOG_LEVEL_MAP[entry.severity]
            if level >= logging.WARNING and "apache_beam" not in entry.log_location:
                _LOG.log(level, "%s", entry.message)


class _Worker(worker_handlers.GrpcWorkerHandler):
    """A worker process, in place of Beam's own."""

    def __init__(self, loaded: Collection[str], command_line: bytes, *shared: Any):
        del command_line  # It has the interpreter's path without quotes.
        super().__init__(*shared)
        self._loaded = loaded
        self._closed = threading.Event()

    def start_worker(self) -> None:
        settings = self.provision_info.provision_info.pipeline_options
        services = {
            "CONTROL_API_SERVICE_DESCRIPTOR": self.control_api_service_descriptor(),
            "LOGGING_API_SERVICE_DESCRIPTOR": self.logging_api_service_descriptor(),
        }
        environment = {
            **{name: text_format.MessageToString(service) for name, service in services.items()},
            "PIPELINE_OPTIONS": json_format.MessageToJson(settings),
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
            "WORKER_ID": self.worker_id,
        }
        self._process = subprocess.Popen(
            # With -P it finds the modules that this process found, not those of the current folder.
            [sys.executable, "-P", "-m", local_worker.__name__, *self._loaded],
            process_group=0,  # Ctrl-C is for the process that asks.
            env={**os.environ, **environment},
        )
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def _watch(self) -> None:
        """Answer what is asked of a worker that has ended, for which Beam would wait for ever."""
        code = self._process.wait()
        while not self._closed.wait(_SECONDS):
            for name, future in list(self.control_conn._futures_by_id.items()):
                error = f"{_ENDED}{code}"
                future.set(beam_fn_api_pb2.InstructionResponse(instruction_id=name, error=error))

    def close(self) -> None:
        if sys.exc_info()[0] is not None:  # The job has failed, and nobody needs the work.
            self._process.kill()
        super().close()

    def stop_worker(self) -> None:
        self._process.wait()
        self._closed.set()
