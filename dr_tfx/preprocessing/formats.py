"""Formats of photographs: how large the picture in a file is, and its pixels.

JPEG is decoded by libjpeg-turbo (`jpeg`), PNG, TIFF and BMP by OpenCV, WebP, GIF, JPEG 2000 and
HEIC by Pillow. HEIC needs pillow-heif, the extra `heic`, which is imported when the first such file
is met. Damage that a decoder notices is an error. Nothing here refuses a file by itself: decoders
raise nearly anything, and `decoding` turns all of it into one error.
"""

import contextlib
import io
import re
import struct
import warnings

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from dr_tfx.preprocessing import jpeg, png

# A format is recognised by its first bytes. Others would be measured by rules that nobody checked.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# The first bytes by which a damaged file is still known; WebP has its length between its two.
_BEGINNINGS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "WEBP": rb"RIFF....WEBP",
    "GIF": rb"GIF8[79]a",
    "JPEG2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "HEIF": rb"....ftyp(?:" + b"|".join(_HEIF_BRANDS) + rb")",
}
# A photograph of 16 bits a sample whose largest value is less than this uses 14 bits or fewer: the
# values of a camera's sensor, written as they are. As 16 bits they would be nearly black.
MAX_DIM = 1 << 14
_BITS = 258  # Tags of TIFF: the bits of each sample;
_TILE_SIZE = (322, 323)  # a tile, which a decoder holds as a whole;
_STRIPS, _TILES, _JPEG_TABLES = (
    (273, 279),
    (324, 325),
    347,
)  # where data lie, and how long they are.
_SIZ = b"\xff\x4f\xff\x51"  # The beginning of a JPEG 2000 codestream.
_TILE_COST = 4096  # A tile of JPEG 2000 takes as much memory as so many pixels, however small.
_ORIENTATION = 0x0112
_REDUCTIONS = (1, 2, 4, 8)

# Errors say what OpenCV would print about a damaged file. OpenCV 5 has moved the function.
_SILENT = 0
(cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(_SILENT)


class MissingLibrary(ImportError):
    """A file was met whose format needs a library that is not installed."""


def read_header(data: bytes) -> Image.Image:
    """Return the header of a file as a Pillow image whose pixels are not read yet.

    Raises:
      MissingLibrary: it is a HEIC file and pillow-heif is not installed.
      Exception: nearly any, where the file is damaged or of another format.
    """
    with warnings.catch_warnings():
        # Pillow warns of damaged EXIF and the like, of which `decode` is the judge.
        warnings.simplefilter("ignore")
        if data[4:8] != b"ftyp" or data[8:12] not in _HEIF_BRANDS:
            return Image.open(io.BytesIO(data), formats=_FORMATS)
        try:
            import pillow_heif
        except ImportError as error:
            raise MissingLibrary(
                "a HEIC file needs pillow-heif: pip install 'dr_tfx[heic]'"
            ) from error
        return pillow_heif.HeifImageFile(io.BytesIO(data))


def begins_as(data: bytes) -> str:
    """Return the format that the first bytes of a file are those of; "" if they are of none."""
    known = (name for name, start in _BEGINNINGS.items() if re.match(start, data, re.DOTALL))
    return next(known, "")


def pixels_held(header: Image.Image, data: bytes) -> int:
    """Return the number of pixels that a decoder has to hold at once.

    Raises:
      Exception: nearly any, where the file is damaged.
    """
    most = header.width * header.height
    if isinstance(header, TiffImagePlugin.TiffImageFile):
        tile = [int(header.tag_v2.get(tag, 0)) for tag in _TILE_SIZE]
        most = max(most, tile[0] * tile[1])
    if header.format == "JPEG2000":
        # The box around the codestream, which is what Pillow has read, may say another size.
        at = data.find(_SIZ)
        while at >= 0:
            most = max(most, _codestream_pixels(data[at + 8 : at + 42]))
            at = data.find(_SIZ, at + 1)
    return most


def decode(header: Image.Image, data: bytes, *, at_least: int | None) -> np.ndarray:
    """Return the first picture of a file, its orientation applied, as BGR (height, width, 3).

    Args:
      header: what `read_header` returned.
      data: the file's bytes.
      at_least: as in `decoding.decode`.

    Returns:
      uint8; uint16 where the file has 16 bits a sample of which it uses 14 or fewer.

    Raises:
      Exception: nearly any, where the file is damaged.
    """
    if header.format in ("JPEG", "MPO"):
        return _decode_jpeg(header, data, at_least)
    if header.format in ("PNG", "TIFF", "BMP"):
        is_wide = False
        if header.format == "PNG":
            if not png.is_whole(data):
                raise ValueError("truncated: the PNG file has no whole IEND chunk")
            is_wide = data[24] == 16
        if isinstance(header, TiffImagePlugin.TiffImageFile):
            _check_tiff(header, data)
            is_wide = max(header.tag_v2.get(_BITS, (1,))) == 16
        return _decode_by_opencv(data, is_wide=is_wide)
    return _decode_by_pillow(header)


def _decode_jpeg(header: Image.Image, data: bytes, at_least: int | None) -> np.ndarray:
    width, height = header.size
    if header.mode == "CMYK":  # OpenCV's conversion is its own.
        jpeg.check(data, width=width, height=height)
        return _decode_by_opencv(data, is_wide=False)
    fits = [f for f in _REDUCTIONS if at_least is not None and min(width, height) // f >= at_least]
    pixels = jpeg.decode(data, width=width, height=height, fraction=max(fits, default=1))
    return _turned(pixels, header)


def _decode_by_opencv(data: bytes, *, is_wide: bool) -> np.ndarray:
    """Return the pixels, with the orientation applied, of a format that OpenCV turns rightly."""
    encoded = np.frombuffer(data, np.uint8)
    if is_wide:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is not None and image.dtype == np.uint16 and image.max() < MAX_DIM:
            return image
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("damaged or truncated image data")
    return image


def _decode_by_pillow(header: Image.Image) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if header.mode == "I;16":
            values = np.asarray(header)
            grey = values if values.max() < MAX_DIM else (values >> 8).astype(np.uint8)
            return _turned(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), header)
        rgb = np.asarray(header.convert("RGB"))
    return _turned(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), header)


def _turned(image: np.ndarray, header: Image.Image) -> np.ndarray:
    """Return an image in the orientation of its EXIF data; as it is where these are damaged."""
    exif = Image.Exif()
    with contextlib.suppress(Exception):
        exif.load(header.info.get("exif", b""))
    match exif.get(_ORIENTATION):
        case 2:
            return cv2.flip(image, 1)
        case 3:
            return cv2.rotate(image, cv2.ROTATE_180)
        case 4:
            return cv2.flip(image, 0)
        case 5:
            return cv2.transpose(image)
        case 6:
            return cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            return cv2.rotate(cv2.transpose(image), cv2.ROTATE_180)
        case 8:
            return cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return image


def _check_tiff(header: TiffImagePlugin.TiffImageFile, data: bytes) -> None:
    """Refuse a TIFF file with damaged data, which OpenCV would fill with black.

    Raises:
      Exception: libtiff finds damage; or libjpeg, of whose warnings libtiff says nothing.
    """
    tags = header.tag_v2
    if header.info.get("compression") == "jpeg":
        tables = bytes(tags.get(_JPEG_TABLES, b""))[:-2]
        at, lengths = _STRIPS if _STRIPS[0] in tags else _TILES
        for start, length in zip(tags[at], tags[lengths], strict=True):
            strip = data[start : start + length]
            stream = tables + strip[2:] if tables else strip
            size = Image.open(io.BytesIO(stream), formats=("JPEG",)).size
            if size[0] * size[1] > pixels_held(header, data):
                raise ValueError(f"a strip of {size[0]}x{size[1]} pixels is larger than the file")
            jpeg.check(stream, width=size[0], height=size[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header.load()


def _codestream_pixels(siz: bytes) -> int:
    """Return what `pixels_held` does, of the fields of a SIZ marker from the width on."""
    if len(siz) < 34:
        return 0  # The decoder will not find a codestream here.
    right, bottom, left, top, tile_width, tile_height, *_ = struct.unpack(">8I", siz[:32])
    width, height = max(right - left, 0), max(bottom - top, 0)
    tiles = -(-right // max(tile_width, 1)) * -(-bottom // max(tile_height, 1))
    components = int.from_bytes(siz[32:34], "big")
    return max(width * height * max(components // 4, 1), tiles * _TILE_COST)
