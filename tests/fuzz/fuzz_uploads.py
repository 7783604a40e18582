"""Send damaged and hostile uploads to a real server.

    python tests/fuzz/fuzz_uploads.py SEED CASES

Photographs of every format are damaged as disks and networks do it, and so are forms and headers.
Every answer has to be 200, or 413, 415 or 422 with a reason, and at the end an intact photograph is
read as at the beginning. Prints how many answers had each status.
"""

import socket
import sys
import tempfile
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.fuzz.fuzz_images import seeds
from tests.helpers import exports, served
from tests.helpers.damage import damage
from tests.helpers.drawn import draw, encode

_ALLOWED = {200, 413, 415, 422}
_KINDS = (
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=\xff; charset=utf-7",
    "multipart/form-data; charset=rot13; boundary=x",
    "application/json",
    "image/jpeg",
)


def main(seed: int, cases: int) -> None:
    rng, intact, counts = np.random.default_rng(seed), seeds(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        export = exports.write(Path(folder))
        server = served.Server(f"--model={export}", "--max_megapixels=1", "--max_megabytes=1")
        try:
            eye = ("eye.jpeg", encode(draw(1)))
            first = server.predict(eye).json
            for case in range(cases):
                try:
                    counts[_ask(server, intact, rng)] += 1
                except BaseException:
                    print(f"case {case} of seed {seed}", file=sys.stderr)
                    raise
            assert server.predict(eye).json == first
        except BaseException:
            print(server.stop()[1], file=sys.stderr)
            raise
        code, said = server.stop()
    print(dict(counts))
    assert code == 0 and said == "stopping: what was begun is finished\n", said


def _ask(server: served.Server, intact: list[bytes], rng: np.random.Generator) -> str:
    """Send one upload, and return the status of its answer."""
    name = _name(rng)
    files = [(name, _photograph(intact, rng)) for _ in range(rng.choice([1, 1, 1, 3, 40]))]
    body, kind = served.form(files)
    what = rng.integers(0, 8)
    if what == 0:  # A damaged form.
        body = damage(body, intact, rng)
    elif what == 1:
        kind = str(rng.choice(_KINDS))
    elif what == 2:  # A photograph without a form.
        body, kind = files[0][1], "application/octet-stream"
    elif what == 3:
        return _cut_off(server, body, kind, rng)
    query = str(
        rng.choice(["", "", "?heatmap=true", "?heatmap=perhaps", "?name=%ff%00", "?x" * 99])
    )
    answer = server.ask("POST", f"/v1/predict{query}", body, content_type=kind)
    assert answer.status in _ALLOWED, (answer.status, answer.content[:500])
    told = answer.json
    assert (
        answer.status == 200 or told.get("detail") or told["photographs"][0]["rejected"]["detail"]
    )
    return str(answer.status)


def _photograph(intact: list[bytes], rng: np.random.Generator) -> bytes:
    """Return a photograph, damaged but for one in four."""
    data = intact[rng.integers(len(intact))]
    return data if rng.random() < 0.25 else damage(data, intact, rng)


def _name(rng: np.random.Generator) -> str:
    return str(
        rng.choice(["eye.jpeg", "../../etc/passwd", "\u202e눈.png", "a" * 5000, "\x00\x1b[2J"])
    )


def _cut_off(server: served.Server, body: bytes, kind: str, rng: np.random.Generator) -> str:
    """Promise a whole body, send a part of it, and leave."""
    place = urlsplit(server.address)
    head = f"POST /v1/predict HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {kind}\r\n"
    length = f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((place.hostname, place.port)) as stream:
        sent = (head + length).encode("latin-1") + body
        stream.sendall(sent[: rng.integers(1, len(sent))])
    return "left"


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
