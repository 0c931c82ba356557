"""Live completion: the same as of a file from earlier frames alone, and nothing that comes later changes it."""

import dataclasses

import cv2
import numpy as np
import pytest
from locating import TINY, random_parameters
from people import SMOKE, figures, masks_at, random_model, tracklet

from vrstc_jax import Stream
from vrstc_jax import config as configs
from vrstc_jax.inference import memory
from vrstc_jax.inference.completer import Completer
from vrstc_jax.inference.locate import Locator, choose_tau
from vrstc_jax.inference.memory import Earlier, Memory
from vrstc_jax.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")
REPAIRING = configs.Repairing(considered=12, registered=3)


def model_of(*, repairing=None, pixels=False):
    """A random model that locates by bands or by pixels, and calls some of what `noisy` gives hidden."""
    config = dataclasses.replace(SMOKE, repairing=repairing, locating=TINY if pixels else None)
    tau = choose_tau([Locator(SMOKE.reid, random_model().reid, 3).scores(noisy(16))], 0.2)
    return dataclasses.replace(random_model(), config=config, tau=tau,
                               locator=random_parameters() if pixels else None)


def noisy(count):
    rng = np.random.default_rng(0)
    frames = figures(count, sizes=((40, 20), (37, 19)))
    return [np.clip(frame + rng.normal(0, 40, frame.shape), 0, 255).astype(np.uint8) for frame in frames]


def assert_same(one, other):
    np.testing.assert_array_equal(one.frame, other.frame)
    np.testing.assert_array_equal(one.mask, other.mask)
    assert (one.index, one.sources, one.how, one.imagined) == (other.index, other.sources, other.how, other.imagined)
    assert (one.origin is None) == (other.origin is None)
    if one.origin:
        np.testing.assert_array_equal(one.origin.picture(), other.origin.picture())


class TestMemory:
    def test_the_latest_and_some_from_all_over_the_past(self):
        kept = Memory(latest=3, older=5)
        forgotten = [gone for index in range(200) for gone in kept.add(index)]
        assert kept.indices[-3:] == [197, 198, 199] and kept.indices[0] == 0 and len(kept.indices) == 8
        assert sorted(forgotten + kept.indices) == list(range(200))
        # Each gap was as small as any two when it was made, so none is much larger than the others.
        gaps = np.diff(kept.indices[:6])
        assert gaps.max() <= 4 * gaps.min()

    @pytest.mark.parametrize("latest, older, kept", [(0, 0, []), (2, 0, [8, 9]), (0, 2, [0, 9]), (1, 1, [8, 9])])
    def test_of_little_room(self, latest, older, kept):
        small = Memory(latest=latest, older=older)
        for index in range(10):
            small.add(index)
        assert small.indices == kept

    def test_what_no_origin_could_tell_of_is_forgotten(self, monkeypatch):
        monkeypatch.setattr(memory, "FARTHEST", 20)
        kept = Memory(latest=2, older=2)
        for index in range(50):
            kept.add(index)
            assert min(kept.indices) >= index - 20

    def test_what_was_remembered_at_each_frame_of_a_file(self, monkeypatch):
        monkeypatch.setattr(memory, "_LATEST", 2)
        monkeypatch.setattr(memory, "_OLDER", 3)
        kept, earlier = memory.live_memory(), Earlier()
        for index in range(20):
            if index % 3 == 0:  # not every frame is asked for
                assert earlier(index).tolist() == kept.indices
            kept.add(index)


class TestStream:
    @pytest.mark.parametrize("given", [
        {}, {"repairing": REPAIRING}, {"pixels": True}, {"pixels": True, "repairing": REPAIRING}],
        ids=lambda given: " ".join(given) or "bands")
    def test_it_gives_what_a_file_gives_from_earlier_frames_alone(self, monkeypatch, given):
        monkeypatch.setattr(memory, "_LATEST", 4)
        monkeypatch.setattr(memory, "_OLDER", 3)
        model, frames = model_of(**given), noisy(16)
        stream = Stream(model)
        live = [stream.push(frame) for frame in frames]
        completer = Completer(model, batch=1, causal=True)
        of_file = list(completer.stream(tracklet(frames)))
        assert len({done.how for done in live}) > 1 and len(of_file) == len(live)
        for one, other in zip(live, of_file, strict=True):
            assert_same(one, other)
            assert max(other.sources) < other.index
        assert len(stream._known.items()) == 7

    def test_later_frames_change_nothing(self):
        frames, masks = noisy(9), masks_at(noisy(9), (2, 3, 6))
        completer = Completer(model_of(repairing=REPAIRING), batch=1, causal=True)
        whole = list(completer.stream(tracklet(frames, masks)))
        for count in (3, 7):
            for one, other in zip(completer.stream(tracklet(frames[:count], masks[:count])), whole, strict=False):
                assert_same(one, other)

    def test_masks_are_taken_and_origins_tell_of_pushed_frames(self, monkeypatch):
        monkeypatch.setattr(memory, "_LATEST", 3)
        monkeypatch.setattr(memory, "_OLDER", 2)
        frames = figures(14)
        masks = masks_at(frames, (9, 10, 13), share=0.4)
        stream = Stream(model_of(repairing=REPAIRING))
        done = [stream.push(frame, mask) for frame, mask in zip(frames, masks)]
        for index, (each, frame, mask) in enumerate(zip(done, frames, masks)):
            assert each.index == index
            np.testing.assert_array_equal(each.mask, mask)
            np.testing.assert_array_equal(each.frame[~mask], frame[~mask])
        for index in (9, 10, 13):
            origin = done[index].origin
            sources = {int(i) for i in np.unique(origin.frames) if i >= 0}
            assert sources and max(sources) < index and not sources & {9, 10}
            for source in sources:
                there, places = origin.frames == source, origin.places
                shown = cv2.remap(frames[source], *np.moveaxis(places, -1, 0), cv2.INTER_LINEAR)
                assert np.abs(shown[there].astype(int) - done[index].frame[there]).max() <= 1

    def test_the_first_frame_tells_nothing(self):
        frame = figures(1)[0]
        done = Stream(model_of()).push(frame)
        assert done.how == "visible" and done.sources == (-1, -1)
        np.testing.assert_array_equal(done.frame, frame)

    def test_the_frame_given_may_be_reused(self):
        """A camera's buffer is often the same array each time."""
        frames, masks = noisy(4), masks_at(noisy(4), (3,))
        apart, buffered = Stream(model_of(repairing=REPAIRING)), Stream(model_of(repairing=REPAIRING))
        for frame, mask in zip(frames, masks):
            if frame.shape == frames[1].shape:
                buffer, hidden = frame.copy(), mask.copy()
                one, other = apart.push(frame, mask), buffered.push(buffer, hidden)
                assert_same(one, other)
                buffer[:], hidden[:] = 0, True

    @pytest.mark.parametrize("wrong, said", [
        ({"frame": np.zeros((4, 4), np.uint8)}, "frame 0 must be uint8 [H, W, 3]. Got uint8 (4, 4)."),
        ({"mask": np.zeros((4, 4), bool)}, "mask 0 must be bool (40, 20), as its frame. Got bool (4, 4)."),
        ({"nearer": np.zeros((40, 20))}, "nearer map 0 must be bool (40, 20), as its frame. Got float64 (40, 20).")])
    def test_what_does_not_fit_is_refused(self, wrong, said):
        with pytest.raises(InputError) as raised:
            Stream(model_of()).push(**{"frame": figures(1)[0]} | wrong)
        assert str(raised.value) == said
