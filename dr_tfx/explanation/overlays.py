"""Heat maps in colours, laid over their photographs, and files of both. Loads no TensorFlow."""

import cv2
import matplotlib as mpl
import numpy as np

from dr_tfx.config import specs

_QUALITY = 82  # Of JPEG: 40 images of a fundus are half a megabyte.
_OPACITY = 0.6  # The opacity of an overlay where the map is highest: lesions still show through.


def upsample(heatmap: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a float32 heat map (h, w) at another size, bilinear with aligned pixel centres."""
    return cv2.resize(heatmap, (width, height), interpolation=cv2.INTER_LINEAR)


def colorize(heatmap: np.ndarray, colormap: str = specs.COLORMAPS[0]) -> np.ndarray:
    """Return a heat map (h, w), 0 to 1, in 256 colours of matplotlib: uint8 RGB (h, w, 3)."""
    colours = np.asarray(mpl.colormaps[colormap](np.arange(256), bytes=True))[:, :3]
    return cv2.applyColorMap((255 * heatmap).astype(np.uint8), colours[:, np.newaxis])


def overlay(rgb: np.ndarray, heatmap: np.ndarray, colormap: str = specs.COLORMAPS[0]) -> np.ndarray:
    """Return the photograph with the heat map's colours laid over it.

    The colours are the more opaque, the higher the map is: where nothing raises the score, the
    photograph stays as it was. `jet` is an exception. It gives the published recipe's overlay,
    0.4 * colours + photograph, stretched to 0..255, as in
    https://keras.io/examples/vision/grad_cam, which tints and darkens all of the photograph.

    Args:
      rgb: uint8 (height, width, 3).
      heatmap: float32 (h, w), 0 to 1, of any size.
      colormap: a name in `specs.COLORMAPS`, or another of matplotlib's.

    Returns:
      uint8 RGB (height, width, 3).
    """
    heatmap = upsample(heatmap, *rgb.shape[:2])
    colours = colorize(heatmap, colormap)
    if colormap != "jet":
        return cv2.blendLinear(rgb, colours, 1 - _OPACITY * heatmap, _OPACITY * heatmap)
    mixed = 0.4 * colours.astype(np.float32) + rgb
    mixed -= mixed.min()
    return (255 * mixed / max(mixed.max(), 1.0)).astype(np.uint8)


def jpeg(rgb: np.ndarray) -> bytes:
    """Return a JPEG file of a picture, uint8 RGB, with full colour resolution.

    Lesions are small and red, which is what JPEG usually halves.

    Raises:
      ValueError: OpenCV cannot write it.
    """
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        _QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), settings)
    if not done:
        raise ValueError(f"OpenCV could not write an image of shape {rgb.shape} as JPEG.")
    return bytes(data)
