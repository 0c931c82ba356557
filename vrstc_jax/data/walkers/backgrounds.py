"""Draws what is behind a walker: the plain backgrounds of `panorama`, and the varied ones of `any_background`.

Colours are float [3] in [0, 1]. Lengths are in pixels of the background; a body is `BODY` = 96 pixels high in varied
backgrounds, 48 in plain ones.
"""

import colorsys

import cv2
import numpy as np

from vrstc_jax.data.walkers.painting import Layer, Point, smooth_noise, to_bytes
from vrstc_jax.data.walkers.people import WARDROBE

BODY = 96  # pixels of a varied background for one body height
_PLAIN_BODY = 48  # of a plain one
_SPAN = 12  # body heights
_GROUND = np.array([(0.52, 0.52, 0.53), (0.62, 0.60, 0.56), (0.36, 0.44, 0.26), (0.46, 0.40, 0.34), (0.42, 0.43, 0.46)])
_WALLS = np.array([(0.55, 0.42, 0.36), (0.68, 0.66, 0.62), (0.40, 0.43, 0.47), (0.30, 0.38, 0.24), (0.60, 0.55, 0.45)])


def panorama(rng: np.random.Generator, fixed: np.random.Generator) -> np.ndarray:
    """Draws the plain background of a tracklet: one wall and one ground with things on them.

    Args:
      rng: random numbers of the tracklet.
      fixed: random numbers of the camera, whose ground, wall and horizon are the same for all tracklets.

    Returns:
      float32 [2·48, 12·48, 3] in [0, 1], two body heights high. The middle column is x = 0; the bottom row is the
      ground a little in front of the walker's feet.
    """
    height, width = 2 * _PLAIN_BODY, _SPAN * _PLAIN_BODY
    ground, wall = _GROUND[fixed.integers(len(_GROUND))], _WALLS[fixed.integers(len(_WALLS))]
    horizon = int(height * fixed.uniform(0.25, 0.75))
    picture = np.empty((height, width, 3), np.float32)
    picture[:horizon], picture[horizon:] = wall, ground
    rows = np.arange(height, dtype=np.float32)[:, None]
    texture = smooth_noise(int(rng.integers(2**31)), (height, width), 5)
    fine = smooth_noise(int(rng.integers(2**31)), (height, width), 2)
    picture *= (1 + 0.16 * texture + 0.07 * fine + 0.12 * (rows / height - 0.5))[..., None]
    layer = Layer(picture.shape)
    for _ in range(rng.integers(5, 14)):  # windows, doors, posters, parked things, hedges
        x, w = rng.uniform(0, width), rng.uniform(6, 60)
        base = horizon + rng.uniform(-0.5, 0.35) * height * 0.4
        top = base - rng.uniform(8, 50)
        shade = np.clip(WARDROBE[rng.integers(len(WARDROBE))] * rng.uniform(0.6, 1.2), 0, 1)
        if rng.random() < 0.3:
            layer.ellipse((x, (top + base) / 2), (w / 2, (base - top) / 2), shade)
        else:
            layer.rectangle(x, top, x + w, base, shade)
    for _ in range(rng.integers(0, 4)):  # lines on the ground
        y, lean = rng.uniform(horizon, height), rng.uniform(-20, 20)
        layer.polygon([(0, y), (width, y + lean), (width, y + lean + 2.5), (0, y + 2.5)], (0.8, 0.8, 0.76))
    layer.lay_over(picture)
    return np.clip(picture, 0.02, 0.98)


def any_background(rng: np.random.Generator) -> np.ndarray:
    """Draws a background of layers of ground and walls, with textures, lines, things and shadows.

    Unlike `panorama`, all of it varies by tracklet, and none of it by camera.

    Returns:
      float32 [2·96, 12·96, 3] in [0, 1], laid out as `panorama`.
    """
    height, width = 2 * BODY, _SPAN * BODY
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = any_surface(rng, height, width)
    columns = np.arange(width, dtype=np.float32)
    slope = rng.normal(0, 0.04)  # cameras are seldom level
    layers = int(rng.integers(1, 5))
    for horizon in np.sort(rng.uniform(0, height, layers)):  # from far to near
        below = np.arange(height, dtype=np.float32)[:, None] > horizon + slope * (columns - width / 2)
        picture = np.where(below[..., None], any_surface(rng, height, width), picture)
        if rng.random() < 0.6:  # a kerb, a seam, the foot of a wall
            _line(picture, rng, (0, horizon), slope)
    for _ in range(int(rng.integers(0, 5))):
        _line(picture, rng, rng.uniform(0, (width, height)), np.tan(rng.uniform(-1.2, 1.2)))
    for _ in range(int(rng.integers(0, 22))):
        _draw_thing(picture, rng)
    for _ in range(int(rng.integers(0, 3))):
        _shadow(picture, rng)
    return np.clip(picture, 0.01, 0.99)


def any_surface(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draws a colour with texture, such as asphalt, grass, brick or plaster: float32 [H, W, 3]."""
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
    top, bottom = rng.uniform(0.85, 1.15, 2)
    return surface * np.linspace(top, bottom, height, dtype=np.float32)[:, None, None]


def _tiles(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Joints between bricks, flagstones or panes: float32 [H, W], 1 on a joint."""
    row, column, joint = rng.uniform(6, 40), rng.uniform(8, 60), rng.uniform(0.8, 3)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x = x + rng.uniform(-1, 1) * y + (y // row % 2) * column * rng.choice([0, 0.5])
    return ((y % row < joint) | (x % column < joint)).astype(np.float32)


def _line(picture: np.ndarray, rng: np.random.Generator, point: Point, slope: float) -> None:
    """Draws a line across the picture, through a point (x = 0 means the middle column)."""
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


def _draw_thing(picture: np.ndarray, rng: np.random.Generator) -> None:
    """Draws a rectangle or ellipse with a texture: a window, door, poster, post, parked vehicle, hedge or stone."""
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
        # Ellipses take no texture: this one is only the shape, and the texture is blended within it.
        layer.ellipse((w / 2, h / 2), (w / 2, h / 2), to_bytes(surface.mean((0, 1))) / 255)
        cover = layer.alpha()[..., None]
        part[:] = part * (1 - cover) + surface * cover
    else:
        layer.polygon(corners, to_bytes(surface))
        layer.lay_over(part)


def _shadow(picture: np.ndarray, rng: np.random.Generator) -> None:
    """Darkens a soft polygon."""
    height, width = picture.shape[:2]
    layer = Layer(picture.shape)
    middle = rng.uniform(0, (width, height))
    corners = middle + rng.normal(0, 1, (int(rng.integers(3, 6)), 2)) * rng.uniform(20, 200, 2)
    hull = cv2.convexHull(corners.astype(np.float32), returnPoints=False)[:, 0].astype(int)
    layer.polygon(corners[hull], (1, 1, 1))
    soft = cv2.GaussianBlur(layer.alpha(), (0, 0), rng.uniform(0.7, 8))
    picture *= 1 - rng.uniform(0.2, 0.65) * soft[..., None]
