"""The formats of mask files: their suffixes and how to read them. Add a mask format here, and only here.

A mask is bool [H, W], true where the person is hidden. In its file such pixels are white on black, or painted in any
colour on a transparent ground.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from vrstc_jax.data.images import PICTURE_SUFFIXES, check_picture, read_with_alpha
from vrstc_jax.runtime.errors import InputError

MASK_SUFFIXES = PICTURE_SUFFIXES
_BLACK, _WHITE = 32, 223  # of 255; a brush of one colour is not both darker and brighter
_THRESHOLD = 127  # of 255; grey edges of a JPEG or of a resized mask count as the nearer of black and white


def read_mask(path: str | Path) -> np.ndarray:
    """Reads a mask from a picture file with any number of channels.

    Returns:
      bool [H, W], true (hidden) where the picture is brighter than 127; or, if any of it is transparent, where it is
      opaque.

    Raises:
      InputError: as `read_image`; the brightest pixel is neither black nor white, as in files of zeros and ones; or a
        picture with transparency is painted in black and in white, or only faintly.
    """
    picture, alpha = read_with_alpha(path)
    grey = np.asarray(Image.fromarray(picture).convert("L"))
    # A picture that has the channel and is opaque everywhere is a mask in black and white.
    if alpha is not None and alpha.min() <= _THRESHOLD:
        return _painted(path, grey, alpha)
    # Zeros and ones would otherwise silently mean that nothing is hidden.
    if 0 < grey.max() <= _THRESHOLD:
        raise InputError(f"{path}: a mask is white (255) where the person is hidden; its brightest value is "
                         f"{grey.max()}.")
    return grey > _THRESHOLD


def _painted(path: str | Path, grey: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    painted = alpha > _THRESHOLD
    if alpha.any() and not painted.any():
        raise InputError(f"{path}: a mask with transparency is opaque (255) where the person is hidden; its highest "
                         f"opacity is {alpha.max()}.")
    tones = grey[painted]
    if (tones < _BLACK).any() and (tones > _WHITE).any():
        raise InputError(f"{path}: a mask is either white on black, or painted in one colour on a transparent ground; "
                         "this one has black, white and transparent pixels.")
    return painted


def mask_size(path: str | Path) -> tuple[int, int]:
    """Checks a mask file as `check_picture` does, without decoding more than needed, and returns its height and width.

    Raises:
      InputError: as `read_image`.
    """
    return check_picture(path)
