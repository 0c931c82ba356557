"""Completing long tracklets: in batches, with bounded memory, each frame read and encoded once."""

import tracemalloc
from collections import deque

import numpy as np
import pytest
from completing import (
    ROUNDING,
    Counted,
    compilations,
    lazy_masks,
    run,
)
from people import figure, figures, masks_at, random_model, tracklet

from vrstc_jax.data.tracklets import LazySequence
from vrstc_jax.inference.completer import Completer
from vrstc_jax.inference.plan import Plan

pytestmark = pytest.mark.usefixtures("quick_compilation")


class TestLongTracklets:
    COUNT = 150

    @pytest.fixture(scope="class")
    def long(self):
        frames = figures(self.COUNT, sizes=((40, 20), (33, 17)))
        rng = np.random.default_rng(3)
        hidden = [i for i in range(self.COUNT) if rng.random() < 0.4 or 60 <= i < 100]
        return frames, masks_at(frames, hidden), hidden

    def test_frame_by_frame_gives_the_same(self, completer, long):
        frames, masks, hidden = long
        whole = run(completer, frames, masks)
        assert [d.index for d in whole] == list(range(self.COUNT))
        given = tracklet(frames, masks)
        plan = completer.plan(given)
        for index in hidden[::5]:
            alone, = completer.select(given, plan, [index])
            assert (alone.sources, alone.how) == (whole[index].sources, whole[index].how)
            np.testing.assert_array_equal(alone.frame, whole[index].frame)

    @pytest.mark.parametrize("batch", [1, 3])
    def test_other_batches_give_the_same(self, completer, long, batch):
        frames, masks, hidden = (part[:50] for part in long)
        for a, b in zip(run(completer, frames, masks), run(Completer(random_model(), batch=batch), frames, masks),
                        strict=True):
            assert (a.index, a.sources, a.how) == (b.index, b.sources, b.how)
            assert np.abs(a.frame.astype(int) - b.frame).max() <= ROUNDING

    def test_each_neighbour_is_encoded_once(self, completer):
        """A frame is read as itself, and once more if it is a neighbour: none is encoded twice, none for nothing."""
        reads, frames = np.zeros(self.COUNT, int), figures(self.COUNT)

        def read(index):
            reads[index] += 1
            return frames[index]

        rng = np.random.default_rng(0)
        masks = masks_at(frames, {i for i in range(self.COUNT) if rng.random() < 0.5})
        done = run(completer, LazySequence(self.COUNT, read), masks)
        used = {i for d in done for i in d.sources if i >= 0}
        assert reads.tolist() == [1 + (i in used) for i in range(self.COUNT)] and 1 < len(used) < self.COUNT

    def test_a_fixed_set_of_compiled_shapes(self, completer):
        def all_kinds(count):
            frames = figures(count, sizes=((40, 20), (5, 3), (90, 61)))
            run(completer, frames, masks_at(frames, range(1, count, 3)))
            run(completer, frames, masks_at(frames, range(count)))
            completer.plan(tracklet(frames))

        all_kinds(7)
        with compilations() as seen:
            for count in (1, 7, 40, 150):
                all_kinds(count)
        assert seen == []

    def test_frames_are_read_when_needed_and_not_kept(self, completer):
        def most_alive(count):
            frames = Counted()
            lazy = LazySequence(count, frames.read)
            given = tracklet(lazy, lazy_masks(count, 40, 20, lambda i: i % 3 == 1))
            plan = completer.plan(given)
            assert frames.reads.sum() == 0  # masks say it all
            deque(completer.stream(given, plan), maxlen=0)
            assert frames.reads.max() <= 2  # as itself, and as a neighbour
            completer.plan(tracklet(lazy))
            assert frames.reads.max() <= 3
            return frames.most

        assert most_alive(300) == most_alive(150) < 100

    @pytest.mark.parametrize("hidden", [2, 40])  # every second frame; runs of 40
    def test_memory_does_not_grow_with_the_length(self, completer, hidden):
        """All that may grow is lists of indices; of a frame once encoded there is more than 2 KB to keep."""
        def peak(count):
            lazy = LazySequence(count, lambda i: figure(i % 40, 6, 4))
            given = tracklet(lazy, lazy_masks(count, 6, 4, lambda i: i // hidden % 2))
            plan = completer.plan(given)
            tracemalloc.start()
            deque(completer.stream(given, plan), maxlen=0)
            held = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return held

        peak(50)
        assert peak(800) - peak(200) < 600 * 200

    def test_results_come_before_the_tracklet_has_been_read(self, completer):
        read = []
        lazy = LazySequence(500, lambda i: read.append(i) or figure(i % 40))
        plan = Plan.from_scores(np.ones((500, 3)), 0.5)
        next(completer.stream(tracklet(lazy), plan))
        assert len(read) < 100
