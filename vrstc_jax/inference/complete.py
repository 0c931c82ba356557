"""Completes a tracklet: paints in its hidden parts.

A frame without a hidden pixel is visible. Where the model's config has `repairing`, hidden pixels are those of other
frames that show them, moved into register (`inference.seen_parts`), and STCnet paints in what no frame shows. Without
it STCnet paints in all of them, from the nearest visible frames on either side. The cases that the paper leaves open:
  no visible frame on one side: the other side's is used for both;
  no visible frame at all: the spatial generator alone completes, and the frame is marked 'spatial';
  two bands hidden: they are one joint mask;
  everything hidden by a mask: the frame is unchanged and marked 'left'. All three bands below τ: the best one is kept
    where its score allows it, and the others are completed (`Plan.from_scores`);
  a tracklet of one frame: it equals its own mean, so nothing is located in it; with a mask it is completed spatially.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.inference.completer import Completer, How
from vrstc_jax.inference.features import checked_frame, checked_map
from vrstc_jax.inference.origin import Origin
from vrstc_jax.models.model_file import Model
from vrstc_jax.runtime.errors import InputError


@dataclass(frozen=True, eq=False)
class CompletedTracklet:
    """The result of `complete_tracklet`, for T frames.

    Attributes:
      frames: in the input's form, uint8 [T, H, W, 3] or a list of [H_t, W_t, 3], with hidden pixels painted in.
      masks: bool, in the same form without channels, true = hidden.
      scores: float [T, 3], the bands' agreement with the tracklet; NaN where masks were given.
      sources: int [T, 2], on each side the frame that most pixels come from (of STCnet's, the nearest), −1 for none.
      how: for each frame 'visible', 'seen', 'stcnet', 'spatial' or 'left' (see `completer.CompletedFrame`).
      warnings: irregularities of the tracklet, one sentence each.
      amodal: bool, in the form of masks: the whole person, hidden parts too; None where masks were given, or where
        the model locates by bands.
      modal: the same, what is seen of the person; amodal without modal is what is hidden.
      imagined: float [T], the share of each frame's repainted pixels that no frame showed; 0 where nothing was.
      origins: for each frame where its repainted pixels come from; None where nothing was repainted.
    """

    frames: np.ndarray | list[np.ndarray]
    masks: np.ndarray | list[np.ndarray]
    scores: np.ndarray
    sources: np.ndarray
    how: tuple[How, ...]
    warnings: tuple[str, ...]
    amodal: np.ndarray | list[np.ndarray] | None = None
    modal: np.ndarray | list[np.ndarray] | None = None
    imagined: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    origins: tuple[Origin | None, ...] = ()


def complete_tracklet(model: Model, frames: np.ndarray | Sequence[np.ndarray],
                      masks: np.ndarray | Sequence[np.ndarray] | None = None, *,
                      nearer: np.ndarray | Sequence[np.ndarray] | None = None) -> CompletedTracklet:
    """Paints in the hidden parts of a person.

    Args:
      model: from `load_model`.
      frames: uint8 [T, H, W, 3], RGB, or a sequence of [H_t, W_t, 3].
      masks: bool, the same without channels, true = hidden; None: hidden parts are located.
      nearer: bool, in the same form as masks, where boxes of people who stand nearer to the camera cover the frames:
        evidence for locating; None: nobody's boxes are known.

    Raises:
      InputError: frames or masks of another type, or shapes that do not fit each other.
    """
    # Before any work: the type of a late frame would otherwise fail after minutes.
    _check(frames, masks, nearer)
    count = len(frames)
    tracklet = Tracklet(name="tracklet", frames=list(frames) if isinstance(frames, np.ndarray) else frames,
                        frame_names=tuple(f"{i:06d}" for i in range(count)),
                        masks=None if masks is None else LazySequence(count, lambda i: np.asarray(masks[i])),
                        nearer=None if nearer is None else LazySequence(count, lambda i: np.asarray(nearer[i])))
    completer = _completer(model)
    plan = completer.plan(tracklet)
    done = list(completer.stream(tracklet, plan))
    completed, hidden, parts = [d.frame for d in done], [d.mask for d in done], plan.parts
    amodal, modal = ([], []) if parts is None else ([find(i, *d.mask.shape) for i, d in enumerate(done)]
                                                    for find in (parts.amodal, parts.modal))
    how: tuple[How, ...] = tuple(d.how for d in done)
    if isinstance(frames, np.ndarray):
        # Reshaped for tracklets without frames, whose array would have one axis.
        completed = np.array(completed, np.uint8).reshape(frames.shape)
        hidden = np.array(hidden, bool).reshape(frames.shape[:3])
        if parts is not None:
            amodal, modal = (np.array(found, bool).reshape(frames.shape[:3]) for found in (amodal, modal))
    return CompletedTracklet(
        frames=completed, masks=hidden, scores=plan.scores,
        sources=np.array([d.sources for d in done], int).reshape(count, 2), how=how,
        warnings=(*plan.warnings, *left_warnings(how)),
        imagined=np.array([d.imagined for d in done], np.float32), origins=tuple(d.origin for d in done),
        amodal=None if parts is None else amodal, modal=None if parts is None else modal)


@lru_cache(maxsize=1)
def _completer(model: Model) -> Completer:
    # Cached for the last model, so that its weights go to the device once for many tracklets.
    return Completer(model)


def left_warnings(how: Sequence[str]) -> list[str]:
    """A warning of the frames that could not be completed at all, if there are any; from each frame's `how`."""
    left = sum(each == "left" for each in how)
    return [f"{left} of its frames are hidden entirely and were left as they were."] if left else []


def _check(frames: np.ndarray | Sequence[np.ndarray], *maps: np.ndarray | Sequence[np.ndarray] | None) -> None:
    """Checks the frames, and masks and nearer boxes, which may be None."""
    if isinstance(frames, np.ndarray) and (frames.ndim != 4 or frames.shape[-1] != 3):
        raise InputError(f"frames must be [T, H, W, 3] or a sequence of [H, W, 3]. Got shape {frames.shape}.")
    given = {name: each for name, each in zip(("mask", "nearer map"), maps) if each is not None}
    for name, each in given.items():
        if len(each) != len(frames):
            raise InputError(f"There must be a {name} for each frame. Got {len(each)} {name}s, {len(frames)} frames.")
    for i, frame in enumerate(frames):
        checked_frame(frame, f"frame {i}")
        for name, each in given.items():
            checked_map(each[i], frame, f"{name} {i}")
