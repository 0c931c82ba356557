"""Bands, masks, copy-back and crops, against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrstc_jax.ops import regions

pytestmark = pytest.mark.usefixtures("quick_compilation")

crop_to_mask = jax.jit(regions.crop_to_mask, static_argnames="size")


def test_band_weights_by_hand():
    # Of 16 rows the borders are at 5 1/3 and 10 2/3: row 5 is a third upper, row 10 two thirds middle.
    third = 1 / 3
    wanted = [[1] * 5 + [third] + [0] * 10,
              [0] * 5 + [1 - third, 1, 1, 1, 1, 1 - third] + [0] * 5,
              [0] * 10 + [third] + [1] * 5]
    assert regions.band_weights(16).dtype == np.float32
    np.testing.assert_allclose(regions.band_weights(16), wanted, atol=1e-6)  # 16/3 rounded to float32
    # Of 128 rows they are at 42 2/3 and 85 1/3.
    wanted = np.eye(3)[[0, 0, 1, 1, 2, 2]].T
    np.testing.assert_array_equal(regions.band_weights(128)[:, [0, 41, 43, 84, 86, 127]], wanted)
    np.testing.assert_allclose(regions.band_weights(128)[:, [42, 85]].T, [[2 / 3, third, 0], [0, third, 2 / 3]],
                               atol=1e-5)
    # Fewer rows than bands.
    np.testing.assert_allclose(regions.band_weights(2), [[2 / 3, 0], [1 / 3, 1 / 3], [0, 2 / 3]], atol=1e-6)
    np.testing.assert_allclose(regions.band_weights(1), [[1 / 3]] * 3, atol=1e-6)


@given(rows=st.integers(1, 300))
def test_each_row_is_shared_out_and_each_band_gets_a_third(rows):
    weights = regions.band_weights(rows)
    assert weights.shape == (3, rows) and (weights >= 0).all() and (weights <= 1).all()
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=1), rows / 3, rtol=1e-5)


@pytest.mark.parametrize("rows, counts", [(128, [43, 42, 43]), (16, [5, 6, 5]), (9, [3, 3, 3]), (4, [1, 2, 1])])
def test_rows_belong_to_the_band_of_their_centre(rows, counts):
    np.testing.assert_array_equal(regions.band_of_row(rows), np.repeat([0, 1, 2], counts))


@given(rows=st.integers(1, 300))
def test_a_row_is_in_the_band_that_has_most_of_it(rows):
    weights, band = regions.band_weights(rows), regions.band_of_row(rows)
    assert (np.diff(band) >= 0).all()
    if rows >= 3:  # a row of less than a band's height; a higher one can cover a whole band off its centre
        np.testing.assert_allclose(weights[band, np.arange(rows)], weights.max(axis=0), atol=1e-5)


def test_band_means_by_hand():
    # Four rows of one column: borders at 4/3 and 8/3, so rows weigh 1 and 1/3; 2/3 and 2/3; 1/3 and 1.
    features = np.array([3.0, 6, 9, 30], np.float32).reshape(4, 1, 1)
    np.testing.assert_allclose(regions.band_means(features)[:, 0],
                               [(3 + 2) / (4 / 3), (4 + 6) / (4 / 3), (3 + 30) / (4 / 3)], rtol=1e-6)


def test_band_means_keep_leading_axes_and_average_columns():
    features = np.random.default_rng(0).standard_normal((2, 5, 6, 4, 7)).astype(np.float32)
    wanted = features.reshape(2, 5, 3, 2, 4, 7).mean(axis=(3, 4))  # six rows divide by three
    np.testing.assert_allclose(regions.band_means(features), wanted, atol=1e-6, strict=True)  # sums of 8 near 1
    np.testing.assert_allclose(regions.band_means(np.ones((16, 8, 2), np.float32)), 1, rtol=1e-6)


@pytest.mark.parametrize("hidden, rows", [
    ((False, False, False), []), ((True, False, False), [0, 1]), ((False, True, False), [2, 3, 4]),
    ((False, False, True), [5, 6]), ((True, False, True), [0, 1, 5, 6]), ((True, True, True), range(7))])
def test_bands_mask_by_hand(hidden, rows):
    # Borders of 7 rows at 2 1/3 and 4 2/3: row 2, centre 2.5, is middle; row 4, centre 4.5, is middle.
    wanted = np.zeros((7, 3), bool)
    wanted[list(rows)] = True
    np.testing.assert_array_equal(regions.bands_mask(hidden, 7, 3), wanted, strict=True)


def test_hidden_share_by_hand():
    mask = np.zeros((4, 2), bool)
    mask[1] = True  # a third of it upper, two thirds middle, out of 4/3 rows a band
    np.testing.assert_allclose(regions.hidden_share(mask), [0.25, 0.5, 0], atol=1e-6)
    mask[1, 0] = False
    np.testing.assert_allclose(regions.hidden_share(mask), [0.125, 0.25, 0], atol=1e-6)
    np.testing.assert_allclose(regions.hidden_share(np.ones((128, 64), bool)), 1, rtol=1e-6)


def odd_floats(shape, seed):
    """Floats of which many are zeros of both signs, infinities, NaNs and numbers next to nothing."""
    random = np.random.default_rng(seed)
    odd = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, -1e-42, 3e38, 1.0, -1.0], np.float32)
    return np.where(random.random(shape) < 0.5, random.choice(odd, shape),
                    random.standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("mask_type", [np.float32, bool])
def test_copy_back_selects_bit_for_bit(compiled, mask_type):
    shape = (2, 16, 12, 3)
    generated, frame = odd_floats(shape, 1), odd_floats(shape, 2)
    mask = np.random.default_rng(3).random((2, 16, 12, 1)) < 0.4
    function = jax.jit(regions.copy_back) if compiled else regions.copy_back
    got, wanted = np.asarray(function(generated, frame, mask.astype(mask_type))), np.where(mask, generated, frame)
    np.testing.assert_array_equal(got.view(np.uint32), wanted.view(np.uint32))


def test_copy_back_keeps_gradients_of_the_visible_part_clean():
    generated = jnp.array([1.0, jnp.nan, jnp.inf])
    gradient = jax.grad(lambda g: regions.copy_back(g, jnp.zeros(3), jnp.array([1.0, 0, 0])).sum())(generated)
    np.testing.assert_array_equal(gradient, [1, 0, 0])


def test_crop_of_the_whole_frame_is_the_frame():
    frames = np.random.default_rng(0).standard_normal((2, 6, 4, 3)).astype(np.float32)
    for mask in (np.ones, np.zeros):  # without a hole the whole frame is the box
        got = crop_to_mask(frames, mask((2, 6, 4, 1), np.float32), (6, 4))
        np.testing.assert_allclose(got, frames, atol=1e-6)  # weights of 1 and 0, up to rounding


def test_crop_to_mask_by_hand():
    frame = np.arange(24, dtype=np.float32).reshape(1, 4, 6, 1)
    mask = np.zeros((1, 4, 6, 1), np.float32)
    mask[0, 1, 2] = mask[0, 2, 3] = 1  # its box: rows 1 and 2, columns 2 and 3
    got = np.asarray(crop_to_mask(frame, mask, (4, 4)))[0, ..., 0]
    # Enlarged twice, centres fall a quarter of a pixel before and after each pixel's own. The picture is a
    # plane, 6 row + column, and bilinear sampling gives its value there.
    rows, columns = 1 + np.array([-0.25, 0.25, 0.75, 1.25]), 2 + np.array([-0.25, 0.25, 0.75, 1.25])
    np.testing.assert_allclose(got, 6 * rows[:, None] + columns, rtol=1e-6)
    # At the frame's edge its last pixels are repeated.
    got = np.asarray(crop_to_mask(frame, np.isin(frame, [0, 6]), (4, 1)))[0, :, 0, 0]
    np.testing.assert_allclose(got, [0, 1.5, 4.5, 7.5], atol=1e-6)


def test_crops_differ_within_a_batch_and_pass_gradients():
    frames = np.random.default_rng(1).standard_normal((2, 6, 4, 2)).astype(np.float32)
    masks = np.zeros((2, 6, 4, 1), np.float32)
    masks[0, 2:5, 1:3] = 1
    masks[1, 0:6, 3:4] = 1

    got = crop_to_mask(frames, masks, (3, 2))
    assert got.shape == (2, 3, 2, 2)
    np.testing.assert_allclose(got[0], frames[0, 2:5, 1:3], atol=1e-6)  # not enlarged: the pixels themselves
    gradient = jax.grad(lambda x: crop_to_mask(x, masks, (3, 2))[0].sum())(frames)
    np.testing.assert_allclose(gradient, np.stack([masks[0], 0 * masks[0]]).repeat(2, axis=-1), atol=1e-6)
