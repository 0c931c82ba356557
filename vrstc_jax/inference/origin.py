"""Where each repainted pixel comes from: what was seen, and where, or what a network imagined.

As a picture it is a PNG of three channels of 16 bits. The first is 0 where the pixel is the input's, 65,535 where it
was imagined, and else 32,768 plus how many frames later it was seen (of frames before, less than 32,768); the others
are where in that frame: eighths of pixels to the right and down from the middle of its first pixel.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from vrstc_jax.data.neighbours import NO_FRAME

AS_IT_WAS, IMAGINED = -2, -1
"""In place of the index of a frame."""
FARTHEST = 32_000
"""Frames between a frame and one that it is repaired from."""
EIGHTHS = 8
"""Positions are told in parts of a pixel, so many; bilinear interpolation there gives the pixel."""
LARGEST = 65_535 // EIGHTHS
"""Rows or columns of frames whose pixels can be told."""
_KEPT, _MIDDLE, _MADE_UP = 0, 32_768, 65_535


@dataclass(frozen=True, eq=False)
class Origin:
    """The origin of a frame's pixels.

    Attributes:
      index: of the frame in its tracklet.
      mask: bool [H, W], what was repainted.
      sources: int32 [N], for each pixel of the mask, row by row, the index of the frame that shows it, or `IMAGINED`.
      positions: uint16 [N, 2], where in that frame: column and row, in eighths of a pixel; 0 where imagined.
    """

    index: int
    mask: np.ndarray
    sources: np.ndarray
    positions: np.ndarray

    @classmethod
    def imagined_all(cls, index: int, mask: np.ndarray) -> Self:
        """The origin of a frame whose repainted pixels all come from a network."""
        count = int(mask.sum())
        return cls(index, mask, np.full(count, IMAGINED, np.int32), np.zeros((count, 2), np.uint16))

    @property
    def frames(self) -> np.ndarray:
        """For each pixel the index of the frame that shows it, `IMAGINED` or `AS_IT_WAS`: int32 [H, W]."""
        found = np.full(self.mask.shape, AS_IT_WAS, np.int32)
        found[self.mask] = self.sources
        return found

    @property
    def places(self) -> np.ndarray:
        """For each pixel the column and row in that frame, float32 [H, W, 2]; 0 where it is of none."""
        found = np.zeros((*self.mask.shape, 2), np.float32)
        found[self.mask] = self.positions / np.float32(EIGHTHS)
        return found

    @property
    def imagined(self) -> float:
        """The share of the repainted pixels that no frame showed; 0 where nothing was repainted."""
        return float((self.sources == IMAGINED).mean()) if len(self.sources) else 0.0

    def nearest(self) -> tuple[int, int]:
        """On each side, before and after, the frame that most pixels come from; −1 where there is none."""
        indices, counts = np.unique(self.sources[self.sources >= 0], return_counts=True)
        sides = ((indices < self.index), (indices > self.index))
        before, after = (int(indices[side][counts[side].argmax()]) if side.any() else NO_FRAME for side in sides)
        return before, after

    def picture(self) -> np.ndarray:
        """uint16 [H, W, 3], as files have it."""
        found = np.zeros((*self.mask.shape, 3), np.uint16)
        seen = self.sources >= 0
        first = np.where(seen, self.sources - self.index + _MIDDLE, _MADE_UP)
        found[self.mask] = np.concatenate([first[:, None], self.positions], axis=1)
        return found

    @classmethod
    def of_picture(cls, index: int, picture: np.ndarray) -> Self:
        """The inverse of `picture`.

        Raises:
          ValueError: the picture is not uint16 [H, W, 3].
        """
        if picture.dtype != np.uint16 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"an origin's picture is uint16 [H, W, 3]. Got {picture.dtype} {picture.shape}.")
        mask = picture[..., 0] != _KEPT
        first = picture[mask].astype(np.int64)[:, 0]
        sources = np.where(first == _MADE_UP, IMAGINED, first - _MIDDLE + index)
        return cls(index, mask, sources.astype(np.int32), picture[mask][:, 1:])
