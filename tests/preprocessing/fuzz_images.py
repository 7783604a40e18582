"""Damages small files of every format and gives them to both recipes.

    python tests/preprocessing/fuzz_images.py SEED CASES

A process of its own, so that a crash of native code fails one test and not the run. Prints the
number of accepted and rejected files; fails at the first that is neither, or takes much memory.
"""

import io
import logging
import resource
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pydicom
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding

LIMIT = 1_000_000  # Pixels. What a damaged header asks for beyond it must not be allocated.
MEMORY = 300 << 10  # Kilobytes that the damaged files may add.


def seeds() -> list[bytes]:
    """Intact files."""
    rgb = np.zeros((48, 64, 3), np.uint8)
    cv2.circle(rgb, (32, 24), 22, (200, 90, 40), -1)
    cv2.circle(rgb, (36, 20), 4, (230, 180, 90), -1)
    picture = Image.fromarray(rgb)

    def save(kind: str, mode: str = "RGB", **options) -> bytes:
        stream = io.BytesIO()
        picture.convert(mode).save(stream, kind, **options)
        return stream.getvalue()

    made = [save("JPEG", mode) for mode in ("RGB", "L", "CMYK")]
    exif = Image.Exif()
    exif[0x0112] = 6
    made += [save("JPEG", progressive=True), save("JPEG", restart_marker_blocks=2, exif=exif)]
    made += [save("PNG", mode) for mode in ("RGB", "L", "LA", "RGBA", "P", "1", "I;16")]
    made += [save("BMP", mode) for mode in ("RGB", "L", "P", "1")]
    kinds = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    made += [save("TIFF", compression=kind) for kind in kinds]
    made += [save("TIFF", "1", compression="group4"), save("TIFF", "I;16"), save("TIFF", "P")]
    made += [save("TIFF", save_all=True, append_images=[picture])]
    grey = rgb[..., 0].astype(np.uint16) * 16
    window = {"WindowCenter": 2000, "WindowWidth": 3000, "RescaleSlope": 1, "RescaleIntercept": -9}
    made += [dicom(rgb), dicom(grey, **window), dicom(rgb, RLE=True), dicom(rgb, JPEG=made[0])]
    made += [dicom(rgb, NumberOfFrames=1)]
    return made


def dicom(pixels: np.ndarray, RLE: bool = False, JPEG: bytes = b"", **elements) -> bytes:  # noqa: N803
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsAllocated - 1, 0
    dataset.PlanarConfiguration, dataset.PixelData = 0, pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    if RLE:
        dataset.compress(pydicom.uid.RLELossless)
    if JPEG:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
        dataset.PhotometricInterpretation = "YBR_FULL_422"
        dataset.PixelData = pydicom.encaps.encapsulate([JPEG])
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def damage(data: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """Cuts, flips, zeroes, overwrites or splices; headers, which decide most, more often."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        size = len(changed)
        if not size:
            break
        at = int(rng.integers(0, size if rng.random() < 0.5 else min(size, 700)))
        length = int(rng.integers(1, 40))
        kind = rng.integers(0, 6)
        if kind == 0:
            del changed[at:]
        elif kind == 1:
            changed[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        elif kind == 3:
            changed[at : at + 4] = rng.bytes(4) if rng.random() < 0.5 else b"\xff\xff\xff\xff"
        elif kind == 4:
            del changed[at : at + length]
        else:
            other = others[rng.integers(0, len(others))]
            changed[at:] = other[int(rng.integers(0, len(other))) :]
    return bytes(changed)


def main(seed: int, cases: int) -> None:
    logging.disable()
    cv2.setNumThreads(1)
    decoding.MAX_PIXELS = LIMIT
    rng, intact, counts = np.random.default_rng(seed), seeds(), Counter()
    recipes = [
        specs.Recipe(name=name, size=size, quality_gate=gate)
        for name in ("reference", "fundus")
        for size, gate in ((16, "count"), (40, "reject"), (40, "off"))
    ]
    for data in intact:
        decoding.decode(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(cases):
        data = damage(intact[case % len(intact)], intact, rng)
        recipe = recipes[rng.integers(0, len(recipes))]
        try:
            rgb, why, _ = decoding.apply_recipe(data, recipe)
            assert (rgb.shape, rgb.dtype) == ((recipe.size, recipe.size, 3), np.uint8), case
            assert isinstance(why, str), case
            counts["accepted"] += 1
        except decoding.RejectedImage as error:
            assert error.reason and error.detail, case
            counts[error.reason] += 1
        except BaseException:
            print(f"case {case} of {seed}: {data!r}", file=sys.stderr)
            raise
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < MEMORY, f"case {case} of seed {seed}: {grown} kilobytes"
    print(dict(counts), "kilobytes", grown)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
