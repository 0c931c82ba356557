"""Convolutions over pictures, the same numbers as `lax.conv_general_dilated`'s, sooner where it is slow.

On all devices, taps of a dilated kernel that see nothing but padding are left out: of a 3×3 kernel with dilation 16 on
a map of 32×16, as G_s and G_t have it at 128×64 pixels, only the middle column sees anything.

On CPUs, XLA's convolutions are slow in some places, by measure on two cores: the gradient by the kernel, over a
batch whose maps fill the caches, at a fifth to a half of the rate that it has over a few examples; strided ones and
their gradient by the input likewise; and all of them on maps of a few positions, at a hundredth of the rate of a
matrix product. So the batch is taken a few examples at a time, and the smallest maps by products with each tap. On
other devices nothing changes. `tools.benchmark_training` shows the step that this makes.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_TINY = 32  # positions of a map which products are quicker for
_AT_A_TIME = 6 * 2**20  # bytes of the maps of some examples that stay in a CPU's caches
_MOST_PARTS = 16  # of a batch, since each is compiled


def convolution(x, kernel, window_strides, padding, lhs_dilation=None, rhs_dilation=None, dimension_numbers=None,
                feature_group_count: int = 1, precision=None):
    """As `lax.conv_general_dilated`, for `flax.linen.Conv(conv_general_dilated=convolution)`.

    x [B, H, W, I] with kernel [h, w, I, O] to [B, H', W', O]; what is not of this kind (other layouts, groups, a
    dilated input) goes to `lax.conv_general_dilated` as it is. Differentiable in reverse mode, any number of times; in
    forward mode only where a map is neither tiny nor the batch too large for the caches.
    """
    numbers = lax.conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    usual = lax.conv_dimension_numbers(x.shape, kernel.shape, _LAYOUT) if x.ndim == 4 else None
    if numbers != usual or feature_group_count != 1 or set(lhs_dilation or (1,)) != {1}:
        return lax.conv_general_dilated(
            x, kernel, window_strides, padding, lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers, feature_group_count=feature_group_count, precision=precision)
    strides, dilation = tuple(window_strides), tuple(rhs_dilation or (1, 1))
    if isinstance(padding, str):
        reach = [(size - 1) * step + 1 for size, step in zip(kernel.shape[:2], dilation)]
        padding = lax.padtype_to_pads(x.shape[1:3], reach, strides, padding)
    axes = [_seeing(*sizes) for sizes in zip(x.shape[1:3], kernel.shape[:2], strides, padding, dilation)]
    (rows, above_below), (columns, left_right) = axes
    kernel, padding = kernel[rows, columns], (above_below, left_right)
    plain = partial(_plain, strides=strides, padding=padding, dilation=dilation, precision=precision)
    out = jax.eval_shape(plain, x, kernel)
    if not isinstance(x.shape[0], int) or 0 in out.shape:  # a batch of any size, as `jax.export` has it; nothing
        return plain(x, kernel)
    if not _is_tiny(x) and len(_parts(x, out)) == 1:
        return plain(x, kernel)
    return _convolution(x, kernel, strides, padding, dilation, precision)


def _seeing(size, taps, stride, padding, dilation):
    """Along one axis: the taps that see more than padding, as a slice, and the padding for these."""
    low, high = padding
    last = (size + low + high - dilation * (taps - 1) - 1) // stride * stride
    seeing = [tap for tap in range(taps)
              if any(0 <= start + tap * dilation - low < size for start in range(0, last + 1, stride))]
    first, end = (seeing[0], seeing[-1] + 1) if seeing else (0, taps)
    return slice(first, end), (low - first * dilation, high - (taps - end) * dilation)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _convolution(x, kernel, strides, padding, dilation, precision):
    plain = partial(_plain, strides=strides, padding=padding, dilation=dilation, precision=precision)

    def by_products(x, kernel):
        return _by_products(x, kernel, strides, padding, dilation, precision)

    def in_parts(x, kernel):
        return jnp.concatenate([plain(x[part], kernel) for part in _parts(x)])

    cpu = by_products if _is_tiny(x) else in_parts if strides != (1, 1) and len(_parts(x)) > 1 else plain
    return _on_cpus(cpu, plain, x, kernel)


def _forward(x, kernel, strides, padding, dilation, precision):
    return _convolution(x, kernel, strides, padding, dilation, precision), (x, kernel)


def _backward(strides, padding, dilation, precision, saved, gradient):
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
        return sum(by_kernel(wide[0][part], wide[1], wide[2][part]) for part in parts).astype(kernel.dtype)

    whole = len(parts) == 1
    for_input = by_input_by_products if _is_tiny(x) else by_input if strides == (1, 1) or whole else by_input_in_parts
    return (_on_cpus(for_input, by_input, x, kernel, gradient),
            _on_cpus(by_kernel if whole else by_kernel_in_parts, by_kernel, x, kernel, gradient))


_convolution.defvjp(_forward, _backward)


def _on_cpus(function, other, *arrays):
    """`function` of arrays on CPUs, and `other` elsewhere."""
    return other(*arrays) if function is other else lax.platform_dependent(*arrays, cpu=function, default=other)


def _plain(x, kernel, *, strides, padding, dilation, precision):
    return lax.conv_general_dilated(x, kernel, strides, padding, rhs_dilation=dilation, dimension_numbers=_LAYOUT,
                                    precision=precision)


def _is_tiny(x):
    return math.prod(x.shape[1:3]) <= _TINY


def _parts(*maps):
    """Slices of a batch, of which each is a few examples' maps, all of about the same length."""
    batch = maps[0].shape[0]
    each = sum(math.prod(x.shape[1:]) * x.dtype.itemsize for x in maps)
    count = max(1, min(batch, _MOST_PARTS, math.ceil(batch * each / _AT_A_TIME)))
    ends = [batch * i // count for i in range(count + 1)]
    return [slice(*ends[i:i + 2]) for i in range(count)]


def _summed_in(array):
    return jnp.promote_types(array.dtype, jnp.float32)


def _by_products(x, kernel, strides, padding, dilation, precision):
    """What every tap sees, beside each other, times the kernel: one product."""
    seen = _seen(x, kernel.shape, strides, padding, dilation)
    out = jnp.dot(jnp.concatenate(seen, -1), kernel.reshape(-1, kernel.shape[-1]), precision=precision)
    return out.astype(jnp.result_type(x, kernel))


def _by_products_back(x, kernel, gradient, strides, padding, dilation, precision):
    """Its gradient by x: laid back, as overlapping patches are."""
    flat = kernel.reshape(-1, kernel.shape[-1])
    patches = jnp.dot(gradient, flat.T, precision=precision, preferred_element_type=_summed_in(x))
    seen = jnp.split(patches, math.prod(kernel.shape[:2]), -1)

    def lay_back(x):
        return _seen(x, kernel.shape, strides, padding, dilation)

    # Linear: what it is differentiated at does not matter, but where it lies does, under shard_map.
    return jax.vjp(lay_back, x.astype(_summed_in(x)))[1](seen)[0].astype(x.dtype)


def _seen(x, shape, strides, padding, dilation):
    """What each tap of a kernel [h, w, I, O] sees: h·w maps [B, H', W', I]."""
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)])
    ends = [size - step * (taps - 1) for size, step, taps in zip(x.shape[1:3], dilation, shape)]
    return [x[:, down:down + ends[0]:strides[0], right:right + ends[1]:strides[1]]
            for down in range(0, shape[0] * dilation[0], dilation[0])
            for right in range(0, shape[1] * dilation[1], dilation[1])]


@jax.custom_vjp
def deconvolution(x, kernel):
    """4×4 deconvolution of stride 2: [B, H, W, I] with kernel [4, 4, O, I] to [B, 2H, 2W, O].

    It is the transpose of the strided convolution with the same kernel. Its weight gradient, left to
    autodiff, is a convolution over an input dilated with zeros, which XLA runs tens of times too slowly on
    CPU; the same numbers are the weight gradient of the strided convolution, which is used instead.
    """
    return lax.conv_general_dilated(
        x, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2),
        dimension_numbers=_LAYOUT)


def _deconvolution_forward(x, kernel):
    return deconvolution(x, kernel), (x, kernel)


def _deconvolution_backward(saved, gradient):
    x, kernel = saved
    by_x, pullback = jax.vjp(lambda kernel: _strided(gradient, kernel), kernel)
    return by_x, *pullback(x)


def _strided(y, kernel):
    """The convolution whose transpose is `deconvolution`: [B, 2H, 2W, O] to [B, H, W, I]."""
    return convolution(y, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT)


deconvolution.defvjp(_deconvolution_forward, _deconvolution_backward)
