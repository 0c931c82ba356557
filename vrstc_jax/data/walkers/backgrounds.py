"""Backgrounds of any kind: strata of ground and walls, textures, lines, things and shadows.

Unlike `places.panorama`'s few, each is drawn for one tracklet and no camera keeps its own.
"""

import colorsys

import cv2
import numpy as np

from vrstc_jax.data.walkers.painting import Layer, smooth_noise, to_bytes

BODY = 96  # pixels for one body height
_SPAN = 12  # body heights


def any_background(rng: np.random.Generator) -> np.ndarray:
    """What is behind a walker, float32 [2·96, 12·96, 3], laid out as `places.panorama`."""
    height, width = 2 * BODY, _SPAN * BODY
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = any_surface(rng, height, width)
    slope = rng.normal(0, 0.04)
    layers = int(rng.integers(1, 5))
    for horizon in np.sort(rng.uniform(0, height, layers)):  # each stratum lies before the last
        below = _halfplane(height, width, horizon, slope)
        picture = np.where(below[..., None], any_surface(rng, height, width), picture)
        if rng.random() < 0.6:  # a kerb, a seam, the foot of a wall
            _line(picture, rng, (0, horizon), slope)
    for _ in range(int(rng.integers(0, 5))):
        _line(picture, rng, rng.uniform(0, (width, height)), np.tan(rng.uniform(-1.2, 1.2)))
    for _ in range(int(rng.integers(0, 22))):
        _something(picture, rng)
    for _ in range(int(rng.integers(0, 3))):
        _shadow(picture, rng)
    return np.clip(picture, 0.01, 0.99)


def any_surface(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Asphalt, grass, brick, plaster or none of these: a colour with texture, float32 [H, W, 3]."""
    colour = np.array(colorsys.hsv_to_rgb(rng.random(), rng.beta(1.2, 6), rng.uniform(0.12, 0.92)), np.float32)
    seed = int(rng.integers(2**31))
    texture = rng.uniform(0, 0.2) * smooth_noise(seed, (height, width), int(rng.integers(2, 7)))
    grain = rng.standard_normal((height, width)).astype(np.float32)
    texture += rng.choice([0, 0.03, 0.08]) * grain
    if rng.random() < 0.25:  # blades, needles, scratches
        texture += 0.15 * cv2.blur(grain, (1, 7) if rng.random() < 0.7 else (7, 1)) * 2.5
    if rng.random() < 0.3:
        texture += rng.uniform(-0.3, 0.3) * _tiles(rng, height, width)
    surface = colour * (1 + texture)[..., None]
    return surface * np.linspace(*rng.uniform(0.85, 1.15, 2), height, dtype=np.float32)[:, None, None]


def _tiles(rng, height, width):
    """Joints between bricks, flags or panes, 1 where they are."""
    row, column, joint = rng.uniform(6, 40), rng.uniform(8, 60), rng.uniform(0.8, 3)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x = x + rng.uniform(-1, 1) * y + (y // row % 2) * column * rng.choice([0, 0.5])
    return ((y % row < joint) | (x % column < joint)).astype(np.float32)


def _halfplane(height, width, y, slope):
    return np.arange(height, dtype=np.float32)[:, None] > y + slope * (np.arange(width, dtype=np.float32) - width / 2)


def _line(picture, rng, point, slope):
    height, width = picture.shape[:2]
    thick, dash = rng.uniform(0.8, 5), rng.random() < 0.2
    grey = rng.choice([rng.uniform(0.02, 0.25), rng.uniform(0.65, 0.97)])
    colour = np.clip(grey + rng.normal(0, 0.06, 3), 0, 1)
    layer = Layer(picture.shape)
    ends = [(x, point[1] + slope * (x - (point[0] or width / 2))) for x in (0, width)]
    layer.polygon([*ends, *((x, y + thick * np.hypot(1, slope)) for x, y in reversed(ends))], colour)
    if dash:
        layer.cut(np.arange(width) // 40 % 2 == 0)
    layer.lay_over(picture)


def _something(picture, rng):
    """A window, door, poster, post, parked thing, hedge or stone."""
    height, width = picture.shape[:2]
    w, h = np.exp(rng.uniform(np.log(3), np.log((140, 120))))
    x, y = rng.uniform(-w, width), rng.uniform(-h, height)
    left, top, right, bottom = (int(v) for v in (max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)))
    if right - left < 2 or bottom - top < 2:
        return
    part = picture[top:bottom, left:right]
    surface = np.clip(any_surface(rng, *part.shape[:2]), 0, 1)
    layer = Layer(part.shape)
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)]) + rng.normal(0, 0.06, (4, 2)) * (w, h)
    if rng.random() < 0.25:
        layer.ellipse((w / 2, h / 2), (w / 2, h / 2), to_bytes(surface.mean((0, 1))) / 255)
        cover = layer.alpha()[..., None]
        part[:] = part * (1 - cover) + surface * cover
    else:
        layer.polygon(corners, to_bytes(surface))
        layer.lay_over(part)


def _shadow(picture, rng):
    height, width = picture.shape[:2]
    layer = Layer(picture.shape)
    middle = rng.uniform(0, (width, height))
    corners = middle + rng.normal(0, 1, (int(rng.integers(3, 6)), 2)) * rng.uniform(20, 200, 2)
    layer.polygon(corners[cv2.convexHull(corners.astype(np.float32), returnPoints=False)[:, 0]], (1, 1, 1))
    soft = cv2.GaussianBlur(layer.alpha(), (0, 0), rng.uniform(0.7, 8))
    picture *= 1 - rng.uniform(0.2, 0.65) * soft[..., None]
