"""Made-up walkers written as a user would have them: a video of a scene, and folders of tracklets."""

import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from tqdm import tqdm

from vrstc_jax.data.images import write_png
from vrstc_jax.data.walkers.cameras import make_camera
from vrstc_jax.data.walkers.painting import Layer
from vrstc_jax.data.walkers.people import make_person, paint_person
from vrstc_jax.data.walkers.surroundings import make_thing, panorama
from vrstc_jax.data.walkers.tracks import WalkerConfig, make_tracklets, people
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import require_writable_directory

_SIZE = 360, 640
_FRAMES, _RATE = 120, 10
_WALKERS, _THINGS = 6, 4


def write_walkers(directory, *, number: int = 12, frames: int = 24, seed: int = 0) -> None:
    """Writes made-up footage; under another name first.

    DIR/scene/scene.mp4, boxes.txt and masks/<track>/<frame>.png; DIR/tracklets/frames, masks and truth, each
    <person>/<camera>/<tracklet>/<frame>.png.

    Args:
      number: of people in the folders of tracklets, each in two cameras; they are people for testing.
      frames: in each tracklet.

    Raises:
      InputError: the directory is there and not empty, or cannot be written.
    """
    directory = Path(directory).absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{directory}: is there already and not empty; give a new folder.")
    require_writable_directory(directory.parent)
    unfinished = directory.with_name(f".{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    _write_scene(unfinished / "scene", seed)
    _write_tracklets(unfinished / "tracklets", number, frames, seed)
    if directory.exists():
        directory.rmdir()
    os.replace(unfinished, directory)


def _write_tracklets(directory, number, frames, seed):
    config = WalkerConfig(frames=frames)
    for tracklet in tqdm(make_tracklets(people("test", number), seed=seed, config=config), desc="tracklets",
                         unit="tracklet", dynamic_ncols=True):
        for i, name in enumerate(tracklet.frame_names):
            for part in ("frames", "masks", "truth"):
                write_png(directory / part / tracklet.name / f"{name}.png", getattr(tracklet, part)[i])


class _Actor:
    """Somebody who crosses the picture: where, how large, how fast."""

    def __init__(self, rng, number):
        self.track = number + 1
        self.person = make_person(rng)
        self.ground = _SIZE[0] * rng.uniform(0.62, 0.93)
        self.height = 0.36 * self.ground
        self.direction = int(rng.choice([-1, 1]))
        self.speed = self.direction * 0.95 / self.person.stride * self.height
        self.start = rng.uniform(0.05, 0.45) * _SIZE[1] if self.direction > 0 else rng.uniform(0.55, 0.95) * _SIZE[1]
        self.phase = rng.uniform(0, 2 * np.pi)

    def x(self, time):
        """Of the feet, in pixels."""
        return self.start + self.speed * time

    def box(self, time, rng):
        """Left, top, width, height of a tracker's box, whole pixels; it jitters."""
        jitter = rng.normal(0, 0.012, 4) * self.height
        left, top = self.x(time) - 0.25 * self.height + jitter[0], self.ground - 1.04 * self.height + jitter[1]
        return tuple(int(round(v)) for v in (left, top, 0.5 * self.height + jitter[2], 1.08 * self.height + jitter[3]))


def _write_scene(directory, seed):
    directory.mkdir(parents=True)
    rng = np.random.default_rng([seed, 99, 1])
    lens = make_camera(rng)
    behind = panorama(rng, rng)
    middle = behind.shape[1] // 2
    behind = cv2.resize(behind[:, middle - 86:middle + 86], _SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    actors = [_Actor(rng, k) for k in range(_WALKERS)]
    # Things stand a little nearer than somebody who passes them.
    things = []
    for k in range(_THINGS):
        passed = actors[k % _WALKERS]
        thing = make_thing(rng, meets=0.0, persistent=False, speed=0.0, time=0)
        while thing.kind in ("walker", "banner"):
            thing = make_thing(rng, meets=0.0, persistent=False, speed=0.0, time=0)
        time = int(rng.uniform(0.2, 0.6) * _FRAMES)
        at = np.clip(passed.x(time), 0.15 * _SIZE[1], 0.85 * _SIZE[1])
        things.append((passed.ground + 4, passed.height, thing, float(at)))
    boxes = []
    with av.open(str(directory / "scene.mp4"), "w") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = container.add_stream(codec, rate=Fraction(_RATE))
        stream.width, stream.height, stream.pix_fmt = _SIZE[1], _SIZE[0], "yuv420p"
        if codec == "libx264":
            stream.options = {"crf": "18"}
        else:
            stream.bit_rate = 4_000_000
        for t in tqdm(range(_FRAMES), desc="scene", unit="frame", dynamic_ncols=True):
            picture, covers = _picture(behind, actors, things, lens, t)
            noise = rng.standard_normal((*_SIZE, 3)).astype(np.float32)
            frame = lens.develop(picture, _SIZE, noise)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            for actor in actors:
                left, top, width, height = actor.box(t, rng)
                clipped = max(left, 0), max(top, 0), min(left + width, _SIZE[1]), min(top + height, _SIZE[0])
                if clipped[2] - clipped[0] < width // 2:  # leaving the picture: a tracker has lost them
                    continue
                boxes.append((t + 1, actor.track, left, top, width, height))
                hidden = covers[actor.track][clipped[1]:clipped[3], clipped[0]:clipped[2]]
                write_png(directory / "masks" / str(actor.track) / f"{t + 1:06d}.png", hidden)
        container.mux(stream.encode())
    lines = [",".join(map(str, (*box, 1, -1, -1, -1))) for box in sorted(boxes)]
    (directory / "boxes.txt").write_text("\n".join(lines) + "\n")


def _picture(behind, actors, things, lens, t):
    """The scene at a time, and for each track what is hidden by something nearer, bool [H, W]."""
    picture = behind.copy()
    covers = {actor.track: np.zeros(_SIZE, bool) for actor in actors}
    painted = []
    # As far as the lens' blur and the video's compression carry what is seen.
    margin = 1 + int(np.ceil(1.5 * lens.blur * _SIZE[0] / 256))
    spread = np.ones((2 * margin + 1, 2 * margin + 1))
    for ground, item in sorted([(actor.ground, actor) for actor in actors] + [(g[0], g) for g in things],
                               key=lambda entry: entry[0]):
        x, height = (item.x(t), item.height) if isinstance(item, _Actor) else (item[3], item[1])
        window = _window(x, ground, height, 0.6 if isinstance(item, _Actor) else 0.3 + item[2].width / 2)
        part = picture[window]
        if not part.size:
            continue
        before, left, top = part.copy(), window[1].start, window[0].start
        if isinstance(item, _Actor):
            phase = item.phase + 2 * np.pi * t / item.person.stride
            paint_person(part, item.person, phase=phase, heading=0.0 if item.direction > 0 else np.pi,
                         foot=(x - left, ground - top), height=height, light=lens.light)
        else:
            item[2].paint(Layer(part.shape), part, x=x - left, ground=ground - top, height=height, time=t,
                          light=lens.light)
        changed = cv2.dilate((cv2.absdiff(part, before).max(-1) > 1e-4).astype(np.uint8), spread) > 0
        for actor in painted:
            covers[actor.track][window] |= changed
        if isinstance(item, _Actor):
            painted.append(item)
    return picture, covers


def _window(x, ground, height, reach):
    """The part of the picture (rows, columns) that something can touch, so that no more is painted."""
    rows = slice(max(0, int(ground - 2.6 * height)), min(_SIZE[0], int(ground + 0.2 * height)))
    return rows, slice(max(0, int(x - reach * height)), max(0, min(_SIZE[1], int(x + reach * height) + 1)))
