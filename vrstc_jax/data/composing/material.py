"""What training clips are composed of: walkers with their truth, and cut-outs of real people.

All frames here are uint8 [N, H, W, 3], RGB, of one size, `SIZE`; all maps bool [N, H, W].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vrstc_jax.data.walkers.motion import drifting

SIZE = 128, 64  # rows, columns


@dataclass(frozen=True, eq=False)
class Ground:
    """A person in neighbouring frames, of whom all is known.

    Attributes:
      frames: with what hides them.
      clear: the same without it.
      occluder: what is in front, also where it covers the background.
      person: the whole person.
      times: of the frames.
    """

    frames: np.ndarray
    clear: np.ndarray
    occluder: np.ndarray
    person: np.ndarray
    times: np.ndarray

    def at(self, indices: np.ndarray) -> "Ground":
        """The ground at some of its frames."""
        return Ground(*(np.array(part[indices]) for part in (
            self.frames, self.clear, self.occluder, self.person, self.times)))


@dataclass(frozen=True, eq=False)
class CutOut:
    """A real person who nothing hides, in neighbouring frames larger than the person's box.

    Attributes:
      frames: uint8 [N, 192, 144, 3]; the person's box is 128 rows high, with its middle in the middle.
      person: uint8 [N, 192, 144], how much of each pixel is the person's, of 255.
    """

    frames: np.ndarray
    person: np.ndarray


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that clips are composed of.

    Attributes:
      walkers: painted people; the backgrounds of cut-outs are theirs too.
      cut_outs: real people; may be none.
      real: the share of clips whose people are cut-outs, where there are some.
    """

    walkers: Sequence[Ground]
    cut_outs: Sequence[CutOut] = ()
    real: float = 0.5

    def person(self, rng: np.random.Generator, count: int) -> Ground:
        """A person in `count` frames: mostly neighbours, sometimes with frames from elsewhere."""
        if self.cut_outs and rng.random() < self.real:
            return self._real(rng, count)
        walker = self._walker(rng)
        return walker.at(_chosen(rng, len(walker.frames), count))

    def _walker(self, rng: np.random.Generator) -> Ground:
        return self.walkers[int(rng.integers(len(self.walkers)))]

    def _real(self, rng: np.random.Generator, count: int) -> Ground:
        """A cut-out in clothes of other colours, mostly walking, in a box and before a background of its own."""
        cut = self.cut_outs[int(rng.integers(len(self.cut_outs)))]
        indices = _chosen(rng, len(cut.frames), count)
        above, boxes = _garment(rng), _boxes(rng, count)
        background = self._walker(rng).clear if rng.random() < 0.6 else None
        pan, strides = rng.normal(0, 3), _strides(rng, indices)
        clothes = np.stack([above, above if rng.random() < 0.3 else _garment(rng)])
        frames, people = [], []
        for box, index, stride, time in zip(boxes, indices, strides, range(count)):
            alpha = _warped(_in_stride(cut.person[index], stride), box, cv2.BORDER_CONSTANT).astype(np.float32) / 255
            worn = _in_stride(_recoloured(cut.frames[index], clothes), stride)
            own = _warped(worn, box, cv2.BORDER_REFLECT).astype(np.float32)
            behind = own if background is None else _panned(background[time % len(background)], pan * time)
            mixed = own * alpha[..., None] + behind * (1 - alpha[..., None])
            frames.append(mixed.round().astype(np.uint8))
            people.append(alpha > 0.5)
        stacked = np.stack(frames)
        return Ground(stacked, stacked.copy(), np.zeros((count, *SIZE), bool), np.stack(people),
                      np.asarray(indices, np.float32))


def _chosen(rng: np.random.Generator, total: int, count: int) -> np.ndarray:
    """Indices of `count` frames in order: a run, every second frame, or a run and frames from elsewhere."""
    if total > count and rng.random() < 0.35:
        run = int(rng.integers(min(6, count), count + 1))
        start = int(rng.integers(total - run + 1))
        near = np.arange(start, start + run)
        elsewhere = rng.choice(np.setdiff1d(np.arange(total), near), count - run, replace=False)
        return np.sort(np.concatenate([near, elsewhere]))
    step = 2 if rng.random() < 0.25 and total > 2 * (count - 1) else 1
    start = int(rng.integers(max(1, total - step * (count - 1))))
    return np.minimum(start + step * np.arange(count), total - 1)


def _boxes(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Where a cut-out's frames go: affine maps [2, 3] of boxes that drift as a tracker's do."""
    height, width = SIZE
    amount, keeps = np.exp(rng.uniform(np.log(0.005), np.log(0.04))), rng.uniform(0, 0.95)
    size, stretch = rng.uniform(0.82, 1.02), np.exp(rng.normal(0, 0.15))
    right, down = rng.normal(0, 0.04), rng.normal(0, 0.03)
    boxes = []
    for drift in zip(*(drifting(rng, count, keeps, amount) for _ in range(4))):
        tall = size * (1 + drift[0])
        wide = tall * stretch * (1 + drift[3])
        boxes.append(np.array([[wide, 0, width * (0.5 + right + drift[1]) - 72 * wide],
                               [0, tall, height * (0.5 + down + drift[2]) - 96 * tall]], np.float32))
    return boxes


def _strides(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """How much wider the feet of a walker are than in the picture, as a share, at each time; zeros for who stands."""
    if rng.random() < 0.3:
        return np.zeros(len(times))
    wide, period = rng.uniform(0.1, 0.9), np.exp(rng.uniform(np.log(4), np.log(24)))  # frames of two steps
    return wide * np.sin(2 * np.pi * (times / period + rng.random())) * np.linspace(0.9, 1.1, len(times))


def _in_stride(picture: np.ndarray, stride: float) -> np.ndarray:
    """A cut-out's picture with its lower half stretched or narrowed about the middle, most at the feet: cut-outs are of
    people who stand, and a network that never saw real legs move would take each step for something in front."""
    if not stride:
        return picture
    rows, columns = picture.shape[:2]
    down = np.clip((np.arange(rows, dtype=np.float32) - rows / 2) / (rows / 3), 0, 1)
    scale = 1 / np.maximum(0.5, 1 + stride * down)
    middle = columns / 2
    right = middle + (np.arange(columns, dtype=np.float32) - middle) * scale[:, None]
    rows_of = np.repeat(np.arange(rows, dtype=np.float32)[:, None], columns, 1)
    return cv2.remap(np.ascontiguousarray(picture), right.astype(np.float32), rows_of, cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)


def _warped(picture: np.ndarray, box: np.ndarray, border: int) -> np.ndarray:
    return cv2.warpAffine(np.ascontiguousarray(picture), box, SIZE[::-1], borderMode=border)


def _panned(frame: np.ndarray, right: float) -> np.ndarray:
    """A walker's surroundings without the walker: the margins of the frame, moved to the right."""
    edges = [frame[:, :12], frame[:, :12][:, ::-1], frame[:, -12:], frame[:, -12:][:, ::-1]]
    box = np.array([[1.6, 0, right - 20], [0, 1.0, 0]], np.float32)
    return _warped(np.concatenate(edges, 1), box, cv2.BORDER_REFLECT)


def _garment(rng: np.random.Generator) -> np.ndarray:
    """Changes of hue, saturation and brightness, [3]: few people become many."""
    return np.array([rng.uniform(-90, 90), rng.uniform(0.4, 1.8), np.exp(rng.uniform(-1.0, 0.35))])


def _recoloured(picture: np.ndarray, clothes: np.ndarray) -> np.ndarray:
    """A cut-out's picture in other clothes, above the waist and below, [2, 3].

    Brightness changes by a gamma, for much of what people wear is nearly black, and black times anything stays black.
    """
    rows = len(picture)
    below = 1 / (1 + np.exp(-(np.arange(rows) - 0.5 * rows) / 2))[:, None, None]
    hue, saturation, gamma = np.moveaxis(clothes[0] * (1 - below) + clothes[1] * below, -1, 0)
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + hue) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 255)
    hsv[..., 2] = 255 * (hsv[..., 2] / 255) ** gamma
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
