"""Images as a camera's JPEG leaves them, made where examples are read, without TensorFlow."""

import cv2
import numpy as np


def compress(images: np.ndarray, qualities: np.ndarray) -> None:
    """Replace images by what JPEG compression leaves of them.

    Args:
      images: uint8 RGB (batch, height, width, 3), overwritten.
      qualities: of JPEG, uint8 (batch,), from 1 to 100; 0 leaves an image as it is.
    """
    for image, quality in zip(images, qualities.tolist(), strict=True):
        if quality:
            _, file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
            image[...] = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))[..., ::-1]
