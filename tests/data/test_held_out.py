"""Runs that are held out of training: how they are spread, and what is left."""

import numpy as np
import pytest

from vrstc_jax.data.held_out import HeldOut, hold_out_runs


class TestHoldOutRuns:
    @pytest.mark.parametrize("size", [1, 4, 9])
    def test_runs_are_apart_inside_and_about_a_tenth(self, size):
        lengths = [0, 1, 3 * size - 1, 3 * size, 10 * size, 35 * size, 400 * size]
        for length, runs in zip(lengths, hold_out_runs(lengths, size).runs, strict=True):
            assert bool(runs) == (length >= 3 * size > 0)
            for first, end in runs:
                assert end - first == size and first >= size and length - end >= size
            for (_, end), (first, _) in zip(runs, runs[1:]):
                assert first - end >= size
            if length >= 30 * size:
                assert 0.05 < sum(end - first for first, end in runs) / length < 0.15

    def test_none(self):
        assert hold_out_runs([100, 5], 0).runs == ((), ())

    def test_without(self):
        held_out = HeldOut((((2, 4), (7, 9)), ()))
        np.testing.assert_array_equal(held_out.without(0, np.array([0, 2, 3, 4, 6, 7, 8, 9])), [0, 4, 6, 9])
        np.testing.assert_array_equal(held_out.without(1, np.arange(3)), np.arange(3))
