"""Features of whole tracklets, by which people are compared (section 4.1 of the paper).

A tracklet of any length goes through the network in clips of at most `config.Reid.test_clip` frames, since
non-local blocks compare all positions of a clip with each other; its feature is the mean over clips, each
weighed by its number of frames, which with average pooling is the mean over the tracklet.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

import jax
import numpy as np

from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.models.model_file import ReidModel
from vrstc_jax.models.reid import ReidNet
from vrstc_jax.ops.pictures import resize, to_float
from vrstc_jax.runtime.errors import InputError

_FRAMES = 64  # frames a call, in clips of one length


def tracklet_features(model: ReidModel, tracklets: Sequence, *,
                      keep: Sequence[np.ndarray | None] | None = None,
                      progress: Callable | None = None) -> np.ndarray:
    """One feature for each tracklet, to be compared by `evaluation.distances`.

    Args:
      model: from `load_reid`.
      tracklets: N of them, each a `Tracklet` or frames: uint8 [T, H, W, 3], RGB, or a sequence of
        [H_t, W_t, 3].
      keep: for each tracklet a bool [T], the frames to use, or None for all; a tracklet of which no frame
        would be left keeps all of them.
      progress: called after each tracklet.

    Returns:
      float32 [N, C].

    Raises:
      InputError: a tracklet without a frame, or frames of another type.
    """
    if model.network != "ReidNet":
        raise InputError(f"A {model.network} has no features of tracklets; it compares pairs "
                         "(evaluation.pairs.pair_distances).")
    features = _of_clips(model.config, len(model.identities))
    variables = jax.device_put(model.variables)
    size = model.config.height, model.config.width
    result = None
    waiting: dict[int, list] = {}

    def flush(length):
        nonlocal result
        entries = waiting.pop(length, [])
        if not entries:
            return
        clips, valid = _stacked([clip for _, clip, _ in entries], length, _FRAMES // length or 1)
        out = np.asarray(features(variables, clips, valid))
        if result is None:
            result = np.zeros((len(tracklets), out.shape[1]), np.float64)
        for (place, clip, share), feature in zip(entries, out):
            result[place] += share * feature

    for place, tracklet in enumerate(tracklets):
        name = tracklet.name if isinstance(tracklet, Tracklet) else place
        frames = kept_frames(tracklet, name, None if keep is None else keep[place])
        for clip in _clips(frames, name, model.config.test_clip, size):
            length = _bucket(len(clip), model.config.test_clip)
            waiting.setdefault(length, []).append((place, clip, len(clip) / len(frames)))
            if len(waiting[length]) == (_FRAMES // length or 1):
                flush(length)
        if progress:
            progress()
    for length in sorted(waiting):
        flush(length)
    return np.zeros((0, 0), np.float32) if result is None else result.astype(np.float32)


@lru_cache(maxsize=4)
def _of_clips(config, identities):
    """Kept, so that a call for each of many shards compiles once."""
    network = ReidNet(config, identities)

    @jax.jit
    def features(variables, clips, valid):
        return network.apply(variables, to_float(clips), valid=valid, method="features")

    return features


def kept_frames(tracklet, name, keep=None) -> Sequence[np.ndarray]:
    """A tracklet's frames, or those to keep, bool [T]; an InputError names a tracklet without any."""
    frames = tracklet.frames if isinstance(tracklet, Tracklet) else tracklet
    if not len(frames):
        raise InputError(f"tracklet {name}: has no frame, so there is nothing to compare it by.")
    if keep is not None and len(keep) != len(frames):
        raise InputError(f"tracklet {name}: keep must say of each of its {len(frames)} frames whether to use it. "
                         f"Got {len(keep)} values.")
    if keep is None or not np.any(keep):
        return frames
    return [frames[i] for i in np.flatnonzero(keep)]


def _clips(frames, name, length, size) -> Iterator[list[np.ndarray]]:
    """Clips of as equal length as can be: a last clip of one frame would say little beside a whole one."""
    count = -(-len(frames) // length)
    edges = np.linspace(0, len(frames), count + 1).round().astype(int)
    frames = iter(frames)
    for a, b in zip(edges, edges[1:]):
        yield [resize(checked_frame(frame, name), *size) for frame in islice(frames, int(b - a))]


def checked_frame(frame, name) -> np.ndarray:
    """uint8 [H, W, 3]; an InputError names the tracklet of any other."""
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise InputError(f"tracklet {name}: frames must be uint8 [H, W, 3]. Got {frame.dtype} {frame.shape}.")
    return frame


def _bucket(length, longest):
    """Clips are padded to powers of two, so that few shapes are compiled."""
    return min(longest, 1 << (length - 1).bit_length())


def _stacked(clips, length, count):
    """uint8 [count, length, H, W, 3] and what of it is a frame, bool [count, length]."""
    valid = np.zeros((count, length), bool)
    out = np.zeros((count, length, *clips[0][0].shape), np.uint8)
    for i, clip in enumerate(clips):
        out[i, :len(clip)], valid[i, :len(clip)] = clip, True
    valid[len(clips):, 0] = True  # rows that only fill the batch
    return out, valid
