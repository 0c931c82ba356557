"""Text and JSON files, written whole or not at all."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vrstc_jax.runtime.storage import replace_file


def write_json(path: str | Path, values: Mapping) -> None:
    """Writes the values, as `plain` gives them, as JSON.

    Raises:
      InputError: the file cannot be written.
    """
    write_text(path, json.dumps(plain(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text, as `replace_file` does; bytes of a file's name that are not UTF-8 become escapes.

    Raises:
      InputError: the file cannot be written.
    """
    replace_file(path, text.encode(errors="backslashreplace"))


def plain(value: Any) -> Any:
    """Converts a value to what JSON has: dicts, lists, text, finite numbers, true, false and None.

    NumPy's arrays and scalars become lists and numbers, a number that is not finite becomes None, the key None
    becomes 'none', and anything else, such as a path, becomes its text.
    """
    if isinstance(value, Mapping):
        return {"none" if key is None else str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
