"""Judging completions: held-out runs and the truth, against scores by hand; the network is random."""

import dataclasses

import cv2
import numpy as np
import pytest
from people import figures, masks_at, random_model, tracklet

from vrstc_jax.evaluation import quality
from vrstc_jax.evaluation.judging import judge_held_out, judge_truth
from vrstc_jax.inference.completer import Completer
from vrstc_jax.ops.regions import bands_mask
from vrstc_jax.runtime.errors import InputError


@pytest.fixture(scope="module")
def completer(quick_compilation):
    return Completer(random_model(tau=-1.0))


def test_a_band_is_hidden_in_the_whole_run_at_once(completer):
    rng = np.random.default_rng(0)
    frames = [np.clip(frame + rng.normal(0, 9, frame.shape), 0, 255).astype(np.uint8)
              for frame in figures(30)]
    given = tracklet(frames, name="a")
    run = [given.frame_names[10:15], given.frame_names[20:25]]
    kept = []
    table = judge_held_out(completer, [given], {"a": run, "b": [["x"]]}, keep=kept)
    assert [j.frame_name for j in kept] == [*run[0], *run[1]]
    for first, block in ((10, kept[:5]), (20, kept[5:])):
        masks = [j.completed.mask for j in block]
        assert any(np.array_equal(masks[0], bands_mask(np.arange(3) == k, 40, 20)) for k in range(3))
        for judged, mask in zip(block, masks):
            np.testing.assert_array_equal(mask, masks[0])
            assert judged.completed.sources == (first - 1, first + 5)  # none from inside the run
            np.testing.assert_array_equal(judged.truth, frames[judged.completed.index])
            np.testing.assert_array_equal(judged.completed.frame[~mask], judged.truth[~mask])
    by_hand = {"copy": [], "mean": [], "telea": [], "stcnet": [], "spatial": []}
    for judged in kept:
        i, mask, truth = judged.completed.index, judged.completed.mask, judged.truth.astype(float)
        before, after = (frames[k].astype(float) for k in judged.completed.sources)
        hollow = np.where(mask[..., None], np.uint8(0), judged.truth)
        fillings = {"copy": before if i % 10 < 3 else after, "mean": (before + after) / 2,
                    "telea": cv2.inpaint(hollow, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA),
                    "stcnet": judged.completed.frame, "spatial": judged.completed.spatial}
        for method, filling in fillings.items():
            by_hand[method].append(10 * np.log10(255 ** 2 / np.square(filling - truth)[mask].mean()))
    overall = table.overall()
    for method, values in by_hand.items():
        # Halves are rounded in `mean`, which is far below a hundredth of a decibel here.
        assert overall[method]["psnr"] == pytest.approx(np.mean(values), abs=0.05), method


def test_located_masks_do_not_see_the_true_ones(completer):
    """Nothing is located at this tau, so what hides people stays, and is scored as it is."""
    frames = figures(8, sizes=((40, 20), (37, 19)))
    masks = masks_at(frames, (1, 4, 5), share=0.4)
    shown = [np.where(mask[..., None], np.uint8(7), frame) for frame, mask in zip(frames, masks)]
    given = tracklet(shown, masks, truth=frames)
    kept = []
    table = judge_truth(completer, [given], located=True, keep=kept)
    assert [j.completed.how for j in kept] == ["visible"] * 3
    expected = np.mean([quality.psnr(shown[i], frames[i], masks[i]) for i in (1, 4, 5)])
    for method in ("copy", "mean", "telea", "spatial", "stcnet"):
        assert table.overall()[method]["psnr"] == pytest.approx(expected)


def test_what_cannot_be_judged(completer):
    given = tracklet(figures(4))
    for tracklets, held_out, said in (([given], {}, "--hold-out"),
                                      ([given], {"z": [["1"]]}, "None of the model's held-out runs"),
                                      ([given], {given.name: [["gone"]]}, "None of the model's held-out runs")):
        with pytest.raises(InputError, match=said):
            judge_held_out(completer, tracklets, held_out)
    with pytest.raises(InputError, match="--truth and --masks"):
        judge_truth(completer, [given], located=False)


def test_held_out_runs_are_scored_as_shown_where_the_truth_is_known_too(completer):
    """They hide what is seen, so the shown frame is the truth, whatever else the tracklet has."""
    frames = figures(15)
    given = tracklet(frames, name="a")
    runs = {"a": [given.frame_names[5:8]]}
    plain = judge_held_out(completer, [given], runs)
    other = dataclasses.replace(given, truth=[np.zeros_like(frame) for frame in frames])
    assert judge_held_out(completer, [other], runs).overall() == plain.overall()
