"""Finds what hides a person in the frames of a tracklet, pixel by pixel, with `models.locating.LocatingNet`.

A tracklet of any length goes through the network a window of neighbouring frames at a time. With each window the
network sees a few frames before and after it, and some from all over the tracklet, which show the person when the whole
window hides them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.inference.hidden_parts import HiddenParts, hidden_parts
from vrstc_jax.inference.memory import Memory, Remembered
from vrstc_jax.inference.padding import padded
from vrstc_jax.models.locating import LocatingNet
from vrstc_jax.models.locating.network import FrameMaps
from vrstc_jax.ops.pictures import resize
from vrstc_jax.runtime.errors import InputError

BATCH = 16  # frames per call of the stages: one compiled shape whatever a tracklet's length
_CANDIDATES = 256  # frames from all over a tracklet whose maps are kept, so that memory does not grow with its length


class PixelLocator:
    """Locates in tracklets, by compiled functions that all locators of one config share.

    Args:
      params: of `LocatingNet`.
      causal: whether frames are compared with earlier ones alone (`LivePixels`); the first then tells nothing.
    """

    def __init__(self, config: configs.Locating, params: dict, *, causal: bool = False):
        # What is usual in a window is found from all of it, so that looking back alone, a frame is one.
        self.config = config = replace(config, window=1) if causal else config
        self.causal = causal
        self._params = jax.device_put(params)
        self._maps, self._probabilities = _compiled(config)

    def probabilities(self, frames: Sequence[np.ndarray],
                      nearer: Sequence[np.ndarray | None] | None = None) -> Iterator[np.ndarray]:
        """For every frame in order, the probabilities of each pixel to be the person's, seen or not (amodal), to show
        what is in front of the person's place (occluder), and to be the person's and hidden.

        Args:
          frames: uint8 [H_t, W_t, 3], RGB.
          nearer: for every frame bool [H_t, W_t], where boxes of people who stand nearer are, or None where nobody's
            boxes are known; None: nowhere.

        Returns:
          float32 [height / 2, width / 2, 3], of the config's height and width.

        Raises:
          InputError: the network computes values that are not finite.
        """
        if self.causal:
            live = LivePixels(self)
            yield from (live.push(frame, None if nearer is None else nearer[i]) for i, frame in enumerate(frames))
            return
        c, count = self.config, len(frames)
        seen = _Kept(self.maps_of, frames, spread(range(count), _CANDIDATES))
        for start in range(0, count, c.window):
            stop = min(count, start + c.window)
            chosen = self._chosen(start, stop, count, seen.always)
            maps = seen.get(chosen)
            boxes = np.stack([self.boxes(None if nearer is None else nearer[i]) for i in chosen])
            yield from self.window(maps, boxes, chosen)[:stop - start]
            seen.forget(stop - c.margin)

    def _chosen(self, start: int, stop: int, count: int, candidates: Sequence[int]) -> list[int]:
        """The frames of a window, then those around it, then some from everywhere; none twice."""
        c = self.config
        around = [*range(max(0, start - c.margin), start), *range(stop, min(count, stop + c.margin))]
        known = {*range(start, stop), *around}
        return [*range(start, stop), *around, *spread([i for i in candidates if i not in known], c.context)]

    def window(self, maps: FrameMaps, boxes: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
        """Probabilities of the first frames of those chosen, [window, …, 3], from the maps and boxes of all.

        Raises:
          InputError: they are not finite.
        """
        c = self.config
        missing = c.window + 2 * c.margin + c.context - len(chosen)
        # Those that stand in for missing frames come last, and nobody looks at them.
        times = np.array([*chosen, *[chosen[-1]] * missing], np.float32)
        looked_at = ~np.eye(len(times), dtype=bool)
        looked_at[:, len(chosen):] = False
        if self.causal:
            looked_at &= times[None] < times[:, None]
        found = np.asarray(self._probabilities(
            self._params, jax.tree.map(lambda x: padded(x, missing), maps), padded(boxes, missing),
            times[None] - times[:, None], looked_at))
        if not np.isfinite(found).all():
            raise InputError("The network that locates gives values that are not finite; use another model, or give "
                             "masks.")
        return found

    def maps_of(self, frames: Sequence[np.ndarray], batch: int = BATCH) -> list[FrameMaps]:
        """The maps of at most `batch` frames: in half precision, but for those by which frames are compared, of which
        small differences count."""
        size = self.config.height, self.config.width
        pictures = np.stack([resize(frame, *size) for frame in frames])
        found = jax.tree.map(np.asarray, self._maps(self._params, padded(pictures, batch - len(frames))))
        halves = ("edges", "middle", "cells")
        return [of_frame._replace(**{name: getattr(of_frame, name).astype(np.float16) for name in halves})
                for of_frame in (jax.tree.map(lambda x, i=i: x[i], found) for i in range(len(frames)))]

    def boxes(self, nearer: np.ndarray | None) -> np.ndarray:
        """[height / 4, width / 4, 2] as the network takes it, of one frame's `nearer`."""
        height, width = self.config.height // 4, self.config.width // 4
        share = np.zeros((height, width), np.float32) if nearer is None else resize(
            nearer.astype(np.float32), height, width)
        return np.stack([share, np.full_like(share, nearer is not None)], -1)


def located(locator: PixelLocator, frames: Sequence[np.ndarray],
            nearer: Sequence[np.ndarray | None] | None = None) -> HiddenParts:
    """What is hidden in a tracklet; arguments as of `PixelLocator.probabilities`."""
    return hidden_parts(locator.probabilities(frames, nearer), locator.config, causal=locator.causal)


class LivePixels:
    """Locates in frames as they come, comparing each with remembered earlier ones.

    Args:
      locator: a causal one.
    """

    def __init__(self, locator: PixelLocator):
        self._locator, c = locator, locator.config
        self._known: Remembered[tuple[FrameMaps, np.ndarray]] = Remembered(Memory(
            latest=2 * c.margin, older=c.context))

    def push(self, frame: np.ndarray, nearer: np.ndarray | None = None) -> np.ndarray:
        """The next frame's probabilities; arguments and result are those of a frame in `PixelLocator.probabilities`."""
        locator = self._locator
        own = locator.maps_of([frame], batch=1)[0], locator.boxes(nearer)
        chosen, known = zip((self._known.count, own), *reversed(self._known.items()))
        self._known.add(own)
        maps, boxes = zip(*known)
        return locator.window(jax.tree.map(lambda *each: np.stack(each), *maps), np.stack(boxes), chosen)[0]


class _Kept:
    """The maps of some frames of a tracklet."""

    def __init__(self, compute: Callable[[Sequence[np.ndarray]], list[FrameMaps]], frames: Sequence[np.ndarray],
                 always: Sequence[int]):
        self._compute, self._frames, self.always = compute, frames, always
        self._candidates = set(always)
        self._maps: dict[int, FrameMaps] = {}

    def get(self, indices: Iterable[int]) -> FrameMaps:
        """The maps of these frames, stacked."""
        indices = list(indices)
        missing = [i for i in indices if i not in self._maps]
        for start in range(0, len(missing), BATCH):
            part = missing[start:start + BATCH]
            self._maps.update(zip(part, self._compute([self._frames[i] for i in part]), strict=True))
        return jax.tree.map(lambda *maps: np.stack(maps), *(self._maps[i] for i in indices))

    def forget(self, before: int) -> None:
        """Drops the maps of frames before an index that are not always kept."""
        for index in [i for i in self._maps if i < before and i not in self._candidates]:
            del self._maps[index]


def spread(indices: Sequence[int], count: int) -> list[int]:
    """At most `count` of these indices, evenly from the first to the last."""
    if len(indices) <= count:
        return list(indices)
    return [indices[i] for i in np.linspace(0, len(indices) - 1, count).round().astype(int)]


@lru_cache(maxsize=4)
def _compiled(config: configs.Locating) -> tuple[Callable, Callable]:
    """(maps of frames, probabilities of a window's frames), jitted."""
    network = LocatingNet(config)

    @jax.jit
    def maps(params, frames):
        return network.apply({"params": params}, frames, method="maps")

    @jax.jit
    def probabilities(params, maps, nearer, offsets, looked_at):
        maps = jax.tree.map(lambda x: x.astype(np.float32), maps)
        logits: Any = network.apply({"params": params}, maps, nearer, offsets, looked_at, config.window,
                                    method="logits")
        return jax.nn.sigmoid(logits[-1])

    return maps, probabilities
