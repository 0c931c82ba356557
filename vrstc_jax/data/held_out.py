"""Runs of frames that training does not see, for judging."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HeldOut:
    """Runs of neighbouring frames kept from training: for each tracklet, (first, last + 1)."""

    runs: tuple[tuple[tuple[int, int], ...], ...]

    def without(self, tracklet: int, frames: np.ndarray) -> np.ndarray:
        """`frames` (indices, ascending) less those held out of a tracklet."""
        keep = np.ones(len(frames), bool)
        for first, end in self.runs[tracklet]:
            keep &= (frames < first) | (frames >= end)
        return frames[keep]


def hold_out_runs(lengths: Sequence[int], size: int) -> HeldOut:
    """Runs of `size` frames spread over each tracklet, about a tenth of its frames, each with as many
    frames before and after it; tracklets shorter than three runs have none."""
    def spread(length):
        if not size or length < 3 * size:
            return ()
        count = max(1, length // (11 * size))
        starts = ((np.arange(count) + 0.5) * length / count - size / 2).astype(int)
        return tuple((int(start), int(start) + size) for start in starts)

    return HeldOut(tuple(map(spread, lengths)))
