"""Random masks: how much each kind hides, and where."""

import numpy as np
import pytest

from vrstc_jax.ops.masks import random_mask


class TestRandomMasks:
    SIZES = [(128, 64), (64, 32), (32, 16), (33, 17)]

    @pytest.mark.parametrize("size", SIZES)
    def test_bands_hide_one_third(self, size):
        seen = set()
        for seed in range(40):
            mask = random_mask(np.random.default_rng(seed), *size, kind="bands")
            assert mask.shape == size and mask.dtype == bool
            rows = np.flatnonzero(mask.any(1))
            assert mask[rows].all() and (np.diff(rows) == 1).all()  # whole neighbouring rows
            assert abs(len(rows) - size[0] / 3) < 1
            seen.add(int(rows[0]))
        assert seen == {0, *seen} and len(seen) == 3 and max(seen) + size[0] // 3 in (size[0], size[0] - 1)

    @pytest.mark.parametrize("size", SIZES)
    def test_mixed_are_never_empty_and_never_full(self, size):
        masks = [random_mask(np.random.default_rng(seed), *size) for seed in range(300)]
        assert all(mask.shape == size and mask.dtype == bool for mask in masks)
        shares = np.array([mask.mean() for mask in masks])
        assert shares.min() > 0.02 and shares.max() < 0.9
        assert np.unique(shares).size > 60
        whole_rows = np.array([(mask == mask[:, :1]).all() for mask in masks])
        thirds = np.round(3 * shares[whole_rows]).astype(int)
        # As the table of kinds says, within four standard errors of 300 draws.
        assert abs((whole_rows & (np.abs(shares - 1 / 3) < 0.04)).mean() - 0.45) < 0.12
        assert abs((thirds == 2).sum() / 300 - 0.15) < 0.09
        assert abs((~whole_rows).mean() - 0.4) < 0.12

    def test_mixed_come_from_every_side(self):
        masks = np.array([random_mask(np.random.default_rng(seed), 64, 32) for seed in range(400)])
        shapes = masks[[not (mask == mask[:, :1]).all() for mask in masks]]
        for edge in (shapes[:, 0], shapes[:, -1], shapes[:, :, 0], shapes[:, :, -1]):
            assert 0.05 < edge.any(1).mean() < 0.95
        assert (shapes.mean(0) > 0.05).all()  # and nothing is always visible

    def test_the_same_generator_gives_the_same(self):
        first, second, other = ([random_mask(rng, 64, 32) for _ in range(9)] for rng in map(
            np.random.default_rng, (5, 5, 6)))
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, other)

    def test_another_kind(self):
        with pytest.raises(ValueError, match="'clouds'"):
            random_mask(np.random.default_rng(0), 64, 32, kind="clouds")
