"""Convolutions in parts and by products against sums written out in NumPy, in float64.

A float32 sum of a few hundred products is good to some 1e-7 of the largest; BOUND leaves ten times that.
"""

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import difference
from jax import lax

from vrstc_jax.ops import convolution as room
from vrstc_jax.ops.convolution import convolution

BOUND = 1e-6

# Batch and map, kernel, stride, padding, dilation, bytes at a time.
WHOLE = 2**20
CASES = {
    "whole": ((2, 8, 6), 3, 1, 1, 1, WHOLE),
    "in parts": ((5, 8, 6), 3, 1, 1, 1, 4000),
    "an example at a time": ((3, 8, 6), 3, 1, 1, 1, 1),
    "strided": ((3, 9, 7), 3, 2, 1, 1, 3000),
    "strided, small at the border": ((2, 8, 6), 7, 2, 3, 1, 1),
    "one tap, strided": ((2, 8, 6), 1, 2, 0, 1, 1),
    "dilated": ((2, 12, 6), 3, 1, 2, 2, 1),
    "taps that see padding alone": ((2, 12, 6), 3, 1, 8, 8, WHOLE),
    "taps that see padding alone, in parts": ((2, 12, 6), 3, 1, 8, 8, 1),
    "tiny, dilated": ((2, 6, 5), 3, 1, 2, 2, WHOLE),
    "tiny, taps that see padding alone": ((2, 6, 4), 3, 1, 4, 4, WHOLE),
    "tiny": ((2, 4, 2), 3, 1, 1, 1, WHOLE),
    "tiny, strided": ((2, 4, 2), 3, 2, 1, 1, WHOLE),
    "tiny, one tap": ((2, 4, 2), 1, 2, 0, 1, WHOLE),
}


def written_out(x, kernel, stride, padding, dilation, gradient):
    """The convolution, and its gradients by both for a gradient of the output."""
    taps = kernel.shape[0]
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = ((size - dilation * (taps - 1) - 1) // stride + 1 for size in padded.shape[1:3])
    out = np.zeros((len(x), height, width, kernel.shape[-1]))
    by_padded, by_kernel = np.zeros(padded.shape), np.zeros(kernel.shape)
    for down, right, row, column in np.ndindex(taps, taps, height, width):
        place = np.s_[:, row * stride + down * dilation, column * stride + right * dilation]
        out[:, row, column] += padded[place] @ kernel[down, right]
        by_padded[place] += gradient[:, row, column] @ kernel[down, right].T
        by_kernel[down, right] += padded[place].T @ gradient[:, row, column]
    inside = slice(padding, -padding or None)
    return out, by_padded[:, inside, inside], by_kernel


def given(shape, taps, dtype=np.float32):
    random = np.random.default_rng(0)
    x = random.standard_normal((*shape, 5)).astype(dtype)
    return x, random.standard_normal((taps, taps, 5, 7)).astype(dtype)


def options(stride, padding, dilation):
    padding = padding if isinstance(padding, str) else ((padding, padding),) * 2
    return {"window_strides": (stride, stride), "padding": padding, "rhs_dilation": (dilation, dilation),
            "dimension_numbers": ("NHWC", "HWIO", "NHWC")}


@pytest.mark.parametrize("shape, taps, stride, padding, dilation, at_a_time", CASES.values(), ids=CASES)
def test_numbers_and_gradients(monkeypatch, shape, taps, stride, padding, dilation, at_a_time):
    monkeypatch.setattr(room, "_AT_A_TIME", at_a_time)
    x, kernel = given(shape, taps)
    function = partial(convolution, **options(stride, padding, dilation))
    gradient = np.random.default_rng(1).standard_normal(jax.eval_shape(function, x, kernel).shape).astype(np.float32)

    @jax.jit
    def ours(x, kernel):
        out, pullback = jax.vjp(function, x, kernel)
        return out, *pullback(gradient)

    wanted = written_out(*(a.astype(np.float64) for a in (x, kernel)), stride, padding, dilation, gradient)
    for got, array in zip(ours(x, kernel), wanted, strict=True):
        assert difference(got, array) <= BOUND


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_padding_by_name_and_in_flax(padding):
    x, kernel = given((2, 9, 8), 3)
    asked = options(2, padding, 1) | {"rhs_dilation": (1, 2)}
    assert difference(convolution(x, kernel, **asked), lax.conv_general_dilated(x, kernel, **asked)) <= BOUND


@pytest.mark.parametrize("change, kernel_of", [
    ({"dimension_numbers": ("NHWC", "OIHW", "NHWC")}, lambda kernel: kernel.transpose(3, 2, 0, 1)),
    ({"lhs_dilation": (2, 1)}, np.asarray), ({"feature_group_count": 5}, lambda kernel: kernel[:, :, :1, :5])])
def test_what_is_of_another_kind_goes_to_lax_as_it_is(change, kernel_of):
    x, kernel = given((2, 6, 6), 3)
    kernel, asked = kernel_of(kernel), options(1, 1, 1) | change
    np.testing.assert_array_equal(convolution(x, kernel, **asked), lax.conv_general_dilated(x, kernel, **asked))


@pytest.mark.parametrize("shape", [(4, 8, 6), (4, 4, 2)], ids=["in parts", "tiny"])
def test_bfloat16_gradients_by_the_kernel_are_rounded_once(monkeypatch, shape):
    """As of float32 throughout; XLA's own other passes round more than once."""
    monkeypatch.setattr(room, "_AT_A_TIME", 1)
    x, kernel = (jnp.asarray(a, jnp.bfloat16) for a in given(shape, 3))
    function = partial(convolution, **options(1, 1, 1))
    gradient = jnp.asarray(np.random.default_rng(1).standard_normal((*shape, 7)), jnp.bfloat16)
    wide = [a.astype(jnp.float32) for a in (x, kernel, gradient)]
    out, pullback = jax.vjp(function, x, kernel)
    wanted, wanted_pullback = jax.vjp(function, *wide[:2])
    (by_x, by_kernel), (wanted_by_x, wanted_by_kernel) = pullback(gradient), wanted_pullback(wide[2])
    assert out.dtype == by_x.dtype == by_kernel.dtype == jnp.bfloat16
    # Sums in another order may fall on the other side of a rounding, one in hundreds.
    assert np.mean(by_kernel != wanted_by_kernel.astype(jnp.bfloat16)) < 0.01
    assert difference(out, wanted) <= 2**-8 and difference(by_x, wanted_by_x) <= 2**-8


def test_on_a_mesh_with_a_batch_of_any_size_and_with_nothing(monkeypatch):
    x, kernel = given((2, 4, 4), 3)
    function = partial(convolution, **options(1, 1, 1))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("b",))
    rows, all_alike = jax.sharding.PartitionSpec("b"), jax.sharding.PartitionSpec()

    def gradient(x, kernel):
        return jax.grad(lambda x: jnp.sum(function(x, kernel) ** 2))(x)

    on_mesh = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=(rows, all_alike), out_specs=rows))
    assert difference(on_mesh(x, kernel), gradient(x, kernel)) <= BOUND

    size, = jax.export.symbolic_shape("size")
    exported = jax.export.export(jax.jit(function))(
        jax.ShapeDtypeStruct((size, 4, 4, 5), x.dtype), jax.ShapeDtypeStruct(kernel.shape, kernel.dtype))
    assert difference(exported.call(x, kernel), function(x, kernel)) <= BOUND

    assert convolution(x, kernel, **options(1, 0, 2)).shape == (2, 0, 0, 7)


def test_vmap_and_second_derivatives(monkeypatch):
    monkeypatch.setattr(room, "_AT_A_TIME", 1)
    x, kernel = given((3, 7, 6), 3)

    def of(function):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(function(x, kernel, **options(2, 1, 1))))

        def steepness(x, kernel):
            return sum(jnp.sum(g * g) for g in jax.grad(loss, (0, 1))(x, kernel))

        each = jax.vmap(jax.grad(steepness, (0, 1)), in_axes=(0, None))
        return jax.jit(each)(x[:, None], kernel)

    for got, wanted in zip(of(convolution), of(lax.conv_general_dilated), strict=True):
        assert difference(got, wanted) <= 1e-5  # two passes each way, of sums of sums


def lowered(platform, shape=(8, 16, 8)):
    x, kernel = given(shape, 3)

    def both(x, kernel):
        out, pullback = jax.vjp(partial(convolution, **options(1, 16, 16)), x, kernel)
        return pullback(out)

    return jax.jit(both).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text().count("stablehlo.convolution")


def test_other_devices_have_one_convolution_for_each_of_three(monkeypatch):
    monkeypatch.setattr(room, "_AT_A_TIME", 1)
    assert [lowered(platform) for platform in ("tpu", "cuda", "cpu")] == [3, 3, 1 + 1 + 8]
    assert [lowered(platform, (8, 4, 4)) for platform in ("tpu", "cpu")] == [3, 8]  # tiny: no convolution but one


def test_taps_that_see_padding_alone_are_not_computed_with():
    x, kernel = given((1, 32, 16), 3)
    program = jax.make_jaxpr(partial(convolution, **options(1, 16, 16)))(x, kernel)
    assert "f32[3,1,5,7]" in str(program)
    assert not np.any(jax.grad(lambda kernel: jnp.sum(convolution(x, kernel, **options(1, 16, 16))))(kernel)[:, ::2])
