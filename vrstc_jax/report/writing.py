"""Text and JSON files that are either whole or not there."""

import json
import math
import os
from collections.abc import Mapping

import numpy as np

from vrstc_jax.runtime.storage import replace_file


def write_json(path: str | os.PathLike, values: Mapping) -> None:
    """Writes JSON to a temporary name and renames it.

    NumPy's scalars and arrays become plain; what is not finite becomes null, since JSON has no word for it;
    the key None becomes 'none', and what JSON does not know (paths, say) its text.

    Raises:
      InputError: the file cannot be written.
    """
    write_text(path, json.dumps(plain(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes UTF-8 text, as `replace_file` does.

    Raises:
      InputError: the file cannot be written.
    """
    replace_file(path, text.encode())


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
