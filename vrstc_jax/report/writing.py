"""Text and JSON files that are either whole or not there."""

import contextlib
import json
import math
import os
from collections.abc import Mapping

import numpy as np

from vrstc_jax.data.images import replace_file
from vrstc_jax.errors import InputError
from vrstc_jax.places import as_path, is_remote


def write_json(path: str | os.PathLike, values: Mapping) -> None:
    """Writes JSON to a temporary name and renames it.

    NumPy's scalars and arrays become plain; what is not finite becomes null, since JSON has no word for it;
    the key None becomes 'none', and what JSON does not know (paths, say) its text.

    Raises:
      InputError: the file cannot be written.
    """
    write_text(path, json.dumps(plain(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes UTF-8 text to a temporary name, always the same beside the file, and renames it.

    Raises:
      InputError: the file cannot be written.
    """
    path = as_path(path)
    if is_remote(path):
        replace_file(path, text.encode())
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise InputError(f"{path}: cannot be written ({error.strerror}); name a file in a folder that "
                         "exists, has room, and that you may write to.") from None


def plain(value):
    """The value in dicts, lists, text, finite numbers, true, false and None alone; see `write_json`."""
    if isinstance(value, Mapping):
        return {("none" if key is None else str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
