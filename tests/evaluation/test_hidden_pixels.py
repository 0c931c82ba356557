"""What is located compared with the truth: counts by hand, and the area under the curve by its definition."""

import numpy as np
import pytest

from vrstc_jax.evaluation.hidden_pixels import auc, by_kind, compare_frame, format_pixel_scores, pixel_score


def mask(rows=slice(0, 0), columns=slice(None)):
    found = np.zeros((12, 8), bool)
    found[rows, columns] = True
    return found


def test_a_frame_by_hand():
    frame = compare_frame(mask(slice(4, 10)), mask(slice(4, 8)), 0.3, hidden=mask(slice(6, 9), slice(2, 4)),
                          silhouette=mask(slice(0, 12), slice(2, 6)))
    assert frame.found == 1.0 and frame.beside == pytest.approx(2 / 8)
    assert frame.called.tolist() == [False, True, True] and frame.covered.tolist() == [False, True, False]
    assert frame.overlap == (4 * 8, 6 * 8)
    # Truth: rows 4 to 7 of columns 2 to 5; said: rows 6 to 8 of columns 2 and 3.
    assert frame.hidden == (2 * 2, 4 * 4 + 2)
    assert not frame.clean and not frame.from_side


def test_what_comes_from_the_side_leaves_columns_free():
    assert compare_frame(mask(), mask(slice(None), slice(0, 5)), 0).from_side
    assert not compare_frame(mask(), mask(), 0).from_side


def test_scores_by_hand():
    frames = [compare_frame(mask(slice(0, 4)), mask(slice(0, 4)), 0.5), compare_frame(mask(), mask(slice(8, 12)), 0.1),
              compare_frame(mask(slice(4, 8)), mask(), 0.2), compare_frame(mask(), mask(), 0.0)]
    score = pixel_score(frames)
    assert (score.frames, score.found, score.beside, score.needless) == (4, 0.5, 0.0, 0.5)
    assert (score.precision, score.recall, score.f1) == (0.5, 0.5, 0.5)
    assert score.overlap == pytest.approx(32 / 96) and np.isnan(score.hidden_overlap)
    assert score.auc == 0.75  # of 0.5 and 0.1 against 0.2 and 0.0: three of four pairs


def test_kinds():
    clean, hidden = compare_frame(mask(), mask(), 0.0), compare_frame(mask(slice(0, 4)), mask(slice(0, 4)), 0.5)
    scores = by_kind([[clean, clean, hidden], [hidden, hidden, clean]])
    assert {kind: score.frames for kind, score in scores.items()} == {
        "all": 6, "1 of 3 bands": 6, "tracklets mostly hidden": 3}
    assert "tracklets mostly hidden" in format_pixel_scores(scores)


def test_auc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 8, 30) / 8, rng.integers(0, 6, 50) / 8
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert auc(positive, negative) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc([], negative))


def test_no_frames():
    assert np.isnan(pixel_score([]).found)
