"""Draws how a walker moves through the picture, and how a tracker's boxes follow, frame by frame."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from vrstc_jax.data.walkers.people import Person

_STEPS = 0.95  # body heights that two steps cover


def drifting(rng: np.random.Generator, frames: int, keeps: float, scale: float) -> np.ndarray:
    """Errors of a tracker's boxes, float [frames], of deviation `scale`; each keeps a share of the one before it.

    It is a first-order autoregressive process: trackers smooth their boxes, so errors last for some frames.
    """
    steps = rng.normal(0, scale * np.sqrt(1 - keeps**2), frames)
    steps[0] = rng.normal(0, scale)
    for t in range(1, frames):
        steps[t] += keeps * steps[t - 1]
    return steps


@dataclass(frozen=True)
class Walk:
    """The walker's position and direction, each float [T].

    Attributes:
      x: in body heights, 0 in the middle frame.
      heading, phase: in radians, as `paint_person`'s.
      size: factor for the body's height in the crop; people who approach grow.
    """

    x: np.ndarray
    heading: np.ndarray
    phase: np.ndarray
    size: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, walker: Person, frames: int) -> "Walk":
        """Draws a plain walk: across the picture or along the view, with a slow turn now and then."""
        heading = rng.choice([0.0, np.pi, np.pi / 2, -np.pi / 2], p=[0.33, 0.33, 0.2, 0.14]) + rng.normal(0, 0.35)
        turn = rng.normal(0, 0.05) if rng.random() < 0.35 else 0.0
        heading = heading + turn * (np.arange(frames) - frames / 2)
        x = _positions(heading, walker)
        phase = 2 * np.pi * (np.arange(frames) / walker.stride + rng.random())
        return cls(x, heading, phase, 1 + 0.004 * np.sin(heading) * (np.arange(frames) - frames / 2))

    def vary(self, rng: np.random.Generator, walker: Person) -> "Walk":
        """The walk in any direction; one in ten stands still and sways."""
        frames = len(self.x)
        if rng.random() < 0.1:
            sway = 0.15 * np.sin(2 * np.pi * np.arange(frames) / rng.uniform(15, 60))
            return dataclasses.replace(self, x=np.zeros(frames), phase=np.pi / 2 + sway)
        heading = rng.uniform(-np.pi, np.pi) + rng.normal(0, 0.03) * (np.arange(frames) - frames / 2)
        return dataclasses.replace(self, x=_positions(heading, walker), heading=heading)

    def speed(self) -> float:
        """Body heights per frame, on average."""
        return float((self.x[-1] - self.x[0]) / max(len(self.x) - 1, 1))


def _positions(heading: np.ndarray, walker: Person) -> np.ndarray:
    """x of a walker who faces `heading`, at each frame."""
    x = np.concatenate([[0.0], np.cumsum(_STEPS / walker.stride * np.cos(heading))[:-1]])
    return x - x[len(heading) // 2]


@dataclass(frozen=True)
class Framing:
    """The position of a tracker's boxes around the walker, each float [T].

    Attributes:
      body: the body's height as a share of the box's height.
      foot_x, foot_y: the feet as shares of the box's width and height.
      stretch: the crop's width-to-height ratio over the box's; resizing the box to the crop widens it by this factor.
    """

    body: np.ndarray
    foot_x: np.ndarray
    foot_y: np.ndarray
    stretch: np.ndarray

    @classmethod
    def plain(cls, jitter: np.ndarray) -> "Framing":
        """Boxes of one shape and size, with independent jitter, float [T, 3], as shares of the box."""
        return cls(0.88 * (1 + jitter[:, 0]), 0.5 + jitter[:, 1], 0.95 + jitter[:, 2], np.ones(len(jitter)))

    @classmethod
    def varied(cls, rng: np.random.Generator, phase: np.ndarray) -> "Framing":
        """Boxes whose shape is drawn for the tracklet, drifts, and widens with the legs' phase."""
        frames = len(phase)
        # Trackers differ in how exact and how steady their boxes are.
        amount = np.exp(rng.uniform(np.log(0.008), np.log(0.05)))
        keeps = rng.uniform(0, 0.95)

        def drift(scale: float) -> np.ndarray:
            return drifting(rng, frames, keeps, scale)

        breath = rng.choice([0.0, rng.uniform(0, 0.35)]) * (np.abs(np.sin(phase)) - 0.5)
        return cls(rng.uniform(0.8, 1.02) * (1 + drift(amount)), 0.5 + rng.normal(0, 0.03) + drift(amount),
                   rng.uniform(0.92, 1.03) + drift(amount), np.exp(rng.normal(0.1, 0.2) - breath + drift(2 * amount)))
