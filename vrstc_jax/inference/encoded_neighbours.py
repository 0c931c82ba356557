"""Chooses the visible frames that hidden frames are completed from, and encodes each of them once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.neighbours import NO_FRAME, around, choose_sides, unlikeness
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.inference.padding import padded
from vrstc_jax.ops.pictures import resize, thumbnail

_THUMBNAILS = 128  # cached of a tracklet; a reach covers far fewer frames


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of one hidden frame.

    Attributes:
      sides: indices of the previous and of the next frames, equally many; nearest (or most similar) first. A side
        without a visible frame has the other side's.
      sources: the first index of each side; −1 where the side has no visible frame.
    """

    sides: tuple[list[int], list[int]]
    sources: tuple[int, int]


class EncodedNeighbours:
    """Chooses and encodes the neighbours of a tracklet's hidden frames, which must be requested in ascending order.

    Args:
      tracklet: frames of any size.
      visible: bool [T], the frames without a hidden pixel (`Plan.visible`).
      config: the number of neighbours and how they are chosen.
      encode: (uint8 [batch, H, W, 3], following=bool) to features float32 [batch, h, w, C].
      batch: frames encoded at once.
      earlier: gives for an index the indices of the frames that may serve, ascending; None: all others may.
    """

    def __init__(self, tracklet: Tracklet, visible: np.ndarray, config: configs.STCnet, encode: Callable, *,
                 batch: int, earlier: Callable[[int], np.ndarray] | None = None):
        self._is_visible, self._earlier = visible, earlier
        self._frames, self._visible = tracklet.frames, np.flatnonzero(visible)
        self._config, self._encode, self._batch = config, encode, batch
        # index: (picture, features as a previous frame, features as a next one)
        self._encoded: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        # Not of `self`, which would hold the cache that holds it.
        self._thumbnail = lru_cache(_THUMBNAILS)(lambda index: thumbnail(tracklet.frames[index]))

    def choose(self, index: int, frame: np.ndarray, mask: np.ndarray) -> Neighbours | None:
        """The neighbours of a hidden frame, uint8 [H, W, 3], with its mask; None where no frame is visible."""
        c, shown = self._config, thumbnail(frame)

        def unlike(others):
            return unlikeness(shown, mask, np.stack([self._thumbnail(int(i)) for i in others]))

        visible = self._visible
        if self._earlier:
            visible = self._earlier(index)
            visible = visible[self._is_visible[visible]]
        sides = choose_sides(visible, index, index, count=c.frames_per_side, step=c.frame_step,
                             reach=c.neighbour_reach, unlike=unlike)
        if sides is None:
            return None
        previous, following = (side[0] if len(own) else NO_FRAME
                               for side, own in zip(sides, around(visible, index, index)))
        return Neighbours(sides, (previous, following))

    def encode(self, chosen: Sequence[Neighbours | None]) -> None:
        """Encodes those frames of `chosen` that are not encoded yet."""
        needed = sorted({i for each in chosen if each for side in each.sides for i in side} - set(self._encoded))
        c = self._config
        for start in range(0, len(needed), self._batch):
            indices = needed[start:start + self._batch]
            pictures = np.stack([resize(self._frames[i], c.height, c.width) for i in indices])
            batch = padded(pictures, self._batch - len(indices))
            # Separate encoders both run: a frame after this hidden one may be before the next.
            features = [np.asarray(self._encode(batch, following=following))
                        for following in ((False,) if c.share_neighbour_encoders else (False, True))]
            for k, i in enumerate(indices):
                self._encoded[i] = pictures[k], features[0][k], features[-1][k]

    def stacked(self, chosen: Sequence[Neighbours | None], side: int, *, pad: int) -> tuple[np.ndarray, np.ndarray]:
        """One side of B hidden frames, the last repeated `pad` times; zeros where no frame is visible.

        Args:
          chosen: encoded neighbours of the B frames.
          side: 0 for the previous frames, 1 for the next.

        Returns:
          (pictures uint8 [B + pad, T, H, W, 3], features float32 [B + pad, T, h, w, C]).
        """
        if not any(chosen):
            return self._zeros(len(chosen) + pad)
        some = next(each for each in chosen if each)  # in place of no neighbours, of which the result is not used
        rows = [[self._encoded[i] for i in (each or some).sides[side]] for each in chosen]
        pictures = np.stack([[entry[0] for entry in row] for row in rows])
        features = np.stack([[entry[1 + side] for entry in row] for row in rows])
        return padded(pictures, pad), padded(features, pad)

    def forget(self, index: int) -> None:
        """Drops features that neither `index` nor any later frame can use.

        Memory then does not grow with the tracklet's length.
        """
        c = self._config
        farthest = max(c.neighbour_reach, (c.frames_per_side - 1) * c.frame_step + 1)
        before, after = around(self._visible, index, index)
        if len(before):
            oldest = before[:farthest][-1]
        else:
            oldest = after[0] if len(after) else 0
        self._encoded = {i: entry for i, entry in self._encoded.items() if i >= oldest}

    def _zeros(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        c = self._config
        shape = c.frames_per_side, c.height, c.width, 3
        # Traced, not run: only the features' shape is needed.
        features = jax.eval_shape(lambda pictures: self._encode(pictures, following=False),
                                  jax.ShapeDtypeStruct(shape, np.uint8))
        return np.zeros((count, *shape), np.uint8), np.zeros((count, *features.shape), np.float32)
