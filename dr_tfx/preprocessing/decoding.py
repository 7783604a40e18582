"""Photograph bytes to a model's pixels: decoding, cropping the retina, CLAHE. NumPy and OpenCV.

A recipe is a pure function from a file's bytes to a uint8 RGB array (size, size, 3). Both the
build job and the scoring of raw photographs call `apply_recipe`, so they cannot drift apart.
"""

import io
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from dr_tfx.config import specs
from dr_tfx.preprocessing import quality

EXTENSIONS = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".dcm")
MAX_PIXELS = 150_000_000  # A decompression bomb is refused by its header, before decoding.
# Of a file, which is read whole: RGBA that is not compressed, of the most pixels. Beyond it is no
# photograph, but a bomb in an archive or a film under a photograph's name.
MAX_BYTES = 4 * MAX_PIXELS

# OpenCV chooses its decoder by the same first bytes as Pillow, so that what has been measured is
# what is decoded. Other formats would be measured by rules that nobody checked.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_TILE_SIZE = (322, 323)  # TIFF's tags; a decoder holds a whole tile.
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_STRIP_BYTES = 1 << 18  # Of BGR: with its LAB copy it stays in a core's cache.

# What OpenCV prints about a damaged file, RejectedImage says. OpenCV 5 has moved the function.
_SILENT = 0
(cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(_SILENT)


class RejectedImage(ValueError):
    """A file that gives no example. `reason` is a short key for counting, `detail` for people."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Box(NamedTuple):
    """A rectangle of a photograph, in shares of its width and height, EXIF orientation applied.

    As shares it holds at any scale the photograph is decoded at. Ends below 0 or above 1 are
    padding.
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0


class Picture(NamedTuple):
    """A photograph as the model sees it, whether it can be graded, and which part of it that is."""

    rgb: np.ndarray  # uint8 (size, size, 3).
    ungradable: str  # "", "black", "blown_out" or "no_retina"; `quality.assess` says how.
    box: Box = Box()  # What `rgb` shows of the photograph.


class _Steps(NamedTuple):
    """What makes a recipe: how it is decoded, and a pure function of the decoded BGR."""

    reduced: bool  # Decode JPEG at the smallest fraction whose sides are at least the size.
    make: Callable[[np.ndarray, specs.Recipe], tuple[np.ndarray, Box]]


def apply_recipe(data: bytes, recipe: specs.Recipe) -> Picture:
    """One photograph's bytes as uint8 RGB (recipe.size, recipe.size, 3).

    The gate decides whether there is a picture, never what its pixels are.

    Raises:
      RejectedImage: `unreadable`, `too_large`, or, where `recipe.quality_gate` is `reject`,
        `ungradable:black`, `ungradable:blown_out`, `ungradable:no_retina`.
    """
    steps = RECIPES[recipe.name]
    shorter = min(image_size(data)) if steps.reduced else 0
    reduce = max((f for f in _REDUCED if shorter // f >= recipe.size), default=1)
    bgr = decode(data, reduce=reduce)
    ungradable = ""
    if recipe.quality_gate != "off":
        assessment = quality.assess(bgr)
        ungradable = assessment.ungradable
        if ungradable and recipe.quality_gate == "reject":
            raise RejectedImage(f"ungradable:{ungradable}", str(assessment))
    rgb, box = steps.make(bgr, recipe)
    return Picture(rgb, ungradable, box)


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height from the file's header, without decoding and before any EXIF orientation.

    Raises:
      RejectedImage: no known image format, or more than MAX_PIXELS, all frames of a DICOM file
        together.
    """
    if not data:
        raise RejectedImage("unreadable", "the file is empty")
    if _is_dicom(data):
        header = _read_dicom(data, pixels=False)
        width, height = header.Columns, header.Rows
        decoded = width * height * _frames(header)
    else:
        width, height, decoded = _measure(data)
    if decoded > MAX_PIXELS:
        raise RejectedImage(
            "too_large", f"{width}x{height}: {decoded} pixels; at most {MAX_PIXELS}"
        )
    return width, height


def decode(data: bytes, *, reduce: int = 1) -> np.ndarray:
    """Decodes any supported file to uint8 BGR (height, width, 3), as `cv2.imread` does.

    Args:
      data: the file's bytes. An EXIF orientation is applied; several pages or frames give the
        first. DICOM goes through its modality LUT and its VOI window.
      reduce: 1, 2, 4 or 8; JPEG is decoded directly at this fraction of its size (scaled inverse
        DCT), which is where most of a photograph's time goes. DICOM is not reduced.

    Raises:
      RejectedImage: unreadable, truncated or too large.
    """
    image_size(data)
    if _is_dicom(data):
        return _decode_dicom(data)
    if data.startswith(b"\xff\xd8") and not _jpeg_ends(data):
        raise RejectedImage("unreadable", "truncated: the JPEG file has no end-of-image marker")
    if data.startswith(b"\x89PNG") and not _png_ends(data):
        raise RejectedImage("unreadable", "truncated: the PNG file has no whole IEND chunk")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[reduce])
    except cv2.error as error:
        raise RejectedImage("unreadable", f"OpenCV: {error.err}") from error
    if image is None:
        raise RejectedImage("unreadable", "damaged or truncated image data")
    return image


def _measure(data: bytes) -> tuple[int, int, int]:
    """Width, height and the pixels that a decoder has to hold at once."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of damaged EXIF and the like: `decode` decides.
            header = Image.open(io.BytesIO(data), formats=_FORMATS)
            tile = [int(getattr(header, "tag_v2", {}).get(tag, 0)) for tag in _TILE_SIZE]
    except Image.DecompressionBombError as error:
        raise RejectedImage("too_large", str(error)) from error
    except Exception as error:  # Damaged headers make Pillow raise nearly anything.
        raise RejectedImage("unreadable", "not an image of a known format") from error
    return *header.size, max(header.width * header.height, tile[0] * tile[1])


def _jpeg_ends(data: bytes) -> bool:
    """Whether an end-of-image marker follows the first scan's header.

    Without one the file is truncated; libjpeg would fill what is missing with grey. The segments
    before the scan are skipped by their lengths: a thumbnail in them has such a marker of its own.
    """
    at = 2
    while 0 <= at < len(data) - 3:
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0x00, 0xFF):  # Fill bytes, or garbage between segments.
            at = data.find(b"\xff", at + 1)
        elif marker == 0xDA:
            return data.find(b"\xff\xd9", at) >= 0
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # These stand alone.
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _png_ends(data: bytes) -> bool:
    """Whether all chunks up to IEND are there. OpenCV would allocate whatever length one claims."""
    at = 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")  # Length, name, content, CRC.
        if end > len(data) or data[at + 4 : at + 8] == b"IEND":
            return end <= len(data)
        at = end
    return False


def _is_dicom(data: bytes) -> bool:
    return data[128:132] == b"DICM"


def _read_dicom(data: bytes, *, pixels: bool) -> Any:
    """The data set of a DICOM file, its header checked; of its pixels no more than their bytes."""
    try:
        import pydicom
    except ImportError as error:
        detail = "a DICOM file needs pydicom: pip install 'dr_tfx[dicom]'"
        raise RejectedImage("unreadable", detail) from error
    if _DEFLATED in data:  # pydicom inflates it in full, whatever comes out.
        raise RejectedImage("unreadable", "DICOM: deflated files are not supported")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=not pixels)
            kind = dataset.SamplesPerPixel, dataset.BitsAllocated
            is_supported = kind in ((1, 8), (1, 16), (3, 8), (3, 16))
            is_empty = min(dataset.Rows, dataset.Columns, _frames(dataset)) < 1
    except Exception as error:  # Damaged files make pydicom raise nearly anything.
        raise RejectedImage("unreadable", f"DICOM: {_in_short(error)}") from error
    if is_empty or not is_supported:
        raise RejectedImage(
            "unreadable", f"DICOM: {kind[0]} samples of {kind[1]} bits, not 1 or 3 of 8 or 16"
        )
    return dataset


def _frames(dataset: Any) -> int:
    """Raises nearly anything where the header is damaged; `_read_dicom` has checked it."""
    return int(dataset.get("NumberOfFrames") or 1)


def _decode_dicom(data: bytes) -> np.ndarray:
    """The first frame as uint8 BGR (height, width, 3)."""
    dataset = _read_dicom(data, pixels=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _dicom_pixels(dataset)
    except Exception as error:  # Damaged files make pydicom and its decoders raise nearly anything.
        raise RejectedImage("unreadable", f"DICOM: {_in_short(error)}") from error


def _dicom_pixels(dataset: Any) -> np.ndarray:
    from pydicom import pixels

    _check_dicom_frame(dataset)
    values = pixels.pixel_array(dataset, index=0)  # YBR has become RGB.
    if values.ndim == 3:
        rgb = (values >> max(0, dataset.BitsStored - 8)).astype(np.uint8)
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    if not dataset.PhotometricInterpretation.startswith("MONOCHROME"):
        raise ValueError(f"{dataset.PhotometricInterpretation} is not supported")
    values = pixels.apply_modality_lut(values, dataset)
    if "VOILUTSequence" in dataset:
        low, high = 0.0, 2.0 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
    elif "WindowWidth" in dataset:
        # The window's own function says what is darkest and brightest.
        low, high = pixels.apply_voi_lut(np.array([-1e9, 1e9]), dataset)
    elif dataset.BitsStored == 8 and not dataset.PixelRepresentation:
        low, high = 0.0, 255.0
    else:  # Without a window, 16 bits may hold a small part of their range: as viewers do.
        low, high = float(values.min()), float(values.max())
    values = pixels.apply_voi_lut(values, dataset)
    grey = np.clip((values - low) * (255 / max(high - low, 1e-9)), 0, 255).round().astype(np.uint8)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)


def _check_dicom_frame(dataset: Any) -> None:
    """Refuses a compressed frame that is larger than the file's header says: a bomb.

    Raises:
      ValueError: it is.
    """
    from pydicom import encaps, uid

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax == uid.RLELossless:
        return
    frame = encaps.get_frame(dataset.PixelData, 0, number_of_frames=_frames(dataset))
    size = Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")).size
    if size != (dataset.Columns, dataset.Rows):
        raise ValueError(f"a frame of {size[0]}x{size[1]}, not {dataset.Columns}x{dataset.Rows}")


def _in_short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def enhance(rgb: np.ndarray, *, clip_limit: float, tiles: int) -> np.ndarray:
    """CLAHE on the lightness of a uint8 RGB image (Zuiderveld 1994), colours kept (8-bit LAB)."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    clahe = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(tiles, tiles))
    lab[..., 0] = clahe.apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def retina_box(bgr: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the lit field on its dark surround, in pixels.

    The whole picture where the field is less than a tenth of it.
    """
    lit = quality.lit_field(bgr)[1]
    left, top, right, bottom = quality.lit_box(lit)
    if (right - left) * (bottom - top) < quality.MIN_BOX * lit.size:
        return 0, 0, lit.shape[1], lit.shape[0]
    return left, top, right, bottom


def _reference(bgr: np.ndarray, recipe: specs.Recipe) -> tuple[np.ndarray, Box]:
    """The published preprocessing: full-size CLAHE, then bilinear resize, aspect ratio not kept.

    Its bytes, for less: CLAHE needs the lightness of every pixel, but the resize reads four pixels
    for each it makes, and only their colours are converted back. Overwrites `bgr`.
    """
    lightness = _lightness(bgr)
    clahe = cv2.createCLAHE(clipLimit=recipe.clip_limit, tileGridSize=(recipe.tiles,) * 2)
    lightness = clahe.apply(lightness, lightness)
    read = np.ix_(*(_bilinear_sources(side, recipe.size) for side in bgr.shape[:2]))
    pixels = bgr.view("V3")[..., 0]  # NumPy gathers whole pixels faster than their channels.
    enhanced = lightness[read]
    samples = pixels[read].view(np.uint8).reshape(*enhanced.shape, 3)
    lab = cv2.cvtColor(samples, cv2.COLOR_BGR2LAB)
    lab[..., 0] = enhanced
    pixels[read] = cv2.cvtColor(lab, cv2.COLOR_LAB2BGR).view("V3")[..., 0]
    small = cv2.resize(bgr, (recipe.size, recipe.size), interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(small, cv2.COLOR_BGR2RGB), Box()


def _lightness(bgr: np.ndarray) -> np.ndarray:
    """L of 8-bit LAB, uint8 (height, width), in strips of rows: no LAB copy of the whole."""
    height, width = bgr.shape[:2]
    lightness = np.empty((height, width), np.uint8)
    rows = max(1, _STRIP_BYTES // (3 * width))
    for top in range(0, height, rows):
        lab = cv2.cvtColor(bgr[top : top + rows], cv2.COLOR_BGR2LAB)
        cv2.extractChannel(lab, 0, lightness[top : top + rows])
    return lightness


def _bilinear_sources(length: int, size: int) -> np.ndarray:
    """The indices that a bilinear resize of `length` pixels to `size` reads, and a few more.

    It reads two neighbours of the source's position; its single precision may put this position
    on either side of a whole number.
    """
    position = (np.arange(size) + 0.5) * (length / size) - 0.5
    first = np.floor(position[:, None] + [-0.01, 0.01]).astype(int)
    return np.unique(np.clip(np.concatenate([first, first + 1]), 0, length - 1))


def _fundus(bgr: np.ndarray, recipe: specs.Recipe) -> tuple[np.ndarray, Box]:
    """Crop to the retina, pad to a square, CLAHE, area resize.

    Padding keeps the retina round; area averaging does not alias small lesions.

    Raises:
      RejectedImage: `too_large` for a picture so thin that its square has over MAX_PIXELS.
    """
    left, top, right, bottom = retina_box(bgr)
    rgb = cv2.cvtColor(bgr[top:bottom, left:right], cv2.COLOR_BGR2RGB)
    height, width = rgb.shape[:2]
    side = max(height, width)
    if side * side > MAX_PIXELS:  # A thin picture is small, its square is not.
        raise RejectedImage("too_large", f"a square for {width}x{height}; at most {MAX_PIXELS}")
    above, before = (side - height) // 2, (side - width) // 2
    square = cv2.copyMakeBorder(
        rgb,
        above,
        side - height - above,
        before,
        side - width - before,
        cv2.BORDER_CONSTANT,
        value=(0, 0, 0),
    )
    enhanced = enhance(square, clip_limit=recipe.clip_limit, tiles=recipe.tiles)
    shrinks = side >= recipe.size
    small = cv2.resize(
        enhanced,
        (recipe.size, recipe.size),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
    )
    x, y = left - before, top - above  # Of the square's corner.
    whole_height, whole_width = bgr.shape[:2]
    return small, Box(
        x / whole_width, y / whole_height, (x + side) / whole_width, (y + side) / whole_height
    )


RECIPES = {
    "reference": _Steps(reduced=False, make=_reference),
    "fundus": _Steps(reduced=True, make=_fundus),
}
