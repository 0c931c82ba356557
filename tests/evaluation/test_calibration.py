"""Whether probabilities are what they say: bins by hand, and a scale and shift that are known."""

import numpy as np
import pytest

from vrstc_jax.evaluation.calibration import platt, reliability


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_bins_by_hand():
    found = reliability(np.array([0.1, 0.2, 0.9, 1.0]), np.array([0.0, 1.0, 1.0, 1.0]), bins=2)
    np.testing.assert_allclose(found.said, [0.15, 0.95])
    np.testing.assert_allclose(found.true, [0.5, 1.0])
    np.testing.assert_allclose(found.weights, [0.5, 0.5])
    assert found.error == pytest.approx(0.5 * 0.35 + 0.5 * 0.05)


def test_a_bin_that_nothing_is_in_is_left_out():
    assert len(reliability(np.array([0.05, 0.95]), np.array([0.0, 1.0])).said) == 2


def test_the_scale_and_shift_are_found():
    logits = np.random.default_rng(0).normal(0, 2, 5000)
    scale, shift = platt(sigmoid(logits), sigmoid(1.7 * logits - 0.4))
    assert (scale, shift) == (pytest.approx(1.7, abs=1e-4), pytest.approx(-0.4, abs=1e-4))


def test_calibrated_probabilities_have_less_error():
    rng = np.random.default_rng(0)
    logits = rng.normal(-1, 2, 20000)
    true = rng.random(20000) < sigmoid(0.5 * logits)
    scale, shift = platt(sigmoid(logits), true)
    before, after = (reliability(sigmoid(z), true).error for z in (logits, scale * logits + shift))
    # 20,000 draws in 15 bins: a bin's share is certain to about 0.01.
    assert before > 0.08 and after < 0.012


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_where_all_is_alike_nothing_is_learned(share):
    assert platt(np.array([0.2, 0.7]), np.full(2, share)) == (1.0, 0.0)


@pytest.mark.parametrize("logits, shares", [
    ([-3, -2, 1, 2], [0, 0, 1, 1]), ([-3, -2, 1, 2], [1, 1, 0, 0]), ([-8] * 999 + [-7], [0] * 999 + [0.01]),
    ([0.0] * 9, [1] + [0] * 8)])
def test_the_numbers_are_finite_whatever_they_are_learned_from(logits, shares):
    """Such as of frames that are told apart without error, or of a single pixel that is hidden."""
    scale, shift = platt(sigmoid(np.array(logits, float)), np.array(shares, float))
    before, after = (np.mean(np.logaddexp(0, z) - z * shares) for z in (
        np.array(logits, float), scale * np.array(logits) + shift))
    assert after <= before + 1e-9 and abs(scale) < 1e3 and abs(shift) < 1e3
