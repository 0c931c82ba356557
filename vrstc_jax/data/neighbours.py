"""Chooses the frames that a hidden frame is completed from (section 3.1 of the paper, and cases it leaves open).

x_p and x_n are the nearest visible (unoccluded) frames on either side. With a reach of more than one, they are the most
similar of the nearest few, compared where the hidden frame is visible: walking is periodic, and one stride earlier the
legs have the same pose. With no visible frame on one side, the other side's is used for both; with none on either,
there are no neighbours, and the spatial generator alone completes.
"""

from collections.abc import Callable, Sequence

import numpy as np

from vrstc_jax.ops.pictures import THUMBNAIL, covered

NO_FRAME = -1


def nearest_sources(visible: Sequence[bool] | np.ndarray) -> np.ndarray:
    """The nearest visible frame before and after each frame of a tracklet.

    Args:
      visible: bool [T].

    Returns:
      int [T, 2], the index of the previous and of the next; −1 where a side has none.
    """
    indices, frames = np.flatnonzero(visible), np.arange(len(visible))
    # With an end on each side, the position of a frame among the visible ones is that of its previous one.
    bounded = np.concatenate([[NO_FRAME], indices, [NO_FRAME]])
    previous = bounded[np.searchsorted(indices, frames)]
    return np.stack([previous, bounded[np.searchsorted(indices, frames, side="right") + 1]], axis=1)


def choose_sides(visible: np.ndarray, first: int, last: int, *, count: int = 1, step: int = 1, reach: int = 1,
                 unlike: Callable[[np.ndarray], np.ndarray] | None = None) -> tuple[list[int], list[int]] | None:
    """Chooses the frames that are attended on each side of a hidden run.

    Args:
      visible: int [U], indices of the visible frames, ascending.
      first, last: the run's first and last frame.
      count: frames on each side.
      step: takes every `step`-th visible frame, counting from the nearest.
      reach: if more than 1, only the nearest `reach` frames of a side, sorted by `unlike`.
      unlike: maps indices [n] to each frame's difference from the hidden one [n]; needed with a reach.

    Returns:
      (previous, following), each a list of `count` indices, nearest (or most similar) first. A side with too few frames
      repeats its last; a side without frames equals the other one. None where both have none.
    """
    before, after = around(visible, first, last)
    if not len(before) and not len(after):
        return None
    if reach > 1:
        if unlike is None:
            raise ValueError(f"a reach of more than 1 needs `unlike`. Got a reach of {reach} without it.")
        # Stable: of equally similar frames the nearer one comes first.
        before, after = (side[:reach][np.argsort(unlike(side[:reach]), kind="stable")] if len(side) else side
                         for side in (before, after))
    before, after = (before if len(before) else after), (after if len(after) else before)
    previous, following = ([int(side[min(i * step, len(side) - 1)]) for i in range(count)] for side in (before, after))
    return previous, following


def around(visible: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The visible frames before and after a run, int [n] and [m], nearest first; `visible` as in `choose_sides`."""
    return visible[:np.searchsorted(visible, first)][::-1], visible[np.searchsorted(visible, last, side="right"):]


def unlikeness(hidden: np.ndarray, mask: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean squared difference between thumbnails where the hidden frame is visible.

    Args:
      hidden: uint8 [16, 8, 3] (`ops.pictures.thumbnail`).
      mask: bool [H, W] at any size, true = hidden.
      others: uint8 [n, 16, 8, 3].

    Returns:
      float32 [n]; zeros where nothing is visible.
    """
    seen = ~covered(mask, *THUMBNAIL)
    difference = others[:, seen].astype(np.float32) - hidden[seen].astype(np.float32)
    return np.square(difference).mean((1, 2)) if seen.any() else np.zeros(len(others), np.float32)
