"""Pictures as arrays: one rule each for resizing, for thumbnails and, from `pixel_values`, for floats.

A picture is uint8 [H, W, 3], RGB, or float in [−1, 1], as the networks take it. A mask is bool [H, W], true = hidden.
"""

import cv2
import numpy as np

from vrstc_jax.ops.pixel_values import to_float, to_uint8

__all__ = ["THUMBNAIL", "covered", "resize", "resize_into_mask", "thumbnail", "to_float", "to_uint8"]

THUMBNAIL = 16, 8  # rows, columns; enough to distinguish poses


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture or mask, uint8 or float, at another size: averaged where that is smaller, else bilinear."""
    if image.shape[:2] == (height, width):
        return image
    smaller = height < image.shape[0] or width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def covered(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask at another size, bool [height, width]; a pixel is hidden if any part of it is."""
    # So that no hidden pixel, averaged with visible ones, is taken for one that is seen.
    return resize(mask.astype(np.float32), height, width) > 1e-4


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """A frame, uint8 [H, W, 3], at the size at which frames are compared: uint8 [16, 8, 3]."""
    return cv2.resize(frame, THUMBNAIL[::-1], interpolation=cv2.INTER_AREA)


def resize_into_mask(result: np.ndarray, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Resizes the network's picture to a crop's resolution and copies it into the mask.

    Args:
      result: float [h, w, 3] in [−1, 1], at the network's size.
      frame: uint8 [H, W, 3].
      mask: bool [H, W].

    Returns:
      uint8 [H, W, 3], equal to `frame` bit for bit where the mask is false.
    """
    height, width = frame.shape[:2]
    larger = cv2.resize(result, (width, height), interpolation=cv2.INTER_CUBIC)
    pixels = np.clip(np.round((larger + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.where(mask[..., None], pixels, frame)
