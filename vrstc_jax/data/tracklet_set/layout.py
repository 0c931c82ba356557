"""The files of a set of tracklets, and checks of a folder by their names.

A set has one split or several. A record is one frame, so that any frame can be read alone. Records keep the order of
the tracklets and of their frames, so a frame's record number follows from its position. `tracklets.json` repeats the
tracklets' names, identities and frame names, so that a set of a million frames opens without reading the records.
"""

import os
from pathlib import Path

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import as_path, is_remote, require_local

DEFAULT_SPLIT = "train"
INDEX_FILE = "tracklets.json"
INFO_FILE = "dataset_info.json"  # TFDS's. In a bucket it is written last, and its presence marks a complete set.
TEMPORARY_FOLDER = "vrstc-temporary"  # in an unfinished set, for temporary files


def is_set(directory: str | Path) -> bool:
    """Whether a folder or bucket path holds a complete set."""
    return (as_path(directory) / INFO_FILE).exists()


def is_complete(directory: str | Path) -> bool:
    """Whether a set was written to a folder or bucket path."""
    directory = as_path(directory)
    # Locally any folder is complete: sets are renamed into their final path. Buckets cannot rename.
    return is_set(directory) if is_remote(directory) else directory.exists()


def require_replaceable(directory: str | Path) -> None:
    """Checks that a set may be written to `directory`.

    Raises:
      InputError: something that is not a set exists there, or the path is in a bucket.
    """
    require_local(directory, "a set to be written")
    empty = os.path.isdir(directory) and not os.listdir(directory)
    if os.path.lexists(directory) and not is_set(directory) and not empty:
        raise InputError(f"{directory}: is not empty, and no data set; give a new folder for the set.")
    unfinished_set(directory)


def unfinished_set(directory: str | Path) -> str:
    """The path of a set while it is written. Whoever has the set's lock may remove what is there: a process that was
    killed left it.

    Raises:
      InputError: there is something that no such process wrote.
    """
    unfinished = f"{directory}.unfinished"
    if os.path.lexists(unfinished) and not _is_unfinished(Path(unfinished)):
        raise InputError(f"{unfinished}: is not from this command, which would write the unfinished set there; rename "
                         "it, or give another path for the set.")
    return unfinished


def _is_unfinished(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    # Earlier versions had no folder for temporary files; TFDS marks what it is writing.
    return ((folder / TEMPORARY_FOLDER).is_dir() or any(folder.glob("*/**/*.incomplete*"))
            or not any(folder.iterdir()))
