"""The process of the server: its socket, its signals, and its end."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from dr_tfx.serving import app, limits, metrics, service
from dr_tfx.serving.served_model import ServedModel

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
KEY = "DRTFX_API_KEY"  # The variable of the environment with the key.


def serve(load: Callable[[], ServedModel], bounds: limits.Limits, *, host: str, port: int) -> None:
    """Serve a model until Ctrl-C or SIGTERM; then finish what was begun.

    SIGHUP loads the model anew. The address is printed when requests are taken.

    Args:
      load: loads the model.
      bounds: what a request may ask for.
      host: the address to listen on; one that others can reach needs a key.
      port: likewise; 0 for any free one.

    Raises:
      FileNotFoundError, ValueError: the model cannot be used, or there is no key where one is
        needed.
      OSError: the address cannot be listened on.
    """
    key = os.environ.get(KEY, "")
    check_key(key, host)
    with contextlib.closing(_listening(host, port)) as listening:
        warnings.simplefilter("ignore")  # Those of decoders may hold what a file says.
        for name in ("pydicom", "python_multipart"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        figures = metrics.Metrics()
        served = service.Service(load, bounds, observe=figures.batch)
        application = app.create(served, figures, key=key, names=own_names(host))
        address = _address(listening)
        _run(application, served, listening, lambda: print(address, flush=True))


def check_key(key: str, host: str) -> None:
    """Refuse a key that can be guessed, and an address that others can reach without one.

    Raises:
      ValueError: says what to do.
    """
    if key and (len(key) < app.SHORTEST_KEY or not (key.isascii() and key.isprintable())):
        raise ValueError(
            f"the key in {KEY} has {len(key)} characters; expected {app.SHORTEST_KEY} or more of "
            "ASCII, such as `openssl rand -hex 24` gives"
        )
    if not key and not is_loopback(host):
        raise ValueError(
            f"--host={host} can be reached by others, and no key is set. Set {KEY} in the "
            "environment, or serve this machine alone by --host=127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Return whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_names(host: str) -> tuple[str, ...]:
    """Return the names by which the server may be asked; none where any may be the right one.

    An address of this machine has names that are known, and needs no key.
    """
    return (*_LOOPBACK, host) if is_loopback(host) else ()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024)


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Uvicorn(uvicorn.Server):
    """Uvicorn's server, which leaves signals to `_run` and says when it is there."""

    said: Callable[[], None] = staticmethod(lambda: None)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.said()


def _run(
    application: ASGIApp,
    served: service.Service,
    listening: socket.socket,
    said: Callable[[], None],
) -> None:
    config = uvicorn.Config(
        application,
        access_log=False,  # It would tell who asked what.
        log_config=None,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=served.limits.seconds,
    )
    server = _Uvicorn(config)
    server.said = said

    def stop() -> None:
        if not server.should_exit:
            print("stopping: what was begun is finished", file=sys.stderr, flush=True)
        server.should_exit = True

    async def run() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(
            signal.SIGHUP, lambda: threading.Thread(target=served.reload, daemon=True).start()
        )
        await server.serve([listening])

    asyncio.run(run())
    served.close()
