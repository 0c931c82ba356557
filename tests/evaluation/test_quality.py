"""Image quality against scikit-image and numbers by hand; the baselines against what they promise."""

import numpy as np
import pytest
from skimage.metrics import mean_squared_error, structural_similarity

from vrstc_jax.evaluation import quality


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def picture(rng, height, width):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth_pair(rng, height, width):
    """A picture with structure and a damaged copy, so that SSIM lies well inside (0, 1)."""
    y, x = np.mgrid[:height, :width]
    truth = np.stack([120 + 80 * np.sin(y / 7), 100 + 2.0 * x, 90 + 50 * np.cos((x + y) / 5)], axis=-1)
    noisy = truth * 0.9 + rng.normal(0, 15, truth.shape)
    return noisy.clip(0, 255).astype(np.uint8), truth.clip(0, 255).astype(np.uint8)


def band(height, width, top, bottom):
    mask = np.zeros((height, width), bool)
    mask[top:bottom] = True
    return mask


def assert_filled(filled, frame, mask, expected):
    """That the hole is as expected, and the rest as in the frame."""
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled, np.where(mask[..., None], expected, frame))


def test_l1_and_psnr_by_hand():
    truth = np.zeros((4, 2, 3), np.uint8)
    completed = truth.copy()
    completed[0] = 200  # outside the hole: must not count
    completed[2, 0] = 51  # half of the hole's values are off by a fifth of white
    mask = band(4, 2, 2, 3)
    assert quality.l1(completed, truth, mask) == pytest.approx(0.1, abs=1e-12)
    assert quality.psnr(completed, truth, mask) == pytest.approx(10 * np.log10(2 * 25), abs=1e-9)


def test_differences_do_not_wrap_around():
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    everything = np.ones((2, 2), bool)
    assert quality.l1(black, white, everything) == quality.l1(white, black, everything) == 1
    assert quality.psnr(black, white, everything) == pytest.approx(0, abs=1e-12)


def test_psnr_against_scikit_image(rng):
    completed, truth = picture(rng, 37, 19), picture(rng, 37, 19)
    mask = rng.random((37, 19)) < 0.3
    expected = 10 * np.log10(255**2 / mean_squared_error(completed[mask], truth[mask]))
    # Both in float64 over a few hundred values; only the order of the sums differs.
    assert quality.psnr(completed, truth, mask) == pytest.approx(expected, abs=1e-9)


def test_a_perfect_hole_scores_the_cap(rng):
    truth = picture(rng, 12, 12)
    mask = band(12, 12, 0, 6)
    assert quality.psnr(truth, truth, mask) == quality.PSNR_CAP == 100
    assert quality.l1(truth, truth, mask) == 0
    assert quality.ssim(truth, truth, mask) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("size", [(128, 64), (93, 31), (11, 11)])
def test_ssim_against_scikit_image(rng, size):
    completed, truth = smooth_pair(rng, *size)
    mask = band(*size, 0, size[0] // 2)  # touches the border, where padding tells
    _, expected = structural_similarity(completed, truth, channel_axis=-1, data_range=255, full=True,
                                        gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert 0.1 < expected[mask].mean() < 0.99
    # float64 on both sides; E[x²] − E[x]² loses at most a few digits at 255².
    assert quality.ssim(completed, truth, mask) == pytest.approx(expected[mask].mean(), abs=1e-8)


@pytest.mark.parametrize("size", [(7, 5), (3, 2), (1, 1), (64, 4)])
def test_ssim_of_crops_smaller_than_the_window(rng, size):
    """By hand: pad by reflection with NumPy, then the window as an explicit weighted sum."""
    completed, truth = smooth_pair(rng, *size)
    g = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(g, g) / g.sum() ** 2
    # The windows of both pictures, [H, W, 3, 11, 11].
    x, y = (np.lib.stride_tricks.sliding_window_view(
        np.pad(p.astype(float), ((5, 5), (5, 5), (0, 0)), mode="symmetric"), (11, 11), axis=(0, 1))
        for p in (completed, truth))
    mean = lambda values: (window * values).sum((-2, -1), keepdims=True)
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean((x - mx) ** 2), mean((y - my) ** 2), mean((x - mx) * (y - my))
    values = (2 * mx * my + 6.5025) * (2 * cov + 58.5225) / ((mx**2 + my**2 + 6.5025) * (vx + vy + 58.5225))
    assert quality.ssim(completed, truth, np.ones(size, bool)) == pytest.approx(values.mean(), abs=1e-8)


@pytest.mark.parametrize("score", [quality.l1, quality.psnr, quality.ssim])
@pytest.mark.parametrize("width, mask, message", [
    (8, np.zeros((8, 8), bool), "empty"), (9, np.ones((8, 8), bool), r"\(8, 9, 3\)"),
    (8, np.ones((8, 8), np.uint8), "bool")])
def test_an_empty_mask_and_unlike_sizes_are_refused(rng, score, width, mask, message):
    with pytest.raises(ValueError, match=message):
        score(picture(rng, 8, 8), picture(rng, 8, width), mask)


def test_copy_takes_the_nearer_neighbour_and_the_previous_on_a_tie(rng):
    frame, previous, following = (picture(rng, 20, 10) for _ in range(3))
    mask = band(20, 10, 5, 12)
    for before, after, distances, expected in [
            (previous, following, (1, 4), previous), (previous, following, (3, 2), following),
            (previous, following, (2, 2), previous), (None, following, (-1, 9), following),
            (previous, None, (9, -1), previous)]:
        assert_filled(quality.copy_nearest(frame, mask, before, after, distances), frame, mask, expected)


def test_neighbours_of_other_sizes_are_resized(rng):
    frame = picture(rng, 20, 10)
    mask = np.ones((20, 10), bool)
    # Shrinking by two, area averaging is the mean of 2×2 blocks (rounded, hence one level).
    large = picture(rng, 40, 20)
    blocks = large.reshape(20, 2, 10, 2, 3).mean(axis=(1, 3))
    filled = quality.copy_nearest(frame, mask, large, None, (1, -1))
    assert np.abs(filled - blocks).max() <= 0.5 + 1e-9
    # A ramp stays a ramp when enlarged linearly, away from the border.
    ramp = np.repeat(np.arange(0, 100, 10, dtype=np.uint8)[:, None, None], 5, 1).repeat(3, 2)
    filled = quality.copy_nearest(frame, mask, ramp, None, (1, -1))
    np.testing.assert_allclose(np.diff(filled[1:-1, 0, 0].astype(int)), 5, atol=1)


def test_mean_of_neighbours(rng):
    frame, previous, following = (picture(rng, 16, 9) for _ in range(3))
    mask = rng.random((16, 9)) < 0.5
    expected = np.floor((previous.astype(float) + following) / 2 + 0.5)
    assert_filled(quality.mean_of_neighbours(frame, mask, previous, following), frame, mask, expected)
    assert_filled(quality.mean_of_neighbours(frame, mask, None, following), frame, mask, following)


def test_telea_sees_nothing_of_what_the_hole_held(rng):
    frame = smooth_pair(rng, 48, 24)[1]
    mask = band(48, 24, 20, 28)
    other = np.where(mask[..., None], picture(rng, 48, 24), frame)
    filled = quality.telea(frame, mask)
    np.testing.assert_array_equal(filled, quality.telea(other, mask))
    np.testing.assert_array_equal(filled[~mask], frame[~mask])
    # It does paint something: a smooth picture comes back far better than from a blackened hole.
    blackened = np.where(mask[..., None], np.uint8(0), frame)
    assert quality.l1(filled, frame, mask) < 0.3 * quality.l1(blackened, frame, mask)


def test_without_neighbours_the_rim_fills_the_hole(rng):
    frame = smooth_pair(rng, 30, 20)[1]
    mask = band(30, 20, 10, 15)
    expected = quality.telea(frame, mask)
    np.testing.assert_array_equal(quality.copy_nearest(frame, mask, None, None, (-1, -1)), expected)
    np.testing.assert_array_equal(quality.mean_of_neighbours(frame, mask, None, None), expected)


@pytest.fixture
def table():
    table = quality.ScoreTable()
    for distance, psnr in [(2, 10.0), (1, 20.0), (1, 24.0), (None, 8.0)]:
        table.add("copy", distance=distance, l1=psnr / 100, psnr=psnr, ssim=0.5)
    table.add("stcnet", distance=np.int64(1), l1=0.01, psnr=30.0, ssim=0.9)
    return table


def test_score_table_averages_frames(table):
    overall = table.overall()
    assert list(overall) == ["copy", "stcnet"]
    assert overall["copy"] == pytest.approx({"l1": 0.155, "psnr": 15.5, "ssim": 0.5, "frames": 4})
    assert overall["stcnet"]["frames"] == 1
    near = table.by_distance()
    assert list(near) == [1, 2, None]
    assert near[1]["copy"]["psnr"] == pytest.approx(22)
    assert near[1]["stcnet"] == pytest.approx({"l1": 0.01, "psnr": 30, "ssim": 0.9, "frames": 1})
    assert "stcnet" not in near[2]
    assert table.as_dict() == {"overall": overall, "by_distance": near}


def test_score_table_as_text(table):
    overall, distances = table.format().split("\n\n")
    header, copy, stcnet = overall.splitlines()
    assert header.split() == ["L1", "PSNR", "dB", "SSIM", "frames"]
    assert copy.split() == ["copy", "0.1550", "15.50", "0.5000", "4"]
    assert len(copy) == len(stcnet) == len(header)
    header, copy, stcnet, frames = distances.splitlines()
    assert header.split()[-3:] == ["1", "2", "none"]
    assert copy.split() == ["copy", "22.00", "10.00", "8.00"]
    assert stcnet.split() == ["stcnet", "30.00", "-", "-"]
    assert frames.split() == ["frames", "2", "1", "1"]
    assert "no frames" in quality.ScoreTable().format()
