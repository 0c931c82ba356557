"""Completing tracklets: a tracklet goes in, the same tracklet with its hidden parts painted in comes out.

A frame without a hidden pixel is unoccluded, and what is hidden elsewhere is painted in from the nearest
unoccluded frames on either side. The cases that the paper leaves open:
  no unoccluded frame on one side: the other side's is used for both;
  on neither: the spatial generator alone completes, and the frame is marked 'spatial';
  two bands hidden: they are one joint mask;
  everything hidden: the frame is left as it is, and marked 'left'; where all that is known is that three bands
    score below τ, the best of them is kept, and the others are completed (`Plan.from_scores`);
  a tracklet of one frame: it agrees with its own mean, so nothing is located in it; with a mask it is
    completed spatially.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np

from vrstc_jax.data.neighbours import around, choose_sides, nearest_sources, unlikeness
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.inference.locate import Locator
from vrstc_jax.inference.plan import Plan
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.model_file import Model
from vrstc_jax.ops.pictures import resize, resize_into_mask, thumbnail, to_float
from vrstc_jax.runtime.errors import InputError

BATCH = 16  # hidden frames a call
ENCODED = 8  # neighbours a call
_THUMBNAILS = 128  # kept of a tracklet
_PENDING = 64  # frames read before those completed so far are given out, at most


@dataclass(frozen=True, eq=False)
class CompletedFrame:
    """One frame of a completed tracklet.

    Attributes:
      index: its place in the tracklet.
      frame: uint8 [H, W, 3]; where the mask is false, the input's pixels bit for bit.
      mask: bool [H, W], true = hidden.
      sources: index of the previous and of the next frame used, −1 for none; the nearest, where the
        network attends to more than one on a side. Both −1 unless `how` is 'stcnet'.
      how: 'visible' (nothing hidden), 'stcnet', 'spatial' (no unoccluded frame in the tracklet), or 'left'
        (everything hidden).
      spatial: the spatial generator's completion x̂1, as `frame`; None where nothing was completed.
    """

    index: int
    frame: np.ndarray
    mask: np.ndarray
    sources: tuple[int, int]
    how: str
    spatial: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class CompletedTracklet:
    """What `complete_tracklet` gives; T frames.

    Attributes:
      frames: as they came, uint8 [T, H, W, 3] or a list of [H_t, W_t, 3], with hidden pixels painted in.
      masks: bool, in the same form without channels; what was hidden.
      scores: float [T, 3], the bands' agreement with the tracklet; NaN where masks were given.
      sources: int [T, 2], index of the previous and of the next frame used, −1 for none.
      how: for each frame 'visible', 'stcnet', 'spatial' or 'left' (see `CompletedFrame`).
      warnings: what was odd about the tracklet, one sentence each.
    """

    frames: np.ndarray | list[np.ndarray]
    masks: np.ndarray | list[np.ndarray]
    scores: np.ndarray
    sources: np.ndarray
    how: tuple[str, ...]
    warnings: tuple[str, ...]


class Completer:
    """Completes tracklets with a model; what it compiles serves tracklets of any length and size."""

    def __init__(self, model: Model):
        self.model = model
        self.locator = Locator(model.config.reid, model.reid, len(model.identities))
        c = model.config.stcnet
        self._params = jax.device_put(model.generators)
        self._shared = c.share_neighbour_encoders
        # Judging, completing and drawing ask for the same tracklets; three numbers a frame are kept.
        self._located = WeakKeyDictionary()
        network = Generators(c)

        def apply(params, *args, **kwargs):
            return network.apply({"params": params}, *args, **kwargs)

        @jax.jit
        def complete(params, frames, masks, previous, following):
            floats = [(to_float(pictures), features) for pictures, features in (previous, following)]
            return apply(params, to_float(frames), masks.astype(jnp.float32), *floats,
                         method="complete_from_encoded")

        def encode(params, frames, following):
            return apply(params, to_float(frames), following=following, method="encode_neighbours")

        @jax.jit
        def attend(params, frames, masks, previous, following):
            floats = [(to_float(pictures), features) for pictures, features in (previous, following)]
            return apply(params, to_float(frames), masks.astype(jnp.float32), *floats, method="attention")

        self._complete, self._attend = complete, attend
        self._encode = jax.jit(encode, static_argnames="following")

    def plan(self, tracklet: Tracklet) -> Plan:
        """What is hidden in a tracklet: by its masks where it has them, else located."""
        count, warnings = len(tracklet), []
        if tracklet.masks is not None:
            plan = Plan.from_masks(tracklet.masks)
        else:
            if tracklet not in self._located:
                self._located[tracklet] = self.locator.scores(tracklet.frames)
            plan = Plan.from_scores(self._located[tracklet], self.model.tau)
            if count == 1:
                warnings.append("It has one frame, which cannot disagree with others: nothing is located.")
        if count and not plan.visible.any():
            warnings.append("None of its frames is free of occlusion; what was completed was completed "
                            "from the frame itself (spatial).")
        return replace(plan, warnings=tuple(warnings))

    def stream(self, tracklet: Tracklet, plan: Plan | None = None) -> Iterator[CompletedFrame]:
        """Completes a tracklet frame by frame, in order; memory does not grow with its length."""
        plan = plan or self.plan(tracklet)
        return self.select(tracklet, plan, range(len(tracklet)))

    def select(self, tracklet: Tracklet, plan: Plan, indices: Sequence[int]) -> Iterator[CompletedFrame]:
        """As `stream`, for some frames of the tracklet, ascending."""
        known = _Known(self, tracklet)
        nearest = nearest_sources(plan.visible)
        usable = np.flatnonzero(plan.visible)
        waiting, hidden = [], []
        for index in indices:
            frame = tracklet.frames[index]
            mask = plan.mask(index, frame)
            how = _how(mask, len(usable) > 0)
            entry = _Entry(index, frame, mask, how)
            waiting.append(entry)
            if how in ("stcnet", "spatial"):
                hidden.append(entry)
            if len(hidden) == BATCH or len(waiting) == _PENDING:
                yield from self._finish(waiting, hidden, known, usable, nearest)
                waiting, hidden = [], []
        yield from self._finish(waiting, hidden, known, usable, nearest)

    def attention(self, tracklet: Tracklet, plan: Plan, index: int):
        """Where the patches of a hidden frame looked.

        Returns:
          For each side (frame indices [T], weights float32 [h, w, T, h, w]), nearest frame first.
        """
        c = self.model.config.stcnet
        known = _Known(self, tracklet)
        frame = tracklet.frames[index]
        picked = known.sides(np.flatnonzero(plan.visible), index, frame, plan.mask(index, frame))
        known.require([picked])
        neighbours = [known.gather([picked[side]], 0, side) for side in (0, 1)]
        weights = self._attend(self._params, resize(frame, c.height, c.width)[None],
                               _network_mask(plan.mask(index, frame), c.height, c.width)[None], *neighbours)
        return tuple((picked[side], np.asarray(weights[side][0])) for side in (0, 1))

    def _finish(self, waiting, hidden, known, usable, nearest):
        if hidden:
            self._fill(hidden, known, usable)
        for entry in waiting:
            empty = np.zeros(entry.frame.shape[:2], bool)
            used = (-1, -1)
            if entry.how == "stcnet":
                used = tuple(-1 if none < 0 else side[0] for none, side in zip(nearest[entry.index], entry.sides))
            yield CompletedFrame(entry.index, entry.frame if entry.second is None else entry.second,
                                 empty if entry.mask is None else entry.mask, used, entry.how, entry.first)

    def _fill(self, hidden, known, usable):
        """Runs the network on up to BATCH hidden frames and writes its results into them."""
        c = self.model.config.stcnet
        size = c.height, c.width
        for entry in hidden:
            entry.sides = known.sides(usable, entry.index, entry.frame, entry.mask)
        picked = [entry.sides for entry in hidden]
        known.require(picked)
        pad = BATCH - len(hidden)
        frames = np.stack([resize(entry.frame, *size) for entry in hidden])
        masks = np.stack([_network_mask(entry.mask, *size) for entry in hidden])
        neighbours = [known.gather([p and p[side] for p in picked], pad, side) for side in (0, 1)]
        outputs = self._complete(self._params, _padded(frames, pad), _padded(masks, pad), *neighbours)
        first, second = (np.asarray(output) for output in outputs)
        for i, entry in enumerate(hidden):
            entry.first = resize_into_mask(first[i], entry.frame, entry.mask)
            entry.second = (entry.first if entry.how == "spatial"
                            else resize_into_mask(second[i], entry.frame, entry.mask))
        known.forget(usable, hidden[-1].index)


def complete_tracklet(model: Model, frames, masks=None) -> CompletedTracklet:
    """Paints in the hidden parts of a person.

    Args:
      model: from `load_model`.
      frames: uint8 [T, H, W, 3], RGB, or a sequence of [H_t, W_t, 3].
      masks: bool, the same without channels, true = hidden; None: hidden bands are located.

    Raises:
      InputError: frames or masks of another type, or shapes that do not fit each other.
    """
    _check(frames, masks)
    count = len(frames)
    tracklet = Tracklet(name="tracklet", frames=frames, masks=masks,
                        frame_names=tuple(f"{i:06d}" for i in range(count)))
    completer = _completer(model)
    plan = completer.plan(tracklet)
    done = list(completer.stream(tracklet, plan))
    completed, hidden = [d.frame for d in done], [d.mask for d in done]
    if isinstance(frames, np.ndarray):
        completed = np.array(completed, np.uint8).reshape(frames.shape)
        hidden = np.array(hidden, bool).reshape(frames.shape[:3])
    return CompletedTracklet(
        frames=completed, masks=hidden, scores=plan.scores,
        sources=np.array([d.sources for d in done], int).reshape(count, 2), how=tuple(d.how for d in done),
        warnings=tuple([*plan.warnings, *left_warnings([d.how for d in done])]))


@lru_cache(maxsize=1)
def _completer(model: Model) -> Completer:
    """The last model's completer is kept, so that a call for each of many tracklets compiles once."""
    return Completer(model)


def left_warnings(hows: Sequence[str]) -> list[str]:
    """What a report says of frames that could not be completed at all."""
    left = sum(how == "left" for how in hows)
    return [f"{left} of its frames are hidden entirely and were left as they were."] if left else []


@dataclass(eq=False)
class _Entry:
    index: int
    frame: np.ndarray
    mask: np.ndarray | None
    how: str
    sides: tuple[list[int], list[int]] | None = None
    first: np.ndarray | None = None
    second: np.ndarray | None = None


class _Known:
    """Encoded neighbours of a tracklet, each encoded once, and dropped when completion has passed it."""

    def __init__(self, completer: Completer, tracklet: Tracklet):
        self._completer, self._tracklet = completer, tracklet
        self._encoded: dict[int, tuple] = {}
        self._thumbnail = lru_cache(_THUMBNAILS)(lambda index: thumbnail(tracklet.frames[index]))

    def sides(self, usable, index, frame, mask):
        """The frames to complete one from (`neighbours.sides`)."""
        c, shown = self._completer.model.config.stcnet, thumbnail(frame)

        def unlike(others):
            return unlikeness(shown, mask, np.stack([self._thumbnail(int(i)) for i in others]))

        return choose_sides(usable, index, index, count=c.frames_per_side, step=c.frame_step, reach=c.neighbour_reach,
                     unlike=unlike)

    def require(self, picked):
        """Encodes what the picked sides need and is not known yet."""
        c = self._completer
        needed = sorted({i for p in picked if p for side in p for i in side} - set(self._encoded))
        size = c.model.config.stcnet.height, c.model.config.stcnet.width
        for at in range(0, len(needed), ENCODED):
            indices = needed[at:at + ENCODED]
            frames = np.stack([resize(self._tracklet.frames[i], *size) for i in indices])
            padded = _padded(frames, ENCODED - len(indices))
            features = [np.asarray(c._encode(c._params, padded, following=last))
                        for last in ((False,) if c._shared else (False, True))]
            for k, i in enumerate(indices):
                self._encoded[i] = (frames[k], features[0][k], features[-1][k])

    def gather(self, picked, pad, side):
        """(pictures [B, T, H, W, 3], features [B, T, h, w, C]) of one side; zeros where there is none."""
        c = self._completer.model.config.stcnet
        shape = c.frames_per_side, c.height, c.width, 3
        if not any(picked):
            features = jax.eval_shape(lambda f: self._completer._encode(self._completer._params, f,
                                                                        following=False),
                                      jax.ShapeDtypeStruct(shape, np.uint8))
            return (np.zeros((len(picked) + pad, *shape), np.uint8),
                    np.zeros((len(picked) + pad, *features.shape), np.float32))
        rows = [[self._encoded[i] for i in indices] for indices in picked]
        pictures = np.stack([[entry[0] for entry in row] for row in rows])
        features = np.stack([[entry[1 + side] for entry in row] for row in rows])
        return _padded(pictures, pad), _padded(features, pad)

    def forget(self, usable, index):
        """Drops what lies before all that a frame could have used: later frames use none of it."""
        c = self._completer.model.config.stcnet
        farthest = max(c.neighbour_reach, (c.frames_per_side - 1) * c.frame_step + 1)
        before, after = around(usable, index, index)
        if len(before):
            oldest = before[:farthest][-1]
        else:
            oldest = after[0] if len(after) else 0
        self._encoded = {i: entry for i, entry in self._encoded.items() if i >= oldest}


def _how(mask, neighbours):
    if mask is None or not mask.any():
        return "visible"
    if mask.all():
        return "left"
    return "stcnet" if neighbours else "spatial"


def _network_mask(mask, height, width):
    """[H, W] to [height, width, 1]: hidden where any hidden pixel is in it, so that none leaks in."""
    return (resize(mask.astype(np.float32), height, width) > 1e-4)[..., None]


def _padded(array, count):
    return np.concatenate([array, np.repeat(array[-1:], count, axis=0)]) if count else array


def _check(frames, masks):
    if isinstance(frames, np.ndarray) and (frames.ndim != 4 or frames.shape[-1] != 3):
        raise InputError(f"frames must be [T, H, W, 3] or a sequence of [H, W, 3]. Got shape {frames.shape}.")
    if masks is not None and len(masks) != len(frames):
        raise InputError(f"There must be a mask for each frame. Got {len(masks)} masks, {len(frames)} frames.")
    for i, frame in enumerate(frames):
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 \
                or frame.shape[2] != 3 or not frame.size:
            got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise InputError(f"frame {i} must be a uint8 array [H, W, 3]. Got {got}.")
        if masks is not None and (np.asarray(masks[i]).dtype != bool
                                  or np.asarray(masks[i]).shape != frame.shape[:2]):
            raise InputError(f"mask {i} must be bool {frame.shape[:2]}, as its frame. "
                             f"Got {np.asarray(masks[i]).dtype} {np.asarray(masks[i]).shape}.")
