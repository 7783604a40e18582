"""Photograph bytes to a model's pixels: decoding, cropping the retina, CLAHE. NumPy and OpenCV.

A recipe is a pure function from a file's bytes to a uint8 RGB array (size, size, 3). Both the
build job and the scoring of raw photographs call `apply_recipe`, so they cannot drift apart.
"""

import io
import warnings

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from dr_tfx import specs

EXTENSIONS = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp")
MAX_PIXELS = 150_000_000  # A decompression bomb is refused by its header, before decoding.
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class RejectedImage(ValueError):
    """A file that gives no example. `reason` is a short key for counting, `detail` for people."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def apply_recipe(data: bytes, recipe: specs.Recipe) -> np.ndarray:
    """One photograph's bytes as a uint8 RGB array (recipe.size, recipe.size, 3).

    Raises:
      RejectedImage: `unreadable`, `too_large` or `no_retina`.
    """
    return RECIPES[recipe.name](data, recipe)


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height from the file's header, without decoding.

    Raises:
      RejectedImage: no known image format, or more than MAX_PIXELS.
    """
    if not data:
        raise RejectedImage("unreadable", "the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of damaged EXIF and the like: `decode` decides.
            width, height = Image.open(io.BytesIO(data)).size
    except Image.DecompressionBombError as error:
        raise RejectedImage("too_large", str(error)) from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise RejectedImage("unreadable", "not an image of a known format") from error
    if width * height > MAX_PIXELS:
        raise RejectedImage("too_large", f"{width}x{height} pixels; at most {MAX_PIXELS}")
    return width, height


def decode(data: bytes, *, reduce: int = 1) -> np.ndarray:
    """Decodes any supported file to uint8 BGR (height, width, 3), as `cv2.imread` does.

    Args:
      data: the file's bytes. An EXIF orientation is applied.
      reduce: 1, 2, 4 or 8; JPEG is decoded directly at this fraction of its size (scaled inverse
        DCT), which is where most of a photograph's time goes.

    Raises:
      RejectedImage: unreadable, truncated or too large.
    """
    image_size(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[reduce])
    except cv2.error as error:
        raise RejectedImage("unreadable", f"OpenCV: {error.err}") from error
    if image is None:
        raise RejectedImage("unreadable", "damaged or truncated image data")
    return image


def enhance(rgb: np.ndarray, *, clip_limit: float, tiles: int) -> np.ndarray:
    """CLAHE on the lightness of a uint8 RGB image (Zuiderveld 1994), colours kept (8-bit LAB)."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    clahe = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(tiles, tiles))
    lab[..., 0] = clahe.apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def retina_box(bgr: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the lit field on its dark surround, in pixels.

    The field is what is brighter than a tenth of the picture's bright end in its brightest
    channel; rows and columns with less than 2 % of it lit (dust, captions) are left out.

    Raises:
      RejectedImage: `no_retina` where less than a tenth of the picture would be kept.
    """
    brightest = bgr.max(axis=2)
    threshold = max(12.0, 0.1 * float(np.percentile(brightest, 95)))
    lit = cv2.medianBlur(brightest, 5) > threshold
    columns = np.flatnonzero(lit.mean(axis=0) > 0.02)
    rows = np.flatnonzero(lit.mean(axis=1) > 0.02)
    if not len(columns) or not len(rows):
        raise RejectedImage("no_retina", "no lit field on the photograph: black or blank")
    left, right = int(columns[0]), int(columns[-1]) + 1
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    if (right - left) * (bottom - top) < 0.1 * lit.size:
        raise RejectedImage("no_retina", f"the lit field is {right - left}x{bottom - top} pixels")
    return left, top, right, bottom


def _reference(data: bytes, recipe: specs.Recipe) -> np.ndarray:
    """The published preprocessing: full-size CLAHE, then bilinear resize, aspect ratio not kept."""
    rgb = cv2.cvtColor(decode(data), cv2.COLOR_BGR2RGB)
    enhanced = enhance(rgb, clip_limit=recipe.clip_limit, tiles=recipe.tiles)
    return cv2.resize(enhanced, (recipe.size, recipe.size), interpolation=cv2.INTER_LINEAR)


def _fundus(data: bytes, recipe: specs.Recipe) -> np.ndarray:
    """Reduced decode, crop to the retina, pad to a square, CLAHE, area resize.

    The decode is reduced as far as the shorter side allows while it stays at least
    `recipe.size`; padding keeps the retina round; area averaging does not alias small lesions.
    """
    shorter = min(image_size(data))
    reduce = max((f for f in _REDUCED if shorter // f >= recipe.size), default=1)
    bgr = decode(data, reduce=reduce)
    left, top, right, bottom = retina_box(bgr)
    rgb = cv2.cvtColor(bgr[top:bottom, left:right], cv2.COLOR_BGR2RGB)
    height, width = rgb.shape[:2]
    side = max(height, width)
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
    return cv2.resize(
        enhanced,
        (recipe.size, recipe.size),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC,
    )


RECIPES = {"reference": _reference, "fundus": _fundus}
