"""The formats of mask files: their suffixes and how to read them. Add a mask format here, and only here.

A mask is bool [H, W], true where the person is hidden. In its file such pixels are white on black, or painted in any
colour on a transparent ground. All masks of an input have one of these two forms: a picture that is opaque everywhere
could otherwise mean that everything is hidden or that nothing is.
"""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vrstc_jax.data.images import PICTURE_SUFFIXES, check_picture, has_transparency, read_with_alpha
from vrstc_jax.runtime.errors import InputError

MASK_SUFFIXES = PICTURE_SUFFIXES
_BLACK, _WHITE = 32, 223  # of 255; a brush of one colour is not both darker and brighter
_THRESHOLD = 127  # of 255; grey edges of a JPEG or of a resized mask count as the nearer of black and white


def mask_reader(paths: Collection[Path]) -> tuple[Callable[[Path], np.ndarray], str]:
    """`read_mask` for the masks of one input: where any is painted on a transparent ground, all are.

    Returns:
      The reader, and 'painted' or ''.

    Raises:
      InputError: some are painted on a transparent ground, and others are pictures without transparency.
    """
    can_be, others = [], []
    for path in paths:
        (can_be if has_transparency(path) else others).append(path)
    painted = next((path for path in can_be if _is_painted(read_with_alpha(path)[1])), None)
    if painted is None:
        return read_mask, ""
    if others:
        raise InputError(f"{others[0]}: is a mask without transparency, and {painted.name} is one painted on a "
                         "transparent ground, so that black or one colour alone could mean everything or nothing; save "
                         "all masks in one of the two forms.")
    return partial(read_mask, painted=True), "painted"


def _is_painted(alpha: np.ndarray | None) -> bool:
    return alpha is not None and bool(alpha.min() <= _THRESHOLD)


def read_mask(path: str | Path, *, painted: bool = False) -> np.ndarray:
    """Reads a mask from a picture file with any number of channels.

    Args:
      painted: whether it belongs to masks that are painted on a transparent ground, so that it hides everything where
        it is opaque everywhere.

    Returns:
      bool [H, W], true (hidden) where the picture is brighter than 127; or, if any of it is transparent, where it is
      opaque.

    Raises:
      InputError: as `read_image`; the brightest pixel is neither black nor white, as in files of zeros and ones; or a
        picture with transparency is painted in black and in white, or only faintly.
    """
    picture, alpha = read_with_alpha(path)
    grey = np.asarray(Image.fromarray(picture).convert("L"))
    # A picture that has the channel and is opaque everywhere is a mask in black and white, if the others are.
    if alpha is not None and (painted or _is_painted(alpha)):
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
