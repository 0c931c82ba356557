"""Identifies what a tracklet is made from, so that no result of files that changed since is taken for current."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import describe_error

_SHOWN = 3  # names in a message


def digest(value: object) -> str:
    """A digest of a value that JSON has."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def file_content(path: Path) -> str:
    """A digest of a file's bytes.

    Raises:
      InputError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({describe_error(error)}); make it readable.") from None


def files_content(paths: Iterable[Path]) -> list[list[str]]:
    """Name and `file_content` of each file. For pictures of footage, which are read as a whole in any case."""
    return [[path.name, file_content(path)] for path in paths]


def file_time(path: str | os.PathLike) -> list[int] | None:
    """Size and time of change in nanoseconds, for files that are too large to be read for it; None: there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def differing(before: Mapping[str, str | None], now: Mapping[str, str | None]) -> list[str]:
    """The names of what changed, went or came between two records; what is None in either is not compared."""
    return [name for name in {**before, **now} if name not in before or name not in now
            or None not in (before[name], now[name]) and before[name] != now[name]]


def listed(names: Sequence[str]) -> str:
    """Names for a message: the first few, in brackets."""
    return f"({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
