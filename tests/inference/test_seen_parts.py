"""Filling holes with what other frames show: the right pixels, from where they say, and nothing that is hidden."""

import dataclasses
import gc
import weakref

import cv2
import numpy as np
import pytest
from people import figures, masks_at, random_model, tracklet

from vrstc_jax import complete_tracklet
from vrstc_jax.config import Repairing
from vrstc_jax.inference.completer import Completer
from vrstc_jax.inference.origin import IMAGINED
from vrstc_jax.inference.plan import Plan
from vrstc_jax.inference.seen_parts import SeenParts
from vrstc_jax.ops.pictures import resize

HEIGHT, WIDTH = 96, 48
MAGENTA = np.array([255, 0, 255], np.uint8)


def panned(count, speed=(1.0, 0.5), sizes=((HEIGHT, WIDTH),)):
    """Frames of a camera that passes over a picture, at a speed in pixels a frame: what moved is known."""
    rng = np.random.default_rng(3)
    scene = sum(cv2.resize(rng.uniform(0, 255, (n, n, 3)).astype(np.float32), (240, 240), interpolation=cv2.INTER_CUBIC)
                for n in (12, 40)) / 2
    frames = []
    for i in range(count):
        box = np.array([[1, 0, -40 - speed[0] * i], [0, 1, -40 - speed[1] * i]], np.float32)
        frame = cv2.warpAffine(scene, box, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
        frames.append(resize(np.clip(frame, 0, 250).round().astype(np.uint8), *sizes[i % len(sizes)]))
    return frames


def covered(frames, masks):
    """The frames with what is hidden in a colour that no frame has."""
    return [np.where(mask[..., None], MAGENTA, frame) for frame, mask in zip(frames, masks)]


def filled(frames, masks, config=Repairing()):
    plan = Plan.from_masks(masks)
    parts = SeenParts(tracklet(covered(frames, masks), masks), plan, config)
    return [parts.fill(i) for i in range(len(frames))]


def psnr(picture, truth, mask):
    return -10 * np.log10(np.mean(((picture.astype(float) - truth) / 255)[mask] ** 2))


def sampled(frame, place):
    """Bilinear interpolation of one place (column, row) by hand."""
    column, row = place
    left, top = min(int(column), frame.shape[1] - 1), min(int(row), frame.shape[0] - 1)
    right, bottom = min(left + 1, frame.shape[1] - 1), min(top + 1, frame.shape[0] - 1)
    a, b = column - left, row - top
    f = frame.astype(float)
    return ((1 - b) * ((1 - a) * f[top, left] + a * f[top, right])
            + b * ((1 - a) * f[bottom, left] + a * f[bottom, right]))


def band(first, last, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), bool)
    mask[round(first * height):round(last * height)] = True
    return mask


NOTHING = band(0, 0)


class TestTheRightPixels:
    @pytest.mark.parametrize("speed", [(0, 0), (1.0, 0.5), (-0.7, 1.2)])
    def test_of_a_scene_that_moves(self, speed):
        frames = panned(9, speed)
        masks = [band(0.4, 0.7) if i in (3, 4, 5) else NOTHING for i in range(9)]
        for i, (picture, origin) in enumerate(filled(frames, masks)):
            np.testing.assert_array_equal(picture[~masks[i]], frames[i][~masks[i]])
            if masks[i].any():
                # Interpolated twice, half a pixel off at most; unmoved copies have 17 dB where anything moves.
                assert psnr(picture, frames[i], masks[i]) > (25 if any(speed) else 90) and origin.imagined == 0

    def test_sizes_that_change(self):
        frames = panned(7, sizes=((HEIGHT, WIDTH), (80, 50), (110, 44)))
        masks = [band(0.3, 0.6, *f.shape[:2]) if i == 3 else band(0, 0, *f.shape[:2]) for i, f in enumerate(frames)]
        picture, origin = filled(frames, masks)[3]
        assert picture.shape == frames[3].shape and origin.imagined == 0
        assert psnr(picture, frames[3], masks[3]) > 22

    def test_of_equal_frames_the_nearest(self):
        masks = [band(0.4, 0.7) if i == 6 else NOTHING for i in range(12)]
        _, origin = filled(panned(1) * 12, masks)[6]
        assert set(origin.sources) <= {5, 7}

    def test_a_pose_that_comes_again(self):
        """Where the neighbours look otherwise and a frame far away looks the same, that one serves."""
        rng = np.random.default_rng(5)
        looks = [cv2.resize(rng.integers(0, 250, (12, 6, 3)).astype(np.uint8), (WIDTH, HEIGHT)) for _ in range(3)]
        order = [0, 1, 1, 2, 2, 0, 2, 1, 1, 2]
        masks = [band(0.35, 0.65) if i == 5 else NOTHING for i in range(10)]
        picture, origin = filled([looks[k] for k in order], masks)[5]
        assert set(origin.sources) == {0}
        np.testing.assert_array_equal(picture, looks[0])


class TestWhereFrom:
    @pytest.mark.parametrize("sizes", [((HEIGHT, WIDTH),), ((HEIGHT, WIDTH), (80, 50))])
    def test_each_pixel_is_that_of_the_frame_that_is_named(self, sizes):
        frames = panned(8, (1.3, -0.4), sizes)
        masks = [band(0.2 + 0.1 * (i % 3), 0.6, *f.shape[:2]) if i > 2 else band(0, 0, *f.shape[:2])
                 for i, f in enumerate(frames)]
        shown = covered(frames, masks)
        for i, (picture, origin) in enumerate(filled(frames, masks)):
            for row, column in np.argwhere(origin.frames >= 0)[::7]:
                source = origin.frames[row, column]
                assert source != i
                # One level: OpenCV rounds weights to 1/32,768 and sums to whole levels.
                off = np.abs(sampled(shown[source], origin.places[row, column]) - picture[row, column])
                assert off.max() <= 1

    def test_hidden_pixels_of_a_source_are_never_taken(self):
        frames = panned(12)
        upper, lower = band(0, 0.45), band(0.55, 1)
        masks = [upper if i < 6 else lower for i in range(12)]
        for i, (picture, origin) in enumerate(filled(frames, masks)):
            assert origin.imagined < 0.03  # each half shows what the other one hides
            seen = origin.sources[origin.sources != IMAGINED]
            assert ((seen >= 6) == (i < 6)).all()
            assert ((picture == MAGENTA).all(-1) == (origin.frames == IMAGINED)).all()
            # The frames share a strip in the middle alone, from which the motion is carried on.
            assert psnr(picture, frames[i], origin.frames >= 0) > 14

    def test_what_no_frame_shows_is_imagined(self):
        frames, post = panned(8, (0, 0)), np.zeros((HEIGHT, WIDTH), bool)
        post[:, 20:26] = True
        masks = [post | band(0.5, 0.8) if i == 4 else post for i in range(8)]
        for i, (picture, origin) in enumerate(filled(frames, masks)):
            there = origin.frames == IMAGINED
            np.testing.assert_array_equal(there, post)
            assert (picture[there] == MAGENTA).all()
            np.testing.assert_array_equal(picture[~there], frames[i][~there])
            assert origin.imagined == pytest.approx(post.sum() / masks[i].sum())

    def test_a_frame_alone(self):
        (picture, origin), = filled(panned(1), [band(0.4, 0.7)])
        assert origin.imagined == 1 and (picture[origin.mask] == MAGENTA).all()


class TestAsTheModelsWay:
    @pytest.fixture(scope="class")
    def model(self):
        model = random_model()
        return dataclasses.replace(model, config=dataclasses.replace(model.config, repairing=Repairing()))

    def test_of_a_tracklet(self, model):
        frames = figures(9)
        masks = masks_at(frames, (3, 4))
        done = complete_tracklet(model, frames, masks)
        assert done.how == tuple("seen" if i in (3, 4) else "visible" for i in range(9))
        assert done.imagined.tolist() == [0] * 9 and done.imagined.dtype == np.float32
        assert [origin is None for origin in done.origins] == [i not in (3, 4) for i in range(9)]
        for i in (3, 4):
            assert done.origins[i] is not None and tuple(done.sources[i]) == done.origins[i].nearest()
            np.testing.assert_array_equal(done.frames[i][~masks[i]], frames[i][~masks[i]])
        assert (done.sources[:3] == -1).all()

    def test_the_generators_fill_the_rest(self, model):
        frames = figures(9)
        masks = [mask.copy() for mask in masks_at(frames, (3, 4))]
        for mask in masks:
            mask[:, 5:9] = True
        done = complete_tracklet(model, frames, masks)
        assert set(done.how) == {"seen", "spatial"}  # frames that show nothing that others hide
        for i, origin in enumerate(done.origins):
            there = origin.frames == IMAGINED
            assert there[:, 5:9].all() and 0 < done.imagined[i] <= 1
            assert (done.frames[i][there] != frames[i][there]).any()

    def test_without_it_all_is_imagined(self, model):
        frames = figures(9)
        masks = masks_at(frames, (3, 4))
        networks = Completer(model).without_repairing()
        alone = list(networks.stream(tracklet(frames, masks)))
        assert networks.without_repairing() is networks
        assert [done.how for done in alone] == ["stcnet" if i in (3, 4) else "visible" for i in range(9)]
        assert [done.imagined for done in alone] == [float(i in (3, 4)) for i in range(9)]

    def test_some_frames_as_all(self, model):
        frames = figures(20)
        masks = masks_at(frames, range(4, 17))
        for mask in masks:
            mask[:2, :3] = True
        completer = Completer(model, batch=4)
        person = tracklet(frames, masks)
        plan = completer.plan(person)
        every = list(completer.stream(person, plan))
        for done in completer.select(person, plan, [2, 5, 11, 16]):
            np.testing.assert_array_equal(done.frame, every[done.index].frame)
            assert (done.how, done.sources) == (every[done.index].how, every[done.index].sources)


def test_what_was_read_is_let_go_with_a_tracklet():
    """Not with the next collection of garbage: until that, a video of many people would fill the memory."""
    frames = figures(9)
    masks = masks_at(frames, (4,))
    parts = SeenParts(tracklet(frames, masks), Plan.from_masks(masks), Repairing())
    parts.fill(4)
    alive = weakref.ref(parts)
    gc.disable()
    try:
        del parts
        assert alive() is None
    finally:
        gc.enable()
