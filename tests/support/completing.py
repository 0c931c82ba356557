"""Completing with random weights, and an oracle of it.

The oracle completes one frame at a time with `Generators.__call__` itself and neighbours found by plain loops.
"""

import dataclasses
import weakref
from contextlib import contextmanager
from functools import cache

import cv2
import jax
import numpy as np
from people import SMOKE, box_mask, figure, random_model, tracklet

import vrstc_jax
from vrstc_jax.data.tracklets import LazySequence
from vrstc_jax.models.generators import Generators

SIZE = SMOKE.stcnet.height, SMOKE.stcnet.width
# Grey levels: float32 sums in another order, at another batch size, may round to the next level.
ROUNDING = 1


def run(completer, frames, masks):
    return list(completer.stream(tracklet(frames, masks)))


def complete(frames, masks=None, **changes):
    return vrstc_jax.complete_tracklet(dataclasses.replace(random_model(), **changes), frames, masks)


def random_model_with(**changes):
    """A random model whose networks differ from the smoke config's in `changes`."""
    return random_model(dataclasses.replace(SMOKE, stcnet=dataclasses.replace(SMOKE.stcnet, **changes)))


def visible_is_untouched(frames, result_frames, masks):
    for before, after, mask in zip(frames, result_frames, masks, strict=True):
        assert after.dtype == np.uint8 and after.shape == before.shape
        np.testing.assert_array_equal(after[~mask], before[~mask])


def floats(frames):
    """uint8 frames of one size as float32 [T, H, W, 3] in [−1, 1]."""
    return np.stack(frames).astype(np.float32) / 127.5 - 1


def off_by(frame, picture, mask):
    """Differences in grey levels of hidden pixels from a network's picture in [−1, 1]."""
    return np.abs(frame - np.clip(np.round((picture + 1) * 127.5), 0, 255).astype(int))[mask]


@cache
def oracle(config):
    """`Generators.__call__` of one batch, which encodes the neighbours it is given."""
    return jax.jit(lambda params, *given: Generators(config).apply({"params": params}, *given))


def small(image):
    area = image.shape[0] > SIZE[0] or image.shape[1] > SIZE[1]
    return cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR)


def nearest(masks, index):
    """The nearest visible frame on each side, -1 where a side has none."""
    clean = [i for i, mask in enumerate(masks) if not mask.any()]
    return max((i for i in clean if i < index), default=-1), min((i for i in clean if i > index), default=-1)


def by_hand(frames, masks, index, sides=None, model=None):
    """x̂1 and x̂2 of one frame at the network's size; no batches, nothing kept.

    `sides`: the neighbours before and after, each nearest first; else the nearest of each side, or the other's.
    """
    if sides is None:
        before, after = nearest(masks, index)
        sides = [before if before >= 0 else after], [after if after >= 0 else before]
    model = model or random_model()
    mask = small(masks[index].astype(np.float32)) > 1e-4
    frame, *neighbours = (floats([small(frames[i]) for i in chosen]) for chosen in ([index], *sides))
    pictures = oracle(model.config.stcnet)(model.generators, frame, mask[None, ..., None].astype(np.float32),
                                           *(side[None] for side in neighbours))
    return [np.asarray(picture[0]) for picture in pictures]


class Counted:
    """Up to 300 frames of a figure: how often each is read, and how many exist at most at a time."""

    def __init__(self):
        self.reads, self.most, self._alive = np.zeros(300, int), 0, set()

    def read(self, index):
        frame = figure(index % 40)
        self._alive.add(key := (index, self.reads[index]))
        weakref.finalize(frame, self._alive.discard, key)
        self.reads[index] += 1
        self.most = max(self.most, len(self._alive))
        return frame


def lazy_masks(count, height, width, hides):
    return LazySequence(count, lambda i: box_mask(height, width) if hides(i) else np.zeros((height, width), bool))


@contextmanager
def compilations():
    """Names of what XLA compiles in a `with` block."""
    seen = []

    def note(name, seconds, **of):
        if name == "/jax/core/compile/backend_compile_duration":
            seen.append(of.get("fun_name", name))

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(note)
