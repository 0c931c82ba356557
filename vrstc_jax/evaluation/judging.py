"""Judging completion against the true pixels, beside the simple fillings that it has to beat.

Scores are taken over the hole's pixels at each crop's own resolution and averaged over frames
(`evaluation.quality`). Methods: `copy` (the nearest visible frame), `mean` (of the two neighbours), `flow` (both
neighbours, moved as the visible part moves), `best` (the most alike visible frame of the whole tracklet, shifted),
`telea` (OpenCV's inpainting), `spatial` (x̂1), `stcnet` (x̂2), and `completed` (what the model gives, where its config
has `repairing`: from what other frames show).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vrstc_jax.data.held_out import hold_out_runs
from vrstc_jax.data.neighbours import NO_FRAME, nearest_sources
from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.evaluation import fillings, quality
from vrstc_jax.evaluation.perceptual import perceptual_distance_of
from vrstc_jax.inference.completer import CompletedFrame, Completer
from vrstc_jax.inference.features import tracklet_features
from vrstc_jax.inference.plan import Plan
from vrstc_jax.models.model_file import Model, ReidModel
from vrstc_jax.ops import registration
from vrstc_jax.ops.pictures import resize, thumbnail
from vrstc_jax.ops.regions import BANDS
from vrstc_jax.runtime.errors import InputError

_GREY = 127
_LITTLE = 0.1  # of a frame
_LEAST = 1e-6

HeldOutRuns = Mapping[str, Sequence[Sequence[str]]]
"""{tracklet: [[frame names of a run], …]}: frames that training never saw."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A judged frame, for pictures: as shown to the completer, uint8 [H, W, 3]; completed, and by the networks alone;
    and the truth."""

    tracklet: str
    frame_name: str
    shown: np.ndarray
    completed: CompletedFrame
    by_networks: CompletedFrame
    truth: np.ndarray


def held_out_by(completer: Completer, tracklets: Sequence[Tracklet], size: int, *,
                by_boxes: bool = False) -> dict[str, list[list[str]]]:
    """Runs of `size` frames of footage that the model never saw, in which it finds nothing hidden.

    They are spread over each tracklet as `fit` spreads the runs that it holds out.

    Args:
      by_boxes: instead of the model, the boxes tell what is hidden: runs in which no nearer box covers more than a
        tenth of a frame, so that the same runs are judged whatever a model finds. Tracklets without boxes have none.
    """
    found = {}
    for tracklet, runs in zip(tracklets, hold_out_runs([len(tracklet) for tracklet in tracklets], size).runs):
        if not runs:
            continue
        if not by_boxes:
            visible = completer.plan(tracklet).visible
        elif tracklet.nearer is None:
            continue
        else:
            visible = np.array([covered.mean() <= _LITTLE for covered in tracklet.nearer])
        kept = [list(tracklet.frame_names[slice(*run)]) for run in runs if visible[slice(*run)].all()]
        if kept:
            found[tracklet.name] = kept
    return found


def held_out_of(model: Model) -> HeldOutRuns:
    """The runs that `fit` kept from a model's training, as the model file records them."""
    return model.provenance.get("held_out") or {}


def has_any(held_out: HeldOutRuns, tracklets: Sequence[Tracklet]) -> bool:
    """Whether any of the held-out runs is in these tracklets."""
    return any(_runs_in(tracklet, held_out) for tracklet in tracklets)


def judge_held_out(completer: Completer, tracklets: Sequence[Tracklet], held_out: HeldOutRuns, *, seed: int = 0,
                   reid: ReidModel | None = None, progress: Callable[[], Any] | None = None,
                   keep: list[Judged] | None = None) -> quality.ScoreTable:
    """Scores on runs of frames that training never saw: one band is hidden in all frames of a run.

    The band is drawn from `seed`, run by run. Frames are completed from the tracklet's visible frames outside the
    run.

    Args:
      held_out: the runs, such as `held_out_of(model)` or `held_out_by(…)`.
      reid: in its features it is told how far completions have come to the true crops, from ones with a grey hole.
      progress: called after each run.
      keep: the judged frames are appended to it, for pictures.

    Raises:
      InputError: there is no held-out run, or none of them is in these tracklets.
    """
    if not held_out:
        raise InputError("The model has no held-out runs to be judged on; fit it with --hold-out 9, or judge "
                         "where the truth is known (--truth).")
    if not has_any(held_out, tracklets):
        raise InputError("None of the model's held-out runs is in this input; judge on the footage that the "
                         f"model was fitted to (it held out runs of tracklets {', '.join(list(held_out)[:5])}).")
    judging = _Judging(completer, reid, keep)
    for tracklet in tracklets:
        runs = _runs_in(tracklet, held_out)
        if not runs:
            continue
        plan = completer.plan(tracklet)
        for number, run in enumerate(runs):
            # Seeded by the run's number and tracklet, so that a band does not depend on which others are judged.
            rng = np.random.default_rng([seed, number, *tracklet.name.encode()])
            hidden = np.arange(BANDS) == rng.integers(BANDS)
            judging.judge(tracklet, plan.hiding(run, hidden), run, tracklet.frames, None)
            if progress:
                progress()
    return judging.table


def judge_truth(completer: Completer, tracklets: Sequence[Tracklet], *, located: bool, reid: ReidModel | None = None,
                progress: Callable[[], Any] | None = None, keep: list[Judged] | None = None) -> quality.ScoreTable:
    """Scores over the truly hidden pixels, where the truth behind the occluder is known.

    Args:
      tracklets: with `truth`, and with `masks`, which say what is truly hidden.
      located: whether all methods fill located bands instead of the true masks. A hidden pixel outside the located
        bands is then scored with the occluder's colour.
      reid: in its features it is told how far completions have come to the true crops, from the hidden ones.
      progress: called after each tracklet.
      keep: the judged frames are appended to it, for pictures.

    Raises:
      InputError: a tracklet has no truth or no masks.
    """
    judging = _Judging(completer, reid, keep)
    for tracklet in tracklets:
        if tracklet.truth is None or tracklet.masks is None:
            raise InputError(f"tracklet {tracklet.name}: judging against the truth needs the frames without the "
                             "occluder and the masks of what is hidden; give --truth and --masks.")
        seen = Tracklet(name=tracklet.name, frames=tracklet.frames, frame_names=tracklet.frame_names)
        plan = completer.plan(seen if located else tracklet)
        # A frame hidden entirely is left as it is, so there is no completion to score.
        hidden = [i for i, mask in enumerate(tracklet.masks) if mask.any() and not mask.all()]
        judging.judge(tracklet, plan, hidden, tracklet.truth, tracklet.masks)
        if progress:
            progress()
    return judging.table


class _Judging:
    """Scores every method, frame by frame.

    Args:
      completer: of the model that is judged.
      reid: in whose features a completion is the nearer to the true crop the better; or None.
      keep: the judged frames are appended to it.
    """

    def __init__(self, completer: Completer, reid: ReidModel | None, keep: list[Judged] | None):
        self.table = quality.ScoreTable()
        self._completer, self._networks = completer, completer.without_repairing()
        self._reid, self._keep = reid, keep
        self._perceptual = perceptual_distance_of(completer.model)
        self._thumbnails: tuple[Tracklet, np.ndarray] | None = None  # of the tracklet judged last

    def judge(self, tracklet: Tracklet, plan: Plan, indices: Sequence[int], truth: Sequence[np.ndarray],
              true_masks: Sequence[np.ndarray] | None) -> None:
        """Scores some frames of a tracklet against `truth`, over `true_masks`; None: over what the plan hides."""
        frames = self._completer.select(tracklet, plan, indices)
        pairs = ((done, done) for done in frames) if self._networks is self._completer else zip(
            frames, self._networks.select(tracklet, plan, indices), strict=True)
        fill = _Fillings(tracklet, plan, self._thumbnails_of(tracklet))
        before: tuple[int, np.ndarray, dict[str, np.ndarray]] | None = None  # the frame judged last
        for done, by_networks in pairs:
            index, expected = done.index, truth[done.index]
            scored = done.mask if true_masks is None else true_masks[index]
            found = fill(index, done.mask) | {
                "spatial": tracklet.frames[index] if by_networks.spatial is None else by_networks.spatial,
                "stcnet": by_networks.frame}
            if self._networks is not self._completer:
                found["completed"] = done.frame
            scores = {method: {"l1": quality.l1(filling, expected, scored),
                               "psnr": quality.psnr(filling, expected, scored),
                               "ssim": quality.ssim(filling, expected, scored),
                               "sharpness": quality.sharpness(filling, expected, scored)}
                      for method, filling in found.items()}
            if before is not None and before[0] == index - 1:
                self._add(scores, "flicker", _flickers(before[1], before[2], expected, found, scored))
            if self._perceptual:
                self._add(scores, "perceptual", self._perceptual(list(found.values()), expected, scored))
            if self._reid:
                # Where footage is its own truth, nothing stands in the hole: it is grey.
                hollow = tracklet.frames[index] if true_masks is not None else np.where(
                    scored[..., None], np.uint8(_GREY), expected)
                hidden, *cosines = _cosines(self._reid, [hollow, *found.values()], expected)
                self._add(scores, "hidden_cosine", [hidden] * len(cosines))
                self._add(scores, "cosine", cosines)
            for method, each in scores.items():
                self.table.add(method, distance=fill.distance(index), **each)
            before = index, expected, found
            if self._keep is not None:
                self._keep.append(Judged(tracklet.name, tracklet.frame_names[index], tracklet.frames[index], done,
                                         by_networks, expected))

    def _thumbnails_of(self, tracklet: Tracklet) -> np.ndarray:
        if self._thumbnails is None or self._thumbnails[0] is not tracklet:
            self._thumbnails = tracklet, np.stack([thumbnail(frame) for frame in tracklet.frames])
        return self._thumbnails[1]

    @staticmethod
    def _add(scores: dict[str, dict], name: str, values: Sequence[float]) -> None:
        for each, value in zip(scores.values(), values, strict=True):
            each[name] = value


class _Fillings:
    """The simple fillings of a tracklet's frames."""

    def __init__(self, tracklet: Tracklet, plan: Plan, thumbnails: np.ndarray):
        self._frames = tracklet.frames
        self._nearest = nearest_sources(plan.visible)
        visible = np.flatnonzero(plan.visible)
        self._visible = LazySequence(len(visible), lambda i: tracklet.frames[int(visible[i])])
        self._thumbnails = thumbnails[visible]

    def distance(self, index: int) -> int | None:
        """The number of frames to the nearest visible one."""
        return min((abs(int(i) - index) for i in self._nearest[index] if i != NO_FRAME), default=None)

    def __call__(self, index: int, mask: np.ndarray) -> dict[str, np.ndarray]:
        frame, nearest = self._frames[index], self._nearest[index]
        before, after = (None if i == NO_FRAME else self._frames[i] for i in nearest)
        first, second = (abs(int(i) - index) for i in nearest)
        return {
            "copy": fillings.copy_nearest(frame, mask, before, after, (first, second)),
            "mean": fillings.mean_of_neighbours(frame, mask, before, after),
            "flow": fillings.flow_of_neighbours(frame, mask, [n for n in (before, after) if n is not None]),
            "best": fillings.best_frame(frame, mask, self._visible, self._thumbnails),
            "telea": fillings.telea(frame, mask)}


def _flickers(true_before: np.ndarray, before: dict[str, np.ndarray], true_now: np.ndarray,
              now: dict[str, np.ndarray], mask: np.ndarray) -> list[float]:
    """Of each method, how much it changes beside what moves in the true frames."""
    height, width = mask.shape
    motion = registration.resized(registration.flow_between(
        *(resize(frame, *registration.SIZE) for frame in (true_now, true_before))), height, width)
    return [quality.flicker(resize(before[method], height, width), filling, motion, mask)
            for method, filling in now.items()]


def _cosines(reid: ReidModel, pictures: Sequence[np.ndarray], truth: np.ndarray) -> list[float]:
    """Of each picture, its features' cosine with those of the truth."""
    features = tracklet_features(reid, [[picture] for picture in (truth, *pictures)])
    features /= np.linalg.norm(features, axis=1, keepdims=True) + _LEAST
    return (features[1:] @ features[0]).tolist()


def _runs_in(tracklet: Tracklet, held_out: HeldOutRuns) -> list[list[int]]:
    """A tracklet's held-out runs as frame indices; runs with a frame that the tracklet lacks are left out."""
    index = {name: i for i, name in enumerate(tracklet.frame_names)}
    return [[index[name] for name in run] for run in held_out.get(tracklet.name, ())
            if all(name in index for name in run)]
