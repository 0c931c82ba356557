"""Image quality against scikit-image and numbers by hand."""

import numpy as np
import pytest
from holes import band, picture
from skimage.filters import gaussian, sobel
from skimage.metrics import mean_squared_error, structural_similarity

from vrstc_jax.evaluation import quality


def smooth_pair(rng, height, width):
    """A picture with structure and a damaged copy, so that SSIM lies well inside (0, 1)."""
    y, x = np.mgrid[:height, :width]
    truth = np.stack([120 + 80 * np.sin(y / 7), 100 + 2.0 * x, 90 + 50 * np.cos((x + y) / 5)], axis=-1)
    noisy = truth * 0.9 + rng.normal(0, 15, truth.shape)
    return noisy.clip(0, 255).astype(np.uint8), truth.clip(0, 255).astype(np.uint8)


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


def test_sharpness_against_scikit_image(rng):
    truth = np.repeat(smooth_pair(rng, 40, 20)[0][..., :1], 3, 2)
    blurred = np.round(gaussian(truth, 1.5, preserve_range=True, channel_axis=2)).astype(np.uint8)
    mask = np.zeros((40, 20), bool)
    mask[10:25, 5:15] = True  # inside, where it does not matter how pictures are continued
    wanted = sobel(blurred[..., 0].astype(float))[mask].mean() / sobel(truth[..., 0].astype(float))[mask].mean()
    assert quality.sharpness(blurred, truth, mask) == pytest.approx(wanted, rel=1e-5) and wanted < 0.8
    assert quality.sharpness(truth, truth, mask) == 1
    assert quality.sharpness(truth, np.full_like(truth, 9), mask) is None


def test_flicker_is_what_does_not_move_along(rng):
    before, mask = picture(rng, 20, 10), band(20, 10, 4, 12)
    now = np.roll(before, 1, axis=0)  # everything one pixel down, so that it was one pixel up
    motion = np.broadcast_to(np.float32([0, -1]), (20, 10, 2))
    assert quality.flicker(before, now, motion, mask) == 0
    still = np.abs(now.astype(float) - before)[mask].mean() / 255
    assert quality.flicker(before, now, np.zeros_like(motion), mask) == pytest.approx(still)


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


def test_scores_that_only_some_frames_have():
    table = quality.ScoreTable()
    for flicker, sharpness in ((None, 0.5), (0.25, None), (0.75, 0.7)):
        table.add("mean", distance=1, psnr=10.0, flicker=flicker, sharpness=sharpness)
    table.add("telea", distance=1, psnr=12.0)
    overall = table.overall()
    assert overall["mean"] == pytest.approx({"psnr": 10, "flicker": 0.5, "sharpness": 0.6, "frames": 3})
    columns, rows = quality.overall_rows(overall)
    assert columns == ["", "PSNR dB", "sharp", "flicker", "frames"]
    assert rows[1] == ["telea", "12.00", "-", "-", "1"]


def test_the_way_is_that_of_mean_cosines():
    table = quality.ScoreTable()
    for cosine, hidden in ((0.9, 0.5), (0.7, 0.5)):
        table.add("stcnet", distance=1, cosine=cosine, hidden_cosine=hidden)
    assert table.overall()["stcnet"]["way"] == pytest.approx(60)
    assert quality.overall_rows(table.overall()) == (["", "way %", "frames"], [["stcnet", "60.0", "2"]])


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
