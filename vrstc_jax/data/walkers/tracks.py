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
from vrstc_jax.data.walkers.painting import Layer
from vrstc_jax.data.walkers.people import make_person, paint_person
from vrstc_jax.data.walkers.places import PANORAMA_SCALE, make_thing, panorama
from vrstc_jax.errors import InputError

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
    """

    height: int = 128
    width: int = 64
    frames: int = 16
    occlusion: float = 0.5
    persistent: float = 0.1
    jitter: float = 0.03


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


@dataclass(frozen=True)
class Camera:
    """How a camera sees: colour cast [3], exposure, contrast, blur and noise, and where light comes from."""

    cast: np.ndarray
    exposure: float
    contrast: float
    blur: float
    noise: float
    light: float
    squeeze: float  # of heights, by a camera that looks down

    def develop(self, picture, size, noise):
        """float32 [H·2, W·2, 3] in [0, 1] to uint8 [*size, 3]."""
        picture = cv2.GaussianBlur(picture, (0, 0), self.blur * picture.shape[0] / 256)
        picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA)
        seen = (picture * self.cast * self.exposure - 0.5) * self.contrast + 0.5
        return np.clip(np.round((seen + self.noise * noise) * 255), 0, 255).astype(np.uint8)


def make_camera(rng: np.random.Generator) -> Camera:
    """Draws a camera."""
    return Camera(cast=np.clip(1 + rng.normal(0, 0.06, 3), 0.8, 1.2).astype(np.float32),
                  exposure=rng.uniform(0.75, 1.25), contrast=rng.uniform(0.8, 1.2), blur=rng.uniform(0.6, 2.0),
                  noise=rng.uniform(0.004, 0.025), light=rng.uniform(-1, 1), squeeze=rng.uniform(0.9, 1.0))


@lru_cache(maxsize=4)
def _painted(person, camera, seed, config):
    """(frames, truth, masks, silhouettes) of a tracklet, each [T, …]."""
    rng = np.random.default_rng([seed, person, camera, 17])
    lens = make_camera(np.random.default_rng([seed, camera, 5]))
    walker = make_person(np.random.default_rng([seed, person]))
    walk = _Walk.draw(rng, walker, config.frames)
    behind = panorama(rng, np.random.default_rng([seed, camera, 6]))
    things = _things(rng, walk, config)
    size = config.height, config.width
    jitter = rng.normal(0, config.jitter, (config.frames, 3))
    frames = []
    for t in range(config.frames):
        noise = rng.standard_normal((*size, 3)).astype(np.float32)
        noise = 0.6 * noise + 0.4 * cv2.GaussianBlur(noise, (0, 0), 1.0) * 2.5
        frames.append(_frame(walker, walk, behind, things, lens, size, jitter[t], t, noise))
    return tuple(np.stack(part) for part in zip(*frames))


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


def _moving(thing, speed, time):
    """A standing thing made to pass by, as vehicles do, and everything when a camera turns."""
    return dataclasses.replace(thing, x=thing.x - speed * time, speed=speed)


def _frame(walker, walk, behind, things, lens, size, jitter, t, noise):
    """(frame, truth, mask, silhouette) at time t."""
    height, width = _FINER * size[0], _FINER * size[1]
    body = 0.88 * height * walk.size[t] * (1 + jitter[0])
    foot = (width / 2 * (1 + 2 * jitter[1]), height * (0.95 + jitter[2]))
    # The panorama's column at x, and its bottom a little below the feet.
    scale = body / PANORAMA_SCALE
    place = np.float32([[scale, 0, foot[0] - (behind.shape[1] / 2 + walk.x[t] * PANORAMA_SCALE) * scale],
                        [0, scale, foot[1] + 0.08 * body - behind.shape[0] * scale]])
    picture = cv2.warpAffine(behind, place, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
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
    spread = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), lens.blur * height / 256)
    mask = (cv2.resize(spread, size[::-1], interpolation=cv2.INTER_AREA) > _ANY_COVER)
    # A rim that something touches too little to see stays the truth, so that outside the mask all is equal.
    return np.where(mask[..., None], frame, truth), truth, mask, silhouette
