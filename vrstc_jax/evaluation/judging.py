"""Judging completion against the true pixels, beside the simple fillings that it has to beat.

Scores are taken over the hole's pixels at each crop's own resolution and averaged over frames
(`evaluation.quality`). Methods: `copy` (the nearest visible frame), `mean` (of the two neighbours), `telea`
(OpenCV's inpainting), `spatial` (x̂1), `stcnet` (x̂2), and `completed` (what the model gives, where its config has
`repairing`: from what other frames show).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vrstc_jax.data.held_out import hold_out_runs
from vrstc_jax.data.neighbours import NO_FRAME, nearest_sources
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation import quality
from vrstc_jax.inference.completer import CompletedFrame, Completer
from vrstc_jax.inference.plan import Plan
from vrstc_jax.models.model_file import Model
from vrstc_jax.ops.regions import BANDS
from vrstc_jax.runtime.errors import InputError

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


def held_out_by(completer: Completer, tracklets: Sequence[Tracklet], size: int) -> dict[str, list[list[str]]]:
    """Runs of `size` frames of footage that the model never saw, in which it finds nothing hidden.

    They are spread over each tracklet as `fit` spreads the runs that it holds out.
    """
    found = {}
    for tracklet, runs in zip(tracklets, hold_out_runs([len(tracklet) for tracklet in tracklets], size).runs):
        if not runs:
            continue
        visible = completer.plan(tracklet).visible
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
                   progress: Callable[[], Any] | None = None, keep: list[Judged] | None = None) -> quality.ScoreTable:
    """Scores on runs of frames that training never saw: one band is hidden in all frames of a run.

    The band is drawn from `seed`, run by run. Frames are completed from the tracklet's visible frames outside the
    run.

    Args:
      held_out: the runs, such as `held_out_of(model)` or `held_out_by(…)`.
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
    table = quality.ScoreTable()
    for tracklet in tracklets:
        runs = _runs_in(tracklet, held_out)
        if not runs:
            continue
        plan = completer.plan(tracklet)
        for number, run in enumerate(runs):
            # Seeded by the run's number and tracklet, so that a band does not depend on which others are judged.
            rng = np.random.default_rng([seed, number, *tracklet.name.encode()])
            hidden = np.arange(BANDS) == rng.integers(BANDS)
            _judge(completer, tracklet, plan.hiding(run, hidden), run, tracklet.frames, None, table, keep)
            if progress:
                progress()
    return table


def judge_truth(completer: Completer, tracklets: Sequence[Tracklet], *, located: bool,
                progress: Callable[[], Any] | None = None, keep: list[Judged] | None = None) -> quality.ScoreTable:
    """Scores over the truly hidden pixels, where the truth behind the occluder is known.

    Args:
      tracklets: with `truth`, and with `masks`, which say what is truly hidden.
      located: whether all methods fill located bands instead of the true masks. A hidden pixel outside the located
        bands is then scored with the occluder's colour.
      progress: called after each tracklet.
      keep: the judged frames are appended to it, for pictures.

    Raises:
      InputError: a tracklet has no truth or no masks.
    """
    table = quality.ScoreTable()
    for tracklet in tracklets:
        if tracklet.truth is None or tracklet.masks is None:
            raise InputError(f"tracklet {tracklet.name}: judging against the truth needs the frames without the "
                             "occluder and the masks of what is hidden; give --truth and --masks.")
        seen = Tracklet(name=tracklet.name, frames=tracklet.frames, frame_names=tracklet.frame_names)
        plan = completer.plan(seen if located else tracklet)
        # A frame hidden entirely is left as it is, so there is no completion to score.
        hidden = [i for i, mask in enumerate(tracklet.masks) if mask.any() and not mask.all()]
        _judge(completer, tracklet, plan, hidden, tracklet.truth, tracklet.masks, table, keep)
        if progress:
            progress()
    return table


def _judge(completer: Completer, tracklet: Tracklet, plan: Plan, indices: Sequence[int], truth: Sequence[np.ndarray],
           true_masks: Sequence[np.ndarray] | None, table: quality.ScoreTable, keep: list[Judged] | None) -> None:
    """Scores every method on some frames against `truth`, over `true_masks`; None: over what the plan hides."""
    nearest = nearest_sources(plan.visible)
    networks = completer.without_repairing()
    frames = completer.select(tracklet, plan, indices)
    pairs = ((done, done) for done in frames) if networks is completer else zip(
        frames, networks.select(tracklet, plan, indices), strict=True)
    for done, by_networks in pairs:
        index = done.index
        frame, mask, expected = tracklet.frames[index], done.mask, truth[index]
        scored = mask if true_masks is None else true_masks[index]
        before, after = ((None if i == NO_FRAME else tracklet.frames[i]) for i in nearest[index])
        first, second = (abs(int(i) - index) for i in nearest[index])
        fillings = {
            "copy": quality.copy_nearest(frame, mask, before, after, (first, second)),
            "mean": quality.mean_of_neighbours(frame, mask, before, after),
            "telea": quality.telea(frame, mask),
            "spatial": frame if by_networks.spatial is None else by_networks.spatial,
            "stcnet": by_networks.frame,
        } | ({} if networks is completer else {"completed": done.frame})
        there = [d for d, i in zip((first, second), nearest[index]) if i != NO_FRAME]
        for method, filling in fillings.items():
            table.add(method, distance=min(there, default=None), l1=quality.l1(filling, expected, scored),
                      psnr=quality.psnr(filling, expected, scored), ssim=quality.ssim(filling, expected, scored))
        if keep is not None:
            keep.append(Judged(tracklet.name, tracklet.frame_names[index], frame, done, by_networks, expected))


def _runs_in(tracklet: Tracklet, held_out: HeldOutRuns) -> list[list[int]]:
    """A tracklet's held-out runs as frame indices; runs with a frame that the tracklet lacks are left out."""
    index = {name: i for i, name in enumerate(tracklet.frame_names)}
    return [[index[name] for name in run] for run in held_out.get(tracklet.name, ())
            if all(name in index for name in run)]
