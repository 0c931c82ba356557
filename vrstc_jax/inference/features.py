"""Computes features of whole tracklets, by which people are compared (section 4.1 of the paper).

A tracklet of any length goes through the network in clips of at most `config.Reid.test_clip` frames, since non-local
blocks compare all positions of a clip with each other. Its feature is the mean over clips, each weighted by its number
of frames, which with average pooling is the mean over the tracklet.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from vrstc_jax import config as configs
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.models.model_file import ReidModel
from vrstc_jax.models.reid import ReidNet
from vrstc_jax.ops.pictures import resize, to_float
from vrstc_jax.runtime.errors import InputError

_FRAMES = 64  # per call, in clips of one length

Frames = Tracklet | Sequence[ArrayLike] | np.ndarray | jax.Array
"""A tracklet, or its frames: uint8 [T, H, W, 3], RGB, or a sequence of [H_t, W_t, 3], of NumPy, JAX or PIL."""


def tracklet_features(model: ReidModel, tracklets: Sequence[Frames], *, keep: Sequence[np.ndarray | None] | None = None,
                      progress: Callable[[], Any] | None = None) -> np.ndarray:
    """Computes a feature for each tracklet; `evaluation.distances` compares them.

    Args:
      model: from `load_reid`.
      tracklets: N of them, each a `Tracklet` or frames: uint8 [T, H, W, 3], RGB, or a sequence of
        [H_t, W_t, 3], as arrays of NumPy or JAX or pictures of PIL.
      keep: for each tracklet a bool [T], the frames to use, or None for all; where it is false everywhere, all
        frames are used.
      progress: called after each tracklet.

    Returns:
      float32 [N, C].

    Raises:
      InputError: a tracklet without a frame, frames of another type, or features that are not finite.
    """
    if model.network != "ReidNet":
        raise InputError(f"A {model.network} has no features of tracklets; it compares pairs "
                         "(inference.pair_distances.pair_distances).")
    apply, variables = _compiled(model.config, len(model.identities)), jax.device_put(model.variables)
    longest = model.config.test_clip
    sums: dict[int, np.ndarray] = {}  # of each tracklet, float64 [C]
    waiting: dict[int, list[tuple[int, list[np.ndarray], float]]] = {}  # by length: (tracklet, clip, its weight)

    # Clips of different tracklets share a call, so that short tracklets fill a batch too.
    def flush(length: int) -> None:
        entries = waiting.pop(length)
        clips, valid = _stacked([clip for _, clip, _ in entries], length, _clips_a_call(length))
        for (index, _, weight), feature in zip(entries, np.asarray(apply(variables, clips, valid))):
            sums.setdefault(index, np.zeros(feature.shape))[:] += weight * feature

    for index, tracklet in enumerate(tracklets):
        name = tracklet.name if isinstance(tracklet, Tracklet) else str(index)
        frames = kept_frames(tracklet, name, None if keep is None else keep[index])
        for clip in _clips(frames, name, longest, (model.config.height, model.config.width)):
            length = _bucket(len(clip), longest)
            waiting.setdefault(length, []).append((index, clip, len(clip) / len(frames)))
            if len(waiting[length]) == _clips_a_call(length):
                flush(length)
        if progress:
            progress()
    for length in sorted(waiting):
        flush(length)
    if not sums:
        return np.zeros((0, 0), np.float32)
    features = np.stack([sums[index] for index in range(len(tracklets))]).astype(np.float32)
    if not np.isfinite(features).all():
        raise InputError("The re-ID network gives features that are not finite; use another model.")
    return features


@lru_cache(maxsize=4)
def _compiled(config: configs.Reid, identities: int) -> Callable:
    """Features of clips, jitted."""
    # Cached, so that calls for many shards compile once.
    network = ReidNet(config, identities)

    @jax.jit
    def features(variables, clips, valid):
        return network.apply(variables, to_float(clips), valid=valid, method="features")

    return features


def kept_frames(tracklet: Frames, name: str, keep: np.ndarray | None = None,
                ) -> Sequence[ArrayLike] | np.ndarray | jax.Array:
    """A tracklet's frames, or those where `keep`, bool [T], is true.

    Raises:
      InputError: the tracklet, called `name`, has no frame, or `keep` has another length.
    """
    frames = tracklet.frames if isinstance(tracklet, Tracklet) else tracklet
    if not len(frames):
        raise InputError(f"tracklet {name}: has no frame, so there is nothing to compare it by.")
    if keep is not None and len(keep) != len(frames):
        raise InputError(f"tracklet {name}: keep must say of each of its {len(frames)} frames whether to use it. "
                         f"Got {len(keep)} values.")
    if keep is None or not np.any(keep):
        return frames
    return [frames[int(i)] for i in np.flatnonzero(keep)]


def _clips(frames: Sequence[ArrayLike] | np.ndarray | jax.Array, name: str, longest: int, size: tuple[int, int],
           ) -> Iterator[list[np.ndarray]]:
    """Clips of nearly equal length, resized to `size`."""
    # A last clip of one frame would have a noisy feature beside those of full clips.
    count = -(-len(frames) // longest)
    edges = np.linspace(0, len(frames), count + 1).round().astype(int)
    following = iter(frames)
    for length in np.diff(edges):
        clip = islice(following, int(length))
        yield [resize(checked_frame(np.asarray(frame), f"tracklet {name}: frames"), *size) for frame in clip]


def checked_frame(frame: object, what: str) -> np.ndarray:
    """Checks that a frame is an array uint8 [H, W, 3]; the InputError of another one begins with `what`."""
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.shape[2:] == (3,) and frame.size:
        return frame
    got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
    raise InputError(f"{what} must be uint8 [H, W, 3]. Got {got}.")


def checked_map(given: object, frame: np.ndarray, what: str) -> np.ndarray:
    """Checks that a map is bool [H, W] of the frame's size; the InputError of another one begins with `what`."""
    found = np.asarray(given)
    if found.dtype != bool or found.shape != frame.shape[:2]:
        raise InputError(f"{what} must be bool {frame.shape[:2]}, as its frame. Got {found.dtype} {found.shape}.")
    return found


def _bucket(length: int, longest: int) -> int:
    """The length that a clip is padded to."""
    # A power of two, so that few shapes are compiled.
    return min(longest, 1 << (length - 1).bit_length())


def _clips_a_call(length: int) -> int:
    return _FRAMES // length or 1


def _stacked(clips: Sequence[Sequence[np.ndarray]], length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips padded with zeros, uint8 [count, length, H, W, 3]; and bool [count, length], false for padding."""
    valid = np.zeros((count, length), bool)
    out = np.zeros((count, length, *clips[0][0].shape), np.uint8)
    for i, clip in enumerate(clips):
        out[i, :len(clip)], valid[i, :len(clip)] = clip, True
    valid[len(clips):, 0] = True  # rows that only fill the batch: a mean over no frame would be NaN
    return out, valid
