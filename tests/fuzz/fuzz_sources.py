"""Damage small arrays and archives, and open them as a build does.

    python tests/fuzz/fuzz_sources.py SEED CASES

Each file is either a source whose photographs are read or rejected, or refused in one sentence. The
command prints how many were which, and fails at the first file that is neither, takes much memory,
or gives a name that leaves its folder.
"""

import io
import logging
import resource
import struct
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding
from dr_tfx.sources import arrays, find_source
from tests.helpers.damage import damage

RECIPE = specs.Recipe(name="reference", size=8)
MEMORY = 200 << 10  # Kilobytes that the damaged files may add.
_TOKENS = (b"(", b")", b"{", b"'", b",", b"L", b"-", b"\\", b"\n", b"9" * 30, b"\xff", b"O", b"''")
_NAMES = (
    "a.png",
    "../b.png",
    "/etc/a.png",
    "C:\\x\\a.png",
    "x\\..\\..\\c.png",
    "눈.png",
    "./a.png",
    "masks/a.png",
)


def npy_files() -> list[bytes]:
    """Intact arrays, and headers of kinds that are not wanted."""
    pixels = np.arange(3 * 8 * 8 * 3, dtype=np.uint8).reshape(3, 8, 8, 3)
    made = [pixels, pixels / 255, np.asfortranarray(pixels), (pixels / 255).astype(">f4")]
    made += [np.arange(3), np.zeros((3, 2)), np.array(["x", "yy"]), np.zeros(3, "i4,f8")]
    files = []
    for array in made:
        for version in ((1, 0), (2, 0), (3, 0)):
            stream = io.BytesIO()
            np.lib.format.write_array(stream, array, version=version)
            files.append(stream.getvalue())
    stream = io.BytesIO()
    np.savez(stream, a=pixels)
    return [*files, stream.getvalue()]


def zip_files(rng: np.random.Generator) -> list[bytes]:
    """Intact archives, with names that are not harmless."""
    files = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        for force in (False, True):  # zip64.
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", method) as packed:
                for name in rng.permutation(_NAMES)[:4].tolist():
                    with packed.open(name, "w", force_zip64=force) as member:
                        member.write(rng.bytes(40) + bytes(60))
                link = zipfile.ZipInfo("link.png")
                link.external_attr = 0o120777 << 16
                packed.writestr(link, "/etc/passwd")
                packed.comment = b"comment"
            files.append(stream.getvalue())
    return files


def in_header(data: bytes, rng: np.random.Generator) -> bytes:
    """An array whose header has another token, or the size of another."""
    changed, at = bytearray(data), int(rng.integers(6, min(len(data), 128)))
    token = _TOKENS[rng.integers(0, len(_TOKENS))]
    if rng.random() < 0.5:
        changed[at : at + len(token)] = token
    else:
        changed[at:at] = token
        changed[8:10] = struct.pack("<H", (changed[8] + 256 * changed[9] + len(token)) % 65536)
    return bytes(changed)


def open_array(path: str) -> str:
    """What becomes of an array: the reason of its refusal, or what its photographs are."""
    try:
        source = arrays.open_arrays(path, RECIPE)
    except ValueError as error:
        return refused(error)
    for name, _ in source.names():
        try:
            assert source.prepare(source.read(name), RECIPE).rgb.shape == (8, 8, 3)
        except decoding.RejectedImage as error:
            return error.reason
    return "read"


def open_labels(path: str) -> str:
    """What becomes of an array of labels."""
    try:
        array = arrays.load(path, "--npy_labels")
    except ValueError as error:
        return refused(error)
    return f"labels {np.asarray(array[:100]).dtype.kind}"


def open_archive(path: str) -> str:
    """What becomes of an archive."""
    try:
        source = find_source.open_source(path)
    except ValueError as error:
        return refused(error)
    counts = Counter()
    for name, _ in source.names():
        parts = name.split("/")
        assert ".." not in parts and "" not in parts and not name.startswith("/"), name
        try:
            counts["read"] += len(source.read(name)) >= 0
        except decoding.RejectedImage as error:
            counts[error.reason] += 1
    return "+".join(sorted(counts))


def refused(error: ValueError) -> str:
    """One word for a refusal, which is one sentence of moderate length."""
    text = str(error)
    assert text and "\n" not in text and len(text) < 800, text
    return "refused"


def main(seed: int, cases: int) -> dict[str, int]:
    logging.disable()
    decoding.MAX_BYTES = 1_000_000
    rng, counts = np.random.default_rng(seed), Counter()
    npy, packed = npy_files(), zip_files(rng)
    kinds: list[tuple[str, list[bytes], Callable[[str], str]]] = [
        ("npy", npy, open_array),
        ("npy", npy, open_labels),
        ("zip", packed, open_archive),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        for case in range(cases):
            extension, intact, opens = kinds[case % len(kinds)]
            data = intact[rng.integers(0, len(intact))]
            if extension == "npy" and rng.random() < 0.7:
                data = in_header(data, rng)
            else:
                data = damage(data, intact, rng)
            path = Path(folder) / f"x.{extension}"
            path.write_bytes(data)
            try:
                counts[f"{extension} {opens(str(path))}"] += 1
            except BaseException:
                print(f"case {case} of {seed}: {data!r}", file=sys.stderr)
                raise
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < MEMORY, f"case {case} of seed {seed}: {grown} kilobytes"
    print(dict(counts), "kilobytes", grown)
    return counts


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
