"""Which earlier frames are remembered where frames come live: the latest ones, and others from all over the past."""

from typing import Generic, TypeVar

import numpy as np

from vrstc_jax.inference.origin import FARTHEST

_LATEST, _OLDER = 60, 60
Kept = TypeVar("Kept")


class Memory:
    """Indices of remembered frames; their number is bounded.

    Args:
      latest: so many of the latest frames are remembered,
      older: and at most so many older ones, spread over the past.
    """

    def __init__(self, *, latest: int, older: int):
        self._latest, self._older = latest, older
        self.indices: list[int] = []
        """Ascending."""

    def add(self, index: int) -> list[int]:
        """Remembers a frame, which comes after all that were added before; returns those that are forgotten for it."""
        forgotten = [i for i in self.indices if index - i > FARTHEST]
        self.indices = [i for i in self.indices if index - i <= FARTHEST] + [index]
        while len(self.indices) > self._latest + self._older:
            forgotten.append(self.indices.pop(self._least_missed()))
        return forgotten

    def _least_missed(self) -> int:
        """The place of that older frame, but for the first, whose neighbours are nearest to each other."""
        if self._older < 2:
            return 0
        places = range(1, min(self._older + 1, len(self.indices) - 1))
        gaps = {place: self.indices[place + 1] - self.indices[place - 1] for place in places}
        return min(gaps, key=lambda place: gaps[place])


class Remembered(Generic[Kept]):
    """What is kept of each remembered frame.

    Attributes:
      count: the frames so far, and so the index of the next one.
    """

    def __init__(self, memory: Memory):
        self.count = 0
        self._memory = memory
        self._kept: dict[int, Kept] = {}

    def add(self, kept: Kept) -> None:
        """Remembers the next frame."""
        self._kept[self.count] = kept
        for forgotten in self._memory.add(self.count):
            del self._kept[forgotten]
        self.count += 1

    def items(self) -> list[tuple[int, Kept]]:
        """(index, what is kept) of each, the earliest first."""
        return [(index, self._kept[index]) for index in self._memory.indices]


def live_memory() -> Memory:
    """What live use remembers of a person's frames."""
    return Memory(latest=_LATEST, older=_OLDER)


class Earlier:
    """The frames of a tracklet that live use would remember when each of its frames comes."""

    def __init__(self):
        self._memory, self._next = live_memory(), 0

    def __call__(self, index: int) -> np.ndarray:
        """The indices of those remembered when frame `index` comes, ascending; to be asked in ascending order."""
        for added in range(self._next, index):
            self._memory.add(added)
        self._next = max(self._next, index)
        return np.array(self._memory.indices, int)
