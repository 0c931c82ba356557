"""Tracklets with the interface of a stored set, read from their own files: no frame is stored twice."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime.errors import InputError


class TrackletsInPlace(TrackletSet):
    """A set that reads records through its tracklets; for frames that are cheap to read, such as a spool's raw crops.

    Raises:
      InputError: no tracklet has a frame.
    """

    def __init__(self, tracklets: Sequence[Tracklet]):
        """Leaves out tracklets without frames, as a stored set does."""
        kept = tuple(tracklet for tracklet in tracklets if len(tracklet))
        if not kept:
            raise InputError("There is no frame in any tracklet, so there is nothing to learn from.")
        ends = np.cumsum([len(tracklet) for tracklet in kept])
        super().__init__((), kept, tuple(int(end) - len(tracklet) for end, tracklet in zip(ends, kept)))

    def frame(self, record: int) -> np.ndarray:
        """uint8 [H, W, 3]; read from its file at every call."""
        tracklet, index = self._at(record)
        return tracklet.frames[index]

    def mask(self, record: int) -> np.ndarray:
        """bool [H, W], true = hidden; [1, 1], false, where the tracklet has no masks."""
        tracklet, index = self._at(record)
        return np.zeros((1, 1), bool) if tracklet.masks is None else tracklet.masks[index]

    def _at(self, record: int) -> tuple[Tracklet, int]:
        number = bisect_right(self.first, record) - 1
        return self.tracklets[number], record - self.first[number]
