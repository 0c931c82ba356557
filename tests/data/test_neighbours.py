"""The frames that a hidden frame is completed from, against loops over all frames."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from vrstc_jax.data.neighbours import choose_sides, nearest_sources, unlikeness


class TestNeighbours:
    @hypothesis.given(st.lists(st.booleans(), max_size=12))
    def test_sources_against_loops(self, visible):
        found = nearest_sources(visible)
        assert found.shape == (len(visible), 2)
        for t in range(len(visible)):
            before = [i for i in range(t) if visible[i]]
            after = [i for i in range(t + 1, len(visible)) if visible[i]]
            assert found[t].tolist() == [before[-1] if before else -1, after[0] if after else -1]

    @hypothesis.given(visible=st.sets(st.integers(0, 15)), first=st.integers(0, 15), run=st.integers(1, 6),
                      count=st.integers(1, 3), step=st.integers(1, 3))
    @hypothesis.settings(max_examples=60)
    def test_sides_against_loops(self, visible, first, run, count, step):
        last = first + run - 1
        found = choose_sides(np.array(sorted(visible), int), first, last, count=count, step=step)
        before = sorted((i for i in visible if i < first), reverse=True)
        after = sorted(i for i in visible if i > last)
        if not before and not after:
            assert found is None
            return
        for side, picked in zip((before or after, after or before), found, strict=True):
            assert picked == [side[min(k * step, len(side) - 1)] for k in range(count)]

    @hypothesis.given(visible=st.sets(st.integers(0, 15)), at=st.integers(0, 15), count=st.integers(1, 3),
                      reach=st.integers(2, 4), unlike=st.lists(st.integers(0, 3), min_size=16, max_size=16))
    @hypothesis.settings(max_examples=60)
    def test_sides_within_a_reach_are_the_most_alike(self, visible, at, count, reach, unlike):
        found = choose_sides(np.array(sorted(visible), int), at, at, count=count, reach=reach,
                      unlike=lambda indices: np.array([unlike[i] for i in indices]))
        before = sorted((i for i in visible if i < at), reverse=True)[:reach]
        after = sorted(i for i in visible if i > at)[:reach]
        if not before and not after:
            assert found is None
            return
        for side, picked in zip((before or after, after or before), found, strict=True):
            ordered = sorted(side, key=lambda i: (unlike[i], abs(i - at)))
            assert picked == (ordered + ordered[-1:] * count)[:count]

    def test_a_reach_needs_a_difference(self):
        with pytest.raises(ValueError, match="a reach of more than 1 needs `unlike`. Got a reach of 3 without it"):
            choose_sides(np.array([0, 1, 5]), 3, 3, reach=3)

    def test_unlikeness_is_that_of_the_visible_part(self):
        random = np.random.default_rng(0)
        hidden, others = (random.integers(0, 256, shape).astype(np.uint8) for shape in ((16, 8, 3), (5, 16, 8, 3)))
        mask = np.zeros((32, 16), bool)
        mask[:7, :5] = True  # at half the size: 4 rows, the last of them in part, and 3 columns
        seen = np.ones((16, 8), bool)
        seen[:4, :3] = False
        wanted = [np.mean((other[seen].astype(float) - hidden[seen]) ** 2) for other in others]
        np.testing.assert_allclose(unlikeness(hidden, mask, others), wanted, rtol=1e-5)
        assert unlikeness(hidden, np.ones((9, 9), bool), others).tolist() == [0] * 5
