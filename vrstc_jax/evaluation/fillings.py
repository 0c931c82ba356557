"""The simple fillings of a hole that completion has to beat.

Everything here works on the host, frame by frame, at the crop's own resolution. Pictures are uint8 [H, W, 3], RGB;
masks are bool [H, W], true where the person is hidden: the hole. Results are uint8 [H, W, 3], in which visible pixels
are the frame's own, bit for bit.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from vrstc_jax.data.neighbours import unlikeness
from vrstc_jax.ops import registration
from vrstc_jax.ops.pictures import covered, resize, thumbnail

SIMPLE = ("copy", "mean", "flow", "best", "telea")
"""The names of all of them, in tables."""
_LIKEST = 8  # by thumbnails, of which one is chosen by shifting them
_SHIFTS = 6  # pixels at `registration.SIZE`, to each side


def copy_nearest(frame: np.ndarray, mask: np.ndarray, previous: np.ndarray | None, following: np.ndarray | None,
                 distances: tuple[int, int]) -> np.ndarray:
    """Fills the hole with the same pixels of the nearer neighbour, or of the previous one if both are equally near.

    Args:
      frame, mask: the frame and its hole.
      previous, following: the nearest visible frames before and after, of any size (they are resized to the
        frame's), or None. With neither there is nothing to copy, and `telea` fills the hole.
      distances: the two neighbours' distances in frames; that of a missing one is ignored.

    Returns:
      uint8 [H, W, 3]; visible pixels are the frame's own, bit for bit.
    """
    nearer = following if previous is None or (following is not None and distances[1] < distances[0]) else previous
    return telea(frame, mask) if nearer is None else _fill(frame, mask, _resized_to(frame, nearer))


def mean_of_neighbours(frame: np.ndarray, mask: np.ndarray, previous: np.ndarray | None,
                       following: np.ndarray | None) -> np.ndarray:
    """Fills the hole with the average of the two neighbours, halves rounded up.

    Arguments and result as of `copy_nearest`. With one neighbour, its pixels; with neither, `telea`.
    """
    neighbours = [_resized_to(frame, n) for n in (previous, following) if n is not None]
    if not neighbours:
        return telea(frame, mask)
    total = np.sum(neighbours, axis=0, dtype=np.uint16)
    return _fill(frame, mask, np.asarray((total + len(neighbours) // 2) // len(neighbours), np.uint8))


def telea(frame: np.ndarray, mask: np.ndarray, radius: float = 3) -> np.ndarray:
    """Fills the hole from its rim, by OpenCV's inpainting after Telea 2004; `radius` is in pixels.

    A frame that is all hole becomes black.
    """
    # Blackened first, so that nothing of the hidden pixels leaks in.
    hollow = np.where(mask[..., None], np.uint8(0), frame)
    return _fill(frame, mask, cv2.inpaint(hollow, mask.astype(np.uint8), radius, cv2.INPAINT_TELEA))


def flow_of_neighbours(frame: np.ndarray, mask: np.ndarray, neighbours: Sequence[np.ndarray]) -> np.ndarray:
    """Fills the hole with the average of the neighbours, each moved as the visible part moves.

    OpenCV's DIS flow of the visible part is carried on into the hole (`ops.registration`). With no neighbour, `telea`.
    """
    if not neighbours:
        return telea(frame, mask)
    height, width = mask.shape
    small, hole = resize(frame, *registration.SIZE), covered(mask, *registration.SIZE)
    total = np.zeros(frame.shape, np.float32)
    for neighbour in neighbours:
        motion = registration.motion_between(small, hole, resize(neighbour, *registration.SIZE),
                                             np.zeros_like(hole))
        total += registration.moved(_resized_to(frame, neighbour), registration.resized(motion, height, width))
    return _fill(frame, mask, (total / len(neighbours)).round().astype(np.uint8))


def best_frame(frame: np.ndarray, mask: np.ndarray, others: Sequence[np.ndarray],
               thumbnails: np.ndarray) -> np.ndarray:
    """Fills the hole with the frame that is most alike where the hole is not, shifted so that it is most alike.

    Args:
      frame, mask: the frame and its hole.
      others: the frames to choose from, in which nothing is hidden; with none, `telea`.
      thumbnails: of these (`ops.pictures.thumbnail`), uint8 [N, 16, 8, 3].
    """
    if not len(others) or mask.all():
        return telea(frame, mask)
    unlike = unlikeness(thumbnail(frame), mask, thumbnails)
    small, seen = resize(frame, *registration.SIZE).astype(np.float32), ~covered(mask, *registration.SIZE)
    seen = seen if seen.any() else np.ones_like(seen)
    best: tuple[float, int, tuple[int, int]] = (np.inf, 0, (0, 0))
    for index in np.argsort(unlike, kind="stable")[:_LIKEST]:
        wide = np.pad(resize(others[int(index)], *registration.SIZE), (*2 * [(_SHIFTS, _SHIFTS)], (0, 0)), mode="edge")
        for down in range(0, 2 * _SHIFTS + 1, 2):
            for right in range(0, 2 * _SHIFTS + 1, 2):
                part = wide[down:down + registration.SIZE[0], right:right + registration.SIZE[1]]
                difference = float(np.abs(part[seen] - small[seen]).mean())
                best = min(best, (difference, int(index), (down - _SHIFTS, right - _SHIFTS)))
    _, index, (down, right) = best
    height, width = mask.shape
    motion = np.array([right * width / registration.SIZE[1], down * height / registration.SIZE[0]], np.float32)
    found = registration.moved(_resized_to(frame, others[index]), np.broadcast_to(motion, (height, width, 2)))
    return _fill(frame, mask, found)


def _resized_to(frame: np.ndarray, neighbour: np.ndarray) -> np.ndarray:
    """The neighbour at the frame's size: area-averaged where it gets smaller, bilinear where larger."""
    if neighbour.shape == frame.shape:
        return neighbour
    # By area, where `ops.pictures.resize` goes by sides: published scores of the fillings were measured so.
    way = cv2.INTER_AREA if frame.size < neighbour.size else cv2.INTER_LINEAR
    return cv2.resize(neighbour, frame.shape[1::-1], interpolation=way)


def _fill(frame: np.ndarray, mask: np.ndarray, filling: np.ndarray) -> np.ndarray:
    return np.where(mask[..., None], filling, frame)
