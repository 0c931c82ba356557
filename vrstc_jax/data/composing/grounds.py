"""Grounds in a folder of four NumPy files, mapped, so that memory does not grow with their number."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vrstc_jax.data.composing.material import SIZE, Ground
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import describe_error

_PARTS = ("frames", "clear", "occluder", "person")


def read_grounds(folder: str | os.PathLike) -> list[Ground]:
    """The grounds that `write_grounds` wrote; their arrays are read from the files when they are used.

    Raises:
      InputError: a file is missing, damaged, or of another form.
    """
    folder, parts = Path(folder), []
    for part in _PARTS:
        path = folder / f"{part}.npy"
        try:
            parts.append(np.load(path, mmap_mode="r"))
        except Exception as error:  # what NumPy raises depends on the damage
            raise InputError(f"{path}: cannot be read ({describe_error(error)}); remove {folder}, and run the same "
                             "command again.") from None
    shape = parts[2].shape
    if len(shape) != 4 or shape[2:] != SIZE or any(part.shape[:4] != shape for part in parts):
        raise InputError(f"{folder}: its files do not fit each other; remove it, and run the same command again.")
    times = np.arange(shape[1], dtype=np.float32)
    return [Ground(frames, clear, occluder, person, times) for frames, clear, occluder, person in zip(*parts)]


def write_grounds(folder: str | os.PathLike, walkers: Sequence[Tracklet],
                  progress: Callable[[], object] = lambda: None) -> None:
    """Writes walkers of equally many frames of `SIZE`, with their truth, masks and silhouettes, into a folder.

    Args:
      progress: called after each walker.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shape = len(walkers), len(walkers[0]), *SIZE
    files = [np.lib.format.open_memmap(folder / f"{part}.npy", "w+", kind, (*shape, *channels)) for part, kind, channels
             in zip(_PARTS, (np.uint8, np.uint8, bool, bool), ((3,), (3,), (), ()))]
    for number, walker in enumerate(walkers):
        assert walker.truth is not None and walker.masks is not None and walker.silhouettes is not None
        for file, part in zip(files, (walker.frames, walker.truth, walker.masks, walker.silhouettes)):
            file[number] = np.stack(part[:])
        progress()
    for file in files:
        file.flush()
