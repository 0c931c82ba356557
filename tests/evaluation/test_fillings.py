"""The simple fillings against what they promise."""

import cv2
import numpy as np
import pytest
from holes import band, picture

from vrstc_jax.evaluation import fillings, quality
from vrstc_jax.ops.pictures import thumbnail


def textured(rng, height, width):
    """A picture of blots, whose motion can be seen everywhere."""
    noise = cv2.GaussianBlur(rng.normal(size=(height, width, 3)), (0, 0), 3)
    return np.clip(128 + 60 * noise / noise.std(), 0, 255).astype(np.uint8)


def thumbnails_of(frames):
    return np.stack([thumbnail(frame) for frame in frames])


def assert_filled(filled, frame, mask, expected):
    """That the hole is as expected, and the rest as in the frame."""
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled, np.where(mask[..., None], expected, frame))


def test_copy_takes_the_nearer_neighbour_and_the_previous_on_a_tie(rng):
    frame, previous, following = (picture(rng, 20, 10) for _ in range(3))
    mask = band(20, 10, 5, 12)
    for before, after, distances, expected in [
            (previous, following, (1, 4), previous), (previous, following, (3, 2), following),
            (previous, following, (2, 2), previous), (None, following, (-1, 9), following),
            (previous, None, (9, -1), previous)]:
        assert_filled(fillings.copy_nearest(frame, mask, before, after, distances), frame, mask, expected)


def test_neighbours_of_other_sizes_are_resized(rng):
    frame = picture(rng, 20, 10)
    mask = np.ones((20, 10), bool)
    # Shrinking by two, area averaging is the mean of 2×2 blocks (rounded, hence one level).
    large = picture(rng, 40, 20)
    blocks = large.reshape(20, 2, 10, 2, 3).mean(axis=(1, 3))
    filled = fillings.copy_nearest(frame, mask, large, None, (1, -1))
    assert np.abs(filled - blocks).max() <= 0.5 + 1e-9
    # A ramp stays a ramp when enlarged linearly, away from the border.
    ramp = np.repeat(np.arange(0, 100, 10, dtype=np.uint8)[:, None, None], 5, 1).repeat(3, 2)
    filled = fillings.copy_nearest(frame, mask, ramp, None, (1, -1))
    np.testing.assert_allclose(np.diff(filled[1:-1, 0, 0].astype(int)), 5, atol=1)


def test_mean_of_neighbours(rng):
    frame, previous, following = (picture(rng, 16, 9) for _ in range(3))
    mask = rng.random((16, 9)) < 0.5
    expected = np.floor((previous.astype(float) + following) / 2 + 0.5)
    assert_filled(fillings.mean_of_neighbours(frame, mask, previous, following), frame, mask, expected)
    assert_filled(fillings.mean_of_neighbours(frame, mask, None, following), frame, mask, following)


def test_telea_sees_nothing_of_what_the_hole_held(rng):
    frame = textured(rng, 48, 24)
    mask = band(48, 24, 20, 28)
    other = np.where(mask[..., None], picture(rng, 48, 24), frame)
    filled = fillings.telea(frame, mask)
    np.testing.assert_array_equal(filled, fillings.telea(other, mask))
    np.testing.assert_array_equal(filled[~mask], frame[~mask])
    # It does paint something: a smooth picture comes back far better than from a blackened hole.
    blackened = np.where(mask[..., None], np.uint8(0), frame)
    assert quality.l1(filled, frame, mask) < 0.3 * quality.l1(blackened, frame, mask)


def test_without_neighbours_the_rim_fills_the_hole(rng):
    frame = textured(rng, 30, 20)
    mask = band(30, 20, 10, 15)
    expected = fillings.telea(frame, mask)
    np.testing.assert_array_equal(fillings.copy_nearest(frame, mask, None, None, (-1, -1)), expected)
    np.testing.assert_array_equal(fillings.mean_of_neighbours(frame, mask, None, None), expected)


@pytest.mark.parametrize("size", [(128, 64), (150, 60)])
def test_flow_moves_both_neighbours_as_the_visible_part_moves(rng, size):
    height, width = size
    scene = textured(rng, height + 20, width + 20)
    frame, before, after = (scene[10 + down:10 + down + height, 10 + right:10 + right + width]
                            for down, right in ((0, 0), (-3, 4), (2, -5)))
    mask = band(height, width, 50, 80)
    hollow = np.where(mask[..., None], np.uint8(0), frame)
    found = fillings.flow_of_neighbours(hollow, mask, [before, after])
    np.testing.assert_array_equal(found[~mask], frame[~mask])
    copied = fillings.mean_of_neighbours(hollow, mask, before, after)
    assert quality.psnr(found, frame, mask) > quality.psnr(copied, frame, mask) + 8
    np.testing.assert_array_equal(fillings.flow_of_neighbours(hollow, mask, []), fillings.telea(hollow, mask))


def test_the_best_frame_is_the_likest_one_shifted(rng):
    scenes = [textured(rng, 148, 84) for _ in range(12)]
    frame, others = scenes[7][10:138, 10:74], [scene[14:142, 6:70] for scene in scenes]
    mask = band(128, 64, 40, 90)
    hollow = np.where(mask[..., None], np.uint8(255), frame)
    found = fillings.best_frame(hollow, mask, others, thumbnails_of(others))
    # It was moved by 4 pixels down and 4 to the left, which is one of the shifts; beyond its edge it is not known.
    np.testing.assert_array_equal(found[:, :60], frame[:, :60])
    # At half the size it is the same picture.
    small = [cv2.resize(each, (32, 64), interpolation=cv2.INTER_AREA) for each in (frame, hollow)]
    small_mask = band(64, 32, 20, 45)
    found = fillings.best_frame(small[1], small_mask, others, thumbnails_of(others))
    small_mask[:, 29:] = False
    assert quality.psnr(found, small[0], small_mask) > 40


def test_without_another_frame_the_rim_fills_the_hole(rng):
    frame, mask = textured(rng, 40, 20), band(40, 20, 10, 20)
    none = np.zeros((0, 16, 8, 3), np.uint8)
    np.testing.assert_array_equal(fillings.best_frame(frame, mask, [], none), fillings.telea(frame, mask))
