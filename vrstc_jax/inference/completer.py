"""Completes a tracklet frame by frame, with memory that does not grow with its length.

A frame's way: `Completer.plan` finds what is hidden; `stream` reads frames in order and collects a batch of hidden
ones. Where the model's config has `repairing`, `SeenParts` fills them with what other frames show. `_imagined` fills
what is left, or all of it: it chooses and encodes neighbours, runs the generators and pastes what they give.
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
from vrstc_jax.inference.locate import LiveBands, Locator
from vrstc_jax.inference.memory import Earlier
from vrstc_jax.inference.origin import IMAGINED, Origin
from vrstc_jax.inference.padding import padded
from vrstc_jax.inference.people_masks import masks_are_known, plan_of_people, without_visible
from vrstc_jax.inference.pixel_locator import PixelLocator, located
from vrstc_jax.inference.plan import Plan
from vrstc_jax.inference.seen_parts import SeenParts
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.model_file import Model
from vrstc_jax.ops.pictures import covered, resize, resize_into_mask, to_float
from vrstc_jax.ops.regions import BANDS
from vrstc_jax.runtime.errors import InputError

How = Literal["visible", "seen", "stcnet", "spatial", "left"]


@dataclass(frozen=True, eq=False)
class CompletedFrame:
    """One frame of a completed tracklet.

    Attributes:
      index: its index in the tracklet.
      frame: uint8 [H, W, 3]; where the mask is false, the input's pixels bit for bit.
      mask: bool [H, W], true = hidden.
      sources: indices of the previous and of the next frame used, −1 for none. If several frames
        per side are used, the one that most pixels come from, or of STCnet's the nearest.
      how: 'visible' (nothing hidden), 'seen' (from what other frames show; what none shows is imagined by the
        generators), 'stcnet' (all of it from them), 'spatial' (from G_s alone: no frame is visible), or 'left'
        (everything hidden).
      spatial: the spatial generator's completion x̂1, as `frame`; None where no generator was asked.
      origin: where each repainted pixel comes from; None where nothing was repainted.
    """

    index: int
    frame: np.ndarray
    mask: np.ndarray
    sources: tuple[int, int]
    how: How
    spatial: np.ndarray | None = None
    origin: Origin | None = None

    @property
    def imagined(self) -> float:
        """The share of the repainted pixels that no frame showed; 0 where nothing was repainted."""
        return self.origin.imagined if self.origin else 0.0


class Completer:
    """Completes tracklets of any length and crop size with a model, by the same compiled functions.

    Args:
      model: from `load_model`.
      batch: number of hidden frames that the generators complete at once.
      causal: whether each frame is located and completed from remembered earlier ones alone, as `stream.Stream` does.

    Attributes:
      locator, pixel_locator: what finds hidden parts: by bands, and pixel by pixel, or None of a model that does not.
      warnings: of all plans so far, by the tracklet's name; the keys of each are sentences.
    """

    def __init__(self, model: Model, *, batch: int = 16, causal: bool = False):
        self.model, self.batch, self.causal = model, batch, causal
        self.locator = Locator(model.config.reid, model.reid, len(model.identities))
        locating = model.config.locating
        self.pixel_locator = None if locating is None or model.locator is None else PixelLocator(
            locating, model.locator, causal=causal)
        self._config = model.config.stcnet
        self._params = jax.device_put(model.generators)
        self._generate, self._encode, self._attend = _compiled(self._config)
        # Judging, completing and drawing plan the same tracklets. Three numbers, or a kilobyte, per frame are cached.
        self.warnings: dict[str, dict[str, None]] = {}
        self._located: WeakKeyDictionary[Tracklet, Plan] = WeakKeyDictionary()
        self._without_repairing: Completer | None = None

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
        if self.pixel_locator is None:
            if self.causal:
                live = LiveBands(self.locator)
                scores = np.array([live.push(frame) for frame in tracklet.frames], np.float32).reshape(-1, BANDS)
            else:
                scores = self.locator.scores(tracklet.frames)
            return Plan.from_scores(scores, self.model.tau)
        return Plan.from_parts(located(self.pixel_locator, tracklet.frames, tracklet.nearer))

    def without_repairing(self) -> "Completer":
        """The same but that the generators fill all of each hole; itself, where they do anyway."""
        if self.model.config.repairing is None:
            return self
        if self._without_repairing is None:
            config = replace(self.model.config, repairing=None)
            self._without_repairing = Completer(replace(self.model, config=config), batch=self.batch,
                                                causal=self.causal)
        return self._without_repairing

    def stream(self, tracklet: Tracklet, plan: Plan | None = None) -> Iterator[CompletedFrame]:
        """Completes all frames of a tracklet, in order."""
        return self.select(tracklet, plan or self.plan(tracklet), range(len(tracklet)))

    def select(self, tracklet: Tracklet, plan: Plan, indices: Sequence[int], *,
               times: np.ndarray | None = None) -> Iterator[CompletedFrame]:
        """Completes the frames at these indices, ascending, each as `stream` completes it.

        Args:
          times: of all frames, int [T], where some are missing between them; None: none are.
        """
        neighbours = self._neighbours(tracklet, plan)
        repairing = self.model.config.repairing
        seen = None if repairing is None else SeenParts(tracklet, plan, repairing, times=times,
                                                        earlier=Earlier() if self.causal else None)
        waiting: list[CompletedFrame] = []
        for index in indices:
            waiting.append(self._read(tracklet, plan, index, seen))
            # Frames are returned in order, so visible frames are held until the hidden frames before them are
            # completed. The second limit bounds how many are held.
            if sum(map(_is_left_over, waiting)) == self.batch or len(waiting) == 4 * self.batch:
                yield from self._finish(waiting, neighbours)
                waiting = []
        yield from self._finish(waiting, neighbours)

    def attention(self, tracklet: Tracklet, plan: Plan, index: int) -> tuple[tuple[list[int], np.ndarray],
                                                                                  ...] | None:
        """The attention weights of a hidden frame's patches (equation 2).

        Returns:
          For the previous and the next side (frame indices [T], weights float32 [h, w, T, h, w]), nearest frame first;
          None where there is no visible frame to attend to.
        """
        neighbours, frame = self._neighbours(tracklet, plan), self._read(tracklet, plan, index, None)
        chosen = neighbours.choose(index, frame.frame, frame.mask)
        if chosen is None:
            return None
        neighbours.encode([chosen])
        previous, following = (neighbours.stacked([chosen], side, pad=0) for side in (0, 1))
        weights = self._attend(self._params, *self._inputs([frame], pad=0), previous, following)
        return tuple((chosen.sides[side], np.asarray(weights[side][0])) for side in (0, 1))

    def _neighbours(self, tracklet: Tracklet, plan: Plan) -> EncodedNeighbours:
        # Half a batch: most hidden frames of a batch share their neighbours.
        return EncodedNeighbours(tracklet, plan.visible, self._config, partial(self._encode, self._params),
                                 batch=max(1, self.batch // 2), earlier=Earlier() if self.causal else None)

    def _read(self, tracklet: Tracklet, plan: Plan, index: int, seen: SeenParts | None) -> CompletedFrame:
        """A frame that is filled with what other frames show; the generators have not been asked."""
        pixels = tracklet.frames[index]
        mask = plan.mask(index, pixels)
        if not mask.any() or mask.all():
            # Where all is hidden, there is nothing to start from: not for G_s, nor to find out who shows the rest.
            return CompletedFrame(index, pixels, mask, (NO_FRAME, NO_FRAME), "left" if mask.any() else "visible")
        if seen is None:
            return CompletedFrame(index, pixels, mask, (NO_FRAME, NO_FRAME), "stcnet",
                                  origin=Origin.imagined_all(index, mask))
        filled, origin = seen.fill(index)
        return CompletedFrame(index, filled, mask, origin.nearest(), "stcnet" if origin.imagined == 1 else "seen",
                              origin=origin)

    def _finish(self, waiting: list[CompletedFrame], neighbours: EncodedNeighbours) -> Iterator[CompletedFrame]:
        left_over = [frame for frame in waiting if _is_left_over(frame)]
        completed = self._imagined(left_over, neighbours) if left_over else iter(())
        for frame in waiting:
            yield next(completed) if _is_left_over(frame) else frame

    def _imagined(self, hidden: list[CompletedFrame], neighbours: EncodedNeighbours) -> Iterator[CompletedFrame]:
        """Runs the generators on up to `batch` hidden frames; pastes x̂1 and x̂2 into what is left of their holes."""
        chosen = [neighbours.choose(frame.index, frame.frame, frame.mask) for frame in hidden]
        neighbours.encode(chosen)
        pad = self.batch - len(hidden)  # one compiled shape, however many frames there are
        previous, following = (neighbours.stacked(chosen, side, pad=pad) for side in (0, 1))
        outputs = self._generate(self._params, *self._inputs(hidden, pad=pad), previous, following)
        neighbours.forget(hidden[-1].index)
        for frame, near, first, second in zip(hidden, chosen, *map(np.asarray, outputs)):
            if not np.isfinite(first if near is None else (first, second)).all():
                raise InputError("The generators give pixels that are not finite; use another model.")
            hole = _left_over(frame)
            spatial = resize_into_mask(first, frame.frame, hole)
            if near is None:  # G_t attended to zeros, so its result is meaningless
                frame = replace(frame, frame=spatial, spatial=spatial)
                yield frame if frame.how == "seen" else replace(frame, how="spatial")
            else:
                sources = frame.sources if frame.how == "seen" else near.sources
                yield replace(frame, frame=resize_into_mask(second, frame.frame, hole), spatial=spatial,
                              sources=sources)

    def _inputs(self, frames: list[CompletedFrame], *, pad: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames uint8 [B, H, W, 3] and masks bool [B, H, W, 1] for the network, the last repeated `pad` times."""
        size = self._config.height, self._config.width
        return (padded(np.stack([resize(frame.frame, *size) for frame in frames]), pad),
                padded(np.stack([covered(_left_over(frame), *size)[..., None] for frame in frames]), pad))


def _left_over(frame: CompletedFrame) -> np.ndarray:
    """What the generators have to fill, bool [H, W]."""
    return frame.mask if frame.origin is None else frame.origin.frames == IMAGINED


def _is_left_over(frame: CompletedFrame) -> bool:
    return frame.origin is not None and frame.origin.imagined > 0


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
