"""Completing tracklets: what comes back, what it was made from, and what it costs.

The networks have random weights: how well they complete is no matter here. The oracle is in
`completing.py`.
"""


import cv2
import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from completing import (
    ROUNDING,
    SIZE,
    Counted,
    by_hand,
    compilations,
    complete,
    lazy_masks,
    nearest,
    off_by,
    random_model_with,
    run,
    visible_is_untouched,
)
from people import figures, masks_at, tracklet
from refusals import refused

from vrstc_jax.config import STCnet
from vrstc_jax.data.tracklets import LazySequence
from vrstc_jax.inference.completer import Completer
from vrstc_jax.inference.plan import Plan
from vrstc_jax.ops.regions import bands_mask

pytestmark = pytest.mark.usefixtures("quick_compilation")


class TestForms:
    def test_an_array_comes_back_as_an_array(self):
        frames = np.stack(figures(9))
        masks = np.stack(masks_at(frames, (3, 4)))
        result = complete(frames, masks)
        assert isinstance(result.frames, np.ndarray) and isinstance(result.masks, np.ndarray)
        np.testing.assert_array_equal(result.masks, masks, strict=True)
        visible_is_untouched(frames, result.frames, masks)
        assert not np.array_equal(result.frames, frames)
        assert result.sources.dtype.kind == "i" and result.scores.dtype.kind == "f"
        assert result.sources.tolist() == [[2, 5] if i in (3, 4) else [-1, -1] for i in range(9)]
        np.testing.assert_array_equal(result.scores, np.full((9, 3), np.nan))
        assert result.how == tuple("stcnet" if i in (3, 4) else "visible" for i in range(9))
        assert result.warnings == ()

    def test_a_sequence_of_sizes_comes_back_as_a_list(self):
        frames = figures(8, sizes=((40, 20), (33, 17), (90, 41)))
        masks = masks_at(frames, (2, 5))
        kept = [frame.copy() for frame in frames]
        result = complete(tuple(frames), masks)
        assert isinstance(result.frames, list) and isinstance(result.masks, list)
        assert all(mask.dtype == bool for mask in result.masks)
        visible_is_untouched(frames, result.frames, masks)
        assert all(map(np.array_equal, kept, frames))  # what was given is not written into

    def test_a_lazy_sequence_is_never_held_whole(self):
        frames, count = Counted(), 60
        result = complete(LazySequence(count, frames.read), lazy_masks(count, 40, 20, lambda i: True))
        assert isinstance(result.frames, list) and set(result.how) == {"spatial"}
        assert frames.reads[:count].tolist() == [2] * count and frames.most < 30  # checked, then completed

    @pytest.mark.parametrize("given", [True, False])
    @pytest.mark.parametrize("frames, masks", [
        ([], []), (np.zeros((0, 12, 6, 3), np.uint8), np.zeros((0, 12, 6), bool))])
    def test_no_frames(self, frames, masks, given):
        result = complete(frames, masks if given else None)
        for got, expected in ((result.frames, frames), (result.masks, masks)):
            assert type(got) is type(expected)
            np.testing.assert_array_equal(got, expected, strict=True)
        assert result.scores.shape == (0, 3) and result.sources.shape == (0, 2) and result.how == ()

    def test_a_second_call_compiles_nothing(self):
        frames = np.stack(figures(6))
        complete(frames, masks_at(frames, (3,)))
        with compilations() as seen:
            complete(frames, masks_at(frames, (2,)))
            # Another model of the same config, such as one with another threshold, finds it compiled too.
            complete(frames, masks_at(frames, (2,)), tau=0.1)
        assert seen == []

    @pytest.mark.parametrize("frames, masks, named", [
        (np.zeros((4, 8, 6), np.uint8), None, "(4, 8, 6)"),
        (np.zeros((4, 8, 6, 1), np.uint8), None, "(4, 8, 6, 1)"),
        (np.zeros((2, 8, 6, 3), np.float32), None, "float32"),
        ([np.zeros((8, 6, 3), np.uint8), np.zeros((8, 6), np.uint8)], None, "frame 1"),
        ([np.zeros((0, 6, 3), np.uint8)], None, "frame 0"),
        (["picture.png"], None, "str"),
        (np.zeros((2, 8, 6, 3), np.uint8), np.zeros((3, 8, 6), bool), "3 masks, 2 frames"),
        (np.zeros((2, 8, 6, 3), np.uint8), np.zeros((2, 8, 7), bool), "(8, 7)"),
        (np.zeros((2, 8, 6, 3), np.uint8), np.zeros((2, 8, 6), np.uint8), "uint8"),
        (np.zeros((2, 8, 6, 3), np.uint8), np.zeros((2, 8, 6, 1), bool), "(8, 6, 1)"),
    ])
    def test_what_does_not_fit_is_refused_in_one_line(self, frames, masks, named):
        with refused(named):
            complete(frames, masks)


class TestVisiblePixels:
    SIZES = [(5, 3), (1, 1), (2, 40), (32, 16), (31, 17), (64, 33), (200, 20), (10, 150), (317, 141)]

    @pytest.mark.parametrize("size", SIZES)
    def test_are_equal_bit_for_bit_with_masks(self, completer, size):
        rng = np.random.default_rng(sum(size))
        frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(5)]
        masks = [rng.random(size) < share for share in (0, 0.3, 0.9, 0, 0.02)]
        done = run(completer, frames, masks)
        visible_is_untouched(frames, [d.frame for d in done], masks)
        for d, mask in zip(done, masks):
            np.testing.assert_array_equal(d.mask, mask)
            if d.spatial is not None:
                np.testing.assert_array_equal(d.spatial[~mask], frames[d.index][~mask])

    def test_are_equal_bit_for_bit_without_masks(self):
        rng = np.random.default_rng(0)
        frames = [cv2.resize(rng.integers(0, 256, (4, 3, 3), dtype=np.uint8), size[::-1]) for size in self.SIZES]
        tau = float(np.quantile(complete(frames).scores, 0.3))
        result = complete(frames, tau=tau)
        hidden = [mask.any() for mask in result.masks]
        assert any(hidden) and not all(hidden)  # else nothing is said
        visible_is_untouched(frames, result.frames, result.masks)
        changed = [not np.array_equal(a, b) for a, b in zip(frames, result.frames)]
        assert changed == [how in ("stcnet", "spatial") for how in result.how]
        # What is hidden is what the scores say, band by band; the best of three is kept.
        for score, mask in zip(result.scores, result.masks):
            called = [u < tau and not (u > 0 and u == max(score) < tau) for u in score]
            np.testing.assert_array_equal(mask, bands_mask(called, *mask.shape))

    @hypothesis.given(height=st.integers(3, 90), width=st.integers(2, 60), seed=st.integers(0, 99))
    def test_alone_decide_what_is_painted(self, completer, height, width, seed):
        """What hides the person does not leak into the completion, at no size."""
        rng = np.random.default_rng(seed)
        frames = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(3)]
        mask = np.zeros((height, width), bool)
        top, left = rng.integers(height), rng.integers(width)
        mask[top:top + rng.integers(1, height), left:left + rng.integers(1, width)] = True
        if mask.all():
            mask[0, 0] = False
        masks = [~mask & mask, mask, ~mask & mask]
        other = frames[1].copy()
        other[mask] = rng.integers(0, 256, (mask.sum(), 3), dtype=np.uint8)
        first = run(completer, frames, masks)[1]
        second = run(completer, [frames[0], other, frames[2]], masks)[1]
        assert first.how == "stcnet"
        np.testing.assert_array_equal(first.frame, second.frame)
        np.testing.assert_array_equal(first.spatial, second.spatial)


class TestAgainstTheOracle:
    def test_at_the_network_s_own_size(self, completer):
        frames = figures(30, sizes=(SIZE,))
        hidden = (0, 1, 4, *range(6, 24), 29)
        masks = masks_at(frames, hidden, share=0.4)
        for done in run(completer, frames, masks):
            if done.index not in hidden:
                assert done.how == "visible" and done.sources == (-1, -1)
                continue
            assert done.how == "stcnet" and done.sources == nearest(masks, done.index)
            spatial, second = by_hand(frames, masks, done.index)
            difference = off_by(done.frame, second, done.mask)
            assert difference.max() <= ROUNDING and (difference > 0).mean() < 0.01
            assert off_by(done.spatial, spatial, done.mask).max() <= ROUNDING
            assert np.abs(done.frame.astype(int) - frames[done.index])[done.mask].max() > 10  # not a copy

    def test_at_a_crop_s_own_size(self, completer):
        frames = figures(7, sizes=((77, 41), (60, 20)))
        masks = masks_at(frames, (2, 3), share=0.6)
        done = run(completer, frames, masks)
        for index in (2, 3):
            _, second = by_hand(frames, masks, index)
            larger = cv2.resize(second, frames[index].shape[1::-1], interpolation=cv2.INTER_CUBIC)
            unrounded = np.clip((larger + 1) * 127.5, 0, 255)
            assert np.abs(done[index].frame - unrounded)[masks[index]].max() <= 0.5 + 1e-2

    def test_with_more_frames_a_side_and_encoders_of_their_own(self):
        model = random_model_with(frames_per_side=2, frame_step=2, share_neighbour_encoders=False)
        frames = figures(14, sizes=(SIZE,))
        masks = masks_at(frames, (2, 7, 8))
        # Every second unoccluded frame, nearest first; where a side ends early, its farthest.
        sides = {2: ((1, 0), (3, 5)), 7: ((6, 4), (9, 11)), 8: ((6, 4), (9, 11))}
        done = run(Completer(model), frames, masks)
        for index, (before, after) in sides.items():
            assert done[index].sources == (before[0], after[0])
            _, second = by_hand(frames, masks, index, (before, after), model)
            assert off_by(done[index].frame, second, masks[index]).max() <= ROUNDING

    def test_within_a_reach_the_most_alike_are_taken(self):
        model = random_model_with(neighbour_reach=3)
        small = np.random.default_rng(0).integers(0, 256, (24, 16, 8, 3)).astype(np.uint8)
        frames = list(small.repeat(SIZE[0] // 16, 1).repeat(SIZE[1] // 8, 2))
        masks = masks_at(frames, (6, 17))
        # What frame 6 shows is what 3 and 9 show, each the last within reach; what hides it is none of theirs.
        # Of 17's candidates the one beyond the reach, 13, would be the most alike.
        for copy_of, index in ((3, 6), (13, 17)):
            frames[index] = np.where(masks[index][..., None], 255 - frames[copy_of], frames[copy_of])
        frames[9] = frames[3]
        done = run(Completer(model), frames, masks)
        assert done[6].sources == (3, 9)
        visible = ~masks[17]
        unlike = {i: np.square(frames[i][visible].astype(float) - frames[17][visible]).mean()
                  for i in (14, 15, 16, 18, 19, 20)}
        assert done[17].sources == tuple(min(side, key=unlike.get) for side in ((14, 15, 16), (18, 19, 20)))
        _, second = by_hand(frames, masks, 6, ([3], [9]), model)
        assert off_by(done[6].frame, second, masks[6]).max() <= ROUNDING
        # Where completion begins makes no difference to a frame.
        alone, = Completer(model).select(tracklet(frames, masks), Plan.from_masks(masks), [17])
        np.testing.assert_array_equal(alone.frame, done[17].frame)


class TestOddTracklets:
    def test_no_visible_frame_at_all(self):
        frames = figures(4)
        masks = masks_at(frames, range(4))
        result = complete(frames, masks)
        assert set(result.how) == {"spatial"} and (result.sources == -1).all()
        assert any("spatial" in warning for warning in result.warnings)
        visible_is_untouched(frames, result.frames, masks)
        # Each frame is completed from itself alone: the others make no difference.
        alone = complete(frames[1:2], masks[1:2])
        np.testing.assert_array_equal(alone.frames[0], result.frames[1])
        assert not np.array_equal(result.frames[1], frames[1])

    def test_everything_hidden_is_left(self, completer):
        frames = figures(5)
        done = run(completer, frames, masks_at(frames, (2,), share=1))
        assert [d.how for d in done] == ["visible", "visible", "left", "visible", "visible"]
        np.testing.assert_array_equal(done[2].frame, frames[2])
        assert done[2].mask.all() and done[2].sources == (-1, -1)

    def test_located_bands(self, completer):
        """Two bands are one joint mask; a frame of three, of which the best is kept, is no source for others."""
        frames, scores = figures(5, sizes=(SIZE,)), np.ones((5, 3), np.float32)
        scores[2] = 0.2, 0.9, 0.3
        joint = bands_mask([True, False, True], *SIZE)
        done = list(completer.stream(tracklet(frames), Plan.from_scores(scores, 0.5)))[2]
        expected = run(completer, frames, [joint if i == 2 else joint & False for i in range(5)])[2]
        assert (done.how, done.sources) == (expected.how, expected.sources) == ("stcnet", (1, 3))
        np.testing.assert_array_equal(done.mask, joint)
        np.testing.assert_array_equal(done.frame, expected.frame)
        scores[1] = 0.1, 0.4, -0.2
        assert list(completer.stream(tracklet(frames), Plan.from_scores(scores, 0.5)))[2].sources == (0, 3)

    def test_everything_hidden_everywhere(self):
        frames = figures(3)
        result = complete(frames, masks_at(frames, range(3), share=1))
        assert set(result.how) == {"left"}
        assert any("3 of its frames are hidden entirely" in warning for warning in result.warnings)
        np.testing.assert_array_equal(result.frames, frames)

    def test_one_frame(self):
        frames = figures(1)
        located = complete(frames, tau=0.99)
        assert located.how == ("visible",)
        np.testing.assert_allclose(located.scores, 1, atol=1e-5)  # float32 cosine with itself
        assert any("one frame" in warning for warning in located.warnings)
        np.testing.assert_array_equal(located.frames[0], frames[0])
        masked = complete(frames, masks_at(frames, (0,)))
        assert masked.how == ("spatial",) and masked.sources.tolist() == [[-1, -1]]


class TestAttention:
    def test_weights_are_a_distribution_over_each_side(self, completer):
        frames = figures(9)
        given = tracklet(frames, masks_at(frames, (4, 5)))
        (before, first), (after, second) = completer.attention(given, completer.plan(given), 4)
        assert (before, after) == ([3], [6])
        h, w = SIZE[0] // 4, SIZE[1] // 4
        for weights in (first, second):
            assert weights.shape == (h, w, 1, h, w) and (weights >= 0).all()
            np.testing.assert_allclose(weights.sum((2, 3, 4)), 1, atol=1e-5)  # float32 sums of 32 weights

    def test_without_a_visible_frame_there_is_nothing_to_look_at(self, completer):
        frames = figures(2)
        given = tracklet(frames, masks_at(frames, (0, 1)))
        assert completer.attention(given, completer.plan(given), 1) is None


def test_compilations_are_seen():
    """The counter can count."""
    with compilations() as seen:
        jax.jit(lambda x: x * 3)(np.arange(7.0))
    assert seen


def test_the_paper_s_sizes_are_the_default():
    assert (STCnet().height, STCnet().width) == (128, 64)
