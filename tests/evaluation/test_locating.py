"""Precision and recall of located bands, by hand."""

import math

import numpy as np
import pytest

from vrstc_jax.evaluation.locating import HIDDEN_SHARE, format_locating, judge_locating


def mask(*shares, height=12, width=10):
    """A mask that hides a share of each of the three bands, from its left on."""
    hidden = np.zeros((height, width), bool)
    for band, share in enumerate(shares):
        hidden[band * height // 3:(band + 1) * height // 3, :round(share * width)] = True
    return hidden


# Two tracklets of two frames and one. Hidden bands, at a third or more: their scores are 0.2, 0.5 and 0.9.
MASKS = [[mask(1, 0.4, 0.3), mask(0, 0, 0)], [mask(0.2, 0, 0.7, height=9, width=10)]]
SCORES = [np.array([[0.2, 0.5, 0.6], [0.4, 0.8, 0.95]], np.float32), np.array([[0.7, 0.99, 0.9]], np.float32)]


def test_by_hand():
    score = judge_locating(SCORES, MASKS, 0.65)
    # Called: 0.2, 0.5, 0.6, 0.4; of these two are hidden.
    assert (score.called, score.hidden, score.bands, score.tau) == (4, 3, 9, 0.65)
    assert (score.precision, score.recall) == (2 / 4, 2 / 3)
    # By score: 0.2 HIDDEN, 0.4, 0.5 HIDDEN, 0.6, 0.7, 0.8, 0.9 HIDDEN, …
    assert score.average_precision == pytest.approx((1 / 1 + 2 / 3 + 3 / 7) / 3)
    assert judge_locating(SCORES, MASKS, 0.3).average_precision == score.average_precision


def test_a_score_that_is_the_threshold_is_not_called():
    scores = [np.array([[0.25, 0.5, 0.75]], np.float32)]
    assert judge_locating(scores, [[mask(1, 1, 0)]], 0.5).called == 1


def test_how_much_of_a_band_must_be_hidden():
    assert pytest.approx(1 / 3) == HIDDEN_SHARE
    assert judge_locating(SCORES, MASKS, 0.65, share=0.25).hidden == 4
    assert judge_locating(SCORES, MASKS, 0.65, share=0.8).hidden == 1


def test_none_called():
    score = judge_locating(SCORES, MASKS, 0.1)
    assert math.isnan(score.precision) and score.recall == 0 and score.called == 0
    assert score.average_precision > 0


def test_none_hidden():
    score = judge_locating(SCORES, [[mask(0, 0, 0)] * 2, [mask(0, 0, 0)]], 0.65)
    assert score.precision == 0 and math.isnan(score.recall) and math.isnan(score.average_precision)
    assert "nan" in format_locating([score])


def test_all_right():
    """Whatever is hidden scores lowest."""
    scores = [np.where(np.array([[1, 1, 0], [0, 0, 0]]), 0.1, 0.9), np.array([[0.9, 0.9, 0.1]])]
    score = judge_locating(scores, MASKS, 0.5)
    assert (score.precision, score.recall, score.average_precision) == (1, 1, 1)


@pytest.mark.parametrize("scores, masks", [([], []), (SCORES, MASKS[:1]), (SCORES[:1], MASKS[1:]),
                                           (SCORES, [MASKS[0][:1], MASKS[1]])])
def test_what_does_not_fit(scores, masks):
    with pytest.raises(ValueError):
        judge_locating(scores, masks, 0.5)


def test_as_text():
    lines = format_locating([judge_locating(SCORES, MASKS, tau) for tau in (0.65, 0.1)]).splitlines()
    assert lines[0].split() == ["tau", "precision", "recall", "F1", "called", "hidden", "bands"]
    assert lines[1].split() == ["0.6500", "0.500", "0.667", "0.571", "4", "3", "9"]
    assert lines[2].split() == ["0.1000", "nan", "0.000", "nan", "0", "3", "9"]
    assert lines[3] == "average precision over all thresholds: 0.698" and len(lines) == 4
