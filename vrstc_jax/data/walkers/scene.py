"""Synthetic walkers written as a user's footage would be: a video of a scene, and folders of tracklets."""

import os
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from tqdm import tqdm

from vrstc_jax.data.images import write_png
from vrstc_jax.data.walkers.backgrounds import panorama
from vrstc_jax.data.walkers.cameras import Camera, make_camera
from vrstc_jax.data.walkers.occluders import Occluder, make_occluder
from vrstc_jax.data.walkers.painting import Layer
from vrstc_jax.data.walkers.people import make_person, paint_person
from vrstc_jax.data.walkers.tracks import WalkerConfig, make_tracklets, people
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import require_writable_directory

_SIZE = 360, 640  # height, width of the video
_RATE = 10  # frames per second
_WALKERS, _OCCLUDERS = 6, 4

_Window = tuple[slice, slice]  # rows, columns


def write_walkers(directory: str | Path, *, number: int = 12, frames: int = 24, seed: int = 0,
                  scene_frames: int = 120) -> None:
    """Writes synthetic footage; the directory appears when all of it is written.

    DIR/scene/scene.mp4, boxes.txt and masks/<track>/<frame>.png; DIR/tracklets/frames, masks and truth, each
    <person>/<camera>/<tracklet>/<frame>.png.

    Args:
      number: of people in the folders of tracklets, each in two cameras; they are people for testing.
      frames: in each tracklet.
      seed: of everything random.
      scene_frames: in the video.

    Raises:
      InputError: the directory exists and is not empty, or cannot be written.
    """
    directory = Path(directory).absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{directory}: exists and is not empty; give a new folder.")
    require_writable_directory(directory.parent)
    unfinished = directory.with_name(f".{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    _write_scene(unfinished / "scene", scene_frames, seed)
    _write_tracklets(unfinished / "tracklets", number, frames, seed)
    if directory.exists():
        directory.rmdir()
    os.replace(unfinished, directory)


def _write_tracklets(directory: Path, number: int, frames: int, seed: int) -> None:
    config = WalkerConfig(frames=frames)
    for tracklet in tqdm(make_tracklets(people("test", number), seed=seed, config=config), desc="tracklets",
                         unit="tracklet", dynamic_ncols=True):
        for i, name in enumerate(tracklet.frame_names):
            for part in ("frames", "masks", "truth"):
                write_png(directory / part / tracklet.name / f"{name}.png", getattr(tracklet, part)[i])


class _Actor:
    """A person who crosses the picture. Lengths are in pixels of the video."""

    def __init__(self, rng: np.random.Generator, number: int):
        self.track = number + 1
        self.person = make_person(rng)
        self.ground = _SIZE[0] * rng.uniform(0.62, 0.93)
        self.height = 0.36 * self.ground
        self.direction = int(rng.choice([-1, 1]))
        self.speed = self.direction * 0.95 / self.person.stride * self.height
        self.start = rng.uniform(0.05, 0.45) * _SIZE[1] if self.direction > 0 else rng.uniform(0.55, 0.95) * _SIZE[1]
        self.phase = rng.uniform(0, 2 * np.pi)

    def x(self, time: int) -> float:
        """Of the feet at a frame."""
        return self.start + self.speed * time

    def reach(self) -> float:
        """How far it extends sideways from x, in body heights."""
        return 0.6

    def paint(self, part: np.ndarray, x: float, ground: float, time: int, light: float) -> None:
        """Paints the person onto a part of the picture; x and ground are of that part."""
        paint_person(part, self.person, phase=self.phase + 2 * np.pi * time / self.person.stride,
                     heading=0.0 if self.direction > 0 else np.pi, foot=(x, ground), height=self.height, light=light)

    def box(self, time: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Left, top, width, height of a tracker's box, whole pixels, with jitter."""
        jitter = rng.normal(0, 0.012, 4) * self.height
        left, top = self.x(time) - 0.25 * self.height + jitter[0], self.ground - 1.04 * self.height + jitter[1]
        width, height = 0.5 * self.height + jitter[2], 1.08 * self.height + jitter[3]
        return round(left), round(top), round(width), round(height)


@dataclass(frozen=True, eq=False)
class _FixedOccluder:
    """A thing a little nearer to the camera than the actor who passes behind it. Lengths as `_Actor`'s."""

    ground: float
    height: float  # of a body there
    thing: Occluder
    left: float

    def x(self, time: int) -> float:
        """Of its middle, at any frame."""
        return self.left

    def reach(self) -> float:
        """As `_Actor.reach`."""
        return 0.3 + self.thing.width / 2

    def paint(self, part: np.ndarray, x: float, ground: float, time: int, light: float) -> None:
        """As `_Actor.paint`."""
        self.thing.paint(Layer(part.shape), part, x=x, ground=ground, height=self.height, time=time, light=light)


@dataclass(frozen=True, eq=False)
class _Scene:
    behind: np.ndarray  # float32 [*_SIZE, 3]
    actors: list[_Actor]
    occluders: list[_FixedOccluder]
    lens: Camera


def _draw_scene(rng: np.random.Generator, frames: int) -> _Scene:
    lens = make_camera(rng)
    behind = panorama(rng, rng)
    middle = behind.shape[1] // 2
    # 172 columns: the panorama's middle in the video's aspect ratio.
    behind = cv2.resize(behind[:, middle - 86:middle + 86], _SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    actors = [_Actor(rng, k) for k in range(_WALKERS)]
    occluders = []
    for k in range(_OCCLUDERS):
        passed = actors[k % _WALKERS]
        thing = make_occluder(rng, meets=0.0, persistent=False, speed=0.0, time=0)
        while thing.kind in ("walker", "banner"):
            thing = make_occluder(rng, meets=0.0, persistent=False, speed=0.0, time=0)
        time = int(rng.uniform(0.2, 0.6) * frames)
        at = np.clip(passed.x(time), 0.15 * _SIZE[1], 0.85 * _SIZE[1])
        occluders.append(_FixedOccluder(passed.ground + 4, passed.height, thing, float(at)))
    return _Scene(behind, actors, occluders, lens)


def _write_scene(directory: Path, frames: int, seed: int) -> None:
    directory.mkdir(parents=True)
    rng = np.random.default_rng([seed, 99, 1])
    scene = _draw_scene(rng, frames)
    boxes = []
    with av.open(str(directory / "scene.mp4"), "w") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"  # not all builds of FFmpeg have libx264
        stream = container.add_stream(codec, rate=Fraction(_RATE))
        stream.width, stream.height, stream.pix_fmt = _SIZE[1], _SIZE[0], "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "18"}
        else:
            stream.bit_rate = 4_000_000
        for t in tqdm(range(frames), desc="scene", unit="frame", dynamic_ncols=True):
            picture, hidden = _paint_scene(scene, t)
            noise = rng.standard_normal((*_SIZE, 3)).astype(np.float32)
            frame = scene.lens.develop(picture, _SIZE, noise)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            for actor in scene.actors:
                left, top, width, height = actor.box(t, rng)
                clipped = max(left, 0), max(top, 0), min(left + width, _SIZE[1]), min(top + height, _SIZE[0])
                if clipped[2] - clipped[0] < width // 2:  # A tracker loses who is half out of the picture.
                    continue
                boxes.append((t + 1, actor.track, left, top, width, height))
                write_png(directory / "masks" / str(actor.track) / f"{t + 1:06d}.png",
                          hidden[actor.track][clipped[1]:clipped[3], clipped[0]:clipped[2]])
        container.mux(stream.encode())
    lines = [",".join(map(str, (*box, 1, -1, -1, -1))) for box in sorted(boxes)]
    (directory / "boxes.txt").write_text("\n".join(lines) + "\n")


def _paint_scene(scene: _Scene, t: int) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """The scene at a frame, float32 [H, W, 3], and for each track what hides it, bool [H, W]."""
    picture, lens = scene.behind.copy(), scene.lens
    hidden = {actor.track: np.zeros(_SIZE, bool) for actor in scene.actors}
    painted: list[_Actor] = []
    # Masks grow by as much as the lens' blur and the video's compression spread an occluder.
    margin = 1 + int(np.ceil(1.5 * lens.blur * _SIZE[0] / 256))
    spread = np.ones((2 * margin + 1, 2 * margin + 1))
    for item in sorted([*scene.actors, *scene.occluders], key=lambda item: item.ground):  # the farthest first
        x = item.x(t)
        window = _window(x, item.ground, item.height, item.reach())
        part = picture[window]
        if not part.size:
            continue
        before = part.copy()
        item.paint(part, x - window[1].start, item.ground - window[0].start, t, lens.light)
        changed = cv2.dilate((cv2.absdiff(part, before).max(-1) > 1e-4).astype(np.uint8), spread) > 0
        for actor in painted:
            hidden[actor.track][window] |= changed
        if isinstance(item, _Actor):
            painted.append(item)
    return picture, hidden


def _window(x: float, ground: float, height: float, reach: float) -> _Window:
    """The part of the picture that an item can touch; painting only there is several times faster."""
    rows = slice(max(0, int(ground - 2.6 * height)), min(_SIZE[0], int(ground + 0.2 * height)))
    return rows, slice(max(0, int(x - reach * height)), max(0, min(_SIZE[1], int(x + reach * height) + 1)))
