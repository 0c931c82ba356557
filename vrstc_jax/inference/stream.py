"""Completes one person's frames as they come, from earlier frames alone."""

from dataclasses import replace

import numpy as np

from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.inference.completer import CompletedFrame, Completer
from vrstc_jax.inference.features import checked_frame, checked_map
from vrstc_jax.inference.hidden_parts import after, hidden_parts
from vrstc_jax.inference.locate import LiveBands
from vrstc_jax.inference.memory import Remembered, live_memory
from vrstc_jax.inference.origin import Origin
from vrstc_jax.inference.pixel_locator import LivePixels
from vrstc_jax.inference.plan import Plan
from vrstc_jax.models.model_file import Model
from vrstc_jax.ops.regions import BANDS


class Stream:
    """Completes the frames of one person as they come; one such object for each person.

    What is hidden is located, and painted in, from remembered frames alone: the latest 60, and 60 older ones from all
    over the last 32,000. So memory does not grow, and a frame is never changed once it was given out. The first frame
    tells nothing about itself: nothing is located in it. Give masks where you have them.

    The same frames in a file give the same with `vrstc complete --causal`.

    Args:
      model: from `load_model`.
    """

    def __init__(self, model: Model):
        # One at a time: nobody waits for frames that have not come yet.
        self._completer = completer = Completer(model, batch=1, causal=True)
        self._live = LiveBands(completer.locator) if completer.pixel_locator is None else LivePixels(
            completer.pixel_locator)
        self._known: Remembered[tuple[np.ndarray, np.ndarray]] = Remembered(live_memory())  # frames and their masks
        self._hidden = False  # whether something was located in the frame before

    def push(self, frame: np.ndarray, mask: np.ndarray | None = None, *,
             nearer: np.ndarray | None = None) -> CompletedFrame:
        """Completes the next frame.

        Args:
          frame: uint8 [H, W, 3], RGB, of any size.
          mask: bool [H, W], true = hidden; None: what is hidden is located.
          nearer: bool [H, W], where boxes of people who stand nearer to the camera cover the frame: evidence for
            locating; None: nobody's boxes are known.

        Returns:
          The frame with its hidden part painted in, `frame`; what was hidden, `mask`; where each pixel comes from,
          `origin`. Frames count from 0, in `index`, `sources` and `origin`.

        Raises:
          InputError: the frame or a map is of another type or shape.
        """
        index = self._known.count
        frame = checked_frame(frame, f"frame {index}")
        mask, nearer = (None if each is None else checked_map(each, frame, f"{name} {index}")
                        for name, each in (("mask", mask), ("nearer map", nearer)))
        # Looked at with a mask too, so that later frames without one are compared with it.
        located = self._located(frame, nearer)
        frame, hidden = np.array(frame), located if mask is None else np.array(mask)
        known = [*self._known.items(), (index, (frame, hidden))]
        self._known.add((frame, hidden))
        return self._completed(known)

    def _located(self, frame: np.ndarray, nearer: np.ndarray | None) -> np.ndarray:
        """What is hidden in the next frame, bool [H, W]."""
        model = self._completer.model
        if isinstance(self._live, LiveBands):
            plan = Plan.from_scores(self._live.push(frame)[None], model.tau)
        else:
            assert model.config.locating is not None
            rule = after(model.config.locating, self._hidden)
            plan = Plan.from_parts(hidden_parts([self._live.push(frame, nearer)], rule))
            self._hidden = not plan.visible[0]
        return plan.mask(0, frame)

    def _completed(self, known: list[tuple[int, tuple[np.ndarray, np.ndarray]]]) -> CompletedFrame:
        """The last of some frames (time, (frame, mask)), completed from the others."""
        times, pairs = zip(*known)
        frames, masks = zip(*pairs)
        count = len(times)
        tracklet = Tracklet(name="stream", frames=LazySequence(count, lambda i: frames[i]),
                            frame_names=tuple(map(str, times)))
        plan = Plan(np.array([not each.any() for each in masks]), np.full((count, BANDS), np.nan, np.float32),
                    lambda i, _: masks[i])
        done, = self._completer.select(tracklet, plan, [count - 1], times=np.array(times))
        return _at(done, np.array(times))


def _at(done: CompletedFrame, times: np.ndarray) -> CompletedFrame:
    """The same with times in place of indices."""
    index, (before, after_it), origin = int(times[-1]), done.sources, done.origin
    if origin is not None:
        sources = np.where(origin.sources < 0, origin.sources, times[origin.sources])
        origin = Origin(index, origin.mask, sources.astype(np.int32), origin.positions)
    return replace(done, index=index, origin=origin, sources=(int(times[before]) if before >= 0 else before, after_it))
