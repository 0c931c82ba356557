"""Batches: what they may hold, and that they are a function of seed and step.

Frames of one grey level each say where a picture in a batch came from.
"""

import dataclasses
from itertools import islice

import numpy as np
import pytest
from people import SMOKE, box_mask, changed, tracklet
from refusals import refused

from vrstc_jax import config as configs
from vrstc_jax.data import batches
from vrstc_jax.data.batches import TrainingFrames, reid_batches, stcnet_batches
from vrstc_jax.data.neighbours import choose_sides
from vrstc_jax.data.tracklet_set import read_set, write_set
from vrstc_jax.ops.regions import hidden_share

COUNT = 60  # frames in each grey tracklet


def plain(**parts):
    """A config whose batches hold frames as they are, with no flip and no shift; `parts` as in `changed`."""
    as_they_are = {"flip": False, "shift": 0.0, "batch": 16}
    return changed(changed(SMOKE, stcnet_training=as_they_are, reid_training=as_they_are,
                           masks=configs.Masks(longest_run=9)), **parts)


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """Two tracklets; the grey level of a picture is its record's number."""
    directory = tmp_path_factory.mktemp("grey") / "set"
    write_set(directory, [tracklet([np.full((32, 16, 3), k * COUNT + i, np.uint8) for i in range(COUNT)], name=str(k))
                          for k in range(2)])
    return read_set(directory)


@pytest.fixture
def usable():
    """Frames to learn from: every third is hidden, and 20 to 28 are held out of both."""
    frames = np.array([i for i in range(COUNT) if i % 3 and not 20 <= i < 29])
    return [TrainingFrames(0, frames, 5), TrainingFrames(COUNT, frames, 7)]


def levels(pictures):
    """The grey level of each picture; they are even."""
    assert (pictures.max((-3, -2, -1)) == pictures.min((-3, -2, -1))).all()
    return pictures[..., 0, 0, 0].astype(int)


def same(batches, drawn):
    """The batches are the next ones that are drawn."""
    for batch in batches:
        again = next(drawn)
        assert batch.keys() == again.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], again[key])


@pytest.fixture
def runs(monkeypatch):
    """(first, last, sides found) of every hidden run that is drawn."""
    seen = []

    def spy(frames, first, last, **options):
        seen.append((first, last, choose_sides(frames, first, last, **options)))
        return seen[-1][2]

    monkeypatch.setattr(batches, "choose_sides", spy)
    return seen


def labels_of(drawn, count=None):
    return np.concatenate([batch["labels"] for batch in islice(drawn, count)])


class TestBatches:
    @pytest.mark.parametrize("make, task", [(stcnet_batches, SMOKE.stcnet_task), (reid_batches, SMOKE.first_reid)])
    def test_are_a_function_of_seed_and_step(self, grey, usable, make, task):
        task = dataclasses.replace(task, training=dataclasses.replace(task.training, shift=0.1))
        batches = list(islice(make(grey, usable, task), 30))  # several rounds through the frames
        assert len(batches) == 30
        for start in (0, 1, 7, 24):
            same(batches[start:start + 5], make(grey, usable, task, start=start))
        other = next(make(grey, usable, dataclasses.replace(task, seed=9)))
        assert any(not np.array_equal(other[key], batches[0][key]) for key in other)
        assert not np.array_equal(batches[0]["labels"], batches[1]["labels"]) or not np.array_equal(
            *(next(v for v in batch.values() if v.ndim > 3) for batch in batches[:2]))

    def test_what_a_batch_is(self, grey, usable):
        batch = next(stcnet_batches(grey, usable, plain().stcnet_task))
        shapes = {"frames": (16, 32, 16, 3), "masks": (16, 32, 16, 1), "previous": (16, 1, 32, 16, 3),
                  "following": (16, 1, 32, 16, 3), "labels": (16,)}
        types = {"masks": bool, "labels": np.int32}
        assert {k: v.shape for k, v in batch.items()} == shapes
        assert all(v.dtype == types.get(k, np.uint8) for k, v in batch.items())
        batch = next(reid_batches(grey, usable, plain().first_reid))
        assert batch["clips"].shape == (16, SMOKE.reid.clip, 32, 16, 3) and batch["clips"].dtype == np.uint8
        assert batch["labels"].shape == (16,) and batch["labels"].dtype == np.int32

    @pytest.mark.parametrize("count, step", [(1, 1), (2, 3)])
    def test_neighbours_are_usable_and_outside_the_hidden_run(self, grey, usable, runs, count, step):
        config = plain(stcnet={"frames_per_side": count, "frame_step": step})
        allowed = set(usable[0].frames.tolist())
        distances, centres = set(), set()
        for batch in islice(stcnet_batches(grey, usable, config.stcnet_task), 20):
            assert ((levels(batch["frames"]) >= COUNT) == (batch["labels"] == 7)).all()
            rows = zip(levels(batch["frames"]), levels(batch["previous"]), levels(batch["following"]))
            for centre, previous, following in rows:
                tracks = {level // COUNT for level in (centre, *previous, *following)}
                assert len(tracks) == 1  # all of one tracklet
                centre, *others = (int(level) % COUNT for level in (centre, *previous, *following))
                assert {centre, *others} <= allowed
                assert centre not in others
                distances.add(others[count] - others[0])
                centres.add(centre)
        assert centres == allowed  # and all of them are learned from
        assert max(distances) > 12  # runs are hidden, and not single frames alone
        for first, last, found in runs:
            for side in found or ():
                assert all(i < first or i > last for i in side) and set(side) <= allowed
        assert {last - first + 1 for first, last, _ in runs} == set(range(1, 10))

    def test_neighbours_are_the_most_alike_within_the_reach(self, grey, usable, runs, monkeypatch):
        # The pictures show their number; how alike they are is another matter.
        alike = np.random.default_rng(0).permutation(2 * COUNT)
        for record, level in enumerate(alike):
            monkeypatch.setitem(grey.thumbnails, record, np.full((16, 8, 3), level, np.uint8))
        seen, possible, farther = set(), set(), 0
        for batch in islice(stcnet_batches(grey, usable, plain(stcnet={"neighbour_reach": 4}).stcnet_task), 5):
            sides = (levels(batch[side])[:, 0] for side in ("previous", "following"))
            seen |= set(zip(levels(batch["frames"]), *sides))
        for first, last, _ in runs:
            for track in usable:
                before = [track.first + i for i in track.frames if i < first][::-1][:4]
                after = [track.first + i for i in track.frames if i > last][:4]
                for centre in (track.first + i for i in track.frames if first <= i <= last):
                    def best(side):
                        return min(side, key=lambda i: abs(alike[i] - alike[centre]))
                    if before or after:
                        possible.add((centre, best(before or after), best(after or before)))
                        farther += bool(before) and best(before) != before[0]
        assert seen <= possible and farther

    def test_re_id_clips_are_usable_frames_in_order(self, grey, usable):
        seen = set()
        for batch in islice(reid_batches(grey, usable, plain().first_reid), 20):
            found = levels(batch["clips"])
            assert (found // COUNT == (batch["labels"] == 7)[:, None]).all()
            assert (np.diff(found, axis=1) > 0).all()  # one from each stretch
            seen |= set((found % COUNT).flat)
        assert seen == set(usable[0].frames.tolist())

    def test_long_tracklets_are_drawn_more_often_unless_asked_otherwise(self, grey):
        """48 frames are 6 turns of 8 (4 clips of 2), and 8 are one."""
        usable = [TrainingFrames(0, np.arange(48), 0), TrainingFrames(COUNT, np.arange(8), 1)]
        labels = labels_of(reid_batches(grey, usable, plain().first_reid), 70)
        # Of 1,120 draws; an order of 994 has each turn equally often, the rest is less than an eighth.
        assert (labels == 0).mean() == pytest.approx(6 / 7, abs=0.02)

    @pytest.mark.parametrize("tracklets", [2, 5, 7])
    def test_each_once_an_epoch(self, grey, tracklets):
        """Whatever their lengths, and whether or not batches of 16 divide by their number."""
        bounds = [0, 1, 30, COUNT, COUNT + 9, COUNT + 10, COUNT + 50, 2 * COUNT][:tracklets] + [2 * COUNT]
        usable = [TrainingFrames(a, np.arange(b - a), label) for label, (a, b) in enumerate(zip(bounds, bounds[1:]))]
        usable.append(TrainingFrames(0, np.array([], int), 99))  # nothing of it may be used

        def drawn(start=0, seed=0):
            config = plain(reid_training={"each_once": True}, seed=seed)
            return reid_batches(grey, usable, config.first_reid, start=start)

        batches = list(islice(drawn(), tracklets * 8))
        epochs = labels_of(batches).reshape(-1, tracklets)
        assert (np.sort(epochs, axis=1) == np.arange(tracklets)).all()
        orders = {tuple(epoch) for epoch in epochs.tolist()}
        assert len(orders) == 2 if tracklets == 2 else len(orders) > 60  # of 128 epochs
        assert abs(np.mean([epoch[0] == 0 for epoch in epochs.tolist()]) - 1 / tracklets) < 4 / 128 ** 0.5 / 2
        for start in (1, 3, 17):
            same(batches[start:start + 3], drawn(start))
        assert (labels_of(drawn(seed=1), 8) != labels_of(batches, 8)).any()
        # The frames of a tracklet are drawn anew each time.
        clips = {tuple(levels(clip)) for batch in batches for clip in batch["clips"][batch["labels"] == tracklets - 1]}
        assert len(clips) > 12

    def test_a_set_of_the_size_of_mars_begins_at_any_step(self, grey):
        """150 epochs on, in the same epoch and the next."""
        usable = [TrainingFrames(k % COUNT, np.arange(2), k) for k in range(8298)]
        config = plain(reid_training={"each_once": True, "batch": 32})
        labels = labels_of(reid_batches(grey, usable, config.first_reid, start=150 * 8298 // 32 - 2), 20)
        assert len(set(labels[:64])) == 64 and len(set(labels[96:])) == 20 * 32 - 96

    @pytest.mark.parametrize("clips_per_identity", [1, 2])
    def test_who_comes_past(self, grey, monkeypatch, clips_per_identity):
        """Somebody else wherever there is somebody; two tracklets of one person are one person."""
        person = {0: 5, 1: 5, 2: 7}
        usable = [TrainingFrames(40 * k, np.arange(40), label) for k, label in person.items()]

        def hide(clip, passer, rng):  # what is said to be hidden says who hides whom: in units of 4 pixels of a band
            masks = np.zeros(clip.shape[:3], bool)
            masks[:, 2:6, :clip[0, 0, 0, 0] // 40] = True
            masks[:, 14:18, :passer[0, 0, 0] // 40] = True
            return clip, masks

        monkeypatch.setattr(batches, "hide_on_purpose", hide)
        config = plain(reid={"locating_loss": 1.0}, reid_training={"clips_per_identity": clips_per_identity})

        def pairs(usable, count):
            drawn = islice(reid_batches(grey, usable, config.first_reid), count)
            shares = np.concatenate([batch["hidden"][:, 0, :2] for batch in drawn])
            return set(map(tuple, np.round(shares * (32 * 16 / 3) / 4).astype(int)))

        assert pairs(usable, 20) == {(0, 2), (1, 2), (2, 0), (2, 1)}
        # Where there is nobody else, it is they themselves.
        assert pairs(usable[:2], 4) == {(0, 0), (0, 1), (1, 0), (1, 1)}

    def test_flips_and_shifts_are_those_of_the_whole_example(self, tmp_path):
        """Centre and neighbours are flipped together, for they are looked at together."""
        ramp = np.repeat(np.linspace(0, 255, 16).astype(np.uint8)[None, :, None], 32, 0).repeat(3, 2)
        write_set(tmp_path / "set", [tracklet([ramp] * 12)])
        task = plain(stcnet_training={"flip": True}).stcnet_task
        turned = []
        for batch in islice(stcnet_batches(read_set(tmp_path / "set"), [TrainingFrames(0, np.arange(12), 0)], task), 4):
            for side in ("previous", "following"):
                np.testing.assert_array_equal(batch["frames"], batch[side][:, 0])
            for frame in batch["frames"]:
                turned.append(bool(frame[0, 0, 0]))
                np.testing.assert_array_equal(frame, ramp[:, ::-1] if turned[-1] else ramp)
        assert 0.2 < np.mean(turned) < 0.8

    @pytest.mark.parametrize("size", [(32, 16), (100, 45), (300, 110), (17, 40)])
    def test_a_shifted_crop_is_the_crop_moved(self, size):
        """Against a picture whose colours are its coordinates: what comes out is an affine map of them."""
        height, width = size
        y, x = np.mgrid[:height, :width]
        picture = np.stack([255 * (y + 0.5) / height, 255 * (x + 0.5) / width, 0 * x], -1).astype(np.uint8)
        for seed in range(20):
            rng = np.random.default_rng(seed)
            out = batches._prepared(picture, (32, 16), False, 0.1, rng).astype(float)
            assert out.shape == (32, 16, 3)
            inside = out[6:-6, 3:-3]
            for axis, length in enumerate((32, 16)):  # the channel of a coordinate has its axis' number
                slope = np.diff(inside[..., axis], axis=axis).mean() * length / 255
                assert 1 / 1.12 < slope < 1 / 0.88  # zoomed by a tenth at most
                middle = np.take(out[..., axis], [length // 2 - 1, length // 2], axis).mean()
                assert abs(middle / 255 - 0.5) < 0.05 / 0.9 + 0.03  # moved by a twentieth at most

    def test_nothing_to_learn_from(self, grey):
        lonely = [TrainingFrames(0, np.array([3]), 0), TrainingFrames(COUNT, np.array([], int), 1)]
        with refused("two unoccluded frames"):
            stcnet_batches(grey, lonely, plain().stcnet_task)
        with refused("No tracklet has a frame"):
            reid_batches(grey, lonely[1:], plain().first_reid)
        assert set(next(reid_batches(grey, lonely, plain().first_reid))["labels"]) == {0}

    def test_two_frames_are_enough(self, grey):
        """However long the hidden run that was drawn: the run then is the frame alone."""
        batch = next(stcnet_batches(grey, [TrainingFrames(0, np.array([10, 11]), 0)], plain().stcnet_task))
        centre = levels(batch["frames"])
        assert set(centre) == {10, 11}
        for side in ("previous", "following"):
            np.testing.assert_array_equal(levels(batch[side])[:, 0], 21 - centre)


@pytest.mark.parametrize("shift, flip", [(0.0, False), (0.06, True)])
def test_known_masks_say_what_is_hidden(tmp_path, monkeypatch, shift, flip):
    """What is hidden is white here, so that the pictures say what the shares must be, however crops are shifted."""
    rng = np.random.default_rng(0)
    masks = [box_mask(32, 16, share) if i % 2 else np.fliplr(np.eye(32, 16, dtype=bool).cumsum(0) > 0)
             for i, share in enumerate(rng.uniform(0.1, 0.9, 12))]
    frames = [np.where(mask[..., None], 255, 0).astype(np.uint8).repeat(3, -1) for mask in masks]
    write_set(tmp_path / "set", [tracklet(frames, masks)])
    usable = [TrainingFrames(0, np.arange(12), 0)]
    monkeypatch.setattr(batches, "hide_on_purpose",
                        lambda clip, passer, rng: (clip, np.zeros(clip.shape[:3], bool)))
    config = changed(SMOKE, reid={"locating_loss": 1.0, "locating_masks": True},
                     reid_training={"shift": shift, "flip": flip})
    batch = next(reid_batches(read_set(tmp_path / "set"), usable, config.first_reid))
    assert batch["clips"].shape[2:] == (32, 16, 3)
    white = batch["clips"][..., 0] > 127
    shares = [[hidden_share(frame) for frame in clip] for clip in white]
    np.testing.assert_allclose(batch["hidden"], shares, atol=1e-6)
    assert 0.1 < batch["hidden"].mean() < 0.9 and "masks" not in batch
    config = changed(config, reid={"locating_width": 4, "locating_stages": True})
    batch = next(reid_batches(read_set(tmp_path / "set"), usable, config.first_reid))
    np.testing.assert_array_equal(batch["masks"], batch["clips"][..., 0] > 127)
