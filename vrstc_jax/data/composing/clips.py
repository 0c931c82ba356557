"""Composes a training clip as footage has them: in half of them nothing is hidden, in others most of a clip is."""

from dataclasses import dataclass

import cv2
import numpy as np

from vrstc_jax.data.composing.material import SIZE, Material
from vrstc_jax.data.composing.pasting import Scene, paste_behind, paste_in_front, shade
from vrstc_jax.data.walkers.motion import drifting

_PAINTED = 0.5  # of the clips of walkers who were painted with occluders have these


@dataclass(frozen=True, eq=False)
class ComposedClip:
    """T frames of a person, with the truth.

    Attributes:
      frames: uint8 [T, H, W, 3].
      occluder: bool [T, H, W], what is in front of the person's place.
      person: bool [T, H, W], the whole person.
      nearer: bool [T, H, W], the boxes of people in front; all false where they are not known.
      boxes_known: whether they are.
      times: float32 [T].
    """

    frames: np.ndarray
    occluder: np.ndarray
    person: np.ndarray
    nearer: np.ndarray
    boxes_known: bool
    times: np.ndarray


def compose(rng: np.random.Generator, material: Material, count: int) -> ComposedClip:
    """A clip of `count` frames."""
    ground = material.person(rng, count)
    painted = bool(ground.occluder.any()) and rng.random() < _PAINTED
    occluder = ground.occluder if painted else np.zeros_like(ground.occluder)
    scene = Scene(ground.frames if painted else ground.clear, occluder, ground.person,
                  nearer=np.zeros_like(ground.person))
    if not painted and rng.random() < 0.2:
        paste_behind(rng, material, scene)
    if rng.random() < 0.15:
        shade(rng, scene)
    if rng.random() < (0.2 if painted else 0.45):
        for _ in range(1 if rng.random() < 0.75 else 2):
            paste_in_front(rng, material, scene)
    # The boxes of people who were painted are not known.
    known = not painted and rng.random() < 0.5
    if known and rng.random() < 0.15:
        _add_false_box(rng, scene.nearer)
    scene = _reframed(rng, scene)
    if rng.random() < 0.5:
        scene = scene.map(lambda x: x[:, :, ::-1])
    nearer = scene.nearer if known else np.zeros_like(scene.nearer)
    return ComposedClip(_lit(rng, _degraded(rng, scene.frames)), scene.occluder, scene.person, nearer, known,
                        np.asarray(ground.times, np.float32))


def _add_false_box(rng: np.random.Generator, nearer: np.ndarray) -> None:
    """A box of somebody who is not in front after all."""
    count, (height, width) = len(nearer), SIZE
    start = int(rng.integers(count))
    across, top = int(rng.integers(6, width)), int(rng.integers(height // 2))
    columns = slice(None, across) if rng.random() < 0.5 else slice(width - across, None)
    nearer[start:start + int(rng.integers(1, 8)), top:, columns] = True


def _reframed(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene in other boxes: loose ones that jump, and ones that end at the picture's edge."""
    boxes = [np.eye(3, dtype=np.float32)] * len(scene.frames)
    if shaken := rng.random() < 0.6:
        boxes = _shaken(rng, len(boxes))
    if leaving := rng.random() < 0.35:
        boxes = [edge @ box for edge, box in zip(_leaving(rng, len(boxes)), boxes)]
    if not shaken and not leaving:
        return scene

    def moved(maps: np.ndarray, border: int) -> np.ndarray:
        return np.stack([cv2.warpAffine(np.ascontiguousarray(one).astype(np.uint8) * 255, box[:2], SIZE[::-1],
                                        borderMode=border) > 127 for one, box in zip(maps, boxes)])

    frames = np.stack([cv2.warpAffine(np.ascontiguousarray(frame), box[:2], SIZE[::-1],
                                      borderMode=cv2.BORDER_REPLICATE) for frame, box in zip(scene.frames, boxes)])
    return Scene(frames, moved(scene.occluder, cv2.BORDER_REPLICATE), moved(scene.person, cv2.BORDER_CONSTANT),
                 moved(scene.nearer, cv2.BORDER_REPLICATE))


def _leaving(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Affine maps [3, 3] of boxes that the picture's edge cuts at the beginning or the end of a clip.

    What is left of such a box is resized to a whole crop, in which the person is wide, off the middle and incomplete:
    unlike in the other frames, and yet nothing hides them.
    """
    axis, low = int(rng.random() < 0.2), rng.random() < 0.5  # mostly at a side; which end of the axis is kept
    speed, most = np.exp(rng.uniform(np.log(0.02), np.log(0.15))), rng.uniform(0.2, 0.65)
    first = rng.uniform(0.2, 1.0) * count  # frames before the edge, or after it
    passed = np.arange(count) - first if rng.random() < 0.5 else count - 1 - np.arange(count) - first
    boxes = []
    for lost in np.clip(passed * speed, 0, most):
        box, size = np.eye(3, dtype=np.float32), SIZE[1 - axis]
        box[axis, axis] = 1 / (1 - lost)
        box[axis, 2] = 0 if low else size * (1 - 1 / (1 - lost))
        boxes.append(box)
    return boxes


def _shaken(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Affine maps [3, 3] of boxes from perfect to loose, from steady to jumping, with feet or heads cut off."""
    height, width = SIZE
    size, stretch = np.exp(rng.normal(0, 0.08)), np.exp(rng.normal(0, 0.08))
    right, down = rng.normal(0, 0.04) * width, rng.normal(0, 0.03) * height
    amount, keeps = np.exp(rng.uniform(np.log(0.001), np.log(0.03))), rng.uniform(0, 0.95)
    boxes = []
    for drift in zip(*(drifting(rng, count, keeps, amount) for _ in range(4))):
        wide, tall = size * stretch * (1 + drift[0]), size * (1 + drift[1])
        boxes.append(np.array([[wide, 0, width / 2 * (1 - wide) + right + drift[2] * width],
                               [0, tall, height / 2 * (1 - tall) + down + drift[3] * height], [0, 0, 1]],
                              np.float32))
    return boxes


def _degraded(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """What distance and codecs do to pictures, alike for all frames."""
    height, width = SIZE
    if rng.random() < 0.5:
        share = np.exp(rng.uniform(np.log(0.28), 0))
        small = max(16, round(width * share)), max(32, round(height * share))
        how = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC]))
        frames = np.stack([cv2.resize(cv2.resize(frame, small, interpolation=cv2.INTER_AREA), (width, height),
                                      interpolation=how) for frame in frames])
    if rng.random() < 0.4:
        quality = int(rng.integers(25, 92))
        frames = np.stack([_as_jpeg(frame, quality) for frame in np.ascontiguousarray(frames)])
    return frames


def _as_jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    """A frame compressed and decoded; the codec takes red for blue, which changes little of what it loses."""
    decoded = cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def _lit(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """Gamma, contrast, brightness and noise, alike for all frames, and an exposure that wanders."""
    gamma, contrast, brightness = np.exp(rng.normal(0, 0.15)), np.exp(rng.normal(0, 0.15)), rng.normal(0, 12)
    levels = 255 * (np.arange(256, dtype=np.float32) / 255) ** gamma * contrast + brightness
    noise = rng.normal(0, rng.uniform(0, 4), frames.shape).astype(np.float32)
    steps = rng.normal(0, rng.uniform(0, 0.03), len(frames))
    exposure = np.exp(np.clip(np.cumsum(steps), -0.25, 0.25)).astype(np.float32)[:, None, None, None]
    return np.clip((levels.astype(np.float32)[frames] * exposure + noise).round(), 0, 255).astype(np.uint8)
