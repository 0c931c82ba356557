"""Draws made-up people and paints them walking.

A person is a pure function of a random generator. All share one wardrobe, so that no single colour identifies a person.
Lengths are in units of the body's height; colours are float [3] in [0, 1].
"""

import colorsys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vrstc_jax.data.walkers.painting import Colour, Layer, smooth_noise, to_bytes, warp

WARDROBE = np.array([
    (0.08, 0.08, 0.09), (0.22, 0.23, 0.25), (0.45, 0.46, 0.48), (0.82, 0.82, 0.80), (0.13, 0.17, 0.30),
    (0.25, 0.38, 0.60), (0.50, 0.66, 0.82), (0.58, 0.12, 0.13), (0.78, 0.30, 0.26), (0.16, 0.32, 0.20),
    (0.40, 0.45, 0.26), (0.42, 0.29, 0.19), (0.70, 0.60, 0.44), (0.80, 0.68, 0.22), (0.45, 0.24, 0.45),
    (0.85, 0.62, 0.66)])
_HAIR = np.array([(0.07, 0.06, 0.06), (0.20, 0.13, 0.09), (0.40, 0.27, 0.15), (0.72, 0.58, 0.36), (0.55, 0.54, 0.53)])
_SKIN = np.array([(0.90, 0.74, 0.64), (0.80, 0.62, 0.50), (0.60, 0.43, 0.33), (0.38, 0.26, 0.20)])

_Joint = Sequence[float]  # (forwards, sideways, up) from the point on the ground below the body
_Part = tuple[float, Callable[[Layer], None]]  # (depth, draws on a layer); nearer to the camera is larger


@dataclass(frozen=True, eq=False)
class Person:
    """A person's build, gait and clothes."""

    build: float  # factor for the width
    stride: float  # frames for two steps
    swing: float  # of the legs, radians
    arms: float  # swing of the arms, radians
    skin: np.ndarray
    hair: np.ndarray
    hair_style: str  # 'short', 'long', 'cap', 'hood'
    top: str  # 't-shirt', 'jumper', 'jacket', 'coat'
    top_colours: np.ndarray  # [2, 3]
    top_pattern: str  # 'plain', 'stripes', 'bars', 'checks', 'print', 'halves'
    bottom: str  # 'trousers', 'shorts', 'skirt'
    bottom_colour: np.ndarray
    shoes: np.ndarray
    bag: str  # 'none', 'backpack', 'shoulder', 'hand'
    bag_colour: np.ndarray
    cloth: int  # seed of the folds
    folds: float = 0.22  # their contrast
    creases: int = 1  # how fine they are; larger is finer
    period: float = 1.0  # factor for that of the pattern


def make_person(rng: np.random.Generator) -> Person:
    """Draws a plain person: clothes of the wardrobe's colours."""
    def one(palette: np.ndarray) -> np.ndarray:
        return np.clip(palette[rng.integers(len(palette))] + rng.normal(0, 0.015, 3), 0.02, 0.97)

    colours = WARDROBE[rng.choice(len(WARDROBE), 2, replace=False)]
    return Person(
        build=rng.uniform(0.88, 1.2), stride=rng.uniform(10, 15), swing=rng.uniform(0.38, 0.55),
        arms=rng.uniform(0.2, 0.6), skin=one(_SKIN), hair=one(_HAIR),
        hair_style=str(rng.choice(["short", "long", "cap", "hood"], p=[0.5, 0.28, 0.12, 0.1])),
        top=str(rng.choice(["t-shirt", "jumper", "jacket", "coat"], p=[0.25, 0.3, 0.3, 0.15])),
        top_colours=colours,
        top_pattern=str(rng.choice(["plain", "stripes", "bars", "checks", "print", "halves"],
                                   p=[0.42, 0.14, 0.08, 0.1, 0.12, 0.14])),
        bottom=str(rng.choice(["trousers", "shorts", "skirt"], p=[0.72, 0.13, 0.15])),
        bottom_colour=one(WARDROBE[:14]), shoes=one(WARDROBE[[0, 1, 3, 8, 11]]),
        bag=str(rng.choice(["none", "backpack", "shoulder", "hand"], p=[0.5, 0.2, 0.18, 0.12])),
        bag_colour=one(WARDROBE), cloth=int(rng.integers(2**31)))


def any_person(rng: np.random.Generator) -> Person:
    """Draws a varied person.

    Colours are any, mostly dark and dull ones; builds are any; arms may hang still; cloth is smooth to crumpled.
    """
    first, second, bottom, bag = (any_cloth(rng) for _ in range(4))
    dark = np.clip(rng.uniform(0.02, 0.3) + rng.normal(0, 0.02, 3), 0.01, 1)
    skin = _SKIN[-1] + rng.uniform(0, 1.1) * (_SKIN[0] - _SKIN[-1])
    # Real people often wear one colour from head to foot, and dark hair and shoes.
    return replace(
        make_person(rng), build=rng.uniform(0.8, 1.4), swing=rng.uniform(0.2, 0.62),
        arms=rng.uniform(0, 0.08) if rng.random() < 0.25 else rng.uniform(0.15, 0.7), skin=np.clip(skin, 0.05, 1),
        hair=any_cloth(rng) if rng.random() < 0.3 else dark * 0.6, top_colours=np.stack([first, second]),
        bottom_colour=np.clip(first + rng.normal(0, 0.04, 3), 0.01, 0.97) if rng.random() < 0.2 else bottom,
        shoes=any_cloth(rng) if rng.random() < 0.3 else dark, bag_colour=bag,
        folds=float(np.exp(rng.uniform(np.log(0.06), np.log(0.4)))),
        creases=int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15])), period=float(np.exp(rng.uniform(-1, 0.6))))


def any_cloth(rng: np.random.Generator) -> np.ndarray:
    """Draws a colour of clothes, float [3]; most are dark or dull."""
    if rng.random() < 0.55:
        return np.clip(0.02 + 0.8 * rng.beta(1.2, 3) + rng.normal(0, 0.025, 3), 0.01, 0.97)
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.beta(2, 2.5), 0.05 + 0.9 * rng.beta(2, 2)))


def paint_person(canvas: np.ndarray, person: Person, *, phase: float, heading: float, foot: tuple[float, float],
                 height: float, light: float) -> np.ndarray:
    """Paints a walking person onto a picture, in place.

    Args:
      canvas: float32 [H, W, 3].
      phase: of the gait in radians; two steps are 2π.
      heading: 0 walks to the right, π/2 towards the camera, π to the left, −π/2 away.
      foot: (x, y) in pixels of the point on the ground below the body.
      height: of the body in pixels.
      light: direction that light comes from, −1 (left) to 1 (right).

    Returns:
      float32 [H, W], how much of each pixel the person covers.
    """
    body = _Body(person, phase, heading, foot, height)
    # The shadow on the ground darkens the background; it is not part of the person's cover.
    shade = Layer(canvas.shape)
    shade.ellipse(foot, (0.22 * height, 0.035 * height), (1, 1, 1))
    canvas *= 1 - 0.4 * cv2.GaussianBlur(shade.alpha(), (0, 0), max(0.5, 0.02 * height))[..., None]
    layer = Layer(canvas.shape)
    # From far to near; `sorted` is stable, so parts of equal depth keep their order.
    for _, draw in sorted(body.parts(), key=lambda part: part[0]):
        draw(layer)
    layer.shade(_shading(layer.shape, person, body, light))
    layer.lay_over(canvas)
    return layer.alpha()


def _shading(shape: tuple[int, ...], person: Person, body: "_Body", light: float) -> np.ndarray:
    """Factors for the colours, float32 [H, W]: light from a side, darker towards the ground, and folds of cloth."""
    across = (np.arange(shape[1], dtype=np.float32) - body.foot[0]) / (0.13 * body.height)
    down = (body.foot[1] - np.arange(shape[0], dtype=np.float32)) / body.height
    sideways = 0.16 * light * np.clip(across, -1.2, 1.2) - 0.08 * np.abs(across).clip(0, 1.5)
    fine = person.creases
    folds = smooth_noise(person.cloth, (48 * fine, 24 * fine), 3)
    # Anchored at the feet, so that the folds move with the body.
    folds = warp(folds, (body.height / 40 / fine, body.height / 44 / fine), body.foot[0] - 12 * body.height / 40,
                 body.foot[1] - 46 * body.height / 44, shape, border=cv2.BORDER_CONSTANT)
    return (1 + sideways + 0.12 * (down[:, None] - 0.5)) * (1 + person.folds * folds)


class _Body:
    """A walking person's joints, projected to the picture by the heading; arguments as `paint_person`'s."""

    def __init__(self, person: Person, phase: float, heading: float, foot: tuple[float, float], height: float):
        self.person, self.phase, self.heading = person, phase, heading
        self.foot, self.height = foot, height
        self.cos, self.sin = np.cos(heading), np.sin(heading)
        self.bob = 0.012 * np.cos(2 * phase)  # the body rises and falls with each step

    def at(self, forwards: float, sideways: float, up: float) -> tuple[float, float]:
        """(x, y) in pixels of the picture."""
        x = forwards * self.cos + sideways * self.sin
        return self.foot[0] + x * self.height, self.foot[1] - (up + self.bob) * self.height - 0.01 * self.height

    def depth(self, forwards: float, sideways: float) -> float:
        """Nearer to the camera is larger."""
        return forwards * self.sin - sideways * self.cos

    def half_width(self, sideways: float, deep: float) -> float:
        """Half the visible width of an elliptic section with these half axes, in body heights."""
        return float(np.hypot(sideways * self.sin, deep * self.cos))

    def limb(self, colour: Colour, joints: Sequence[_Joint], radii: Sequence[float]) -> Callable[[Layer], None]:
        """Draws a chain of joints."""
        def draw(layer: Layer) -> None:
            for (a, b), (wa, wb) in zip(zip(joints, joints[1:]), zip(radii, radii[1:])):
                layer.capsule(self.at(*a), self.at(*b), wa * self.height, wb * self.height, colour)
        return draw

    def parts(self) -> Iterator[_Part]:
        """All parts of the person."""
        yield from self.legs()
        yield from self.arms()
        yield from self.trunk()
        yield from self.head()
        yield from self.bag()

    def legs(self) -> Iterator[_Part]:
        """Shoes, legs, and shorts or a skirt."""
        p, b = self.person, self.person.build
        for side, phase in ((-1, self.phase), (1, self.phase + np.pi)):
            thigh = p.swing * np.sin(phase)
            # The knee bends while the leg swings forward.
            knee_bend = 0.15 + 0.75 * max(0.0, np.cos(phase)) ** 2 * (np.cos(phase) > 0)
            hip = (0.0, 0.045 * side, 0.50)
            knee = (0.245 * np.sin(thigh), 0.045 * side, 0.50 - 0.245 * np.cos(thigh))
            shin = thigh - knee_bend
            ankle = (knee[0] + 0.225 * np.sin(shin), 0.045 * side, knee[2] - 0.225 * np.cos(shin))
            toe = (ankle[0] + 0.085, 0.05 * side, ankle[2] - 0.015)
            # −1: legs are behind the top, whichever leg is nearer to the camera.
            depth = self.depth(0.2 * np.sin(thigh), 0.3 * side) - 1.0
            bare = p.bottom != "trousers"
            # Shoe below trouser leg below shorts: small offsets fix the order within one leg.
            yield depth - 0.02, self.limb(p.shoes, [ankle, toe], [0.030, 0.022])
            yield depth - 0.01, self.limb(
                p.skin if bare else p.bottom_colour, [hip, knee, ankle],
                [0.062 * b, 0.042 * b, (0.024 if bare else 0.032) * b])
            if p.bottom == "shorts":
                yield depth, self.limb(p.bottom_colour, [hip, knee], [0.066 * b, 0.054 * b])
        if p.bottom == "skirt":
            flare = 0.05 * abs(np.sin(self.phase))
            top, low = self.half_width(0.085 * b, 0.065 * b), self.half_width(0.12 * b, 0.10 * b + flare)
            yield 0.0, self.quad(p.bottom_colour, (top, 0.56), (low, 0.30))

    def quad(self, colour: Colour | Callable[[tuple[int, ...]], np.ndarray], upper: tuple[float, float],
             lower: tuple[float, float]) -> Callable[[Layer], None]:
        """Draws a trapezium about the body's axis from (half width, height) of its upper and lower edge.

        Args:
          colour: one, or a function of the layer's shape that gives a texture, uint8 [H, W, 3].
        """
        points = [(-upper[0], upper[1]), (upper[0], upper[1]), (lower[0], lower[1]), (-lower[0], lower[1])]
        x0, y0 = self.at(0, 0, 0)
        corners = [(x0 + x * self.height, y0 - y * self.height) for x, y in points]
        return lambda layer: layer.polygon(corners, colour(layer.shape) if callable(colour) else colour,
                                           round_by=0.02 * self.height)

    def arms(self) -> Iterator[_Part]:
        """Hands and sleeves."""
        p, b = self.person, self.person.build
        for side, phase in ((-1, self.phase + np.pi), (1, self.phase)):
            swing = p.arms * np.sin(phase)
            shoulder = (0.0, 0.105 * side * b, 0.80)
            elbow = (0.17 * np.sin(swing), 0.12 * side * b, 0.80 - 0.17 * np.cos(swing))
            lower = swing + 0.25 + 0.2 * max(0.0, np.sin(phase))
            hand = (elbow[0] + 0.16 * np.sin(lower), 0.11 * side * b, elbow[2] - 0.16 * np.cos(lower))
            depth = self.depth(0.05 * np.sin(swing), 0.6 * side)
            sleeve = p.top_colours[1] if p.top_pattern == "halves" else p.top_colours[0]
            yield depth, self.limb(p.skin, [elbow, hand], [0.026, 0.022])
            if p.top == "t-shirt":
                yield depth + 0.01, self.limb(sleeve, [shoulder, elbow], [0.045 * b, 0.036 * b])
            else:
                wrist = [e + 0.88 * (h - e) for e, h in zip(elbow, hand)]
                yield depth + 0.01, self.limb(sleeve, [shoulder, elbow, wrist], [0.046 * b, 0.038 * b, 0.030 * b])

    def trunk(self) -> Iterator[_Part]:
        """Hips, top, and the front of an open jacket."""
        p, b = self.person, self.person.build
        hem = {"t-shirt": 0.50, "jumper": 0.48, "jacket": 0.46, "coat": 0.28}[p.top]
        shoulders, hips = self.half_width(0.115 * b, 0.07 * b), self.half_width(0.088 * b, 0.07 * b)
        loose = 1.25 if p.top == "coat" else 1.06
        yield -0.01, self.quad(p.bottom_colour, (hips, 0.58), (hips * 0.95, 0.46))
        yield 0.03, self.quad(self.cloth, (shoulders, 0.825), (hips * loose, hem))
        if p.top in ("jacket", "coat") and self.sin > 0.35:  # open in front
            yield 0.04, self.quad(p.top_colours[1], (0.03 * self.sin, 0.82), (0.022 * self.sin, 0.5))

    def cloth(self, shape: tuple[int, ...]) -> np.ndarray:
        """The top's pattern over the whole picture, uint8 [H, W, 3], anchored at the body."""
        p = self.person
        first, second = p.top_colours
        # The body bobs with each step, and its pattern with it.
        x0, y0 = self.at(0, 0, 0)
        up = ((y0 - np.arange(shape[0])) / self.height)[:, None]
        across = (np.arange(shape[1]) - x0) / self.height
        inside = {
            "plain": np.zeros((1, 1), bool),
            "stripes": np.mod(up, 0.085 * p.period) < 0.036 * p.period,
            "bars": np.mod(across + 1.0, 0.07 * p.period) < 0.028 * p.period,
            "checks": (np.mod(up, 0.09 * p.period) < 0.04 * p.period)
            ^ (np.mod(across + 1.0, 0.08 * p.period) < 0.035 * p.period),
            "print": (np.abs(across) < 0.06 * max(self.sin, 0.0)) & (np.abs(up - 0.70) < 0.055),
            "halves": up < 0.64,
        }[p.top_pattern]
        return np.where(np.broadcast_to(inside, shape[:2])[..., None], to_bytes(second), to_bytes(first))

    def head(self) -> Iterator[_Part]:
        """Neck, face, and hair, cap or hood."""
        p = self.person
        yield 0.02, self.limb(p.skin, [(0, 0, 0.82), (0.01, 0, 0.88)], [0.032, 0.030])
        face, back = (0.02, 0, 0.93), (-0.012, 0, 0.94)
        yield 0.05, self.limb(p.skin, [face, (0.025, 0, 0.905)], [0.048, 0.040])
        colour = p.hair if p.hair_style in ("short", "long") else p.top_colours[1 if p.hair_style == "cap" else 0]
        # Hair is drawn behind the face of a person who comes towards the camera, and over it otherwise.
        front = 0.06 if self.sin < 0.2 else 0.045
        yield front, self.limb(colour, [back, (-0.02, 0, 0.935)], [0.050, 0.046])
        yield 0.065, self.limb(colour, [(0.0, 0, 0.965), (0.012, 0, 0.962)], [0.040, 0.036])
        if p.hair_style in ("long", "hood"):
            yield (0.06 if self.sin < 0.3 else 0.0), self.limb(colour, [back, (-0.035, 0, 0.83)], [0.05, 0.045])

    def bag(self) -> Iterator[_Part]:
        """Backpack, shoulder bag or handbag, if any."""
        p = self.person
        if p.bag == "backpack":
            yield self.depth(-0.6, 0), self.limb(p.bag_colour, [(-0.10, 0, 0.77), (-0.105, 0, 0.60)], [0.065, 0.075])
        elif p.bag == "shoulder":
            yield self.depth(0, 0.9), self.limb(p.bag_colour, [(0.0, 0.12, 0.52), (0.0, 0.125, 0.46)], [0.055, 0.06])
            yield 0.045, self.limb(p.bag_colour, [(0.02, -0.07, 0.81), (0.02, 0.12, 0.55)], [0.010, 0.010])
        elif p.bag == "hand":
            swing = 0.12 * np.sin(self.phase) * p.arms / 0.4
            yield self.depth(0, 0.95), self.limb(p.bag_colour, [(swing, 0.14, 0.42), (swing, 0.14, 0.36)],
                                                 [0.04, 0.055])
