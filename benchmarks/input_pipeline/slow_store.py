"""An object store on this machine, as far from it as one likes, over loopback.

    python -m benchmarks.input_pipeline.slow_store FOLDER --latency_ms=20 --bandwidth_mb=100

Every answer comes after the latency, and all answers together are no faster than the bandwidth.
With --reads=100 it is a disk that seeks a hundred times a second: an answer that does not begin
where the one before it has ended holds up all others for so long. The first line printed is the
address for STORAGE_EMULATOR_HOST; `/counts` tells the requests and the bytes so far. It serves the
files of FOLDER as objects of the bucket `far`, whole or in ranges, by Google's protocol; and to the
clients of Amazon's, which are given the same address as their endpoint, single objects.
"""

import argparse
import asyncio
import json
import time
import urllib.parse
from pathlib import Path

BUCKET = "far"


class _Store:
    def __init__(self, folder: Path, latency: float, bandwidth: float, seek: float):
        self._folder, self._latency, self._bandwidth = folder, latency, bandwidth
        self._seek, self._head = seek, ("", 0)  # Seconds, and where the head is.
        self._free = 0.0  # When the line has sent all that it was given so far.
        self._requests = self._bytes = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                first, *lines = head.split("\r\n")
                url = urllib.parse.urlsplit(first.split()[1])
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
                if first.startswith("HEAD"):  # Of Amazon's clients, before they read.
                    status, content, more = self._facts_alone(url)
                else:
                    status, content, more = self._answer(url, headers.get("range", ""))
                    more += f"Content-Length: {len(content)}\r\n"
                if url.path != "/counts":
                    await self._wait(url.path, headers.get("range", ""), len(content))
                writer.write(f"HTTP/1.1 {status}\r\n{more}\r\n".encode())
                writer.write(content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client has gone.
        finally:
            writer.close()

    async def _wait(self, path: str, part: str, size: int) -> None:
        self._requests, self._bytes = self._requests + 1, self._bytes + size
        start = int(part.removeprefix("bytes=").partition("-")[0] or 0)
        sought, self._head = (path, start) != self._head, (path, start + size)
        now = time.monotonic()
        self._free = max(self._free, now) + sought * self._seek + size / self._bandwidth
        await asyncio.sleep(self._latency + self._free - now)

    def _answer(self, url: urllib.parse.SplitResult, part: str) -> tuple[str, bytes, str]:
        """Return status, content and further headers."""
        if url.path == "/counts":
            return "200 OK", json.dumps([self._requests, self._bytes]).encode(), ""
        name = _name(url)
        query = dict(urllib.parse.parse_qsl(url.query))
        if not name:
            return "200 OK", json.dumps({"items": self._listed(query)}).encode(), ""
        file = self._folder / name
        if not file.is_file():
            return "404 Not Found", b"{}", ""
        if not url.path.startswith(("/download/", f"/{BUCKET}/")):
            return "200 OK", json.dumps(_facts(file, name)).encode(), ""
        if not part:
            return "200 OK", file.read_bytes(), ""
        start, _, last = part.removeprefix("bytes=").partition("-")
        with file.open("rb") as stream:
            stream.seek(int(start))
            content = stream.read(int(last) + 1 - int(start) if last else -1)
        size = file.stat().st_size
        place = f"Content-Range: bytes {start}-{int(start) + len(content) - 1}/{size}\r\n"
        return "206 Partial Content", content, place

    def _facts_alone(self, url: urllib.parse.SplitResult) -> tuple[str, bytes, str]:
        """Return status, no content, and the headers of an object that is not sent."""
        file = self._folder / _name(url)
        if not file.is_file():
            return "404 Not Found", b"", "Content-Length: 0\r\n"
        return "200 OK", b"", f"Content-Length: {file.stat().st_size}\r\n"

    def _listed(self, query: dict[str, str]) -> list[dict[str, str]]:
        names = {str(path.relative_to(self._folder)): path for path in self._folder.rglob("*")}
        prefix = query.get("prefix", "")
        return [
            _facts(path, name)
            for name, path in sorted(names.items())
            if path.is_file() and name.startswith(prefix)
        ]


def _name(url: urllib.parse.SplitResult) -> str:
    """Return the name of the object that is asked for, "" if there is none."""
    amazon = f"/{BUCKET}/"
    if url.path.startswith(amazon):
        return urllib.parse.unquote(url.path.removeprefix(amazon))
    return urllib.parse.unquote(url.path.partition(f"/b/{BUCKET}/o")[2].strip("/"))


def _facts(file: Path, name: str) -> dict[str, str]:
    return {
        "kind": "storage#object",
        "name": name,
        "bucket": BUCKET,
        "size": str(file.stat().st_size),
    }


async def _run(arguments: argparse.Namespace) -> None:
    latency, bandwidth = arguments.latency_ms / 1e3, arguments.bandwidth_mb * 1e6
    seek = 1 / arguments.reads if arguments.reads else 0.0
    store = _Store(Path(arguments.folder), latency, bandwidth, seek)
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0, limit=1 << 16)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="Folder of the objects.")
    parser.add_argument("--latency_ms", type=float, default=20, help="Of every answer.")
    parser.add_argument("--bandwidth_mb", type=float, default=100, help="MB a second, of all.")
    parser.add_argument("--reads", type=float, default=0, help="Seeks a second; 0: no limit.")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
