"""Locating pixel by pixel in tracklets of any length, and what is repainted by it."""

import dataclasses

import jax
import numpy as np
import pytest
from locating import TINY, random_parameters

from vrstc_jax.inference import pixel_locator
from vrstc_jax.inference.hidden_parts import hidden_parts
from vrstc_jax.inference.pixel_locator import PixelLocator, spread
from vrstc_jax.models.locating import LocatingNet
from vrstc_jax.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")


def frames(count, seed=0, size=(32, 16)):
    return list(np.random.default_rng(seed).integers(0, 256, (count, *size, 3)).astype(np.uint8))


def located(tracklet, nearer=None, config=TINY):
    return np.stack(list(PixelLocator(config, random_parameters()).probabilities(tracklet, nearer)))


applied = jax.jit(LocatingNet(TINY).apply)


def by_network(tracklet, indices, boxes=None):
    """The network's probabilities of frames that are compared with each other, without windows and padding."""
    times = np.array(indices, np.float32)
    boxes = np.zeros((len(times), 8, 4, 2), np.float32) if boxes is None else boxes
    logits = applied({"params": random_parameters()}, np.stack([tracklet[i] for i in indices]), boxes,
                     times[None] - times[:, None], ~np.eye(len(times), dtype=bool))
    return 1 / (1 + np.exp(-np.asarray(logits[-1])))


# Maps are kept in half precision: 1e-3 of numbers about 1, through a network that is short.
CLOSE = {"atol": 5e-3}


class TestWindows:
    @pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 3])
    def test_a_short_tracklet_is_compared_as_a_whole(self, count):
        tracklet = frames(count)
        np.testing.assert_allclose(located(tracklet), by_network(tracklet, range(count)), **CLOSE)

    def test_a_window_sees_its_neighbours_and_some_frames_from_everywhere(self):
        tracklet = frames(20)
        found = located(tracklet)
        assert found.shape == (20, 16, 8, 3)
        # The third window: frames 8 to 11, one before, one after, and of the others the first and the last.
        wanted = by_network(tracklet, [8, 9, 10, 11, 7, 12, 0, 19])[:4]
        np.testing.assert_allclose(found[8:12], wanted, **CLOSE)

    def test_live_no_later_frame_changes_anything(self):
        live = PixelLocator(TINY, random_parameters(), causal=True)
        tracklet = frames(12)
        found = np.stack(list(live.probabilities(tracklet)))
        other = tracklet[:7] + frames(5, seed=1)
        np.testing.assert_allclose(np.stack(list(live.probabilities(other)))[:7], found[:7], atol=1e-6)
        assert not np.allclose(found[3:7], located(tracklet)[3:7], **CLOSE)

    def test_memory_does_not_grow_with_the_tracklet(self, monkeypatch):
        monkeypatch.setattr(pixel_locator, "_CANDIDATES", 5)
        most, get = [], pixel_locator._Kept.get
        monkeypatch.setattr(pixel_locator._Kept, "get", lambda self, indices: (
            get(self, indices), most.append(len(self._maps)))[0])
        located(frames(60))
        assert max(most) <= 5 + 2 * TINY.window + 2 * TINY.margin

    def test_crops_of_any_size(self):
        assert located(frames(3, size=(70, 33))).shape == (3, 16, 8, 3)

    def test_boxes_are_evidence_where_they_are_known(self):
        tracklet, nearer = frames(3), [np.ones((32, 16), bool), np.zeros((5, 7), bool), None]
        boxes = np.zeros((3, 8, 4, 2), np.float32)
        boxes[0], boxes[1, ..., 1] = 1, 1
        np.testing.assert_allclose(located(tracklet, nearer), by_network(tracklet, range(3), boxes), **CLOSE)

    def test_no_frames(self):
        assert list(PixelLocator(TINY, random_parameters()).probabilities([])) == []

    def test_values_that_are_not_finite_are_refused(self):
        params = random_parameters()
        params["frame"]["edges"]["taps"]["bias"][:] = np.nan
        with pytest.raises(InputError, match="not finite"):
            list(PixelLocator(TINY, params).probabilities(frames(2)))

    def test_spread(self):
        assert spread(range(10), 3) == [0, 4, 9]
        assert spread([2, 5], 3) == [2, 5]
        assert spread(range(5), 0) == []


def maps(count=5, person=0.9):
    """Probabilities of a person in the middle of every frame, whom nothing hides."""
    found = np.full((count, 16, 8, 3), 0.05, np.float32)
    found[:, 2:14, 2:6, 0] = person
    return found


class TestHiddenParts:
    def test_nothing_hidden_is_nothing_repainted(self):
        parts = hidden_parts(maps(), TINY)
        assert not parts.touched.any() and not parts.mask(0, 64, 32).any()
        # At twice the resolution of the maps, the person's edge is where it was.
        assert parts.amodal(0, 32, 16)[4:28, 4:12].all() and parts.modal(0, 32, 16).sum() == 24 * 8

    def test_the_whole_occluder_in_front_of_the_person_is_repainted_and_no_other(self):
        found = maps()
        found[2, 8:14, 4:8, 1], found[2, 8:14, 4:6, 2] = 0.9, 0.9  # over the person's legs and beside them
        found[2, 0:6, 0, 1] = 0.9  # a thing that hides nothing of the person
        parts = hidden_parts(found, TINY)
        wanted = np.zeros((16, 8), bool)
        wanted[8:14, 4:8] = True
        np.testing.assert_array_equal(parts.mask(2, 16, 8), wanted)
        assert parts.touched.tolist() == [False, False, True, False, False]
        assert parts.modal(2, 16, 8).sum() == 12 * 4 - 6 * 2

    def test_the_uncertain_edge_is_repainted_with_it(self):
        found = maps(1)
        found[0, 8:14, 4:8, 1], found[0, 8:14, 4:6, 2] = 0.9, 0.9
        found[0, 7, 4:8, 1], found[0, 5, 4:8, 1] = 0.35, 0.35  # the second is apart
        rows = np.flatnonzero(hidden_parts(found, TINY).mask(0, 16, 8).any(1))
        assert rows.tolist() == [7, 8, 9, 10, 11, 12, 13]

    def test_a_speck_is_doubt_but_not_beside_a_hidden_frame(self):
        found = maps(6)
        for frame, rows in ((0, 1), (3, 6), (4, 1)):
            found[frame, 8:8 + rows, 4:8, 1], found[frame, 8:8 + rows, 4:6, 2] = 0.9, 0.9
        rule = dataclasses.replace(TINY, least=0.08, least_beside=0.02)
        assert hidden_parts(found, rule).touched.tolist() == [False, False, False, True, True, False]

    def test_what_a_mistake_costs_decides(self):
        found = maps(1)
        found[0, 8:14, 4:8, 1], found[0, 8:14, 4:6, 2] = 0.4, 0.4
        assert not hidden_parts(found, TINY).touched.any()
        assert hidden_parts(found, dataclasses.replace(TINY, cost=0.5)).touched.all()

    def test_scores_are_of_bands(self):
        found = maps(1)
        found[0, :, :, 1] = 0
        found[0, 11:, :, 1] = 1
        # Of the 16 rows the last band has 5 and a third, of which 5 are covered: 15/16.
        np.testing.assert_allclose(hidden_parts(found, TINY).scores, [[1, 1, -7 / 8]], atol=1e-6)

    def test_no_frames(self):
        parts = hidden_parts([], TINY)
        assert parts.touched.shape == (0,) and parts.scores.shape == (0, 3)
