"""Files of masks: one folder a kind of lesion, and in it one picture a photograph that has it.

The picture of the photograph NAME is called NAME.png or, of the kind MA, NAME_MA.png; TIFF files
are read as well. It is not 0 where there is a lesion, whatever its depth: 0 and 1, 0 and 255, a
palette, or colours with an alpha channel. A kind that a photograph does not have has no file.

Or there are no such folders, and each photograph NAME has one picture NAME.png, of whole numbers: 0
where there is nothing, 1 where the first kind is, 2 where the second is, and so on. With a palette,
the numbers are the places in it, whatever its colours.
"""

import dataclasses
import functools
import hashlib
import io
import os
import posixpath
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from dr_tfx.preprocessing import geometry
from dr_tfx.storage import files

NO_LESIONS = ("OD",)  # Folders of masks that are no lesions: OD is the optic disc.
COVERED = 254  # A stored pixel that a lesion covers wholly; in between are shares of it.
UNKNOWN = 255  # A stored pixel of which nothing is known.
_EXTENSIONS = (".png", ".tif", ".tiff")


class MaskFile(NamedTuple):
    """A file, and where in it a mask is: at this value of `kinds`, or wherever it is not 0 (0)."""

    path: str
    value: int = 0
    kinds: int = 0


@dataclasses.dataclass(frozen=True)
class MaskFolder:
    """The masks of some kinds, as they lay in their folders when these were listed.

    Attributes:
      folder: of a disk or an object store, with a folder for each kind.
      files: kind -> name of a file -> bytes.
      is_coded: whether all kinds are in one file, which then is listed for each.
    """

    folder: str
    files: Mapping[str, Mapping[str, int]]
    is_coded: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds, in the order in which they were asked for."""
        return tuple(self.files)

    def find(self, name: str) -> dict[str, MaskFile]:
        """Return kind -> file of the masks of a photograph, of which `name` is the stem.

        A mask of the frame `series.dcm/frame_0001` is called `series.dcm_frame_0001.png`.
        """
        found, name = {}, name.replace("/", "_")
        for number, (kind, by_stem) in enumerate(self._by_stem.items(), start=1):
            if self.is_coded:
                if name in by_stem:
                    path = posixpath.join(self.folder, by_stem[name])
                    found[kind] = MaskFile(path, number, len(self.files))
                continue
            for stem in (name, f"{name}_{kind}"):
                if stem in by_stem:
                    found[kind] = MaskFile(posixpath.join(self.folder, kind, by_stem[stem]))
                    break
        return found

    @functools.cached_property
    def _by_stem(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for kind, names in self.files.items():
            found[kind] = {}
            for name in sorted(names):
                stem, extension = posixpath.splitext(unicodedata.normalize("NFC", name))
                if extension.lower() in _EXTENSIONS:
                    found[kind].setdefault(stem, name)
        return found

    @property
    def digest(self) -> str:
        """A hash of the kinds, and of the names and sizes of all files."""
        plain = [f"{k}/{n}\0{size}\n" for k in self.files for n, size in self.files[k].items()]
        return hashlib.sha256("".join(sorted(plain)).encode()).hexdigest()


def open_folder(folder: str, asked: Sequence[str] = ()) -> MaskFolder:
    """List the masks of the kinds asked for, or of every subfolder of a disk but NO_LESIONS.

    Raises:
      ValueError: there is no such folder or subfolder, or none is left.
    """
    if files.is_remote(folder):  # A store has no empty folders.
        there = [kind for kind in asked if files.sizes(posixpath.join(folder, kind))]
    else:
        folder = os.path.abspath(folder)
        entries = os.listdir(folder) if os.path.isdir(folder) else []
        there = sorted(name for name in entries if os.path.isdir(os.path.join(folder, name)))
    if asked and not there and (coded := files.sizes(folder)):
        pictures = {n: size for n, size in coded.items() if n.lower().endswith(_EXTENSIONS)}
        if pictures:
            return MaskFolder(folder, dict.fromkeys(asked, pictures), is_coded=True)
    missing = [kind for kind in asked if kind not in there]
    chosen = tuple(asked) or tuple(kind for kind in there if kind not in NO_LESIONS)
    if missing or not chosen:
        raise ValueError(
            f"{folder} has no folder {', '.join(missing) or 'of lesion masks'}; it has "
            f"{', '.join(there) or 'none'}. Expected one folder a kind of lesion, such as MA, HE, "
            "EX and SE, with a mask NAME.png or NAME_MA.png for each photograph that has it; or "
            "no folders, and one NAME.png a photograph, 1 where the first kind is, 2 the second"
        )
    return MaskFolder(
        folder, {kind: dict(files.sizes(posixpath.join(folder, kind))) for kind in chosen}
    )


def read(
    paths: Mapping[str, MaskFile], *, like: tuple[int, int] | None = None
) -> dict[str, np.ndarray]:
    """Read the masks of one photograph.

    Args:
      paths: kind -> file.
      like: height and width of the photograph. Masks may be smaller, but of the same shape. None:
        those of the first mask.

    Returns:
      Kind -> bool (height, width), all of one size.

    Raises:
      ValueError: a file cannot be read, or has another shape.
    """
    masks: dict[str, np.ndarray] = {}
    for kind, file in paths.items():
        path = file.path
        masks[kind] = mask = _decoded(files.read(path), file)
        (height, width), first = mask.shape, next(iter(masks.values()))
        like = like or (height, width)
        # The sides of the smaller of the two may be rounded.
        is_alike = abs(height * like[1] - width * like[0]) <= max(*like, height, width)
        if not is_alike or mask.shape != first.shape:
            raise ValueError(
                f"{path} has {width}x{height} pixels; the photograph has {like[1]}x{like[0]}, and "
                f"its first mask {first.shape[1]}x{first.shape[0]}. Expected masks of one size and "
                "of the photograph's shape"
            )
    return masks


def _decoded(data: bytes, file: MaskFile) -> np.ndarray:
    """Return a mask, bool (height, width)."""
    try:  # OpenCV keeps the depth: made 8 bits, a 1 of 16 bits would be lost.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ValueError(f"{file.path} cannot be read as a picture; expected a mask, 0 or not 0")
    if file.value:
        try:
            places = _in_palette(data)
        except Exception as error:  # Pillow raises nearly any, where a file is damaged.
            raise ValueError(f"{file.path} cannot be read as a picture: {error}") from error
        return _coded(pixels if places is None else places, file)
    if pixels.ndim == 2:
        return np.asarray(pixels > 0)
    colours = (pixels[..., :3] > 0).any(axis=-1)
    if pixels.shape[-1] < 4:
        return np.asarray(colours)
    opaque = pixels[..., 3] > 0
    # Where no colour tells anything, the mask is what is opaque.
    return np.asarray(colours & opaque if colours.any() or opaque.all() else opaque)


def _in_palette(data: bytes) -> np.ndarray | None:
    """Return the places in the palette of a picture that has one, uint8 (height, width)."""
    with Image.open(io.BytesIO(data), formats=("PNG", "TIFF")) as picture:
        return np.asarray(picture) if picture.mode == "P" else None


def _coded(pixels: np.ndarray, file: MaskFile) -> np.ndarray:
    """Return where a picture of whole numbers has the value of a kind, bool (height, width).

    Raises:
      ValueError: it is in colours, or has values of which nobody says what they are.
    """
    grey = pixels if pixels.ndim == 2 else pixels[..., 0]
    if pixels.ndim == 3 and (pixels[..., :3] != grey[..., np.newaxis]).any():
        raise ValueError(
            f"{file.path} is in colours; expected grey values or a palette, 0 for nothing and 1 to "
            f"{file.kinds} for the kinds in their order"
        )
    if (most := int(grey.max())) > file.kinds:
        raise ValueError(
            f"{file.path} has the value {most}; expected 0 for nothing and 1 to {file.kinds} for "
            "the kinds in their order. Give one folder a kind otherwise"
        )
    return np.asarray(grey == file.value)


def stored(mask: np.ndarray, box: geometry.Box, size: int) -> np.ndarray:
    """Return a mask of a photograph as an example holds it, uint8 (size, size, 1).

    Args:
      mask: bool (height, width), of any resolution.
      box: the part of the photograph that the example shows.
      size: height and width of the example.

    Returns:
      The share of each pixel that the mask covers, times COVERED, rounded.
    """
    share = box.to_square(mask, size)
    return np.rint(COVERED * share).astype(np.uint8)[..., np.newaxis]
