"""Synthetic occlusion of training clips, from which the occlusion head learns to locate hidden parts."""

import cv2
import numpy as np

from vrstc_jax.ops.masks import random_mask

_UNTOUCHED = 0.15  # share of clips in which nothing is hidden, so that the head does not expect an occluder


def hide_on_purpose(clip: np.ndarray, passer: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws an occluder into some consecutive frames of a clip, at most half of them.

    Its shape is a random mask (`ops.masks.random_mask`); its texture is another person's picture, one colour, or a
    gradient of two, with or without stripes. It moves a little from frame to frame and has a soft edge and noise. 15 %
    of clips, and clips of one frame, are returned unchanged.

    Args:
      clip: uint8 [T, H, W, 3].
      passer: uint8 [H, W, 3], a picture of another person.
      rng: source of all random numbers.

    Returns:
      (the clip, uint8 [T, H, W, 3]; its hidden pixels, bool [T, H, W]).
    """
    count, height, width = clip.shape[:3]
    hidden = np.zeros((count, height, width), bool)
    if count < 2 or rng.random() < _UNTOUCHED:
        return clip, hidden
    # At most half: the mean over the clip that frames are compared with must show the person.
    run = int(rng.integers(1, count // 2 + 1))
    first = int(rng.integers(count - run + 1))
    mask = random_mask(rng, height, width).astype(np.float32)
    texture = _zoomed(passer, rng) if rng.random() < 0.5 else _colours(height, width, rng)
    # Brighter or darker, so that exposure alone does not give a pasted picture away.
    texture = texture * rng.uniform(0.7, 1.2)
    blur, speed = rng.uniform(0.006, 0.016) * height, rng.uniform(-0.25, 0.25) * width
    clip = clip.copy()
    for t in range(first, first + run):
        move = np.array([[1, 0, speed * (t - first)], [0, 1, 0]], np.float32)
        moved = cv2.warpAffine(mask, move, (width, height), flags=cv2.INTER_NEAREST)
        hidden[t] = moved > 0.5
        soft = cv2.GaussianBlur(moved, (0, 0), blur)[..., None]
        seen = cv2.warpAffine(texture, move, (width, height), borderMode=cv2.BORDER_REFLECT)
        seen = seen + rng.normal(0, 3, seen.shape)  # sensor noise, which a flat colour lacks
        clip[t] = np.clip(np.round(clip[t] * (1 - soft) + seen * soft), 0, 255).astype(np.uint8)
    return clip, hidden


def _zoomed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture enlarged and moved off centre, as of somebody nearer to the camera: float32 [H, W, 3]."""
    height, width = picture.shape[:2]
    zoom = rng.uniform(1, 2)
    move = np.array([[zoom, 0, (rng.uniform(-0.5, 0.5) - (zoom - 1) / 2) * width],
                     [0, zoom, (rng.uniform(-0.5, 0.5) - (zoom - 1) / 2) * height]], np.float32)
    return cv2.warpAffine(picture, move, (width, height), borderMode=cv2.BORDER_REFLECT).astype(np.float32)


def _colours(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """One colour, or a vertical gradient between two, half the time with stripes of a third; float32 [H, W, 3]."""
    colours = rng.integers(10, 245, (3, 3)).astype(np.float32)
    if rng.random() < 0.5:
        return np.broadcast_to(colours[0], (height, width, 3)).copy()
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    shade = np.broadcast_to(colours[0] * (1 - down) + colours[1] * down, (height, width, 3)).copy()
    if rng.random() < 0.5:
        stripe = max(1, int(rng.uniform(0.1, 0.4) * width))
        shade[:, np.arange(width) // stripe % 2 == 0] = colours[2]
    return shade
