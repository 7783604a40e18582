"""What decoders of images print about a file that they cannot name is not seen; all else is."""

import io
import os
import signal
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from dr_tfx.machine import error_lines
from tests.helpers import ready, terminal
from tests.helpers.drawn import draw

CODE = """
import logging, os, sys
from pathlib import Path
from dr_tfx.cli import console
from dr_tfx.preprocessing import decoding

def main(argv):
    for path in map(Path, argv[1:]):
        try:
            decoding.decode(path.read_bytes())
            os.write(2, b"decoded, says C\\n")
        except decoding.RejectedImage as error:
            logging.warning("%s: %s", path.name, error.reason)
    sys.stderr.write(f"terminal: {{sys.stderr.isatty()}}\\n")
    {end}

console.run(main, module=__name__, doc="", decodes={decodes})
"""
END = "raise ValueError('the end')"


def noisy_png() -> bytes:
    """A whole file whose colour profile is nonsense, of which libpng warns."""
    data = cv2.imencode(".png", draw(1, width=64, height=48))[1].tobytes()
    body = b"iCCPx\0\0" + zlib.compress(b"nonsense" * 30)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:33] + chunk + data[33:]


def damaged_tiff() -> bytes:
    """An LZW file with a hole, of which libtiff tells."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(stream, "TIFF", compression="tiff_lzw")
    data = stream.getvalue()
    return data[:4000] + bytes(2000) + data[6000:]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "noisy.png").write_bytes(noisy_png())
    (folder / "hole.tif").write_bytes(damaged_tiff())
    return [str(folder / "noisy.png"), str(folder / "hole.tif")]


def line(photographs, *, end, decodes=True):
    return [sys.executable, "-c", CODE.format(end=end, decodes=decodes), *photographs]


def said(words):
    done = ready.run(words)
    return done.returncode, done.stderr.splitlines()


def test_only_what_decoders_say_is_dropped_and_the_end_is_the_last_line(photographs):
    code, lines = said(line(photographs, end=END))
    assert code == 1 and lines[-1] == "error: the end"
    assert len(lines) == 4 and "decoded, says C" in lines and "terminal: False" in lines
    assert any(line.endswith("hole.tif: unreadable") for line in lines)
    _, loud = said(line(photographs, end=END, decodes=False))
    assert any(line.startswith("libpng warning: iCCP") for line in loud)
    assert any(line.startswith(("LZWDecode: ", "tempfile.tif: ")) for line in loud)


def test_the_last_words_of_a_crash_are_seen(photographs):
    end = "os.write(2, b'C: a crash\\n'); os.abort()"
    code, lines = said(line(photographs, end=end))
    assert code == -signal.SIGABRT and "C: a crash" in lines


def test_a_terminal_stays_one(photographs):
    code, seen = terminal.run(line(photographs, end="pass"))
    assert code == 0 and b"terminal: True" in seen and b"libpng" not in seen


def test_a_word_of_libtiff_that_damaged_uploads_met_is_dropped(capfd):
    with error_lines.without_decoders():
        os.write(2, b"EstimateStripByteCounts: Cannot determine size of unknown tag type 41384.\n")
        os.write(2, b"another word\n")
    assert capfd.readouterr().err == "another word\n"
