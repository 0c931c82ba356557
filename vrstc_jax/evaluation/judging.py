"""Judging completion against what was really there, beside the simple fillings it has to beat.

Scores are taken over the hole's pixels at each crop's own resolution and averaged over frames
(`evaluation.quality`). Methods: `copy` (the nearest visible frame), `mean` (of the two neighbours), `telea`
(OpenCV's inpainting), `spatial` (x̂1), `stcnet` (x̂2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vrstc_jax.data.held_out import hold_out_runs
from vrstc_jax.data.neighbours import nearest_sources
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation import quality
from vrstc_jax.inference.complete import CompletedFrame, Completer
from vrstc_jax.models.model_file import Model
from vrstc_jax.ops.regions import BANDS
from vrstc_jax.runtime.errors import InputError


@dataclass(frozen=True, eq=False)
class Judged:
    """A frame that was hidden, what was made of it, and what was there; for pictures."""

    tracklet: str
    frame_name: str
    shown: np.ndarray
    completed: CompletedFrame
    truth: np.ndarray


def held_out_by(completer: Completer, tracklets: Sequence[Tracklet], size: int) -> dict[str, list[list[str]]]:
    """Runs of `size` frames to judge a model on that never saw these tracklets, as a model's provenance has them:
    spread over each tracklet as `fit` spreads those that it holds out, where the model finds nothing hidden."""
    lengths = [len(tracklet) for tracklet in tracklets]
    found = {}
    for tracklet, runs in zip(tracklets, hold_out_runs(lengths, size).runs):
        visible = completer.plan(tracklet).visible if runs else None
        kept = [list(tracklet.frame_names[slice(*run)]) for run in runs if visible[slice(*run)].all()]
        if kept:
            found[tracklet.name] = kept
    return found


def has_held_out(model: Model, tracklets: Sequence[Tracklet]) -> bool:
    """Whether any of the model's held-out runs is in these tracklets."""
    held_out = model.provenance.get("held_out") or {}
    return any(_runs_in(tracklet, held_out.get(tracklet.name, ())) for tracklet in tracklets)


def judge_held_out(completer: Completer, tracklets: Sequence[Tracklet], *, seed: int = 0, progress=None,
                   keep: list[Judged] | None = None) -> quality.ScoreTable:
    """On runs of frames that training never saw: a band hidden in all frames of a run at once.

    Which band is drawn from `seed`, run by run. The frames to complete from are the tracklet's unoccluded
    frames outside the run.

    Args:
      progress: called after each run.
      keep: frames are added to it, for pictures.

    Raises:
      InputError: the model records no held-out run, or none of them is in these tracklets.
    """
    held_out = completer.model.provenance.get("held_out") or {}
    if not held_out:
        raise InputError("The model has no held-out runs to be judged on; fit it with --hold-out 9, or judge "
                         "where the truth is known (--truth).")
    table, found = quality.ScoreTable(), 0
    for tracklet in tracklets:
        runs = _runs_in(tracklet, held_out.get(tracklet.name, ()))
        if not runs:
            continue
        plan = completer.plan(tracklet)
        for number, run in enumerate(runs):
            # Seeded by the run's place, so that a band does not depend on which tracklets are judged.
            rng = np.random.default_rng([seed, number, *tracklet.name.encode()])
            hidden = np.arange(BANDS) == rng.integers(BANDS)
            _judge(completer, tracklet, plan.hiding(run, hidden), run, tracklet.frames, table, keep)
            found += 1
            if progress:
                progress()
    if not found:
        raise InputError("None of the model's held-out runs is in this input; judge on the footage that the "
                         f"model was fitted to (it held out runs of tracklets {', '.join(list(held_out)[:5])}).")
    return table


def judge_truth(completer: Completer, tracklets: Sequence[Tracklet], *, located: bool, progress=None,
                keep: list[Judged] | None = None) -> quality.ScoreTable:
    """Where the truth behind the occluder is known: scores over the truly hidden pixels.

    Args:
      tracklets: with `truth`, and with `masks`, which say what is truly hidden.
      located: whether completion, like all methods beside it, works with located bands in place of the true
        masks; hidden pixels that were not located then keep what hides them.
      progress: called after each tracklet.

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
        hidden = [i for i, mask in enumerate(tracklet.masks) if mask.any() and not mask.all()]
        _judge(completer, tracklet, plan, hidden, tracklet.truth, table, keep, true_masks=tracklet.masks)
        if progress:
            progress()
    return table


def _judge(completer, tracklet, plan, indices, truth, table, keep, true_masks=None):
    nearest = nearest_sources(plan.visible)
    for done in completer.select(tracklet, plan, indices):
        index = done.index
        frame, mask, expected = tracklet.frames[index], done.mask, truth[index]
        scored = mask if true_masks is None else true_masks[index]
        before, after = ((None if i < 0 else tracklet.frames[i]) for i in nearest[index])
        distances = [abs(int(i) - index) for i in nearest[index]]
        fillings = {
            "copy": quality.copy_nearest(frame, mask, before, after, tuple(distances)),
            "mean": quality.mean_of_neighbours(frame, mask, before, after),
            "telea": quality.telea(frame, mask),
            "spatial": frame if done.spatial is None else done.spatial,
            "stcnet": done.frame,
        }
        there = [d for d, i in zip(distances, nearest[index]) if i >= 0]
        for method, filling in fillings.items():
            table.add(method, distance=min(there, default=None), l1=quality.l1(filling, expected, scored),
                      psnr=quality.psnr(filling, expected, scored), ssim=quality.ssim(filling, expected, scored))
        if keep is not None:
            keep.append(Judged(tracklet.name, tracklet.frame_names[index], frame, done, expected))


def _runs_in(tracklet, runs):
    """Held-out runs, recorded as frame names, as lists of indices; those that are not all there left out."""
    place = {name: i for i, name in enumerate(tracklet.frame_names)}
    return [[place[name] for name in run] for run in runs if all(name in place for name in run)]
