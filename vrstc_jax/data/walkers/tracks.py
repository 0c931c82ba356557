"""Made-up tracklets, with the truth: the embedded data set.

Everything is a pure function of the numbers given. Who somebody is depends on the person alone, where it is
seen on the camera and the person, and how a camera sees on the camera alone.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.data.walkers.backgrounds import any_background
from vrstc_jax.data.walkers.cameras import make_camera, varied
from vrstc_jax.data.walkers.painting import Layer
from vrstc_jax.data.walkers.people import Person, any_person, make_person, paint_person
from vrstc_jax.data.walkers.surroundings import anything, make_thing, panorama
from vrstc_jax.data.walkers.variety import KINDS, Variety
from vrstc_jax.runtime.errors import InputError

TEST_FIRST = 1_000_000  # people from here on are for testing; no training uses them
_FINER = 2  # pictures are painted at this many times their size
_ANY_COVER = 0.01  # of a pixel makes it hidden


@dataclass(frozen=True)
class WalkerConfig:
    """How tracklets look.

    Attributes:
      height, width: of the crops, in pixels.
      frames: in a tracklet.
      occlusion: share of tracklets in which something hides the walker.
      persistent: share of these in which it does so most of the time.
      jitter: of the boxes, as a share of their size (standard deviation); some pixels, as a tracker's.
      variety: what varies beyond this.
    """

    height: int = 128
    width: int = 64
    frames: int = 16
    occlusion: float = 0.5
    persistent: float = 0.1
    jitter: float = 0.03
    variety: Variety = Variety()


def people(split: str, number: int) -> range:
    """People for 'train' or for 'test'; the two never meet.

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
    """One tracklet of each person in each camera, painted when its frames are first asked for."""
    return [make_tracklet(person, camera, seed=seed, config=config) for person in who for camera in range(cameras)]


def make_tracklet(person: int, camera: int, *, seed: int = 0, config: WalkerConfig = WalkerConfig()) -> Tracklet:
    """A person walking past a camera.

    Returns:
      A tracklet with `masks` (what is hidden), `truth` (the frames without what hides) and `silhouettes`
      (the whole person). Where the mask is false, frame and truth are equal bit for bit.
    """
    def part(index):
        return LazySequence(config.frames, lambda i: _painted(person, camera, seed, config)[index][i])

    return Tracklet(name=f"{person:07d}/c{camera}/t0", frames=part(0), truth=part(1), masks=part(2),
                    silhouettes=part(3), frame_names=tuple(f"{i + 1:06d}" for i in range(config.frames)),
                    person=f"{person:07d}", camera=f"c{camera}")


@lru_cache(maxsize=4)
def _painted(person, camera, seed, config):
    """(frames, truth, masks, silhouettes) of a tracklet, each [T, …]."""
    rng = np.random.default_rng([seed, person, camera, 17])
    # Each kind of variety draws for itself, so that the others are the same with it and without.
    drawn = {kind: np.random.default_rng([seed, person, camera, 100 + i]) for i, kind in enumerate(KINDS)}
    variety = config.variety
    lens = varied(make_camera(np.random.default_rng([seed, camera, 5])), variety, drawn["lens"], config.height)
    look = np.random.default_rng([seed, person])
    walker = any_person(look) if variety.people else make_person(look)
    if variety.pace:
        walker = dataclasses.replace(walker, stride=float(np.exp(drawn["pace"].uniform(np.log(7), np.log(32)))))
    walk = _Walk.draw(rng, walker, config.frames)
    if variety.pace:
        walk = walk.varied(drawn["pace"], walker)
    behind = panorama(rng, np.random.default_rng([seed, camera, 6]))
    if variety.places:
        behind = any_background(drawn["places"])
    others = _bystanders(drawn["bystanders"], walk, variety) if variety.bystanders else []
    things = _things(rng, walk, config)
    if variety.occluders:
        things = [anything(thing, drawn["occluders"]) for thing in things]
    size = config.height, config.width
    jitter = rng.normal(0, config.jitter, (config.frames, 3))
    framing = _Framing.varied(drawn["framing"], walk.phase) if variety.framing else _Framing.plain(jitter)
    frames = []
    for t in range(config.frames):
        noise = rng.standard_normal((*lens.own_size(size), 3)).astype(np.float32)
        noise = 0.6 * noise + 0.4 * cv2.GaussianBlur(noise, (0, 0), 1.0) * 2.5
        frames.append(_frame(walker, walk, behind, others, things, lens, size, framing, t, noise))
    return tuple(np.stack(part) for part in zip(*frames))


@dataclass(frozen=True)
class _Framing:
    """Where the boxes lie, for each frame: the body's height and the feet's place as shares of the box, and how
    much wider than tall a box is seen."""

    body: np.ndarray
    foot_x: np.ndarray
    foot_y: np.ndarray
    stretch: np.ndarray

    @classmethod
    def plain(cls, jitter):
        return cls(0.88 * (1 + jitter[:, 0]), 0.5 + jitter[:, 1], 0.95 + jitter[:, 2], np.ones(len(jitter)))

    @classmethod
    def varied(cls, rng, phase):
        """Boxes of one tracker: of a shape of its own, which drifts, and follows the legs."""
        frames = len(phase)
        amount = np.exp(rng.uniform(np.log(0.008), np.log(0.05)))
        keeps = rng.uniform(0, 0.95)

        def drift(scale):
            steps = rng.normal(0, scale * np.sqrt(1 - keeps**2), frames)
            steps[0] = rng.normal(0, scale)
            for t in range(1, frames):
                steps[t] += keeps * steps[t - 1]
            return steps

        breath = rng.choice([0.0, rng.uniform(0, 0.35)]) * (np.abs(np.sin(phase)) - 0.5)
        return cls(rng.uniform(0.8, 1.02) * (1 + drift(amount)), 0.5 + rng.normal(0, 0.03) + drift(amount),
                   rng.uniform(0.92, 1.03) + drift(amount),
                   np.exp(rng.normal(0.1, 0.2) - breath + drift(2 * amount)))


@dataclass(frozen=True)
class _Walk:
    """Where the walker is and looks over time; x in body heights."""

    x: np.ndarray
    heading: np.ndarray
    phase: np.ndarray
    size: np.ndarray  # of the person, over the crop's usual; people come nearer

    @classmethod
    def draw(cls, rng, walker, frames):
        heading = rng.choice([0.0, np.pi, np.pi / 2, -np.pi / 2], p=[0.33, 0.33, 0.2, 0.14]) + rng.normal(0, 0.35)
        turn = rng.normal(0, 0.05) if rng.random() < 0.35 else 0.0
        heading = heading + turn * (np.arange(frames) - frames / 2)
        step = 0.95 / walker.stride * np.cos(heading)  # two steps are about a body height
        x = np.concatenate([[0.0], np.cumsum(step)[:-1]])
        phase = 2 * np.pi * (np.arange(frames) / walker.stride + rng.random())
        return cls(x - x[frames // 2], heading, phase, 1 + 0.004 * np.sin(heading) * (np.arange(frames) - frames / 2))

    def varied(self, rng, walker):
        """More turns, and now and then somebody who stands."""
        frames = len(self.x)
        if rng.random() < 0.1:
            sway = 0.15 * np.sin(2 * np.pi * np.arange(frames) / rng.uniform(15, 60))
            return dataclasses.replace(self, x=np.zeros(frames), phase=np.pi / 2 + sway)
        heading = rng.uniform(-np.pi, np.pi) + rng.normal(0, 0.03) * (np.arange(frames) - frames / 2)
        x = np.concatenate([[0.0], np.cumsum(0.95 / walker.stride * np.cos(heading))[:-1]])
        return dataclasses.replace(self, x=x - x[frames // 2], heading=heading)

    def speed(self):
        """Body heights a frame, on average."""
        return float((self.x[-1] - self.x[0]) / max(len(self.x) - 1, 1))


def _things(rng, walk, config):
    if rng.random() >= config.occlusion:
        return []
    frames, speed = len(walk.x), walk.speed()
    persistent = rng.random() < config.persistent
    # What hides somebody for long does so from the beginning on, or to the end, and leaves some frames clear.
    time = int((rng.choice([0.3, 0.7]) if persistent else rng.uniform(0.15, 0.85)) * frames)
    things = [make_thing(rng, meets=walk.x[time], persistent=persistent, speed=speed, time=time)]
    if abs(speed) < 0.03 and things[0].kind != "walker":
        # Somebody who walks towards the camera does not come past standing things: something else moves.
        things = [_moving(things[0], rng.choice([-1, 1]) * rng.uniform(0.05, 0.1), time)]
    if rng.random() < 0.15 and not persistent:
        later = int(rng.uniform(0, 1) * (frames - 1))
        things.append(make_thing(rng, meets=walk.x[later], persistent=False, speed=speed or 0.06, time=later))
    return things


@dataclass(frozen=True, eq=False)
class _Bystander:
    """Somebody behind the walker; x and speed as a `Thing`'s, the ground in body heights above the walker's."""

    person: Person
    x: float
    speed: float
    heading: float
    ground: float
    size: float
    phase: float


def _bystanders(rng, walk, variety):
    if rng.random() < 0.4:
        return []
    frames, found = len(walk.x), []
    for _ in range(int(rng.integers(1, 5))):
        person = any_person(rng) if variety.people else make_person(rng)
        along = rng.random() < 0.4  # they walk together
        speed = walk.speed() + rng.normal(0, 0.003) if along else rng.uniform(-0.1, 0.1)
        time = rng.uniform(0, frames)
        x = walk.x[int(time)] + rng.uniform(-0.6, 0.6) - speed * time
        heading = float(walk.heading[0]) if along else (0.0 if speed > 0 else np.pi) + rng.normal(0, 0.3)
        ground = rng.uniform(0, 0.35)
        found.append(_Bystander(person, x, speed, heading, ground, rng.uniform(0.85, 1.1) - 0.5 * ground,
                                rng.uniform(0, 2 * np.pi)))
    return sorted(found, key=lambda other: -other.ground)


def _moving(thing, speed, time):
    """A standing thing made to pass by, as vehicles do, and everything when a camera turns."""
    return dataclasses.replace(thing, x=thing.x - speed * time, speed=speed)


def _frame(walker, walk, behind, others, things, lens, size, framing, t, noise):
    """(frame, truth, mask, silhouette) at time t."""
    height, width = _FINER * size[0], max(8, round(_FINER * size[1] / framing.stretch[t]))
    body = framing.body[t] * height * walk.size[t]
    foot = width * framing.foot_x[t], height * framing.foot_y[t]
    # The panorama's column at x, and its bottom a little below the feet.
    scale = 2 * body / behind.shape[0]  # it is two body heights tall
    place = np.float32([[scale, 0, foot[0] - (behind.shape[1] / 2 * scale + walk.x[t] * body)],
                        [0, scale, foot[1] + 0.08 * body - behind.shape[0] * scale]])
    picture = cv2.warpAffine(behind, place, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    for other in others:
        x = foot[0] + (other.x + other.speed * t - walk.x[t]) * body
        if -0.5 * body < x < width + 0.5 * body:
            paint_person(picture, other.person, phase=other.phase + 2 * np.pi * t / other.person.stride,
                         heading=other.heading, foot=(x, foot[1] - other.ground * body), light=lens.light,
                         height=other.size * body)
    cover = paint_person(picture, walker, phase=walk.phase[t], heading=walk.heading[t], foot=foot,
                         height=body * lens.squeeze, light=lens.light)
    truth = lens.develop(picture, size, noise)
    silhouette = cv2.resize(cover, size[::-1], interpolation=cv2.INTER_AREA) > 0.5
    hidden = np.zeros(cover.shape, np.float32)
    for thing in things:
        x = foot[0] + (thing.x + thing.speed * t - walk.x[t]) * thing.near * body
        reach = (thing.width + 1) * body
        if -reach < x < width + reach:
            before = picture.copy()
            thing.paint(Layer(picture.shape), picture, x=x, ground=foot[1] + 0.06 * body, height=body, time=t,
                        light=lens.light)
            change = cv2.absdiff(picture, before)
            hidden = np.maximum(hidden, cv2.max(cv2.max(change[..., 0], change[..., 1]), change[..., 2]))
    hidden = hidden > 1e-4
    if not hidden.any():
        return truth, truth, np.zeros(size, bool), silhouette
    frame = lens.develop(picture, size, noise)
    spread = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), lens.spread(size))
    mask = (cv2.resize(spread, size[::-1], interpolation=cv2.INTER_AREA) > _ANY_COVER)
    # A rim that something touches too little to see stays the truth, so that outside the mask all is equal.
    return np.where(mask[..., None], frame, truth), truth, mask, silhouette
