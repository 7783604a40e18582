"""Compressed frames of DICOM files: how large they really are, and which decoder takes them.

A frame is a JPEG or JPEG 2000 stream with a header of its own. A decoder believes that header and
not the file's, so that a small file could fill the memory. And several decoders may be installed,
whose pixels of one lossy frame differ: here it is always the same one.
"""

from typing import Any

from dr_tfx.preprocessing import dicom_plugins, jpeg

# Transfer syntaxes, and pydicom's plugins by which they are decoded.
_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_HIGH_THROUGHPUT = tuple(f"1.2.840.10008.1.2.4.20{i}" for i in (1, 2, 3))
_RLE = "1.2.840.10008.1.2.5"
_PLUGINS = {
    **dict.fromkeys((*_LOSSY, *_JPEG_2000), "pillow"),
    **dict.fromkeys(_JPEG_LS, "pyjpegls"),
    **dict.fromkeys((*_LOSSLESS, *_HIGH_THROUGHPUT), dicom_plugins.NAME),
    _RLE: "pydicom",
}
_OURS = {
    **dict.fromkeys(_LOSSLESS, "decode_lossless"),
    **dict.fromkeys(_HIGH_THROUGHPUT, "decode_high_throughput"),
}
_STORED = tuple(f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2"))  # Not compressed.
_SIZ = b"\xff\x4f\xff\x51"  # The beginning of a JPEG 2000 codestream.
_JP2 = b"\x00\x00\x00\x0cjP"  # That of a JP2 file around one, which does not belong here.
# Markers of a frame's header: all SOFn but the tables and extensions among them; JPEG-LS's.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD9)}  # Markers without a length.


def is_supported(syntax: str) -> bool:
    """Tell whether frames of a transfer syntax are decoded."""
    return syntax in _STORED or syntax in _PLUGINS


def checked(dataset: Any, *, frames: int) -> str:
    """Return the name of pydicom's plugin that decodes the first frame; "" if it is not compressed.

    Args:
      dataset: the file's data set, with its pixels.
      frames: the number of frames that the file says it has.

    Raises:
      ValueError: the syntax is not supported, the frame's own size is not the file's, or it is
        damaged in a way of which its decoder says nothing, or only after seconds.
    """
    from pydicom import encaps

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return ""
    plugin = _PLUGINS.get(str(syntax))
    if plugin is None:
        raise ValueError(f"the transfer syntax {syntax.name} is not supported")
    if syntax == _RLE:
        return plugin
    frame = encaps.get_frame(dataset.PixelData, 0, number_of_frames=frames)
    width, height = size(frame)
    if (width, height) != (dataset.Columns, dataset.Rows):
        raise ValueError(f"a frame of {width}x{height}, not {dataset.Columns}x{dataset.Rows}")
    if syntax in _LOSSY:
        if dataset.BitsAllocated > 8:
            raise ValueError("lossy JPEG of more than 8 bits a sample is not supported")
        jpeg.check(frame, width=width, height=height)
    if syntax in (*_LOSSLESS, *_JPEG_LS):
        components = frame[_frame_header(frame) + 9]
        if components != dataset.SamplesPerPixel:
            raise ValueError(f"{components} samples of a pixel, not {dataset.SamplesPerPixel}")
        # CharLS looks for a missing end through two thousand million bits that are not there.
        if syntax in _JPEG_LS and b"\xff\xd9" not in frame[-4:]:
            raise ValueError("premature end of the frame")
    if syntax in _OURS:
        dicom_plugins.add(syntax, _OURS[syntax])
    return plugin


def size(frame: bytes) -> tuple[int, int]:
    """Return width and height of a compressed frame, as its own header has them.

    Raises:
      ValueError: it is neither a JPEG stream nor a JPEG 2000 codestream.
    """
    if frame.startswith(_JP2):
        # Which of several codestreams counts, decoders decide; the largest must not be missed.
        parts = frame.split(_SIZ)[1:]
        return max((size(_SIZ + part) for part in parts), default=(0, 0))
    if frame.startswith(_SIZ):
        right, bottom, left, top = (
            int.from_bytes(frame[at : at + 4], "big") for at in range(8, 24, 4)
        )
        return right - left, bottom - top
    at = _frame_header(frame)
    height, width = (int.from_bytes(frame[i : i + 2], "big") for i in (at + 5, at + 7))
    return width, height


def _frame_header(frame: bytes) -> int:
    """Return the place of the marker that begins the frame's header in a JPEG stream.

    Raises:
      ValueError: it is no JPEG stream, or has none.
    """
    at = 2
    while frame.startswith(b"\xff\xd8") and at + 10 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _FRAMES:
            return at
        length = int.from_bytes(frame[at + 2 : at + 4], "big")
        at += 1 if marker == 0xFF else 2 if marker in _ALONE else 2 + length
    raise ValueError("the frame has no JPEG header that is known")
