"""Answers requests for predictions over HTTP, with a page to drop photographs on.

    drtfx-serve --model=EXPORT
    drtfx-serve --workdir=RUN --port=8000
    curl --form photograph=@eye.jpeg http://127.0.0.1:8000/v1/predict

RUN is a finished run, and EXPORT what drtfx-export made of one, which needs no TensorFlow. The
photographs are prepared and read as drtfx-predict does it, and the answers are the same. When
requests are taken, the command prints its address, where a browser finds the page; /openapi.json
describes the routes for programs, and /drift is a page that says whether the photographs of a day
are like those of validation, or camera or population seem to be others.

Nobody but this machine reaches the server, unless --host says otherwise. That needs a key, of which
the command reads the environment variable DRTFX_API_KEY:

    DRTFX_API_KEY=$(openssl rand -hex 24) drtfx-serve --model=EXPORT --host=0.0.0.0

Clients then send the header 'Authorization: Bearer KEY'. The server speaks HTTP without encryption:
put a proxy with TLS before it.

Photographs are held in memory until they are answered, and neither they nor their names are stored
or logged. --max_megabytes, --max_megapixels, --max_photographs and --timeout bound a request,
--queue what is in work at once, and --requests_per_minute the requests of a client; beyond the last
two the answer is 429 with Retry-After.

Ctrl-C and SIGTERM finish what was begun, and SIGHUP loads the model anew from its folder without
losing a request. The command needs the extra dr_tfx[serve], and for a run dr_tfx[train].

Research software, not a medical device: no result is a diagnosis.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags

from dr_tfx.cli import console
from dr_tfx.machine import tensorflow_start

if TYPE_CHECKING:
    from dr_tfx.serving.served_model import ServedModel

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the trained bundle.")
_MODEL = flags.DEFINE_string("model", None, "Folder of an exported model, in place of --workdir.")
_HOST = flags.DEFINE_string("host", "127.0.0.1", "The address to listen on.")
_PORT = flags.DEFINE_integer("port", 8000, "Likewise; 0 for any free one.", 0, 65535)
_MEGABYTES = flags.DEFINE_integer(
    "max_megabytes", 64, "The most millions of bytes of a photograph.", 1, 600
)
_MEGAPIXELS = flags.DEFINE_integer(
    "max_megapixels", 64, "The most millions of pixels of a photograph.", 1, 150
)
_PHOTOGRAPHS = flags.DEFINE_integer(
    "max_photographs", 32, "The most photographs of a request.", 1, 1000
)
_TIMEOUT = flags.DEFINE_integer(
    "timeout", 60, "Seconds that a request may take, its upload included.", 1, 3600
)
_QUEUE = flags.DEFINE_integer("queue", 256, "The most photographs in work at once.", 1, 100_000)
_RATE = flags.DEFINE_integer(
    "requests_per_minute", 0, "The most requests of a client in a minute; 0 for any number.", 0
)


def main(argv: Sequence[str]) -> None:
    """Make the call that the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if (_WORKDIR.value is None) == (_MODEL.value is None):
        raise app.UsageError(
            "expected either --workdir=RUN, the folder of a training, or --model=EXPORT, what "
            "drtfx-export made of one"
        )
    if _PHOTOGRAPHS.value > _QUEUE.value:
        raise app.UsageError("--max_photographs is more than --queue takes")
    # Imported here, so that --help waits for no library.
    from dr_tfx.serving import limits, server

    bounds = limits.Limits(
        megabytes=_MEGABYTES.value,
        megapixels=_MEGAPIXELS.value,
        photographs=_PHOTOGRAPHS.value,
        seconds=_TIMEOUT.value,
        queue=_QUEUE.value,
        requests_per_minute=_RATE.value,
    )
    server.serve(_loader(), bounds, host=_HOST.value, port=_PORT.value)


def _loader() -> "Callable[[], ServedModel]":
    """Return what loads the model, and says the alarms of its evaluations."""
    from dr_tfx.serving import served_model

    if _WORKDIR.value:
        tensorflow_start.load()
    load = served_model.load_run if _WORKDIR.value else served_model.load_export
    folder = Path(_WORKDIR.value or _MODEL.value)

    def loaded() -> "ServedModel":
        model = load(folder)
        for alarm in model.alarms:
            print(f"ALARM of the run's evaluation: {alarm}", file=sys.stderr)
        return model

    return loaded


def run() -> None:
    """Start the command."""
    console.run(main, module=__name__, doc=__doc__, decodes=True)


if __name__ == "__main__":
    run()
