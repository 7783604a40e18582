"""Damage small files of every format and give them to every recipe.

    python tests/fuzz/fuzz_images.py SEED CASES

This runs in a process of its own, so that a crash of native code fails one test and not the run. It
prints the number of accepted and of rejected files, and fails at the first file that is neither or
takes much memory.
"""

import io
import logging
import resource
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pydicom
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, recipes
from tests.helpers import dicom_files
from tests.helpers.damage import damage

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
    made += [save("TIFF", "I;16", compression=kind) for kind in ("tiff_lzw", "tiff_adobe_deflate")]
    made += [save("WEBP", mode, lossless=mode == "RGBA") for mode in ("RGB", "RGBA")]
    made += [save(kind, "P", save_all=True, append_images=[picture]) for kind in ("GIF", "WEBP")]
    made += [save("JPEG2000", mode) for mode in ("RGB", "L", "RGBA", "I;16")]
    made += [save("JPEG2000", tile_size=(16, 16)), save("JPEG2000", no_jp2=True)]
    made += [save("PNG", exif=exif), save("TIFF", exif=exif), save("WEBP", exif=exif)]
    made += [heic(picture, **options) for options in ({}, {"exif": exif.tobytes()})]
    grey = rgb[..., 0].astype(np.uint16) * 16
    window = {"WindowCenter": 2000, "WindowWidth": 3000, "RescaleSlope": 1, "RescaleIntercept": -9}
    table = dicom_files.lookup_table(list(range(0, 4096, 16)), bits=12)
    packed = dicom_files.dataset(rgb)
    packed.compress(pydicom.uid.RLELossless)
    made += [dicom_files.written(packed), dicom_files.jpeg_dicom(rgb, made[0])]
    made += [dicom_files.dicom(pixels) for pixels in (rgb, grey)]
    made += [dicom_files.dicom(rgb, NumberOfFrames=1), dicom_files.dicom(grey, **window)]
    made += [dicom_files.dicom(grey, **window, Modality="CT")] * 3  # All that `ct` takes.
    made += [dicom_files.dicom(rgb[..., 0].copy(), VOILUTSequence=table)]
    return made


def heic(picture: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(picture).save(stream, **options)
    return stream.getvalue()


def main(seed: int, cases: int) -> None:
    logging.disable()
    cv2.setNumThreads(1)
    decoding.MAX_PIXELS = LIMIT
    rng, intact, counts = np.random.default_rng(seed), seeds(), Counter()
    gates = {"ct": ("off",)}
    settings = [
        specs.Recipe(name=name, size=size, quality_gate=gate)
        for name in recipes.RECIPES
        for size in (16, 40)
        for gate in gates.get(name, ("count", "reject", "off"))
    ]
    for data in intact:
        decoding.decode(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(cases):
        data = damage(intact[case % len(intact)], intact, rng)
        recipe = settings[rng.integers(0, len(settings))]
        try:
            picture = recipes.apply_recipe(data, recipe)
            assert picture.rgb.shape == (recipe.size, recipe.size, 3), case
            assert picture.rgb.dtype == np.uint8 and isinstance(picture.ungradable, str), case
            assert picture.box.to_square(np.ones((9, 7)), recipe.size).max() > 0, case
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
