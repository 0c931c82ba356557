"""Completes a tracklet frame by frame, with memory that does not grow with its length.

A frame's way: `Completer.plan` finds what is hidden; `stream` reads frames in order and collects a batch of hidden
ones; `_complete` chooses and encodes their neighbours, runs the generators and pastes the results into the crops.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Literal
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.neighbours import NO_FRAME
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.inference.encoded_neighbours import EncodedNeighbours
from vrstc_jax.inference.locate import Locator
from vrstc_jax.inference.padding import padded
from vrstc_jax.inference.people_masks import masks_are_known, plan_of_people, without_visible
from vrstc_jax.inference.pixel_locator import PixelLocator, located
from vrstc_jax.inference.plan import Plan
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.model_file import Model
from vrstc_jax.ops.pictures import resize, resize_into_mask, to_float
from vrstc_jax.runtime.errors import InputError

How = Literal["visible", "stcnet", "spatial", "left"]


@dataclass(frozen=True, eq=False)
class CompletedFrame:
    """One frame of a completed tracklet.

    Attributes:
      index: its index in the tracklet.
      frame: uint8 [H, W, 3]; where the mask is false, the input's pixels bit for bit.
      mask: bool [H, W], true = hidden.
      sources: indices of the previous and of the next frame used, −1 for none. If several frames
        per side are used, the nearest of them. Both −1 unless `how` is 'stcnet'.
      how: 'visible' (nothing hidden), 'stcnet', 'spatial' (no visible frame in the tracklet), or 'left'
        (everything hidden).
      spatial: the spatial generator's completion x̂1, as `frame`; None where nothing was completed.
    """

    index: int
    frame: np.ndarray
    mask: np.ndarray
    sources: tuple[int, int]
    how: How
    spatial: np.ndarray | None = None


class Completer:
    """Completes tracklets of any length and crop size with a model, by the same compiled functions.

    Args:
      model: from `load_model`.
      batch: number of hidden frames that the generators complete at once.

    Attributes:
      warnings: of all plans so far, by the tracklet's name; the keys of each are sentences.
    """

    def __init__(self, model: Model, *, batch: int = 16):
        self.model, self.batch = model, batch
        self.locator = Locator(model.config.reid, model.reid, len(model.identities))
        locating = model.config.locating
        self._pixel_locator = None if locating is None or model.locator is None else PixelLocator(
            locating, model.locator)
        self._config = model.config.stcnet
        self._params = jax.device_put(model.generators)
        self._generate, self._encode, self._attend = _compiled(self._config)
        # Judging, completing and drawing plan the same tracklets. Three numbers, or a kilobyte, per frame are cached.
        self.warnings: dict[str, dict[str, None]] = {}
        self._located: WeakKeyDictionary[Tracklet, Plan] = WeakKeyDictionary()

    def plan(self, tracklet: Tracklet) -> Plan:
        """Finds what is hidden in a tracklet: by its masks if it has them, else by locating."""
        count, warnings = len(tracklet), []
        if tracklet.masks is not None:
            plan = Plan.from_masks(tracklet.masks)
            warnings += plan.warnings
        else:
            if tracklet not in self._located:
                self._located[tracklet] = self._locate(tracklet)
            plan = self._located[tracklet]
            if count == 1 and not masks_are_known(tracklet):
                warnings.append("It has one frame, which cannot disagree with others: nothing is located.")
        if count and not plan.visible.any():
            warnings.append("None of its frames is free of occlusion; what was completed was completed "
                            "from the frame itself (spatial).")
        self.warnings.setdefault(tracklet.name, {}).update(dict.fromkeys(warnings))
        return replace(plan, warnings=tuple(warnings))

    def _locate(self, tracklet: Tracklet) -> Plan:
        if masks_are_known(tracklet):
            return plan_of_people(tracklet)
        return without_visible(self._located_by_model(tracklet), tracklet)

    def _located_by_model(self, tracklet: Tracklet) -> Plan:
        if self._pixel_locator is None:
            return Plan.from_scores(self.locator.scores(tracklet.frames), self.model.tau)
        return Plan.from_parts(located(self._pixel_locator, tracklet.frames, tracklet.nearer))

    def stream(self, tracklet: Tracklet, plan: Plan | None = None) -> Iterator[CompletedFrame]:
        """Completes all frames of a tracklet, in order."""
        return self.select(tracklet, plan or self.plan(tracklet), range(len(tracklet)))

    def select(self, tracklet: Tracklet, plan: Plan, indices: Sequence[int]) -> Iterator[CompletedFrame]:
        """Completes the frames at these indices, ascending, each as `stream` completes it."""
        neighbours = self._neighbours(tracklet, plan)
        waiting: list[CompletedFrame] = []
        for index in indices:
            waiting.append(self._read(tracklet, plan, index))
            # Frames are returned in order, so visible frames are held until the hidden frames before them are
            # completed. The second limit bounds how many are held.
            if sum(frame.how == "stcnet" for frame in waiting) == self.batch or len(waiting) == 4 * self.batch:
                yield from self._finish(waiting, neighbours)
                waiting = []
        yield from self._finish(waiting, neighbours)

    def attention(self, tracklet: Tracklet, plan: Plan, index: int) -> tuple[tuple[list[int], np.ndarray], ...]:
        """The attention weights of a hidden frame's patches (equation 2).

        Returns:
          For the previous and the next side (frame indices [T], weights float32 [h, w, T, h, w]), nearest frame first.

        Raises:
          ValueError: the tracklet has no visible frame to attend to.
        """
        neighbours, frame = self._neighbours(tracklet, plan), self._read(tracklet, plan, index)
        chosen = neighbours.choose(index, frame.frame, frame.mask)
        if chosen is None:
            raise ValueError(f"tracklet {tracklet.name} has no visible frame that frame {index} could attend to.")
        neighbours.encode([chosen])
        previous, following = (neighbours.stacked([chosen], side, pad=0) for side in (0, 1))
        weights = self._attend(self._params, *self._inputs([frame], pad=0), previous, following)
        return tuple((chosen.sides[side], np.asarray(weights[side][0])) for side in (0, 1))

    def _neighbours(self, tracklet: Tracklet, plan: Plan) -> EncodedNeighbours:
        # Half a batch: most hidden frames of a batch share their neighbours.
        return EncodedNeighbours(tracklet, plan.visible, self._config, partial(self._encode, self._params),
                                 batch=max(1, self.batch // 2))

    def _read(self, tracklet: Tracklet, plan: Plan, index: int) -> CompletedFrame:
        """A frame that is not completed yet; `how` is 'stcnet' if it has to be."""
        pixels = tracklet.frames[index]
        mask = plan.mask(index, pixels)
        # Where all is hidden, G_s has no pixel to start from.
        how: How = "visible" if not mask.any() else "left" if mask.all() else "stcnet"
        return CompletedFrame(index, pixels, mask, (NO_FRAME, NO_FRAME), how)

    def _finish(self, waiting: list[CompletedFrame], neighbours: EncodedNeighbours) -> Iterator[CompletedFrame]:
        hidden = [frame for frame in waiting if frame.how == "stcnet"]
        completed = self._complete(hidden, neighbours) if hidden else iter(())
        for frame in waiting:
            yield next(completed) if frame.how == "stcnet" else frame

    def _complete(self, hidden: list[CompletedFrame], neighbours: EncodedNeighbours) -> Iterator[CompletedFrame]:
        """Runs the generators on up to `batch` hidden frames; pastes x̂1 and x̂2 into them."""
        chosen = [neighbours.choose(frame.index, frame.frame, frame.mask) for frame in hidden]
        neighbours.encode(chosen)
        pad = self.batch - len(hidden)  # one compiled shape, however many frames there are
        previous, following = (neighbours.stacked(chosen, side, pad=pad) for side in (0, 1))
        outputs = self._generate(self._params, *self._inputs(hidden, pad=pad), previous, following)
        neighbours.forget(hidden[-1].index)
        for frame, near, first, second in zip(hidden, chosen, *map(np.asarray, outputs)):
            if not np.isfinite(first if near is None else (first, second)).all():
                raise InputError("The generators give pixels that are not finite; use another model.")
            spatial = resize_into_mask(first, frame.frame, frame.mask)
            if near is None:  # G_t attended to zeros, so its result is meaningless
                yield replace(frame, frame=spatial, spatial=spatial, how="spatial")
            else:
                yield replace(frame, frame=resize_into_mask(second, frame.frame, frame.mask), spatial=spatial,
                              sources=near.sources)

    def _inputs(self, frames: list[CompletedFrame], *, pad: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames uint8 [B, H, W, 3] and masks bool [B, H, W, 1] for the network, the last repeated `pad` times."""
        size = self._config.height, self._config.width
        return (padded(np.stack([resize(frame.frame, *size) for frame in frames]), pad),
                padded(np.stack([_network_mask(frame.mask, *size) for frame in frames]), pad))


@lru_cache(maxsize=4)
def _compiled(config: configs.STCnet) -> tuple[Callable, Callable, Callable]:
    """(complete, encode, attend), jitted."""
    # Cached, so that completers of one config compile them once.
    network = Generators(config)

    def from_encoded(method, params, frames, masks, previous, following):
        sides = [(to_float(pictures), features) for pictures, features in (previous, following)]
        return network.apply({"params": params}, to_float(frames), masks.astype(jnp.float32), *sides, method=method)

    def encode(params, frames, following):
        return network.apply({"params": params}, to_float(frames), following=following, method="encode_neighbours")

    return (jax.jit(partial(from_encoded, "complete_from_encoded")), jax.jit(encode, static_argnames="following"),
            jax.jit(partial(from_encoded, "attention")))


def _network_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """bool [H, W] to [height, width, 1]; a pixel is hidden if any part of it is."""
    # So that no hidden pixel, averaged with visible ones, leaks into the network.
    return (resize(mask.astype(np.float32), height, width) > 1e-4)[..., None]
