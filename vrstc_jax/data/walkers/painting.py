"""Draws antialiased shapes on a transparent layer, and textures. Sizes are in pixels, points (x, y)."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

Colour = Sequence[float] | np.ndarray  # [3], in [0, 1]
Point = Sequence[float] | np.ndarray  # (x, y)
_SHIFT = 4  # fractional bits of a pixel in the fixed-point coordinates that OpenCV draws with


class Layer:
    """A transparent picture to draw shapes with smooth edges on.

    Colours are stored multiplied by their alpha, so that an edge blends with the picture under the layer, not with the
    black that it was drawn on.

    Args:
      shape: (height, width), further items are ignored.
    """

    def __init__(self, shape: tuple[int, ...]):
        self.shape = tuple(shape[:2])
        self._pixels = np.zeros((*self.shape, 3), np.uint8)
        self._alpha = np.zeros(self.shape, np.uint8)
        self._shaded: np.ndarray | None = None

    def alpha(self) -> np.ndarray:
        """How much of each pixel is covered, float32 [H, W]."""
        return self._alpha.astype(np.float32) / 255

    def polygon(self, points: Sequence[Point] | np.ndarray, colour: Colour, *, round_by: float = 0.0) -> None:
        """Draws a filled polygon, its outline grown by `round_by` pixels.

        Args:
          points: [n, 2].
          colour: float [3], or a texture uint8 [H, W, 3] of the layer's size that fills the polygon.
        """
        if isinstance(colour, np.ndarray) and colour.ndim == 3:
            stencil = Layer(self.shape)
            stencil.polygon(points, (1, 1, 1), round_by=round_by)
            rows, columns = _bounds(points, round_by, self.shape)
            mask = stencil.alpha()[rows, columns, None]
            part = self._pixels[rows, columns]
            part[:] = np.round(part * (1 - mask) + colour[rows, columns] * mask)
            np.maximum(self._alpha, stencil._alpha, out=self._alpha)
            return
        thickness = int(round(2 * round_by))  # OpenCV centres the stroke on the outline
        for picture, value in ((self._pixels, to_bytes(colour).tolist()), (self._alpha, 255)):
            cv2.fillPoly(picture, [_fixed(points)], value, cv2.LINE_AA, _SHIFT)
            if thickness >= 1:
                cv2.polylines(picture, [_fixed(points)], True, value, thickness, cv2.LINE_AA, _SHIFT)

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Draws a filled rectangle between these edges."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def ellipse(self, centre: Point, radii: Point, colour: Colour) -> None:
        """Draws a filled ellipse with these radii (x, y)."""
        middle, axes = _fixed(centre).tolist(), np.maximum(_fixed(radii), 1).tolist()
        for picture, value in ((self._pixels, to_bytes(colour).tolist()), (self._alpha, 255)):
            cv2.ellipse(picture, middle, axes, 0.0, 0, 360, value, -1, cv2.LINE_AA, _SHIFT)

    def capsule(self, a: Point, b: Point, radius_a: float, radius_b: float, colour: Colour) -> None:
        """Draws a limb between two points that tapers from one radius to the other."""
        a, b = np.asarray(a, float), np.asarray(b, float)
        along = b - a
        normal = np.array([-along[1], along[0]]) / max(np.hypot(*along), 1e-6)
        self.polygon([a + normal * radius_a, b + normal * radius_b, b - normal * radius_b,
                      a - normal * radius_a], colour)
        self.ellipse(a, (radius_a, radius_a), colour)
        self.ellipse(b, (radius_b, radius_b), colour)

    def cut(self, columns: np.ndarray) -> None:
        """Makes some columns transparent again, bool [W]."""
        self._pixels[:, columns], self._alpha[:, columns] = 0, 0

    def shade(self, factor: np.ndarray) -> None:
        """Multiplies the colours by factors, float32 [H, W]; call it after the last shape is drawn."""
        self._shaded = self._pixels * (factor.astype(np.float32) / 255)[..., None]

    def lay_over(self, picture: np.ndarray) -> None:
        """Blends the layer over a picture, float32 [H, W, 3], in place."""
        picture *= 1 - self.alpha()[..., None]
        picture += self._pixels.astype(np.float32) / 255 if self._shaded is None else self._shaded


# A person's or occluder's texture is used again for each of its frames.
@lru_cache(maxsize=256)
def smooth_noise(seed: int, shape: tuple[int, int], octaves: int) -> np.ndarray:
    """Smooth noise, float32 [H, W], mostly in [−1, 1]: the sum of octaves of doubling coarseness."""
    rng = np.random.default_rng(seed)
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        size = max(2, shape[0] >> octave), max(2, shape[1] >> octave)
        layer = rng.standard_normal(size).astype(np.float32)
        total += cv2.resize(layer, shape[::-1], interpolation=cv2.INTER_CUBIC) * 2.0 ** (octave - octaves + 1)
    return np.clip(total / 2, -1.5, 1.5)


def warp(texture: np.ndarray, scale: tuple[float, float], left: float, top: float, shape: tuple[int, ...], *,
         border: int = cv2.BORDER_REFLECT) -> np.ndarray:
    """A texture enlarged by `scale` (x, y), with its corner at (left, top) of a picture of this shape (height, width).

    Args:
      border: what surrounds the texture, one of OpenCV's border types.
    """
    to_picture = np.array([[scale[0], 0, left], [0, scale[1], top]], np.float32)
    return cv2.warpAffine(texture, to_picture, shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=border)


def to_bytes(colour: Colour) -> np.ndarray:
    """Colours in [0, 1] as uint8, of any shape."""
    return np.clip(np.round(np.asarray(colour) * 255), 0, 255).astype(np.uint8)


def _fixed(points: Sequence[Point] | Point) -> np.ndarray:
    """Points as OpenCV's fixed-point integers."""
    return np.round(np.asarray(points, np.float64) * 2**_SHIFT).astype(np.int32)


def _bounds(points: Sequence[Point] | np.ndarray, margin: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns that a polygon touches."""
    # Textures are blended only there, to save work.
    points = np.asarray(points)
    low = np.maximum(np.floor(points.min(0) - margin - 2), 0).astype(int)
    high = np.minimum(np.ceil(points.max(0) + margin + 3), shape[::-1]).astype(int)
    return slice(low[1], max(low[1], high[1])), slice(low[0], max(low[0], high[0]))
