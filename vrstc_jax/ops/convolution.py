"""Convolutions over pictures: the numbers of `lax.conv_general_dilated`, faster where that is slow.

On all devices, taps of a dilated kernel that cover only padding are left out: of a 3×3 kernel with dilation 16 on a map
of 32×16, as G_s and G_t have it at 128×64 pixels, only the middle column covers anything else.

On CPUs, some of XLA's convolutions are slow, as measured on two cores. The gradient by the kernel, over a batch whose
maps exceed the caches, runs at a fifth to a half of its rate over a few examples; so do strided convolutions and their
gradient by the input. On maps of a few positions, all run at a hundredth of the rate of a matrix product. So a batch
is computed a few examples at a time, and the smallest maps as products with each tap. On other devices nothing
changes. `tools.benchmark_training` measures a whole step.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_TINY = 32  # up to so many positions of a map, products are faster
_AT_A_TIME = 6 * 2**20  # bytes of the maps of some examples that stay in a CPU's caches
_MOST_PARTS = 16  # of a batch, since each is compiled

Pair = tuple[int, int]  # for rows and columns
Padding = Sequence[Pair]  # (low, high), for rows and columns


def convolution(x: jax.Array, kernel: jax.Array, window_strides: Sequence[int],
                padding: str | Sequence[tuple[int, int]], lhs_dilation: Sequence[int] | None = None,
                rhs_dilation: Sequence[int] | None = None, dimension_numbers: Any = None,
                feature_group_count: int = 1, precision: Any = None) -> jax.Array:  # the parameters of lax
    """As `lax.conv_general_dilated`, for `flax.linen.Conv(conv_general_dilated=convolution)`.

    x [B, H, W, I] with kernel [h, w, I, O] to [B, H', W', O]. Anything else (other layouts, groups, a dilated input)
    is passed to `lax.conv_general_dilated`. Differentiable in reverse mode, any number of times; in forward mode only
    where the map is not tiny and the batch fits the caches.
    """
    numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    usual = lax.conv_dimension_numbers(x.shape, kernel.shape, _LAYOUT) if x.ndim == 4 else None
    if numbers != usual or feature_group_count != 1 or set(lhs_dilation or (1,)) != {1}:
        return lax.conv_general_dilated(
            x, kernel, window_strides, padding, lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers, feature_group_count=feature_group_count, precision=precision)
    (down, right), (row_step, column_step) = window_strides, rhs_dilation or (1, 1)
    strides, dilation = (down, right), (row_step, column_step)
    if isinstance(padding, str):
        reach = [(size - 1) * step + 1 for size, step in zip(kernel.shape[:2], dilation)]
        padding = lax.padtype_to_pads(x.shape[1:3], reach, strides, padding)
    axes = [_useful_taps(*sizes) for sizes in zip(x.shape[1:3], kernel.shape[:2], strides, padding, dilation)]
    (rows, above_below), (columns, left_right) = axes
    kernel, padding = kernel[rows, columns], (above_below, left_right)
    plain = partial(_plain, strides=strides, padding=padding, dilation=dilation, precision=precision)
    out = jax.eval_shape(plain, x, kernel)
    # In `jax.export` the batch's size may be a symbol.
    if not isinstance(x.shape[0], int) or 0 in out.shape:
        return plain(x, kernel)
    if not _is_tiny(x) and len(_parts(x, out)) == 1:
        return plain(x, kernel)
    return _convolution(x, kernel, strides, padding, dilation, precision)


def _useful_taps(size: int, taps: int, stride: int, padding: Pair, dilation: int) -> tuple[slice, Pair]:
    """Along one axis: the taps that cover more than padding, as a slice, and the padding for these."""
    low, high = padding
    last = (size + low + high - dilation * (taps - 1) - 1) // stride * stride
    seeing = [tap for tap in range(taps)
              if any(0 <= start + tap * dilation - low < size for start in range(0, last + 1, stride))]
    first, end = (seeing[0], seeing[-1] + 1) if seeing else (0, taps)
    return slice(first, end), (low - first * dilation, high - (taps - end) * dilation)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _convolution(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, dilation: Pair,
                 precision: Any) -> jax.Array:
    plain = partial(_plain, strides=strides, padding=padding, dilation=dilation, precision=precision)

    def by_products(x, kernel):
        return _by_products(x, kernel, strides, padding, dilation, precision)

    def in_parts(x, kernel):
        return jnp.concatenate([plain(x[part], kernel) for part in _parts(x)])

    cpu = by_products if _is_tiny(x) else in_parts if strides != (1, 1) and len(_parts(x)) > 1 else plain
    return _on_cpus(cpu, plain, x, kernel)


def _forward(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, dilation: Pair,
             precision: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolution(x, kernel, strides, padding, dilation, precision), (x, kernel)


def _backward(strides: Pair, padding: Padding, dilation: Pair, precision: Any, saved: tuple[jax.Array, jax.Array],
              gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    plain = partial(_plain, strides=strides, padding=padding, dilation=dilation, precision=precision)
    parts = _parts(x, gradient)

    def by_input(x, kernel, gradient):
        return jax.vjp(lambda x: plain(x, kernel), x)[1](gradient)[0]

    def by_input_by_products(x, kernel, gradient):
        return _by_products_back(x, kernel, gradient, strides, padding, dilation, precision)

    def by_input_in_parts(x, kernel, gradient):
        return jnp.concatenate([by_input(x[part], kernel, gradient[part]) for part in parts])

    def by_kernel(x, kernel, gradient):
        return jax.vjp(lambda kernel: plain(x, kernel), kernel)[1](gradient)[0]

    def by_kernel_in_parts(x, kernel, gradient):
        # A sum of roundings to bfloat16 would be another result than the rounding of the sum.
        wide = [array.astype(_summed_in(array)) for array in (x, kernel, gradient)]
        total: Any = sum(by_kernel(wide[0][part], wide[1], wide[2][part]) for part in parts)
        return total.astype(kernel.dtype)

    whole = len(parts) == 1
    for_input = by_input_by_products if _is_tiny(x) else by_input if strides == (1, 1) or whole else by_input_in_parts
    return (_on_cpus(for_input, by_input, x, kernel, gradient),
            _on_cpus(by_kernel if whole else by_kernel_in_parts, by_kernel, x, kernel, gradient))


_convolution.defvjp(_forward, _backward)


def _on_cpus(function: Callable, other: Callable, *arrays: jax.Array) -> jax.Array:
    """`function` of arrays on CPUs, and `other` elsewhere."""
    return other(*arrays) if function is other else lax.platform_dependent(*arrays, cpu=function, default=other)


def _plain(x: jax.Array, kernel: jax.Array, *, strides: Pair, padding: Padding, dilation: Pair,
           precision: Any) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=_LAYOUT,
                                    precision=precision)


def _is_tiny(x: jax.Array) -> bool:
    return math.prod(x.shape[1:3]) <= _TINY


def _parts(*maps: Any) -> list[slice]:
    """Slices of a batch, each of a few examples, all of about the same length."""
    batch = maps[0].shape[0]
    each = sum(math.prod(x.shape[1:]) * x.dtype.itemsize for x in maps)
    count = max(1, min(batch, _MOST_PARTS, math.ceil(batch * each / _AT_A_TIME)))
    ends = [batch * i // count for i in range(count + 1)]
    return [slice(*ends[i:i + 2]) for i in range(count)]


def _summed_in(array: jax.Array) -> jnp.dtype:
    return jnp.promote_types(array.dtype, jnp.float32)


def _by_products(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, dilation: Pair,
                 precision: Any) -> jax.Array:
    """One product: what all taps cover, concatenated, times the kernel."""
    seen = _covered(x, kernel.shape, strides, padding, dilation)
    out = jnp.dot(jnp.concatenate(seen, -1), kernel.reshape(-1, kernel.shape[-1]), precision=precision)
    return out.astype(jnp.result_type(x, kernel))


def _by_products_back(x: jax.Array, kernel: jax.Array, gradient: jax.Array, strides: Pair, padding: Padding,
                      dilation: Pair, precision: Any) -> jax.Array:
    """The gradient of `_by_products` by x: what each tap covers is added back to its position."""
    flat = kernel.reshape(-1, kernel.shape[-1])
    patches = jnp.dot(gradient, flat.T, precision=precision, preferred_element_type=_summed_in(x))
    seen = jnp.split(patches, math.prod(kernel.shape[:2]), -1)

    def covered(x: jax.Array) -> list[jax.Array]:
        return _covered(x, kernel.shape, strides, padding, dilation)

    # It is linear, so its derivative does not depend on x; but under `shard_map` x says over which axes it varies.
    return jax.vjp(covered, x.astype(_summed_in(x)))[1](seen)[0].astype(x.dtype)


def _covered(x: jax.Array, shape: Sequence[int], strides: Pair, padding: Padding, dilation: Pair) -> list[jax.Array]:
    """What each tap of a kernel [h, w, I, O] covers: h·w maps [B, H', W', I]."""
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)])
    ends = [size - step * (taps - 1) for size, step, taps in zip(x.shape[1:3], dilation, shape)]
    return [x[:, down:down + ends[0]:strides[0], right:right + ends[1]:strides[1]]
            for down in range(0, shape[0] * dilation[0], dilation[0])
            for right in range(0, shape[1] * dilation[1], dilation[1])]


@jax.custom_vjp
def deconvolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """4×4 deconvolution of stride 2: [B, H, W, I] with kernel [4, 4, O, I] to [B, 2H, 2W, O].

    It is the transpose of the strided convolution with the same kernel. Autodiff's weight gradient is a convolution
    over an input dilated with zeros, which XLA for CPU runs tens of times too slowly; the weight gradient of the
    strided convolution gives the same numbers, and is used instead.
    """
    return lax.conv_general_dilated(
        x, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2),
        dimension_numbers=_LAYOUT)


def _deconvolution_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return deconvolution(x, kernel), (x, kernel)


def _deconvolution_backward(saved: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    by_x, pullback = jax.vjp(lambda kernel: _strided(gradient, kernel), kernel)
    by_kernel, = pullback(x)
    return by_x, by_kernel


def _strided(y: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution whose transpose is `deconvolution`: [B, 2H, 2W, O] to [B, H, W, I]."""
    return convolution(y, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT)


deconvolution.defvjp(_deconvolution_forward, _deconvolution_backward)
