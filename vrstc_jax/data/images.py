"""Reads and writes single pictures.

Pictures are uint8 [H, W, 3], RGB; masks are bool [H, W], true = hidden, and white in their files. Files are written as
PNG, without loss, under a temporary name that is renamed at the end, so that a file that exists is complete. A file
that cannot be read or written raises `InputError` with one line that names it.
"""

import io
import os
import stat
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import as_path, describe_error, is_remote, replace_file

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_LONGEST_SIDE = 1_000_000  # pixels; libpng writes no more
# Pillow knows others that run programs (EPS, by Ghostscript) or are seldom read and so seldom tested.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "PPM", "GIF")


def read_image(path: str | Path) -> np.ndarray:
    """Reads the picture in a file: uint8 [H, W, 3], RGB.

    Grey pictures get three equal channels; transparency is dropped; of 16 bits the upper 8 are kept; a JPEG is turned
    upright by its EXIF orientation.

    Raises:
      InputError: no such file, not a picture, or a picture that is cut short or damaged.
    """
    return _rgb(_load(path))


def read_with_alpha(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads a picture as `read_image` does, and its opacity.

    Returns:
      uint8 [H, W, 3], RGB, and uint8 [H, W], 255 = opaque; None for a picture without transparency.

    Raises:
      InputError: as `read_image`.
    """
    image = _load(path)
    # Pillow cannot convert 16 bits and transparency at once.
    transparent = image.has_transparency_data and not image.mode.startswith("I")
    return _rgb(image), np.array(image.convert("RGBA").getchannel("A")) if transparent else None


def has_transparency(path: str | Path) -> bool:
    """Whether a picture file can have transparent pixels, by its header.

    Raises:
      InputError: no such file, or not a picture.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return image.has_transparency_data and not image.mode.startswith("I")
    except Exception as error:
        raise _unreadable(path, error) from None


def decode_image(data: bytes, *, name: str = "an encoded picture") -> np.ndarray:
    """Decodes the bytes of a picture file: uint8 [H, W, 3], RGB. An `InputError` calls it `name`.

    Raises:
      InputError: as `read_image`.
    """
    return _rgb(_load(io.BytesIO(data), name=name))


def check_picture(path: str | Path) -> tuple[int, int]:
    """Checks that a picture file is intact, and returns its height and width.

    It reads a PNG's checksums and a JPEG's end marker, which is fast, and decodes other files.

    Raises:
      InputError: as `read_image`. Damage inside a JPEG's data is not always detected, here or by decoders.
    """
    try:
        _require_no_pipe(path)
        with Image.open(path, formats=_FORMATS) as image:
            width, height = _size(image)
            if image.format in ("JPEG", "MPO") and _ends_as_jpeg(path):
                turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 swap height and width
                return (width, height) if turned else (height, width)
            if image.format == "PNG":
                image.verify()
                return height, width
    except Exception as error:
        raise _unreadable(path, error) from None
    height, width = read_image(path).shape[:2]
    return height, width


def encode_png(array: np.ndarray) -> bytes:
    """Encodes a picture, uint8 or uint16 [H, W, 3] RGB, or a mask, bool [H, W] (true is white), as the bytes of a PNG.

    Raises:
      ValueError: another shape or type, or no pixels.
    """
    array = np.asarray(array)
    if not array.size:
        raise ValueError(f"a picture must have pixels. Got shape {array.shape}.")
    if array.dtype == bool and array.ndim == 2:
        pixels = array.astype(np.uint8) * 255
    elif array.dtype in (np.uint8, np.uint16) and array.ndim == 3 and array.shape[2] == 3:
        pixels = np.ascontiguousarray(array[:, :, ::-1])
    else:
        raise ValueError(f"a PNG is made of uint8 or uint16 [H, W, 3], or bool [H, W]. Got {array.dtype} "
                         f"{list(array.shape)}.")
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_png(path: str | Path, array: np.ndarray) -> None:
    """Writes a picture or a mask (see `encode_png`) as PNG, and creates the folders above it.

    Raises:
      InputError: the file cannot be written.
    """
    replace_file(path, encode_png(array))


def read_numbers(path: str | Path) -> np.ndarray:
    """Reads what `write_png` wrote of uint16 [H, W, 3].

    Raises:
      InputError: the file cannot be read, or is no PNG of three channels of 16 bits.
    """
    try:
        data = as_path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(f"{path}: not a PNG of three channels of 16 bits, or a damaged one; replace it or take it "
                         "out.")
    return np.ascontiguousarray(pixels[:, :, ::-1])


def _load(source: str | Path | io.BytesIO, *, name: str = "") -> Image.Image:
    """The decoded picture, upright."""
    # By Pillow, which raises where the data end early; cv2 fills the rest with grey.
    try:
        file = source
        if not isinstance(source, io.BytesIO) and is_remote(source):
            file = io.BytesIO(as_path(source).read_bytes())
        elif not isinstance(source, io.BytesIO):
            _require_no_pipe(source)
        with Image.open(file, formats=_FORMATS) as image:
            _size(image)
            image.load()
            return ImageOps.exif_transpose(image) if image.format in ("JPEG", "MPO") else image.copy()
    # On damaged files Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others.
    except Exception as error:
        raise _unreadable(name or source, error) from None


def _size(image: Image.Image) -> tuple[int, int]:
    """Width and height; raises ValueError for more than a PNG can hold, which results are written as."""
    if max(image.size) > _LONGEST_SIDE:
        width, height = image.size
        raise ValueError(f"it says that it has {width}x{height} pixels, and a side may have {_LONGEST_SIDE}")
    return image.size


def _require_no_pipe(path: str | Path) -> None:
    """Raises an OSError for a pipe or a device: to open one may wait for a writer, and to read it never end."""
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise OSError("it is no regular file")


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        # Pillow's convert("RGB") clips 16-bit values at 255 instead of scaling them.
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of converting it directly
    return np.array(image.convert("RGB"))


def _ends_as_jpeg(path: str | Path) -> bool:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        # Some cameras pad a file with zeros after the end marker.
        file.seek(max(0, size - 64))
        return file.read().rstrip(b"\0").endswith(b"\xff\xd9")


def _unreadable(name: object, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{name}: no such file; give a picture.")
    if isinstance(error, Image.UnidentifiedImageError):
        return InputError(f"{name}: not a picture, or a damaged one; replace it or take it out.")
    return InputError(f"{name}: this picture cannot be read ({describe_error(error)}); replace it or take it out.")
