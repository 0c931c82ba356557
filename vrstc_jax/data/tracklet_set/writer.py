"""Writes sets of tracklets, so that a set appears complete or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from vrstc_jax.data.tracklet_set.layout import (
    DEFAULT_SPLIT,
    INDEX_FILE,
    INFO_FILE,
    TEMPORARY_FOLDER,
    unfinished_set,
)
from vrstc_jax.data.tracklet_set.reader import quiet_tfds
from vrstc_jax.data.tracklet_set.tracklet_set_dataset_builder import Builder
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime import lock
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import as_path, full_disk_as_input_error, is_remote, remove, temporary_folder, upload


def write_set(directory: str | Path, tracklets: Iterable[Tracklet] | Mapping[str, Iterable[Tracklet]], *,
              progress: Callable[[int], object] | None = None) -> None:
    """Writes tracklets to `directory` as a TFDS data set.

    It lists all tracklets before it writes the first, and reads their frames one by one.

    Args:
      directory: path of the set, gs:// too; what exists there is replaced.
      tracklets: of the one split 'train'; or of several splits, by the splits' names. A split may be empty if another
        is not. A tracklet without frames is left out.
      progress: called with the number of frames after each tracklet.

    Raises:
      InputError: there is no frame in any of the tracklets, or two in a split have the same name.
      ValueError: a split's name that TFDS does not take.
    """
    by_split = tracklets if isinstance(tracklets, Mapping) else {DEFAULT_SPLIT: tracklets}
    splits = {name: list(given) for name, given in by_split.items()}
    if not any(len(tracklet) for given in splits.values() for tracklet in given):
        raise InputError(f"{directory}: there is no frame in any tracklet; nothing was written.")
    prepare_set(directory, Builder, tracklets=splits, progress=progress)


def prepare_set(directory: str | Path, builder: type[Builder], **options: Any) -> None:
    """Runs a builder and moves its set to `directory`.

    Args:
      directory: path of the set, gs:// too; what exists there is replaced.
      options: of the builder.

    Raises:
      InUse: another process is writing it.
    """
    target = as_path(directory)
    if is_remote(target):  # TFDS writes array_record files locally only, and a bucket cannot rename.
        with temporary_folder() as temporary:
            built = _build(builder, f"{temporary}/set", options)
            remove(target / INFO_FILE)
            remove(target)
            upload(Path(built), target, last=INFO_FILE)
        return
    with lock.releasing():
        lock.take(target, beside=True)
        # Renamed at the end: a killed run leaves no half a set where a later one would take it for complete.
        unfinished = unfinished_set(target)
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            with full_disk_as_input_error(target, "make room, or give another path"):
                built = _build(builder, unfinished, options)
            remove(target)  # a link that leads nowhere too
            os.replace(built, target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _build(builder: type[Builder], directory: str, options: Mapping[str, Any]) -> str:
    """The path of the finished set, which is `directory` or a version folder below it."""
    with quiet_tfds(), _temporary_files_in(Path(directory) / TEMPORARY_FOLDER):
        running = builder(data_dir=directory, **options)
        running.download_and_prepare(download_config=tfds.download.DownloadConfig())
    index = Path(running.data_dir) / INDEX_FILE
    rows = json.loads(index.read_text())
    for split, contents in running.contents.items():
        rows[split] = [row | {"content": contents[row["name"]]} for row in rows[split]]
    index.write_text(json.dumps(rows))
    return str(running.data_dir)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Makes a folder the one for temporary files meanwhile: TFDS leaves some behind, and so does a process that is
    killed. They are removed with the unfinished set."""
    folder.mkdir(parents=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
