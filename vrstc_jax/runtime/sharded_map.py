"""A function mapped over tracklets, divided between the processes of a run, and resumable.

Shards depend on the tracklets' lengths alone, and each shard is one file. So results do not depend on the number of
processes, and a shard whose file exists is not computed again.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.records import read_array_file
from vrstc_jax.runtime.storage import as_path, is_remote, remove, require_writable_directory, write_whole

_FRAMES = 2048  # in a shard, or one tracklet that is longer: about a minute's work


def bounds(lengths: Sequence[int], *, frames: int = _FRAMES) -> list[range]:
    """The tracklets of each shard: runs of at most `frames` frames, or one tracklet that is longer."""
    shards, room = [], 0
    for index, length in enumerate(lengths):
        if not shards or length > room:
            shards.append(range(index, index))
            room = frames
        shards[-1] = range(shards[-1].start, index + 1)
        room -= length
    return shards


def progress(name: str, lengths: Sequence[int]) -> tqdm:
    """A bar over the tracklets of this process' shards; process 0 alone shows one."""
    shards = bounds(lengths)
    own = sum(len(shards[number]) for number in distributed.own_items(len(shards)))
    return tqdm(total=own, desc=name, unit="tracklet", dynamic_ncols=True, delay=1,
                disable=not distributed.is_first())


def by_shards(path: str | PathLike, lengths: Sequence[int], make: Callable[[range], Sequence[np.ndarray]], *,
              frames: int = _FRAMES, fits: Callable[[np.ndarray, int], bool] = lambda array, length: True,
              ) -> list[np.ndarray]:
    """One array for each tracklet, kept in the file `path` (.npz).

    Every process calls it, computes its share of the shards, and waits for the others. A file that is damaged is
    removed, with a warning, and computed again.

    Args:
      lengths: of the tracklets, in frames.
      make: returns the arrays of a range of tracklets.
      frames: the most frames in a shard of several tracklets.
      fits: whether an array has the form of one for a tracklet of a length.
    """
    path = as_path(path)
    parts, shards = path.with_name(f".{path.stem}.parts"), bounds(lengths, frames=frames)
    part_of = [parts / f"{number:05}.npz" for number in range(len(shards))]

    def usable(file: Path, tracklets: range) -> bool:
        """Whether the file is there and whole; one that is not whole is removed."""
        if not os.path.lexists(file) if not is_remote(file) else not file.exists():
            return False
        try:
            read_arrays(file, fits=lambda arrays: len(arrays) == len(tracklets) and all(
                fits(array, lengths[index]) for array, index in zip(arrays, tracklets)))
            return True
        except InputError as error:
            print(f"vrstc: warning: {str(error).rpartition(';')[0]}; it is computed again", file=sys.stderr)
            remove(file)
            return False

    def is_whole() -> bool:
        if usable(path, range(len(lengths))):
            remove(parts)  # left by a process that was killed between writing `path` and removing them
            return True
        require_writable_directory(parts)
        return False

    def join() -> None:
        _save(path, [array for part in part_of for array in read_arrays(part)])
        remove(parts)

    if not distributed.run_on_first(is_whole):
        for number in distributed.own_items(len(shards)):
            if not usable(part_of[number], shards[number]):
                _save(part_of[number], make(shards[number]))
        distributed.barrier("shards")
        distributed.run_on_first(join)
    return read_arrays(path)


def _save(path: Path, arrays: Sequence[np.ndarray]) -> None:
    file = io.BytesIO()
    np.savez(file, *arrays)
    write_whole(path, file.getvalue())


read_arrays = read_array_file
"""Reads the arrays that `by_shards` kept in a file."""
