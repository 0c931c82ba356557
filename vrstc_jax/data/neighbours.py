"""Which frames a hidden frame is completed from (section 3.1, and what the paper leaves open).

x_p and x_n are the nearest unoccluded frames on either side. With none on one side, the other side's frame
is used for both; with none on either, there are no neighbours, and the spatial generator alone completes.
"""

from collections.abc import Sequence

import numpy as np

NONE = -1


def sources(usable: Sequence[bool]) -> np.ndarray:
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


def sides(usable: np.ndarray, first: int, last: int, *, count: int = 1, step: int = 1):
    """The frames attended on each side of a hidden run.

    Args:
      usable: int [U], indices of the unoccluded frames, ascending.
      first, last: the run's first and last frame.
      count: frames on each side.
      step: every how many unoccluded frames one is taken, counting from the nearest.

    Returns:
      (previous, following), each a list of `count` indices, nearest first; a side that ends early repeats
      its farthest frame, and a side without frames is the other one. None where both have none.
    """
    before = usable[:np.searchsorted(usable, first)][::-1]
    after = usable[np.searchsorted(usable, last, side="right"):]
    if not len(before) and not len(after):
        return None
    before, after = (before if len(before) else after), (after if len(after) else before)
    return tuple([int(side[min(i * step, len(side) - 1)]) for i in range(count)] for side in (before, after))
