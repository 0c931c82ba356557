"""Made-up tracklets with their ground truth: the embedded data set.

Everything is a pure function of the arguments. A person's looks depend on the person alone, path and background on
camera and person, and the camera's optics on the camera alone.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.data.walkers.backgrounds import any_background, panorama
from vrstc_jax.data.walkers.cameras import Camera, make_camera, vary_camera
from vrstc_jax.data.walkers.motion import Framing, Walk
from vrstc_jax.data.walkers.occluders import Occluder, make_occluder, vary_occluder
from vrstc_jax.data.walkers.painting import Layer, warp
from vrstc_jax.data.walkers.people import Person, any_person, make_person, paint_person
from vrstc_jax.data.walkers.variety import KINDS, Variety
from vrstc_jax.runtime.errors import InputError

TEST_FIRST = 1_000_000  # the first person for testing; no training uses people from here on
_FINER = 2  # pictures are painted at this many times their size
_ANY_COVER = 0.01  # a pixel counts as hidden if more than this share of it is covered

Parts = tuple[np.ndarray, ...]  # (frames, truth, masks, silhouettes) of a tracklet, each [T, …]


@dataclass(frozen=True)
class WalkerConfig:
    """The size, length and difficulty of tracklets.

    Attributes:
      height, width: of the crops, in pixels.
      frames: in a tracklet.
      occlusion: share of tracklets in which something hides the walker.
      persistent: share of these in which it does so most of the time.
      jitter: of the boxes, as a share of their size (standard deviation); the default is some pixels, as a tracker's.
      variety: further kinds of variation.
    """

    height: int = 128
    width: int = 64
    frames: int = 16
    occlusion: float = 0.5
    persistent: float = 0.1
    jitter: float = 0.03
    variety: Variety = Variety()


def people(split: str, number: int) -> range:
    """The numbers of the first people of 'train' or of 'test'; nobody is in both.

    Raises:
      InputError: another split, or more people than a split has.
    """
    if split not in ("train", "test"):
        raise InputError(f"There is no split '{split}' of the walkers; choose train or test.")
    if not 0 < number <= TEST_FIRST:
        raise InputError(f"The walkers' splits have 1 to {TEST_FIRST} people. Got {number}.")
    first = 0 if split == "train" else TEST_FIRST
    return range(first, first + number)


def make_tracklets(who: Sequence[int], *, cameras: int = 2, seed: int = 0,
                   config: WalkerConfig = WalkerConfig()) -> list[Tracklet]:
    """One tracklet (`make_tracklet`) of each person in each camera, painted when a frame is first indexed."""
    return [make_tracklet(person, camera, seed=seed, config=config) for person in who for camera in range(cameras)]


def make_tracklet(person: int, camera: int, *, seed: int = 0, config: WalkerConfig = WalkerConfig()) -> Tracklet:
    """A person walking past a camera.

    Returns:
      A tracklet with `masks` (the hidden pixels), `truth` (the frames without occluders) and `silhouettes`
      (the whole person). Where the mask is false, frame and truth are equal bit for bit.
    """
    return painted_tracklet(person, camera, config, lambda: paint(person, camera, seed, config))


def painted_tracklet(person: int, camera: int, config: WalkerConfig, parts: Callable[[], Parts]) -> Tracklet:
    """A tracklet whose frames are read from `parts()`, called for each frame."""
    def part(index: int) -> LazySequence:
        return LazySequence(config.frames, lambda i: parts()[index][i])

    return Tracklet(name=f"{person:07d}/c{camera}/t0", frames=part(0), truth=part(1), masks=part(2),
                    silhouettes=part(3), frame_names=tuple(f"{i + 1:06d}" for i in range(config.frames)),
                    person=f"{person:07d}", camera=f"c{camera}")


# Parts of a tracklet are read frame by frame, so the last few tracklets are cached.
@lru_cache(maxsize=4)
def paint(person: int, camera: int, seed: int, config: WalkerConfig) -> Parts:
    """Paints all frames of `make_tracklet`'s tracklet."""
    rng = np.random.default_rng([seed, person, camera, 17])
    # Each kind of variety has its own generator, so that the other draws are the same with it and without.
    drawn = {kind: np.random.default_rng([seed, person, camera, 100 + i]) for i, kind in enumerate(KINDS)}
    variety = config.variety
    lens = vary_camera(make_camera(np.random.default_rng([seed, camera, 5])), variety, drawn["lens"], config.height)
    look = np.random.default_rng([seed, person])
    walker = any_person(look) if variety.people else make_person(look)
    if variety.pace:
        walker = dataclasses.replace(walker, stride=float(np.exp(drawn["pace"].uniform(np.log(7), np.log(32)))))
    walk = Walk.draw(rng, walker, config.frames)
    if variety.pace:
        walk = walk.vary(drawn["pace"], walker)
    behind = panorama(rng, np.random.default_rng([seed, camera, 6]))
    if variety.places:
        behind = any_background(drawn["places"])
    others = _draw_bystanders(drawn["bystanders"], walk, variety) if variety.bystanders else []
    occluders = _draw_occluders(rng, walk, config)
    if variety.occluders:
        occluders = [vary_occluder(thing, drawn["occluders"]) for thing in occluders]
    size = config.height, config.width
    jitter = rng.normal(0, config.jitter, (config.frames, 3))
    framing = Framing.varied(drawn["framing"], walk.phase) if variety.framing else Framing.plain(jitter)
    passage = _Passage(walker, walk, behind, others, occluders, lens, size, framing)
    frames = []
    for t in range(config.frames):
        noise = rng.standard_normal((*lens.own_size(size), 3)).astype(np.float32)
        # Sensor noise is correlated between neighbouring pixels, as demosaicing leaves it.
        noise = 0.6 * noise + 0.4 * cv2.GaussianBlur(noise, (0, 0), 1.0) * 2.5
        frames.append(passage.paint(t, noise))
    return tuple(np.stack(part) for part in zip(*frames))


def _draw_occluders(rng: np.random.Generator, walk: Walk, config: WalkerConfig) -> list[Occluder]:
    if rng.random() >= config.occlusion:
        return []
    frames, speed = len(walk.x), walk.speed()
    persistent = rng.random() < config.persistent
    # A persistent occluder hides the walker from the beginning on, or to the end, and leaves some frames clear.
    time = int((rng.choice([0.3, 0.7]) if persistent else rng.uniform(0.15, 0.85)) * frames)
    occluders = [make_occluder(rng, meets=walk.x[time], persistent=persistent, speed=speed, time=time)]
    if abs(speed) < 0.03 and occluders[0].kind != "walker":
        # A person who walks towards the camera would never leave a fixed occluder, so it moves past, as a vehicle does,
        # or as everything does while a camera turns.
        its_speed = rng.choice([-1, 1]) * rng.uniform(0.05, 0.1)
        occluders = [dataclasses.replace(occluders[0], x=occluders[0].x - its_speed * time, speed=its_speed)]
    if rng.random() < 0.15 and not persistent:
        later = int(rng.uniform(0, 1) * (frames - 1))
        occluders.append(make_occluder(rng, meets=walk.x[later], persistent=False, speed=speed or 0.06, time=later))
    return occluders


@dataclass(frozen=True, eq=False)
class _Bystander:
    """A person behind the walker; x and speed as of an `Occluder`, the ground in body heights above the walker's."""

    person: Person
    x: float
    speed: float
    heading: float
    ground: float
    size: float
    phase: float


def _draw_bystanders(rng: np.random.Generator, walk: Walk, variety: Variety) -> list[_Bystander]:
    """Draws bystanders, the farthest first."""
    if rng.random() < 0.4:
        return []
    frames, found = len(walk.x), []
    for _ in range(int(rng.integers(1, 5))):
        person = any_person(rng) if variety.people else make_person(rng)
        along = rng.random() < 0.4  # they walk beside the walker
        speed = walk.speed() + rng.normal(0, 0.003) if along else rng.uniform(-0.1, 0.1)
        time = rng.uniform(0, frames)
        x = walk.x[int(time)] + rng.uniform(-0.6, 0.6) - speed * time
        heading = float(walk.heading[0]) if along else (0.0 if speed > 0 else np.pi) + rng.normal(0, 0.3)
        ground = rng.uniform(0, 0.35)
        found.append(_Bystander(person, x, speed, heading, ground, rng.uniform(0.85, 1.1) - 0.5 * ground,
                                rng.uniform(0, 2 * np.pi)))
    return sorted(found, key=lambda other: -other.ground)


@dataclass(frozen=True, eq=False)
class _Passage:
    """Everything that a tracklet's frames are painted from.

    Attributes:
      behind: the background, as of `panorama`.
      size: (height, width) of the crops.
    """

    walker: Person
    walk: Walk
    behind: np.ndarray
    others: list[_Bystander]
    occluders: list[Occluder]
    lens: Camera
    size: tuple[int, int]
    framing: Framing

    def paint(self, t: int, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(frame, truth, mask, silhouette) at frame t: uint8 [H, W, 3] twice, bool [H, W] twice.

        Args:
          noise: as of `Camera.develop`.
        """
        walk, lens, size = self.walk, self.lens, self.size
        # Boxes of another shape than the crop are painted in their shape and then squeezed, as real crops are.
        height, width = _FINER * size[0], max(8, round(_FINER * size[1] / self.framing.stretch[t]))
        body = self.framing.body[t] * height * walk.size[t]
        foot = width * self.framing.foot_x[t], height * self.framing.foot_y[t]
        picture = self._background(t, (height, width), body, foot)
        for other in self.others:
            x = foot[0] + (other.x + other.speed * t - walk.x[t]) * body
            if -0.5 * body < x < width + 0.5 * body:
                paint_person(picture, other.person, phase=other.phase + 2 * np.pi * t / other.person.stride,
                             heading=other.heading, foot=(x, foot[1] - other.ground * body), light=lens.light,
                             height=other.size * body)
        cover = paint_person(picture, self.walker, phase=walk.phase[t], heading=walk.heading[t], foot=foot,
                             height=body * lens.squeeze, light=lens.light)
        # Before the occluders are painted over it, and with the same noise, so that only these make a difference.
        truth = lens.develop(picture, size, noise)
        silhouette = cv2.resize(cover, size[::-1], interpolation=cv2.INTER_AREA) > 0.5
        hidden = self._paint_occluders(picture, t, body, foot)
        if not hidden.any():
            return truth, truth, np.zeros(size, bool), silhouette
        frame = lens.develop(picture, size, noise)
        spread = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), lens.spread(size))
        mask = cv2.resize(spread, size[::-1], interpolation=cv2.INTER_AREA) > _ANY_COVER
        # Where an occluder covers too little of a pixel for the mask, the frame shows the truth: outside the mask both
        # must be equal.
        return np.where(mask[..., None], frame, truth), truth, mask, silhouette

    def _background(self, t: int, shape: tuple[int, int], body: float, foot: tuple[float, float]) -> np.ndarray:
        """The part of the background that is in the box, float32 [*shape, 3]."""
        height, width = self.behind.shape[:2]
        scale = 2 * body / height  # it is two body heights tall
        # The background's column at the walker's x is at the feet, and its bottom a little below them.
        return warp(self.behind, (scale, scale), foot[0] - (width / 2 * scale + self.walk.x[t] * body),
                    foot[1] + 0.08 * body - height * scale, shape)

    def _paint_occluders(self, picture: np.ndarray, t: int, body: float, foot: tuple[float, float]) -> np.ndarray:
        """Paints the occluders onto the picture, in place; returns which pixels they changed, bool [H, W]."""
        change = np.zeros(picture.shape[:2], np.float32)
        for thing in self.occluders:
            x = foot[0] + (thing.x + thing.speed * t - self.walk.x[t]) * thing.near * body
            reach = (thing.width + 1) * body
            if -reach < x < picture.shape[1] + reach:
                # Compared with the picture before, which counts an occluder's soft edges and shadow too.
                before = picture.copy()
                thing.paint(Layer(picture.shape), picture, x=x, ground=foot[1] + 0.06 * body, height=body, time=t,
                            light=self.lens.light)
                change = np.maximum(change, cv2.absdiff(picture, before).max(-1))
        return change > 1e-4  # less is rounding
