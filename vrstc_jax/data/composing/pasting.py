"""Pastes rectangles of other pictures, people and things in front of a person, people behind them, and shadows."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from vrstc_jax.data.composing.material import SIZE, Ground, Material

_COVERED = 0.12  # a pixel is covered where so much of its colour is another's
_THIRDS = ("top", "middle", "bottom")


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip while it is composed, changed in place; as of `clips.ComposedClip`."""

    frames: np.ndarray
    occluder: np.ndarray
    person: np.ndarray
    nearer: np.ndarray

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> "Scene":
        """A scene of the function's value of each part."""
        return Scene(*(function(part) for part in (self.frames, self.occluder, self.person, self.nearer)))

    def put(self, time: int, picture: np.ndarray, alpha: np.ndarray, paint: "_Paint") -> None:
        """Puts a picture in front, as far as alpha [H, W] goes."""
        alpha = paint.softened(alpha)
        self._mix(time, picture, alpha, paint)
        self.occluder[time] |= alpha > _COVERED

    def put_behind(self, time: int, picture: np.ndarray, alpha: np.ndarray, paint: "_Paint") -> None:
        """Puts a picture in front of the background and behind the person."""
        self._mix(time, picture, paint.softened(alpha) * ~self.person[time], paint)

    def _mix(self, time: int, picture: np.ndarray, alpha: np.ndarray, paint: "_Paint") -> None:
        alpha = alpha[..., None]
        mixed = self.frames[time] * (1 - alpha) + np.clip(picture * paint.gain, 0, 255) * alpha
        self.frames[time] = np.clip(mixed.round(), 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Paint:
    """How a picture is put: with a gain for each colour, and an edge that is soft by so many pixels."""

    gain: np.ndarray
    soft: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "_Paint":
        return cls(rng.uniform(0.85, 1.15, 3) if rng.random() < 0.3 else np.ones(3), rng.uniform(0, 1.2))

    def softened(self, alpha: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(alpha, (0, 0), self.soft) if self.soft > 0.3 else alpha


def paste_in_front(rng: np.random.Generator, material: Material, scene: Scene) -> None:
    """Puts a part of another clip, a person, or a thing in front, for a few frames, many or all."""
    kind = str(rng.choice(["part", "person", "thing"], p=[0.35, 0.45, 0.2]))
    count = len(scene.frames)
    ranges = (1, 4), (3, 11), (min(6, count), count + 1), (count, count + 1)
    length = int(rng.integers(*ranges[int(rng.choice(4, p=[0.12, 0.48, 0.25, 0.15]))]))
    start = int(rng.integers(-length // 2, count - length // 2)) if length < count else 0
    times = range(max(0, start), min(count, start + length))
    if not times:
        return
    other, paint = material.person(rng, count), _Paint.drawn(rng)
    if kind == "part":
        _paste_part(rng, scene, other, times, paint)
    elif kind == "person":
        _paste_person(rng, scene, other, times, paint, behind=False)
    else:
        _paste_thing(rng, scene, other, times, paint)


def paste_behind(rng: np.random.Generator, material: Material, scene: Scene) -> None:
    """Lets another person pass behind: nothing of that hides anything."""
    _paste_person(rng, scene, material.person(rng, len(scene.frames)), range(len(scene.frames)), _Paint.drawn(rng),
                  behind=True)


def shade(rng: np.random.Generator, scene: Scene) -> None:
    """Casts a shadow, or a patch of light, that stays or wanders: it hides nothing."""
    path, shape = _Path.drawn(rng, range(len(scene.frames))), _shape(rng)
    strength, soft = rng.uniform(0.5, 0.9) if rng.random() < 0.7 else rng.uniform(1.1, 1.4), rng.uniform(1, 6)
    for time in range(len(scene.frames)):
        alpha = cv2.GaussianBlur(_placed(shape, path, time), (0, 0), soft)
        factor = 1 + (strength - 1) * alpha[..., None]
        scene.frames[time] = np.clip((scene.frames[time] * factor).round(), 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class _Path:
    """Offsets of something that slides through the clip, or stays: [T, 2], to the right and down, in pixels."""

    offsets: np.ndarray
    first: int

    @classmethod
    def drawn(cls, rng: np.random.Generator, times: range) -> "_Path":
        # Pixels a frame; most things pass in some frames, some stay.
        right = 0.0 if rng.random() < 0.15 else rng.normal() * np.exp(rng.uniform(np.log(0.7), np.log(9)))
        middle, jitter = (times.start + times.stop - 1) / 2, rng.uniform(0, 1)
        passed = np.arange(times.start, times.stop) - middle
        offsets = np.stack([rng.uniform(-0.45, 0.45) * SIZE[1] + right * passed, rng.normal(0, 0.15) * passed], 1)
        return cls(offsets + rng.normal(0, jitter, offsets.shape), times.start)

    def at(self, time: int) -> np.ndarray:
        return self.offsets[time - self.first]


def _paste_part(rng: np.random.Generator, scene: Scene, other: Ground, times: range, paint: _Paint) -> None:
    """A third, a side or any rectangle of another clip in place, mostly still, sometimes sliding."""
    alpha = _rectangle(rng)
    speed = np.array([rng.normal(0, 5), rng.normal(0, 1)]) if rng.random() < 0.25 else np.zeros(2)
    jitter = rng.uniform(0, 1.5) if rng.random() < 0.3 else 0.0
    # A third that only shakes covers all columns, however it shakes.
    border = cv2.BORDER_CONSTANT if speed.any() else cv2.BORDER_REPLICATE
    for time in times:
        move = speed * (time - (times.start + times.stop) / 2) + rng.normal(0, 1, 2) * jitter
        scene.put(time, other.clear[time], _moved(alpha, move, border), paint)


def _rectangle(rng: np.random.Generator) -> np.ndarray:
    height, width = SIZE
    alpha = np.zeros(SIZE, np.float32)
    where, (first, second) = str(rng.choice([*_THIRDS, "left", "right", "any"])), rng.uniform(-0.14, 0.14, 2)
    if where in _THIRDS:
        edges = [0, round((1 / 3 + first) * height), round((2 / 3 + second) * height), height]
        band = _THIRDS.index(where)
        alpha[edges[band]:edges[band + 1]] = 1
    elif where == "any":
        (top, bottom), (left, right) = np.sort(rng.integers(0, height, 2)), np.sort(rng.integers(0, width, 2))
        alpha[top:max(bottom, top + 12), left:max(right, left + 6)] = 1
    else:
        across = int((0.5 + 1.7 * first) * width)
        alpha[:, slice(None, across) if where == "left" else slice(across, None)] = 1
    return alpha


def _paste_person(rng: np.random.Generator, scene: Scene, other: Ground, times: range, paint: _Paint, *,
                  behind: bool) -> None:
    """Another person who passes, in front or behind; in front, their boxes are noted as nearer."""
    height, width = SIZE
    size = rng.uniform(0.6, 1.05) if behind else rng.uniform(0.85, 1.5)
    down = rng.uniform(-0.25, 0.05) * height if behind else rng.uniform(-0.06, 0.35) * height
    path = _Path.drawn(rng, times)
    for time in times:
        right, lower = path.at(time)
        box = np.array([[size, 0, width / 2 * (1 - size) + right],
                        [0, size, height * (1 - size) + down + lower + (size - 1) * 0.1 * height]], np.float32)
        alpha = cv2.warpAffine(other.person[time].astype(np.float32), box, (width, height))
        picture = cv2.warpAffine(np.ascontiguousarray(other.clear[time]), box, (width, height),
                                 borderMode=cv2.BORDER_REFLECT)
        if behind:
            scene.put_behind(time, picture, alpha, paint)
        else:
            scene.put(time, picture, alpha, paint)
            _note_box(rng, scene.nearer[time], other.person[time], box)


def _note_box(rng: np.random.Generator, nearer: np.ndarray, person: np.ndarray, box: np.ndarray) -> None:
    rows, columns = np.nonzero(person)
    if not len(rows):
        return
    corners = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]], np.float32)
    corners = corners @ box[:, :2].T + box[:, 2]
    corners += rng.normal(0, 0.05, (2, 2)) * (corners[1] - corners[0])  # a tracker's, not perfect
    (left, top), (right, bottom) = corners.round().astype(int).clip(0)
    nearer[top:bottom, left:right] = True


def _paste_thing(rng: np.random.Generator, scene: Scene, other: Ground, times: range, paint: _Paint) -> None:
    """A rectangle, polygon or ellipse with some texture."""
    shape, texture, path = _shape(rng), _texture(rng, other.clear), _Path.drawn(rng, times)
    down = np.array([0, rng.uniform(-0.4, 0.5) * SIZE[0]])
    for time in times:
        box = _centred(path.at(time) + down)
        picture = cv2.warpAffine(texture, box, SIZE[::-1], borderMode=cv2.BORDER_REFLECT)
        scene.put(time, picture, cv2.warpAffine(shape, box, SIZE[::-1]), paint)


def _placed(shape: np.ndarray, path: _Path, time: int) -> np.ndarray:
    return cv2.warpAffine(shape, _centred(path.at(time)), SIZE[::-1])


def _centred(offset: np.ndarray) -> np.ndarray:
    """Puts the middle of a plane of twice the size in the frame's middle, and `offset` from there."""
    return np.array([[1, 0, offset[0] - SIZE[1] / 2], [0, 1, offset[1] - SIZE[0] / 2]], np.float32)


def _moved(alpha: np.ndarray, offset: np.ndarray, border: int) -> np.ndarray:
    return cv2.warpAffine(alpha, np.array([[1, 0, offset[0]], [0, 1, offset[1]]], np.float32), SIZE[::-1],
                          borderMode=border)


def _shape(rng: np.random.Generator) -> np.ndarray:
    """A thing's shape, float32 [2 H, 2 W], in the middle: from a pole's to a car's."""
    height, width = SIZE
    shape, draw = np.zeros((2 * height, 2 * width), np.float32), rng.random()
    if draw < 0.4:
        wide = width * np.exp(rng.uniform(np.log(0.06), np.log(1.2)))
        tall = height * np.exp(rng.uniform(np.log(0.15), np.log(2.2)))
        cv2.rectangle(shape, (int(width - wide / 2), int(height - tall / 2)),
                      (int(width + wide / 2), int(height + tall / 2)), 1.0, -1)
    elif draw < 0.7:
        count = int(rng.integers(4, 9))
        angles, radii = np.sort(rng.uniform(0, 2 * np.pi, count)), rng.uniform(0.3, 1, count)
        points = np.stack([width + np.cos(angles) * radii * width * rng.uniform(0.2, 0.7),
                           height + np.sin(angles) * radii * height * rng.uniform(0.2, 0.8)], 1)
        cv2.fillPoly(shape, [points.astype(np.int32)], 1.0)
    else:
        axes = int(width * rng.uniform(0.08, 0.6)), int(height * rng.uniform(0.1, 0.6))
        cv2.ellipse(shape, (width, height), axes, rng.uniform(-20, 20), 0, 360, 1.0, -1)
    return shape


def _texture(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """What a thing looks like, uint8 [2 H, 2 W, 3]: a wall of another picture, plain, or a part of it enlarged."""
    height, width = SIZE
    frame, draw = np.ascontiguousarray(frames[int(rng.integers(len(frames)))]), rng.random()
    if draw < 0.35:
        part = frame[:, :10] if rng.random() < 0.5 else frame[:, -10:]
    elif draw < 0.7:
        colour = rng.integers(0, 256, 3) * rng.uniform(0.3, 1)
        shades = np.linspace(rng.uniform(0.7, 1.1), rng.uniform(0.7, 1.1), 2 * height)[:, None, None]
        grain = rng.normal(0, rng.uniform(2, 25), (int(2 ** rng.uniform(2, 8)), int(2 ** rng.uniform(2, 7))))
        grain = cv2.resize(grain.astype(np.float32), (2 * width, 2 * height))[..., None]
        return np.clip(colour * shades + grain, 0, 255).astype(np.uint8)
    else:
        top, left = int(rng.integers(height - 40)), int(rng.integers(width - 24))
        part = frame[top:top + 40, left:left + 24]
    return cv2.resize(np.ascontiguousarray(part), (2 * width, 2 * height))
