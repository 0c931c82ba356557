"""The formats of mask files: their suffixes and how to read them. Add a mask format here, and only here.

A mask is bool [H, W], true where the person is hidden; in its file such pixels are white.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from vrstc_jax.data.images import PICTURE_SUFFIXES, check_picture, read_image
from vrstc_jax.runtime.errors import InputError

MASK_SUFFIXES = PICTURE_SUFFIXES
_THRESHOLD = 127  # of 255; grey edges of a JPEG or of a resized mask count as the nearer of black and white


def read_mask(path: str | Path) -> np.ndarray:
    """Reads a mask from a picture file with any number of channels.

    Returns:
      bool [H, W], true (hidden) where the picture is brighter than 127.

    Raises:
      InputError: as `read_image`; or the brightest pixel is neither black nor white, as in files of zeros and ones.
    """
    grey = np.asarray(Image.fromarray(read_image(path)).convert("L"))
    # Zeros and ones would otherwise silently mean that nothing is hidden.
    if 0 < grey.max() <= _THRESHOLD:
        raise InputError(f"{path}: a mask is white (255) where the person is hidden; its brightest value is "
                         f"{grey.max()}.")
    return grey > _THRESHOLD


def mask_size(path: str | Path) -> tuple[int, int]:
    """Checks a mask file as `check_picture` does, without decoding more than needed, and returns its height and width.

    Raises:
      InputError: as `read_image`.
    """
    return check_picture(path)
