"""Google's, Microsoft's and the Hub's own clients, where installed, at a store on this machine."""

import http.server
import json
import re
import threading
import time
from typing import ClassVar

import fsspec
import pytest
from fsspec.registry import _registry

from dr_tfx.storage import files, store_reads

DATA = bytes(range(256)) * 64
FOLDER = "/api/datasets/eyes/drawn"


class StandIn(http.server.BaseHTTPRequestHandler):
    """One object, `x`, of which a part is given at the second try, and a listing of it."""

    asked: ClassVar[list[str]] = []  # The parts, in the order of the requests,
    times: ClassVar[list[float]] = []  # which came at these seconds.
    size = len(DATA)  # As it is listed.

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(FOLDER):
            entry = {"type": "file", "path": "x", "size": StandIn.size, "oid": "1"}
            return self._answer(200, json.dumps([entry] if "/tree/" in path else {"id": "a/b"}))
        asked = self.headers.get("x-ms-range") or self.headers.get("Range")
        if not path.endswith(("/x", "%2Fx")) or asked is None:
            return self._answer(404, "{}")
        self.asked.append(asked)
        self.times.append(time.monotonic())
        if len(self.asked) == 1:
            return self._answer(503, "{}", {"Retry-After": "2"})
        start, end = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", asked).groups())
        part = {"Content-Range": f"bytes {start}-{end}/{len(DATA)}"}
        return self._answer(206, DATA[start : end + 1], part)

    def _answer(self, status: int, content: str | bytes, headers: dict | None = None) -> None:
        content = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(params=["az", "gs", "hf"])
def address(request, monkeypatch):
    """The folder of the object."""
    package = {"az": "adlfs", "gs": "gcsfs.core", "hf": "huggingface_hub"}[request.param]
    found = pytest.importorskip(package, reason="needs pip install 'dr_tfx[azure,dataflow,hub]'")
    if request.param == "gs":  # The usual one would ask Google what kind of bucket this is.
        monkeypatch.setitem(_registry, "gs", found.GCSFileSystem)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    account = f"AccountName=a;AccountKey=a2V5;BlobEndpoint={url}/a;"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", account)
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": url, "token": False})
    monkeypatch.setitem(fsspec.config.conf, "gs", {"endpoint_url": url, "token": "anon"})
    StandIn.asked, StandIn.times, StandIn.size = [], [], len(DATA)
    yield {"hf": "hf://datasets/eyes/drawn"}.get(request.param, f"{request.param}://eyes/drawn")
    server.shutdown()
    server.server_close()


def test_a_part_is_one_request_and_a_busy_store_is_asked_again_when_it_says(address):
    reader = store_reads.StoreReader(address)
    assert reader.read("x", 100, 120) == DATA[100:120]
    assert StandIn.asked == ["bytes=100-119"] * 2
    assert 2 <= StandIn.times[1] - StandIn.times[0] < 4
    assert files.read(f"{address}/x", offset=5, length=9) == DATA[5:14]
    assert StandIn.asked[2:] == ["bytes=5-13"]
    with pytest.raises(store_reads.StoreError, match="is not there any more"):
        reader.read("y", 0, 2)


def test_the_hubs_client_lists_anew_and_takes_no_single_files(address):
    if not address.startswith("hf://"):
        pytest.skip("the others have other forms of listings")
    assert files.sizes(address) == {"x": len(DATA)}
    StandIn.size = 7
    assert files.sizes(address) == {"x": 7}
    with pytest.raises(OSError, match=r"drawn/x cannot be written: .*hf upload"):
        files.write(f"{address}/x", b"")
