"""A function mapped over tracklets, divided between the processes of a run, and resumable.

Shards depend on the tracklets' lengths alone, and each shard is one file. So results do not depend on the number of
processes, and a shard whose file exists is not computed again.
"""

import io
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.storage import as_path, remove, write_whole

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
              frames: int = _FRAMES) -> list[np.ndarray]:
    """One array for each tracklet, kept in the file `path` (.npz).

    Every process calls it, computes its share of the shards, and waits for the others.

    Args:
      lengths: of the tracklets, in frames.
      make: returns the arrays of a range of tracklets.
      frames: the most frames in a shard of several tracklets.
    """
    path = as_path(path)
    parts, shards = path.with_name(f".{path.stem}.parts"), bounds(lengths, frames=frames)
    part_of = [parts / f"{number:05}.npz" for number in range(len(shards))]

    def is_whole() -> bool:
        if path.exists():
            remove(parts)  # left by a process that was killed between writing `path` and removing them
            return True
        parts.mkdir(parents=True, exist_ok=True)
        return False

    def join() -> None:
        _save(path, [array for part in part_of for array in read_arrays(part)])
        remove(parts)

    if not distributed.run_on_first(is_whole):
        for number in distributed.own_items(len(shards)):
            if not part_of[number].exists():
                _save(part_of[number], make(shards[number]))
        distributed.barrier("shards")
        distributed.run_on_first(join)
    return read_arrays(path)


def _save(path: Path, arrays: Sequence[np.ndarray]) -> None:
    file = io.BytesIO()
    np.savez(file, *arrays)
    write_whole(path, file.getvalue())


def read_arrays(path: str | PathLike) -> list[np.ndarray]:
    """The arrays that `by_shards` kept in a file."""
    with np.load(io.BytesIO(as_path(path).read_bytes())) as stored:
        return [stored[f"arr_{k}"] for k in range(len(stored.files))]
