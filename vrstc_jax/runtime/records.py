"""Reads the records that commands leave (JSON, lines of JSON, arrays), strictly.

A record may have been cut off by a full disk, edited, or replaced by a folder, a link or a pipe. Whatever it is, the
reader returns what was written, or raises one `InputError` that names the file and what to do.
"""

import io
import json
import math
import os
import stat
from collections.abc import Callable, Sequence
from typing import Any, Never

import numpy as np

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import LARGEST, as_path, describe_error, is_remote

_REMEDY = "remove it, and run the same command again"


def read_record(path: str | os.PathLike, *, remedy: str = _REMEDY, fits: Callable[[Any], object] = bool) -> dict:
    """The object in a JSON file.

    Args:
      remedy: the end of the error, which says what to do.
      fits: returns whether the object has the form that its reader needs; it may also raise the errors of a wrong
        key, type or value.

    Raises:
      InputError: there is no such file, it is not a file, larger than `LARGEST`, not JSON, not an object, has numbers
        that are not finite, or does not fit.
    """
    try:
        found = parse_json(read_bytes(path).decode("utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
        if not fits(found):
            raise ValueError("it has not the fields that it should have")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise damaged(path, error, remedy) from None
    return found


def parse_json(text: str) -> Any:
    """What a JSON text holds; its numbers are finite.

    Raises:
      ValueError: it is no JSON, it has NaN or infinite numbers, or it is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_not_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_array_file(path: str | os.PathLike, *, remedy: str = _REMEDY,
                    fits: Callable[[Sequence[np.ndarray]], object] = lambda arrays: True) -> list[np.ndarray]:
    """The arrays of an .npz file, in the order in which `numpy.savez` was given them.

    Args:
      remedy, fits: as of `read_record`.

    Raises:
      InputError: as `read_record`, for .npz.
    """
    try:
        with np.load(io.BytesIO(read_bytes(path))) as stored:
            arrays = [stored[f"arr_{k}"] for k in range(len(stored.files))]
        if not all(array.dtype != object and np.isfinite(array).all() for array in arrays):
            raise ValueError("it has values that are not finite numbers")
        if not fits(arrays):
            raise ValueError("its arrays have not the sizes that they should have")
    except Exception as error:  # zipfile, zlib and NumPy raise errors of many kinds
        raise damaged(path, error, remedy) from None
    return arrays


def read_bytes(path: str | os.PathLike) -> bytes:
    """The contents of a file of at most `LARGEST` bytes, in a bucket or on disk.

    Raises:
      OSError: there is no such file, it is not a file, or cannot be read.
      ValueError: it is larger.
    """
    path = as_path(path)
    if not is_remote(path):
        status = os.stat(path)  # follows links; a loop of them is an OSError
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError("it is a folder")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer
            raise OSError("it is no regular file")
        if status.st_size > LARGEST:
            raise ValueError(f"it has {status.st_size:,} bytes")
    return path.read_bytes()


def damaged(path: str | os.PathLike, error: Exception | str, remedy: str = _REMEDY) -> InputError:
    """The error of a record that cannot be used."""
    what = error if isinstance(error, str) else describe_error(error)
    if isinstance(error, KeyError):
        what = f"it has no {what}"
    return InputError(f"{path}: this record cannot be used ({what[:200]}); {remedy}.")


def _not_finite(text: str) -> Never:
    raise ValueError(f"it has the number {text}")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)
