"""What hides people while STCnet trains: random masks, bool [H, W], true = hidden.

To add a kind, write its function, and name it in `mask_kinds.MaskKind` and `_KINDS`.
"""

from collections.abc import Callable, Sequence
from typing import get_args

import cv2
import numpy as np

from vrstc_jax.ops.mask_kinds import MaskKind
from vrstc_jax.ops.regions import BANDS, bands_mask

# How often 'mixed' draws each shape. Located masks are bands, so bands are drawn most often.
_MIXED = {"band": 0.45, "two bands": 0.15, "pole": 0.1, "box": 0.15, "silhouette": 0.15}


def random_mask(rng: np.random.Generator, height: int, width: int, *, kind: MaskKind = "mixed") -> np.ndarray:
    """Hides part of a frame of `height` by `width` pixels.

    Args:
      kind: 'bands' hides one random third, as the paper does; 'mixed' hides one or two bands, or the shape
        of a pole, of a box that comes in from a side, or of a passer-by.

    Returns:
      bool [height, width]; never empty, and never all of the frame.

    Raises:
      ValueError: there is no such kind.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind must be {' or '.join(map(repr, get_args(MaskKind)))}. Got {kind!r}.")
    return _KINDS[kind](rng, height, width)


def _mixed(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    drawn = rng.choice(list(_MIXED), p=list(_MIXED.values()))
    if drawn in ("band", "two bands"):
        return _bands(rng, height, width, 1 if drawn == "band" else 2)
    mask = {"pole": _pole, "box": _box, "silhouette": _silhouette}[drawn](rng, height, width)
    # A shape may miss the frame or fill it; then there would be nothing to complete, or nothing to go by.
    return mask if 0.02 < mask.mean() < 0.9 else _bands(rng, height, width)


def _bands(rng: np.random.Generator, height: int, width: int, count: int = 1) -> np.ndarray:
    hidden = np.zeros(BANDS, bool)
    hidden[rng.choice(BANDS, count, replace=False)] = True
    return bands_mask(hidden, height, width)


def _pole(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A slanting vertical stripe that starts at the top or below it."""
    x, lean = rng.uniform(0, width), rng.normal(0, 0.08) * width
    half = rng.uniform(0.05, 0.2) * width
    top = 0 if rng.random() < 0.7 else rng.uniform(0, 0.5) * height
    return _polygon(height, width, [(x - half, top), (x + half, top), (x + lean + half, height),
                                    (x + lean - half, height)])


def _box(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A rectangle with an uneven edge that comes in from a side: a car, a bush, a sign."""
    depth, side = rng.uniform(0.25, 0.75), rng.choice(4, p=(0.4, 0.1, 0.25, 0.25))
    along = np.linspace(-0.1, 1.1, 7)
    edge = depth + rng.uniform(0, 0.08) * rng.standard_normal(7)
    if side in (0, 1):  # from below, from above
        y = 1 - edge if side == 0 else edge
        points = [*zip(along, y), (1.1, 1.1 - 1.2 * side), (-0.1, 1.1 - 1.2 * side)]
    else:  # from the left, from the right; its top may be below the picture's
        x = edge if side == 2 else 1 - edge
        top = rng.uniform(-0.3, 0.6)
        along = top + (along + 0.1) / 1.2 * (1.1 - top)
        points = [*zip(x, along), (-0.1 if side == 2 else 1.1, 1.1), (-0.1 if side == 2 else 1.1, top)]
    return _polygon(height, width, np.asarray(points) * (width, height))


def _silhouette(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A passer-by: head, trunk and two legs."""
    size = rng.uniform(0.8, 1.3) * height
    x, top = rng.uniform(-0.2, 1.2) * width, rng.uniform(-0.2, 0.35) * height
    mask = np.zeros((height, width), np.uint8)
    unit = size / 8

    def ellipse(dx: float, dy: float, rx: float, ry: float) -> None:
        centre = (int(round(x + dx * unit)), int(round(top + dy * unit)))
        cv2.ellipse(mask, centre, (max(1, int(rx * unit)), max(1, int(ry * unit))), 0, 0, 360, 1, -1)

    stride = rng.uniform(0, 1)
    ellipse(0, 0.6, 0.5, 0.65)
    ellipse(0, 2.7, rng.uniform(0.8, 1.1), 1.8)
    ellipse(-stride * 0.7, 5.8, 0.5, 2.2)
    ellipse(stride * 0.7, 5.8, 0.5, 2.2)
    return mask.astype(bool)


def _polygon(height: int, width: int, points: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
    return mask.astype(bool)


_KINDS: dict[MaskKind, Callable[[np.random.Generator, int, int], np.ndarray]] = {"bands": _bands, "mixed": _mixed}
