"""Writes made-up walkers in the form of a user's footage: a video of a scene, and folders of tracklets."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from tqdm import tqdm

from vrstc_jax.data.images import write_png
from vrstc_jax.data.inputs.boxes import clip_box
from vrstc_jax.data.walkers.backgrounds import panorama
from vrstc_jax.data.walkers.cameras import Camera, make_camera
from vrstc_jax.data.walkers.occluders import make_occluder
from vrstc_jax.data.walkers.painting import Layer
from vrstc_jax.data.walkers.people import make_person, paint_person
from vrstc_jax.data.walkers.tracks import WalkerConfig, make_tracklets, people
from vrstc_jax.runtime import lock
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import require_writable_directory

_SIZE = 360, 640  # height, width of the video
_RATE = 10  # frames per second
_WALKERS, _OCCLUDERS = 6, 4


def write_walkers(directory: str | Path, *, number: int = 12, frames: int = 24, seed: int = 0,
                  scene_frames: int = 120) -> None:
    """Writes made-up footage; the directory appears when all of it is written.

    DIR/scene/scene.mp4, boxes.txt and masks/<track>/<frame>.png; DIR/tracklets/frames, masks and truth, each
    <person>/<camera>/<tracklet>/<frame>.png.

    Args:
      number: of people in the folders of tracklets, each in two cameras; they are people for testing.
      frames: in each tracklet.
      seed: of all random numbers.
      scene_frames: in the video.

    Raises:
      InputError: the directory exists and is not empty, or cannot be written, or another process is writing it.
    """
    directory = Path(directory).absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{directory}: exists and is not empty; give a new folder.")
    require_writable_directory(directory.parent)
    with lock.releasing():
        lock.take(directory, beside=True)
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


@dataclass(frozen=True, eq=False)
class _Item:
    """A person who crosses the picture, or a thing that hides people who pass behind it.

    Attributes:
      ground: row of the picture where it meets the ground; items with a larger one are nearer.
      height: of a body there, in pixels.
      start, speed: of its middle, x at frame 0 and its change per frame, in pixels.
      reach: how far it extends sideways from its middle, in body heights.
      paint: (part of the picture, x, ground, frame, light) paints it in place; x and ground are pixels of the part.
      track: a person's track number, from 1; 0 for a thing.
    """

    ground: float
    height: float
    start: float
    speed: float
    reach: float
    paint: Callable[[np.ndarray, float, float, int, float], object]
    track: int = 0

    def x(self, time: int) -> float:
        """Column of its middle at a frame, in pixels."""
        return self.start + self.speed * time

    def box(self, time: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """A tracker's box of a person: left, top, width, height in whole pixels, with jitter."""
        jitter = rng.normal(0, 0.012, 4) * self.height
        left, top = self.x(time) - 0.25 * self.height + jitter[0], self.ground - 1.04 * self.height + jitter[1]
        width, height = 0.5 * self.height + jitter[2], 1.08 * self.height + jitter[3]
        return round(left), round(top), round(width), round(height)


def _draw_actor(rng: np.random.Generator, track: int) -> _Item:
    person = make_person(rng)
    ground = _SIZE[0] * rng.uniform(0.62, 0.93)
    height = 0.36 * ground
    direction = int(rng.choice([-1, 1]))
    start = (rng.uniform(0.05, 0.45) if direction > 0 else rng.uniform(0.55, 0.95)) * _SIZE[1]
    phase = rng.uniform(0, 2 * np.pi)

    def paint(part: np.ndarray, x: float, ground: float, time: int, light: float) -> None:
        paint_person(part, person, phase=phase + 2 * np.pi * time / person.stride, foot=(x, ground), height=height,
                     heading=0.0 if direction > 0 else np.pi, light=light)

    return _Item(ground, height, start, direction * 0.95 / person.stride * height, 0.6, paint, track)


def _draw_occluder(rng: np.random.Generator, passed: _Item, frames: int) -> _Item:
    """A fixed thing, a little nearer to the camera than the person `passed`."""
    thing = make_occluder(rng, meets=0.0, persistent=False, speed=0.0, time=0)
    # A walker would need a track, and a banner hangs in the air.
    while thing.kind in ("walker", "banner"):
        thing = make_occluder(rng, meets=0.0, persistent=False, speed=0.0, time=0)
    at = float(np.clip(passed.x(int(rng.uniform(0.2, 0.6) * frames)), 0.15 * _SIZE[1], 0.85 * _SIZE[1]))

    def paint(part: np.ndarray, x: float, ground: float, time: int, light: float) -> None:
        thing.paint(Layer(part.shape), part, x=x, ground=ground, height=passed.height, time=time, light=light)

    return _Item(passed.ground + 4, passed.height, at, 0.0, 0.3 + thing.width / 2, paint)


def _write_scene(directory: Path, frames: int, seed: int) -> None:
    directory.mkdir(parents=True)
    rng = np.random.default_rng([seed, 99, 1])
    lens = make_camera(rng)
    behind = panorama(rng, rng)
    middle = behind.shape[1] // 2
    # 172 columns: the panorama's middle in the video's aspect ratio.
    behind = cv2.resize(behind[:, middle - 86:middle + 86], _SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    actors = [_draw_actor(rng, track) for track in range(1, _WALKERS + 1)]
    items = [*actors, *(_draw_occluder(rng, actors[k % _WALKERS], frames) for k in range(_OCCLUDERS))]
    boxes = []
    with av.open(str(directory / "scene.mp4"), "w") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"  # not all builds of FFmpeg have libx264
        stream = container.add_stream(codec, rate=Fraction(_RATE))
        stream.width, stream.height, stream.pix_fmt = _SIZE[1], _SIZE[0], "yuv420p"
        if codec == "libx264":
            # With macroblock-tree rate control, and with several threads, bytes may differ from run to run.
            stream.options = {"crf": "18", "x264-params": "mbtree=0:threads=1"}
        else:
            stream.bit_rate = 4_000_000
        for t in tqdm(range(frames), desc="scene", unit="frame", dynamic_ncols=True):
            picture, hidden = _paint_scene(behind.copy(), items, lens, t)
            noise = rng.standard_normal((*_SIZE, 3)).astype(np.float32)
            frame = lens.develop(picture, _SIZE, noise)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            for actor in actors:
                box = actor.box(t, rng)
                clipped = clip_box(box, _SIZE)
                if clipped is None or clipped[2] < box[2] // 2:  # a tracker loses people who are half outside
                    continue
                boxes.append((t + 1, actor.track, *box))
                left, top, width, height = clipped
                write_png(directory / "masks" / str(actor.track) / f"{t + 1:06d}.png",
                          hidden[actor.track][top:top + height, left:left + width])
        container.mux(stream.encode())
    lines = [",".join(map(str, (*box, 1, -1, -1, -1))) for box in sorted(boxes)]
    (directory / "boxes.txt").write_text("\n".join(lines) + "\n")


def _paint_scene(picture: np.ndarray, items: Sequence[_Item], lens: Camera,
                 t: int) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Paints the items at a frame onto the background, float32 [*_SIZE, 3], in place.

    Returns:
      (the picture; for each track its hidden pixels, bool [*_SIZE]).
    """
    hidden = {item.track: np.zeros(_SIZE, bool) for item in items if item.track}
    painted: list[int] = []  # tracks
    # Masks grow by as much as the lens' blur and the video's compression spread an occluder.
    margin = 1 + int(np.ceil(1.5 * lens.blur * _SIZE[0] / 256))
    spread = np.ones((2 * margin + 1, 2 * margin + 1))
    for item in sorted(items, key=lambda item: item.ground):  # the farthest first
        x = item.x(t)
        window = _window(x, item)
        part = picture[window]
        if not part.size:
            continue
        before = part.copy()
        item.paint(part, x - window[1].start, item.ground - window[0].start, t, lens.light)
        changed = cv2.dilate((cv2.absdiff(part, before).max(-1) > 1e-4).astype(np.uint8), spread) > 0
        # Whatever is painted later is nearer, so it hides everybody who is painted already.
        for track in painted:
            hidden[track][window] |= changed
        if item.track:
            painted.append(item.track)
    return picture, hidden


def _window(x: float, item: _Item) -> tuple[slice, slice]:
    """The rows and columns that an item at x can touch; painting only there is several times faster."""
    rows = slice(max(0, int(item.ground - 2.6 * item.height)), min(_SIZE[0], int(item.ground + 0.2 * item.height)))
    side = item.reach * item.height
    return rows, slice(max(0, int(x - side)), max(0, min(_SIZE[1], int(x + side) + 1)))
