"""Clips in which something hides a person on purpose, for networks that learn to notice it."""

import cv2
import numpy as np

from vrstc_jax.ops.masks import random_mask

_UNTOUCHED = 0.15  # share of clips in which nothing is hidden


def hide_on_purpose(clip: np.ndarray, passer: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Lets something come past in some neighbouring frames, at most half of them.

    Its shape is a random mask's; its looks are somebody else's picture, one colour, or two with a shade or
    stripes. It moves a little from frame to frame, its edge is soft, and it has some noise.

    Args:
      clip: uint8 [T, H, W, 3].
      passer: uint8 [H, W, 3], a picture of somebody else.

    Returns:
      (the clip uint8 [T, H, W, 3], what is hidden so, bool [T, H, W]).
    """
    count, height, width = clip.shape[:3]
    hidden = np.zeros((count, height, width), bool)
    if count < 2 or rng.random() < _UNTOUCHED:
        return clip, hidden
    run = int(rng.integers(1, count // 2 + 1))
    first = int(rng.integers(count - run + 1))
    mask = random_mask(rng, height, width).astype(np.float32)
    thing = _somebody(passer, rng) if rng.random() < 0.5 else _something(height, width, rng)
    thing = thing * rng.uniform(0.7, 1.2)
    blur, speed = rng.uniform(0.006, 0.016) * height, rng.uniform(-0.25, 0.25) * width
    clip = clip.copy()
    for t in range(first, first + run):
        move = np.float32([[1, 0, speed * (t - first)], [0, 1, 0]])
        moved = cv2.warpAffine(mask, move, (width, height), flags=cv2.INTER_NEAREST)
        hidden[t] = moved > 0.5
        soft = cv2.GaussianBlur(moved, (0, 0), blur)[..., None]
        seen = cv2.warpAffine(thing, move, (width, height), borderMode=cv2.BORDER_REFLECT)
        seen = seen + rng.normal(0, 3, seen.shape)
        clip[t] = np.clip(np.round(clip[t] * (1 - soft) + seen * soft), 0, 255).astype(np.uint8)
    return clip, hidden


def _somebody(picture, rng):
    """The picture nearer to the camera, and off its middle."""
    height, width = picture.shape[:2]
    zoom = rng.uniform(1, 2)
    move = np.float32([[zoom, 0, (rng.uniform(-0.5, 0.5) - (zoom - 1) / 2) * width],
                       [0, zoom, (rng.uniform(-0.5, 0.5) - (zoom - 1) / 2) * height]])
    return cv2.warpAffine(picture, move, (width, height), borderMode=cv2.BORDER_REFLECT).astype(np.float32)


def _something(height, width, rng):
    """One colour; or a shade from one to another, with stripes of a third as often as not."""
    colours = rng.integers(10, 245, (3, 3)).astype(np.float32)
    if rng.random() < 0.5:
        return np.broadcast_to(colours[0], (height, width, 3)).copy()
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    shade = np.broadcast_to(colours[0] * (1 - down) + colours[1] * down, (height, width, 3)).copy()
    if rng.random() < 0.5:
        stripe = max(1, int(rng.uniform(0.1, 0.4) * width))
        shade[:, np.arange(width) // stripe % 2 == 0] = colours[2]
    return shade
