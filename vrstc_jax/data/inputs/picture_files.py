"""Finds picture files in folders and puts them in natural order."""

import os
import re
from collections.abc import Set
from pathlib import Path, PurePosixPath

from vrstc_jax.data.images import PICTURE_SUFFIXES
from vrstc_jax.runtime.errors import InputError

_DEEPEST = 8  # Deeper folders are not searched.
_MOST_LINKED = 10_000  # folders that are reached again, by a link


def natural_key(name: str) -> tuple[list, str]:
    """A sort key that compares digits by value: frame2 before frame10. Equal values (1, 01) compare as text."""
    # Text as a second key: equal keys would leave the order to the file system, which differs by machine.
    return _pieces(name), name


def natural_path_key(path: PurePosixPath) -> tuple[list, tuple[str, ...]]:
    """A sort key for relative paths: `natural_key` level by level."""
    return [_pieces(part) for part in path.parts], path.parts


def picture_files(directory: Path, suffixes: tuple[str, ...] = PICTURE_SUFFIXES) -> dict[str, Path]:
    """The pictures directly in a folder, by stem and ordered by name; hidden and other files are skipped.

    Results and companions (masks, truth) match frames by stem, so a stem must be unique.

    Raises:
      InputError: the folder cannot be read, or two pictures have the same stem.
    """
    found = {}
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)  # file systems list in any order
    except OSError as error:
        raise InputError(f"{directory}: cannot be read ({error.strerror}); make it readable.") from None
    for entry in entries:
        if entry.name.startswith(".") or not entry.name.lower().endswith(suffixes) or not _is_file(entry):
            continue
        path = Path(entry.path)
        if path.stem in found:
            raise InputError(f"{path}: {found[path.stem].name} has the same name; keep one picture for each frame.")
        found[path.stem] = path
    return found


def find_pictures(top: Path, *, skip: Set[Path] = frozenset(),
                  suffixes: tuple[str, ...] = PICTURE_SUFFIXES) -> dict[PurePosixPath, Path]:
    """All pictures below a folder, by relative path without the suffix.

    Args:
      skip: resolved paths of folders that are not searched.

    Raises:
      InputError: `top` is not a folder, cannot be read, or holds no picture; two pictures have the same key; or folders
        are linked into each other many times over. A link to a folder that it is in is skipped.
    """
    if not top.is_dir():
        what = "a file, not a folder" if top.exists() else "no such folder"
        raise InputError(f"{top}: {what}; give a folder of pictures.")
    found = {}
    # Each with the folders that it is in, by device and inode, so that a link to one of them leads nowhere; those that
    # `top` is in too, since below them is all of `top` again, and maybe an output beside it.
    around = frozenset(_identity(parent) for parent in top.resolve().parents)
    waiting: list[tuple[PurePosixPath, frozenset[tuple[int, int]]]] = [(PurePosixPath(), around)]
    seen: set[tuple[int, int]] = set()
    again = 0
    while waiting:
        folder, above = waiting.pop()
        try:
            known = _identity(top / folder)
            again += known in seen
            if again > _MOST_LINKED:
                raise InputError(f"{top}: the folders in it are linked into each other too many times; remove links "
                                 f"such as {top / folder}.")
            if known in above:
                continue
            seen.add(known)
            found |= {folder / stem: path for stem, path in picture_files(top / folder, suffixes).items()}
            inside = [entry.name for entry in os.scandir(top / folder)
                      if not entry.name.startswith(".") and os.path.isdir(entry)]  # false for a loop of links too
        except OSError as error:
            raise InputError(f"{top / folder}: cannot be read ({error.strerror}); make it readable.") from None
        if len(folder.parts) < _DEEPEST:
            waiting += [(folder / name, above | {known}) for name in inside
                        if not skip or (top / folder / name).resolve() not in skip]
    if not found:
        raise InputError(f"{top}: no pictures in this folder or below it; pictures end in {', '.join(suffixes)}.")
    return found


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    """Device and inode."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _pieces(text: str) -> list[str | int]:
    # Every second piece is a number. Not by `isdigit`, which other texts such as '²' pass.
    return [int(piece) if i % 2 else piece for i, piece in enumerate(re.split(r"([0-9]+)", text))]
