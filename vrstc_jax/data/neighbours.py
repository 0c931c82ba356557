"""Which frames a hidden frame is completed from (section 3.1, and what the paper leaves open).

x_p and x_n are the nearest unoccluded frames on either side; or, with a reach of more than one, those of the
nearest few whose visible part is most alike: people walk, and a stride earlier the legs stand as they do now.
With none on one side, the other side's frame is used for both; with none on either, there are no neighbours,
and the spatial generator alone completes.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from vrstc_jax.ops.pictures import THUMBNAIL

NONE = -1


def nearest_sources(usable: Sequence[bool]) -> np.ndarray:
    """The nearest usable frame before and after each frame of a tracklet.

    Args:
      usable: bool [T], the unoccluded frames.

    Returns:
      int [T, 2], the index of the previous and of the next; −1 where a side has none.
    """
    usable = np.asarray(usable, bool)
    positions = np.arange(len(usable))
    reached = np.maximum.accumulate(np.where(usable, positions, NONE))
    previous = np.concatenate([[NONE], reached])[:-1]
    ahead = np.minimum.accumulate(np.where(usable, positions, len(usable))[::-1])[::-1]
    following = np.concatenate([ahead, [len(usable)]])[1:]
    return np.stack([previous, np.where(following == len(usable), NONE, following)], axis=1).astype(int)


def choose_sides(usable: np.ndarray, first: int, last: int, *, count: int = 1, step: int = 1, reach: int = 1,
          unlike: Callable[[np.ndarray], np.ndarray] | None = None):
    """The frames attended on each side of a hidden run.

    Args:
      usable: int [U], indices of the unoccluded frames, ascending.
      first, last: the run's first and last frame.
      count: frames on each side.
      step: every how many unoccluded frames one is taken, counting from the nearest.
      reach: where more than 1, the nearest `reach` frames of a side are put in the order of `unlike` first.
      unlike: indices [n] to how unlike each is to the hidden frame [n]; needed with a reach.

    Returns:
      (previous, following), each a list of `count` indices, nearest (or most alike) first; a side that ends
      early repeats its last frame, and a side without frames is the other one. None where both have none.
    """
    before, after = around(usable, first, last)
    if not len(before) and not len(after):
        return None
    if reach > 1:
        before, after = (side[:reach][np.argsort(unlike(side[:reach]), kind="stable")] if len(side) else side
                         for side in (before, after))
    before, after = (before if len(before) else after), (after if len(after) else before)
    return tuple([int(side[min(i * step, len(side) - 1)]) for i in range(count)] for side in (before, after))


def around(usable: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The unoccluded frames before and after a run, nearest first."""
    return usable[:np.searchsorted(usable, first)][::-1], usable[np.searchsorted(usable, last, side="right"):]


def unlikeness(hidden: np.ndarray, mask: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean squared difference of the visible part: thumbnails [16, 8, 3] and [n, 16, 8, 3] to [n].

    Args:
      mask: bool [H, W] at any size, true = hidden. Where nothing is visible, all are equally alike.
    """
    seen = cv2.resize(mask.astype(np.float32), THUMBNAIL[::-1], interpolation=cv2.INTER_AREA) < 1e-4
    difference = others[:, seen].astype(np.float32) - hidden[seen].astype(np.float32)
    return np.square(difference).mean((1, 2)) if seen.any() else np.zeros(len(others), np.float32)
