"""Draws things between the camera and the walker, which hide people who pass behind them.

Colours are float [3] in [0, 1]; x grows to the right in units of the walker's body height, 0 where the walker starts.
"""

from dataclasses import dataclass, replace

import numpy as np

from vrstc_jax.data.walkers.backgrounds import any_surface
from vrstc_jax.data.walkers.painting import Colour, Layer, smooth_noise, to_bytes, warp
from vrstc_jax.data.walkers.people import WARDROBE, Person, any_cloth, any_person, make_person, paint_person

# Each kind's share of the occluders that hide the walker for a few frames, and of those that do for most of the way.
_PASSING = {"pole": 0.17, "sign": 0.2, "bush": 0.15, "car": 0.13, "box": 0.13, "walker": 0.14, "banner": 0.08}
_LASTING = {"car": 0.35, "bush": 0.25, "walker": 0.25, "banner": 0.15}


@dataclass(frozen=True, eq=False)
class Occluder:
    """A thing between the camera and the walker's path.

    Attributes:
      kind: 'pole', 'sign', 'bush', 'car', 'box', 'banner', 'walker', or 'anything': an irregular shape.
      x: of its middle at time 0, in body heights.
      speed: body heights per frame.
      width, top: in body heights; `top` is the height of its upper edge above the ground.
      colours: float [2, 3].
      seed: of its texture, and of the shape of 'anything'.
      near: parallax, how much faster than the background at the walker it moves through the picture; 1 or more.
      person: the passer-by of kind 'walker'.
    """

    kind: str
    x: float
    speed: float
    width: float
    top: float
    colours: np.ndarray
    seed: int
    near: float = 1.0
    person: Person | None = None

    def paint(self, layer: Layer, picture: np.ndarray, *, x: float, ground: float, height: float, time: float,
              light: float) -> np.ndarray:
        """Paints it onto a picture, in place.

        Args:
          layer: an empty layer of the picture's size.
          picture: float32 [H, W, 3].
          x, ground: where its middle meets the ground, in pixels.
          height: of a body, in pixels.
          time: frame number.
          light: as `paint_person`'s.

        Returns:
          float32 [H, W], how much of each pixel it covers.
        """
        if self.person is not None:
            # The seed shifts the gait, so that passers-by are not in step.
            phase = 2 * np.pi * (time / self.person.stride + (self.seed % 100) / 100)
            return paint_person(picture, self.person, phase=phase, heading=0.0 if self.speed > 0 else np.pi,
                                foot=(x, ground), height=height * self.top, light=light)
        _DRAW[self.kind](self, layer, x, ground, height)
        # Anchored at the thing, so that its texture moves with it.
        folds = warp(smooth_noise(self.seed, (96, 96), 4), (height / 60, height / 60), x - height * 0.8,
                     ground - height * 1.5, layer.shape)
        layer.shade((1 + (0.5 if self.kind == "bush" else 0.15) * folds).astype(np.float32))
        layer.lay_over(picture)
        return layer.alpha()


def make_occluder(rng: np.random.Generator, *, meets: float, persistent: bool, speed: float, time: float) -> Occluder:
    """Draws an occluder that hides the walker at x = `meets`, in body heights, at frame `time`.

    Args:
      persistent: whether it hides the walker for most of the way: a wide thing, or a person who walks along.
      speed: of the walker, in body heights per frame.
    """
    shares = _LASTING if persistent else _PASSING
    kind = str(rng.choice(list(shares), p=list(shares.values())))
    width = {"pole": rng.uniform(0.05, 0.13), "sign": rng.uniform(0.2, 0.45), "bush": rng.uniform(0.3, 0.7),
             "car": rng.uniform(1.0, 2.0), "box": rng.uniform(0.2, 0.5), "walker": 0.3,
             "banner": rng.uniform(0.2, 0.6)}[kind]
    top = {"pole": 2.5, "sign": rng.uniform(0.45, 1.2), "bush": rng.uniform(0.3, 0.85), "car": rng.uniform(0.45, 0.8),
           "box": rng.uniform(0.3, 0.75), "walker": rng.uniform(0.9, 1.15), "banner": rng.uniform(0.5, 0.8)}[kind]
    its_speed = 0.0
    if kind == "walker":
        its_speed = speed + rng.choice([-1, 1]) * rng.uniform(0.03, 0.06) if persistent \
            else -np.sign(speed or 1) * rng.uniform(0.05, 0.1)
        meets += rng.uniform(-0.12, 0.12)
    colours = np.clip(WARDROBE[rng.choice(len(WARDROBE), 2, replace=False)] * rng.uniform(0.7, 1.25), 0.02, 0.95)
    if kind == "bush":
        colours[0] = np.array((0.20, 0.32, 0.14)) * rng.uniform(0.7, 1.4)
    # Without parallax a persistent thing stays before the walker, and a passer-by keeps to the drawn speed.
    near = 1.0 if persistent or kind == "walker" else rng.uniform(1.6, 3.0)
    return Occluder(kind, meets - its_speed * time, its_speed, width, top, colours, int(rng.integers(2**31)), near,
                    make_person(rng) if kind == "walker" else None)


def vary_occluder(thing: Occluder, rng: np.random.Generator) -> Occluder:
    """The occluder in any colours and of more sizes, or an irregular shape at the same position."""
    colours = np.stack([any_cloth(rng), any_cloth(rng)])
    if thing.kind == "walker":
        return replace(thing, person=any_person(rng), top=rng.uniform(0.85, 1.35))
    if rng.random() < 0.45:
        return replace(thing, kind="anything", colours=colours, top=rng.uniform(0.3, 1.5),
                       width=max(thing.width, np.exp(rng.uniform(np.log(0.12), np.log(0.9)))))
    grown = rng.uniform(0.7, 1.5) if thing.kind != "car" else rng.uniform(0.6, 1.0)
    return replace(thing, colours=colours, width=thing.width * grown, top=thing.top * rng.uniform(0.9, 1.25))


def _pole(thing: Occluder, layer: Layer, x: float, ground: float, height: float) -> None:
    half = thing.width * height / 2
    layer.rectangle(x - half, ground - 2.5 * height, x + half, ground, thing.colours[0] * 0.6 + 0.2)


def _sign(thing: Occluder, layer: Layer, x: float, ground: float, height: float) -> None:
    half, top = thing.width * height / 2, ground - thing.top * height
    _pole(Occluder("pole", 0, 0, 0.035, 1, thing.colours[1:] * 0.3, 0), layer, x, ground, height)
    bottom = top + thing.width * height * 1.2
    layer.rectangle(x - half, top, x + half, bottom, (0.9, 0.9, 0.88))
    inner, edge = half * 0.86, half * 0.14
    layer.rectangle(x - inner, top + edge, x + inner, bottom - edge, thing.colours[0])
    for k, end in enumerate((0.6, 0.6, 0.3)):  # lines of text
        y = top + (bottom - top) * (0.25 + 0.22 * k)
        layer.rectangle(x - inner * 0.7, y, x + inner * end, y + half * 0.12, (0.9, 0.9, 0.88))


def _bush(thing: Occluder, layer: Layer, x: float, ground: float, height: float) -> None:
    rng = np.random.default_rng(thing.seed)
    for _ in range(14):
        across, up = rng.uniform(-0.5, 0.5) * thing.width, rng.uniform(0, 0.8) * thing.top
        radius = rng.uniform(0.12, 0.3) * thing.top
        layer.ellipse((x + across * height, ground - up * height), (radius * height * 1.2, radius * height),
                      thing.colours[0] * rng.uniform(0.75, 1.2))
    _rectangle(layer, x, ground, thing.width * height * 0.8, thing.top * height * 0.5, thing.colours[0] * 0.8)


def _car(thing: Occluder, layer: Layer, x: float, ground: float, height: float) -> None:
    w, h = thing.width * height, thing.top * height
    _rectangle(layer, x, ground - 0.12 * h, w, 0.55 * h, thing.colours[0])
    layer.polygon([(x - 0.36 * w, ground - 0.64 * h), (x - 0.22 * w, ground - h), (x + 0.2 * w, ground - h),
                   (x + 0.36 * w, ground - 0.64 * h)], thing.colours[0] * 0.9)
    layer.polygon([(x - 0.3 * w, ground - 0.66 * h), (x - 0.2 * w, ground - 0.94 * h),
                   (x + 0.18 * w, ground - 0.94 * h), (x + 0.29 * w, ground - 0.66 * h)], (0.25, 0.3, 0.34))
    for side in (-0.3, 0.3):
        layer.ellipse((x + side * w, ground - 0.14 * h), (0.19 * h, 0.19 * h), (0.07, 0.07, 0.08))


def _box(thing: Occluder, layer: Layer, x: float, ground: float, height: float) -> None:
    w, h = thing.width * height, thing.top * height
    _rectangle(layer, x, ground, w, h, thing.colours[0])
    _rectangle(layer, x, ground - 0.88 * h, 1.06 * w, 0.12 * h, thing.colours[1])  # its lid


def _banner(thing: Occluder, layer: Layer, x: float, ground: float, height: float) -> None:
    w, bottom = thing.width * height, ground - thing.top * height
    layer.polygon([(x - w / 2, bottom - height), (x + w / 2, bottom - height), (x + w / 2, bottom),
                   (x - w / 2, bottom + 0.02 * height)], thing.colours[0])


def _anything(thing: Occluder, layer: Layer, x: float, ground: float, height: float) -> None:
    """A polygon or rounded shape with a drawn texture, on the ground or above it."""
    # Seeded by the thing, so that it has the same shape in all frames.
    rng = np.random.default_rng(thing.seed)
    w, h = thing.width * height, thing.top * height
    lift = rng.uniform(0, 0.9) * height if rng.random() < 0.4 else -0.05 * height
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 9)))
    round_one = np.stack([np.cos(angles), np.sin(angles)], 1) / 2
    shape = round_one if rng.random() < 0.5 else np.array([(-.5, -.5), (.5, -.5), (.5, .5), (-.5, .5)])
    corners = (shape + rng.normal(0, 0.05, shape.shape)) * (w, h) + (x, ground - lift - h / 2)
    surface = any_surface(rng, 48, 48) / 0.6 * thing.colours[0]
    if rng.random() < 0.4:
        surface[:, np.arange(48) // int(rng.integers(3, 16)) % 2 == 0] = thing.colours[1]
    seen = warp(np.clip(surface, 0.01, 0.99).astype(np.float32), (max(w, 4) / 46, max(h, 4) / 46), x - w / 2 - w / 46,
                corners[:, 1].min() - h / 46, layer.shape)
    layer.polygon(corners, to_bytes(seen), round_by=rng.choice([0, 0.03]) * height)


def _rectangle(layer: Layer, x: float, base: float, width: float, height: float, colour: Colour) -> None:
    """Draws a rectangle that is centred at x and has its lower edge at y = base."""
    layer.rectangle(x - width / 2, base - height, x + width / 2, base, colour)


# Each function draws an occluder on a layer, with its middle on the ground at (x, ground); `height` of a body in
# pixels.
_DRAW = {"pole": _pole, "sign": _sign, "bush": _bush, "car": _car, "box": _box, "banner": _banner,
         "anything": _anything}
