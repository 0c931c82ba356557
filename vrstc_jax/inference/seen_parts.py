"""Fills holes with what other frames show: chosen for the hole, moved into register, and copied, not averaged.

A source needs not be free of occlusion: it serves for what it shows. Frames are first compared as thumbnails, where
both are seen and near the hole; the likest are brought into register by the motion of what both show
(`ops.registration`) and compared once more. Each pixel is the best frame's that shows it. Averages of several frames
are nearer to the truth by squared errors, and farther from it to whoever has to recognise somebody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import cv2
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.neighbours import around
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.inference.origin import EIGHTHS, FARTHEST, IMAGINED, LARGEST, Origin
from vrstc_jax.inference.plan import Plan
from vrstc_jax.ops import registration
from vrstc_jax.ops.pictures import covered, resize

_THUMBNAIL = 32, 16
_NEAR = 0.08  # of the height: what is so near to the hole tells most about who fits into it
_ROUNDS = 4  # of choosing sources: each for what is left of the hole
_UNKNOWN = 30.0  # grey levels: the difference of frames that show no part in common
_CACHED_FRAMES, _CACHED_SMALL, _CACHED_THUMBNAILS = 32, 256, 4096


@dataclass(frozen=True, eq=False)
class _Source:
    """A frame that may fill a hole; `motion` float32 [128, 64, 2] leads from the hole's frame to it."""

    index: int
    cost: float
    motion: np.ndarray


class SeenParts:
    """Fills the holes of one tracklet's frames.

    Args:
      tracklet: frames of any size.
      plan: what is hidden in them.
      config: how sources are chosen.
      times: int [T], of the frames; None: 0, 1, 2, …
      earlier: gives for an index the indices of the frames that may serve, ascending; None: all others may.
    """

    def __init__(self, tracklet: Tracklet, plan: Plan, config: configs.Repairing, *, times: np.ndarray | None = None,
                 earlier: Callable[[int], np.ndarray] | None = None):
        self._total, self._config = len(tracklet), config
        self._times = np.arange(len(tracklet)) if times is None else times
        self._earlier = earlier
        # Not of methods: a cache that holds its object is held by it, and both stay until garbage is collected.
        self._own = own = lru_cache(_CACHED_FRAMES)(partial(_read, tracklet, plan))
        self._small = small = lru_cache(_CACHED_SMALL)(partial(_smaller, own))
        self._thumbnail = lru_cache(_CACHED_THUMBNAILS)(partial(_smallest, small))

    def fill(self, index: int) -> tuple[np.ndarray, Origin]:
        """A frame, uint8 [H, W, 3], with its hole filled as far as other frames show it, and where that comes from;
        what none shows is as it was, and imagined in the origin."""
        frame, mask = self._own(index)
        picture, sources = frame.copy(), np.full(mask.shape, IMAGINED, np.int32)
        positions = np.zeros((*mask.shape, 2), np.uint16)
        left = mask.copy()
        for _ in range(_ROUNDS):
            before = left.sum()
            if not before:
                break
            for source in self._sources(index, left):
                if not left.any():
                    break
                there, places, pixels = self._shown(source, left)
                picture[there], positions[there], sources[there] = pixels[there], places[there], source.index
                left &= ~there
            if left.sum() == before:
                break
        return picture, Origin(index, mask, sources[mask], positions[mask])

    def _sources(self, index: int, hole: np.ndarray) -> list[_Source]:
        """The frames to fill a hole of a frame from, the best first."""
        c, considered = self._config, self._considered(index)
        if not len(considered):
            return []
        unlike, hidden = self._compared(index, hole, considered)
        far = c.farther * np.log(self._apart(considered, index))
        cost = unlike + far + c.unshown * hidden
        shows = hidden < 1
        likest = considered[shows][np.argsort(cost[shows], kind="stable")[:c.registered]]
        mostly = considered[hidden < 0.5]
        nearest = [side[0] for side in around(mostly, index, index) if len(side)]
        frame, mask = self._small(index)
        small_hole = covered(hole, *registration.SIZE)
        found = []
        for other in dict.fromkeys(int(i) for i in (*likest, *nearest)):
            picture, other_mask = self._small(other)
            motion = registration.motion_between(frame, mask, picture, other_mask)
            there = registration.moved(other_mask.astype(np.float32), motion) > 0
            difference = np.abs(registration.moved(picture, motion).astype(np.float32) - frame).mean(-1)
            found.append(_Source(other, _near_mean(difference, small_hole, ~(mask | there))
                                 + c.farther * float(np.log(self._apart(other, index)))
                                 + c.unshown * float(there[small_hole].mean() if small_hole.any() else 0), motion))
        return sorted(found, key=lambda source: source.cost)

    def _considered(self, index: int) -> np.ndarray:
        """Frames that are compared with one: the nearest, and others from all over the tracklet, int [n]."""
        if self._earlier:
            return self._earlier(index)
        count, total = self._config.considered, self._total
        if total <= count + 1:
            return np.delete(np.arange(total), index)
        first = max(0, min(index - count // 4, total - count // 2 - 1))
        near = np.arange(first, min(total, first + count // 2 + 1))
        spread = np.linspace(0, total - 1, min(total, count - count // 2)).round().astype(int)
        found = np.union1d(near, spread)
        return found[(found != index) & (np.abs(found - index) <= FARTHEST)]

    def _apart(self, indices: np.ndarray | int, index: int) -> np.ndarray:
        """The frames of time between frames and another one."""
        return np.abs(self._times[indices] - self._times[index])

    def _compared(self, index: int, hole: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How unlike other frames are to one near its hole, in grey levels, and how much of the hole they hide, as a
        share: float32 [n] each."""
        frame, seen = self._thumbnail(index)
        pictures, others_seen = (np.stack(part) for part in zip(*(self._thumbnail(int(i)) for i in others)))
        small_hole = covered(hole, *_THUMBNAIL)
        hidden = 1 - others_seen[:, small_hole].mean(1)
        weights = (_nearness(small_hole) * seen).astype(np.float32)
        top, bottom, left, right_end = _bounds(weights > 0)
        frame, weights = frame[top:bottom, left:right_end], weights[top:bottom, left:right_end]
        best = np.full(len(others), np.inf, np.float32)
        shown = np.zeros(len(others), np.float32)
        # The best of the nine ways to lay them upon each other, a cell to the side at most.
        wider = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)))
        wider_seen = np.pad(others_seen, ((0, 0), (1, 1), (1, 1)))
        for down in range(3):
            for right in range(3):
                part = np.s_[:, top + down:bottom + down, left + right:right_end + right]
                both = wider_seen[part] * weights
                total = both.sum((1, 2))
                difference = np.abs(wider[part] - frame).sum(-1) / 3
                best = np.minimum(best, (difference * both).sum((1, 2)) / np.maximum(total, 1e-6))
                shown = np.maximum(shown, total)
        known = shown > 0.05 * max(weights.sum(), 1e-6)
        return np.where(known, best, _UNKNOWN), hidden

    def _shown(self, source: _Source, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of a hole's pixels those that a source shows, bool [H, W]; where, in eighths of its pixels, uint16 [H, W, 2];
        and the pixels there, uint8 [H, W, 3]."""
        height, width = hole.shape
        picture, hidden = self._own(source.index)
        rows, columns = hidden.shape
        motion = registration.resized(source.motion, height, width)
        across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        # From the hole's pixels to the source's, which may be of another size.
        across = (across + 0.5 + motion[..., 0]) * columns / width - 0.5
        down = (down + 0.5 + motion[..., 1]) * rows / height - 0.5
        places = np.stack([across, down], -1)
        limits = np.array([columns - 1, rows - 1], np.float32)
        # Up to so far beyond the picture's edge its last pixels are taken to go on.
        beyond = np.array([columns, rows]) / 16
        inside = ((places >= -beyond) & (places <= limits + beyond)).all(-1)
        places = np.round(np.clip(places, 0, limits) * EIGHTHS)
        at = (places / np.float32(EIGHTHS)).astype(np.float32)
        pixels = cv2.remap(picture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        covered = cv2.remap(hidden.astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR,
                            borderMode=cv2.BORDER_REPLICATE)
        return hole & inside & (covered == 0), places.astype(np.uint16), pixels


_Pictures = Callable[[int], tuple[np.ndarray, np.ndarray]]


def _read(tracklet: Tracklet, plan: Plan, index: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame and its mask, in its own size; of one that is too large to tell its pixels, nothing is shown."""
    frame = tracklet.frames[index]
    mask = plan.mask(index, frame)
    return frame, mask if max(mask.shape) <= LARGEST else np.ones_like(mask)


def _smaller(own: _Pictures, index: int) -> tuple[np.ndarray, np.ndarray]:
    frame, mask = own(index)
    return resize(frame, *registration.SIZE), covered(mask, *registration.SIZE)


def _smallest(small: _Pictures, index: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame's thumbnail, float32 [32, 16, 3], and what it shows, float32 [32, 16]."""
    frame, mask = small(index)
    return resize(frame, *_THUMBNAIL).astype(np.float32), 1 - covered(mask, *_THUMBNAIL).astype(np.float32)


def _bounds(there: np.ndarray) -> tuple[int, int, int, int]:
    """First row, row after the last, and the same of columns, of where a map is true; of all where it never is."""
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    if not len(rows):
        return 0, there.shape[0], 0, there.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _nearness(hole: np.ndarray) -> np.ndarray:
    """How near each place is to a hole, float32; 0 in it."""
    return cv2.GaussianBlur(hole.astype(np.float32), (0, 0), _NEAR * len(hole)) * ~hole


def _near_mean(values: np.ndarray, hole: np.ndarray, seen: np.ndarray) -> float:
    """The mean of what is seen, that near the hole before all; of a hole far from all that is seen, `_UNKNOWN`."""
    weights = _nearness(hole) * seen
    total = float(weights.sum())
    return float((values * weights).sum()) / total if total > 1e-3 else _UNKNOWN
