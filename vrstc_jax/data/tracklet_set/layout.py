"""The files of a set of tracklets, and checks of a folder by their names.

A set has one split or several. A record is one frame, so that any frame can be read alone. Records keep the order of
the tracklets and of their frames, so a frame's record number follows from its position. `tracklets.json` repeats the
tracklets' names, identities and frame names, so that a set of a million frames opens without reading the records.
"""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import as_path, is_remote, require_local

DEFAULT_SPLIT = "train"
INDEX_FILE = "tracklets.json"
INFO_FILE = "dataset_info.json"  # TFDS's. In a bucket it is written last, and its presence marks a complete set.


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


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Silences TFDS's log and progress bars; our own progress bar reports the same in one line."""
    # A filter of TFDS's records, not a log level: other code of the host program logs through absl as before.
    logger = logging.getLogger("absl")
    logger.addFilter(_is_error_or_not_of_tfds)
    tfds.disable_progress_bar()
    try:
        # Some of TFDS's messages are printed, not logged.
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.removeFilter(_is_error_or_not_of_tfds)
        tfds.enable_progress_bar()


def _is_error_or_not_of_tfds(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or "tensorflow_datasets" not in record.pathname
