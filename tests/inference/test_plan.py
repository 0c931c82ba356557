"""The plan of what is hidden, made from scores or from masks, against rules written out."""

import numpy as np
import pytest

from vrstc_jax.inference.plan import Plan, hidden_bands, visible_frames
from vrstc_jax.ops.regions import bands_mask

FRAME = np.zeros((12, 5, 3), np.uint8)


@pytest.fixture
def scores():
    return np.array([[0.9, 0.8, 0.7], [0.5, 0.49, 0.9], [0.1, 0.4, -0.2], [-0.3, -0.2, 0.0]], np.float32)


def test_a_band_is_hidden_below_tau_and_not_at_it(scores):
    np.testing.assert_array_equal(hidden_bands(scores, 0.5), [[0, 0, 0], [0, 1, 0], [1, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(visible_frames(scores, 0.5), [True, False, False, False])
    assert visible_frames(np.zeros((0, 3)), 0.5).shape == (0,)


def test_from_scores(scores):
    """Of three bands called hidden the best is kept if it is seen for the most part; the frame is not visible."""
    plan = Plan.from_scores(scores, 0.5)
    np.testing.assert_array_equal(plan.visible, [True, False, False, False])
    np.testing.assert_array_equal(plan.scores, scores)
    assert plan.warnings == ()
    for index, hidden in enumerate([[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]]):
        np.testing.assert_array_equal(plan.mask(index, FRAME), bands_mask(hidden, 12, 5))


def test_from_masks():
    masks = [bands_mask(hidden, 12, 5) for hidden in ([0, 0, 0], [1, 0, 0], [1, 1, 1])]
    plan = Plan.from_masks(masks)
    np.testing.assert_array_equal(plan.visible, [True, False, False])
    assert plan.scores.shape == (3, 3) and np.isnan(plan.scores).all()
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(plan.mask(index, FRAME), mask)


@pytest.mark.parametrize("hidden, message", [
    ([[0, 0, 0], [0, 0, 0]], "hide nothing in any of its 2 frames"),
    ([[1, 1, 1], [1, 1, 0]], "hide 83 % of its pixels"),
    ([[0, 0, 0], [1, 0, 0]], None), ([[1, 1, 0], [1, 1, 0]], None), ([], None)])
def test_masks_that_seem_wrong_are_warned_of(hidden, message):
    warnings = Plan.from_masks([bands_mask(each, 12, 5) for each in hidden]).warnings
    assert len(warnings) == (message is not None)
    assert all(message in warning and "white" in warning for warning in warnings)


def test_hiding_a_run(scores):
    """The run's frames hide these bands alone and are no longer visible; all else is as it was."""
    plan = Plan.from_scores(np.concatenate([scores[:1]] * 3 + [scores[1:2]]), 0.5)
    hidden = np.array([False, False, True])
    more = plan.hiding([1, 3], hidden)
    np.testing.assert_array_equal(more.visible, [True, False, True, False])
    np.testing.assert_array_equal(plan.visible, [True, True, True, False])  # the first plan is unchanged
    for index, expected in enumerate([[0, 0, 0], hidden, [0, 0, 0], hidden]):
        np.testing.assert_array_equal(more.mask(index, FRAME), bands_mask(expected, 12, 5))
