"""Runs of frames that are kept from training, to judge completion on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HeldOut:
    """Runs of consecutive frames kept from training: for each tracklet, (first, last + 1)."""

    runs: tuple[tuple[tuple[int, int], ...], ...]

    def without(self, tracklet: int, frames: np.ndarray) -> np.ndarray:
        """`frames` (int [n], indices, ascending) without those held out of the tracklet with this index."""
        keep = np.ones(len(frames), bool)
        for first, end in self.runs[tracklet]:
            keep &= (frames < first) | (frames >= end)
        return frames[keep]


def hold_out_runs(lengths: Sequence[int], size: int) -> HeldOut:
    """Spreads runs of `size` frames over tracklets of these lengths, about a tenth of the frames.

    Each run has at least `size` frames before and after it; tracklets shorter than three runs have none.
    """
    def spread(length: int) -> tuple[tuple[int, int], ...]:
        # Visible frames must remain on both sides of a run to complete it from.
        if not size or length < 3 * size:
            return ()
        # 11: one frame is held out for every ten that remain for training.
        count = max(1, length // (11 * size))
        starts = ((np.arange(count) + 0.5) * length / count - size / 2).astype(int)
        return tuple((int(start), int(start) + size) for start in starts)

    return HeldOut(tuple(map(spread, lengths)))
