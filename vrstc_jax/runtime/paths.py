"""Checks of paths and names before anything is written: outputs apart from inputs, and names that stay in their folder.

`require_apart` compares all paths of a command. `require_name` and `within` keep a name that comes from a file, such
as a line of a data set's list, from leading out of the folder that it belongs to.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Literal

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import is_remote


@dataclass(frozen=True)
class Written:
    """A path that a command writes to.

    Attributes:
      path: None: not given, and not checked.
      kind: 'file'; 'folder', all of which is the command's; 'replaced', a folder that is removed and written anew; or
        'shared', a folder to which files are added.
    """

    path: str | os.PathLike | None
    kind: Literal["file", "folder", "replaced", "shared"] = "folder"


def require_apart(reads: Mapping[str, str | os.PathLike | None], writes: Mapping[str, Written]) -> None:
    """Checks that what a command writes neither replaces nor mixes with what it reads, nor one output with another.

    Links are resolved, and paths need not exist. A file may be written directly into an output folder. No folder may
    be in another output, and no output in a folder that is read.

    Args:
      reads: paths by their flags, such as {'--boxes': path}; None is one left out.
      writes: outputs by their flags.

    Raises:
      InputError: two paths are not apart; the message names both flags.
    """
    outputs = [(name, Path(each.path), each.kind) for name, each in writes.items()
               if each.path is not None and not is_remote(each.path)]
    inputs = [(name, Path(path)) for name, path in reads.items() if path is not None and not is_remote(path)]
    for written, output, kind in outputs:
        for read, path in inputs:
            advice = f"it would be mixed with what is read; give another path for {written}."
            if _same(output, path):
                raise InputError(f"{written} {output} is the same as {read} {path}, which would be overwritten; give "
                                 f"another path for {written}.")
            if _inside(output, path):
                raise InputError(f"{written} {output} is inside {read} {path}: {advice}")
            if kind in ("folder", "replaced") and _inside(path, output):
                raise InputError(f"{read} {path} is inside {written} {output}: {advice}")
    for first, second in combinations(outputs, 2):
        for (name, path, kind), (other, outer, outer_kind) in ((first, second), (second, first)):
            if _same(path, outer):
                raise InputError(f"{name} {path} is the same as {other} {outer}; give each another path.")
            directly = kind == "file" and outer_kind != "replaced" and _same(path.absolute().parent, outer)
            if _inside(path, outer) and not directly:
                raise InputError(f"{name} {path} is inside {other} {outer}, where it could be overwritten or removed; "
                                 "give each another path.")


def require_different(reads: Mapping[str, str | os.PathLike | None]) -> None:
    """Checks that no two of the paths that a command reads are the same; arguments as of `require_apart`.

    Raises:
      InputError: two are the same.
    """
    given = [(name, Path(path)) for name, path in reads.items() if path is not None]
    for (name, path), (other, same) in combinations(given, 2):
        if _same(path, same):
            raise InputError(f"{other} {same} is the same as {name} {path}; give each its own.")


def require_name(name: str, where: object) -> str:
    """Returns a name that comes from a file, if it is a relative path that stays below the folder it is used in.

    Args:
      where: the beginning of the message, such as the file and its line.

    Raises:
      InputError: it is empty or absolute, or has '..' in it or a character that no path has.
    """
    if "/" not in name and "\0" not in name and name not in ("", ".", ".."):
        return name  # nearly all; lists have a million
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise InputError(f"{where}: the name {name!r} would lead out of its folder; a name is a relative path without "
                         "'..'.")
    return name


def within(root: Path, name: str, *, suffix: str = "") -> Path:
    """The path `root`/`name``suffix`, for writing.

    Raises:
      InputError: it is not below `root`, by its name or by a link on its way.
    """
    path = root / (require_name(name, root) + suffix)
    if not is_remote(root) and not resolved(path.parent).is_relative_to(resolved(root)):
        raise InputError(f"{path}: a link on this path leads out of {root}; remove the link.")
    return path


def resolved(path: Path) -> Path:
    """The absolute path without links; what does not exist keeps its name."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return path.absolute()


def _same(one: Path, other: Path) -> bool:
    first, second = resolved(one), resolved(other)
    if first == second:
        return True
    try:
        return os.path.samefile(first, second)  # another name of it: a hard link, a mount, other case
    except OSError:
        return str(first).casefold() == str(second).casefold() and _ignores_case(first)


def _inside(inner: Path, outer: Path) -> bool:
    return any(_same(parent, outer) for parent in resolved(inner).parents)


def _ignores_case(path: Path) -> bool:
    """Whether the file system of the nearest existing folder takes 'a' and 'A' for one name."""
    for parent in path.parents:
        if parent.exists():
            swapped = parent.with_name(parent.name.swapcase()) if parent.name else parent
            return swapped != parent and swapped.exists() and os.path.samefile(parent, swapped)
    return False
