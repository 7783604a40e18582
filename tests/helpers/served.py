"""A server in a process of its own, and a client that speaks plain HTTP."""

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.parse
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.helpers import commands, ready

ROOT = Path(__file__).parents[2]


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self):
        return json.loads(self.content)


class Server:
    """drtfx-serve with some flags, from its start to its end; it may know the tests' backbones."""

    def __init__(self, *flags: str, key: str = "", knows_backbones: bool = False):
        line = [sys.executable, "-m", "dr_tfx.cli.serve", "--port=0", *flags]
        if knows_backbones:
            line = commands.line("drtfx-serve", "--port=0", *flags)
        environment = {**os.environ, "DRTFX_API_KEY": key}
        pipe = subprocess.PIPE
        self.process = ready.Popen(line, env=environment, stdout=pipe, stderr=pipe, text=True)
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            raise RuntimeError(self.process.communicate()[1])

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        netloc = urllib.parse.urlsplit(self.address).netloc
        return http.client.HTTPConnection(netloc, timeout=timeout)

    def ask(self, method: str, path: str, body=None, **headers: str) -> Response:
        """Send a request; of headers, `_` in a name stands for `-`, and None leaves one out."""
        told = {**self.headers, **{name.replace("_", "-"): h for name, h in headers.items()}}
        connection = self.connect()
        try:
            told = {name: header for name, header in told.items() if header is not None}
            connection.request(method, path, body, told)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, names, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Response:
        return self.ask("GET", path, **headers)

    def predict(self, *files: tuple[str, bytes], query: str = "", **headers) -> Response:
        body, kind = form(files)
        return self.ask("POST", f"/v1/predict{query}", body, content_type=kind, **headers)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Stop it, and return its exit code and what it said."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, said


def form(files: Sequence[tuple[str, bytes]]) -> tuple[bytes, str]:
    """Return the body and the type of a form with files, as names and bytes."""
    mark = uuid.uuid4().hex
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="photograph"; filename="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join([*parts, f"--{mark}--\r\n".encode()]), f"multipart/form-data; boundary={mark}"
