"""Temporal attention between frames (VRSTC section 3.3, equations 1 to 3).

`temporal_attention` rebuilds a feature map from the patches of other frames' feature maps: each k×k patch
of `current` is compared with each k×k patch of `adjacent` by cosine similarity, a softmax over all of
`adjacent` turns similarities into weights, and the weighted patches are laid back where they belong,
overlapping, averaged by the number of patches that cover a position. Maps are surrounded by zeros.

Arrays are one example's, [H, W, C]; batching is `jax.vmap`, compiling is `jax.jit`, at the caller's edge.

No patch is ever cut out. With pixels f of `current` and r of `adjacent`, and shifts δ over the k×k window,

    <patch p of f, patch q of r> = Σ_δ <f[p+δ], r[q+δ]>          = Σ_δ G[p+δ, q+δ],   G = f rᵀ
    out[p] = 1/n(p) Σ_δ Σ_q A[p−δ, q−δ] r[q]                     = 1/n(p) (B r)[p],   B[p, q] = Σ_δ A[p−δ, q−δ]

so both steps are a matrix product over C channels, not k²C, and a box sum over shifts that positions p and
q make together. The box is symmetric, so both sums are the same function, and it separates into rows and
columns. The result is that of the patches exactly, up to rounding.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

# Patches shorter than this count as zero: they are similar to nothing (cosine 0), and no gradient of a
# square root at zero arises. Squared norms of real feature patches are larger by many orders of magnitude.
_SMALLEST_SQUARED_NORM = 1e-12


def temporal_attention(current, adjacent, *, patch_size: int = 3, softmax_scale: float = 10.0, payload=None):
    """Rebuilds `current` from patches of `adjacent` (equations 1 to 3).

    Args:
      current: [H, W, C] features of the frame to complete, floating point.
      adjacent: [H', W', C] features of another frame, or [T, H', W', C] of several, all of them under one
        softmax.
      patch_size: side of the compared patches, odd.
      softmax_scale: multiplies the cosine similarity before the softmax. The paper prints none, which is
        1.0; cosines lie in [−1, 1], and over hundreds of positions that is almost a plain average.
      payload: [H', W', D] or [T, H', W', D], what is carried over in place of `adjacent` itself, such as
        the pixels behind each position; the weights are the same.

    Returns:
      [H, W, C] (with `payload`, [H, W, D]), in `current`'s type.

    Raises:
      ValueError, TypeError: a shape, a type or a patch size that cannot be used, saying what was got.
    """
    weights = _laid_back(current, adjacent, patch_size, softmax_scale)
    carried = _frames(adjacent) if payload is None else _frames(payload)
    if carried.ndim != 4 or carried.shape[:3] != _frames(adjacent).shape[:3]:
        raise ValueError(f"payload must have adjacent's frames and positions, {adjacent.shape[:-1]}, and "
                         f"channels. Got {payload.shape}.")
    out = jnp.tensordot(weights, carried.astype(jnp.float32), ((2, 3, 4), (0, 1, 2)))
    return (out / _cover(*current.shape[:2], patch_size)[..., None]).astype(current.dtype)


def attention_weights(current, adjacent, *, patch_size: int = 3, softmax_scale: float = 10.0):
    """Where each patch of `current` looks: the softmax of equation 2.

    Arguments and errors are `temporal_attention`'s.

    Returns:
      float32 [H, W, H', W'] or [H, W, T, H', W']; the weights of each position of `current` sum to 1.
    """
    weights = jax.nn.softmax(_scaled_similarity(current, adjacent, patch_size, softmax_scale),
                             axis=(2, 3, 4))
    return weights if adjacent.ndim == 4 else weights[:, :, 0]


class TemporalAttention(nn.Module):
    """`temporal_attention` as a Flax layer over a batch; it has no parameters.

    Called with current [B, H, W, C] and adjacent [B, H', W', C] or [B, T, H', W', C], it returns
    [B, H, W, C]; without the batch axis on both, it is the op itself.
    """

    patch_size: int = 3
    softmax_scale: float = 10.0

    @nn.compact
    def __call__(self, current, adjacent, payload=None):
        def op(current, adjacent, payload):
            return temporal_attention(current, adjacent, patch_size=self.patch_size,
                                      softmax_scale=self.softmax_scale, payload=payload)

        if current.ndim == 3:
            return op(current, adjacent, payload)
        if current.ndim != 4 or adjacent.shape[:1] != current.shape[:1]:
            raise ValueError("current must be [H, W, C] or [B, H, W, C], with adjacent of the same batch. "
                             f"Got {current.shape} and {adjacent.shape}.")
        return jax.vmap(op)(current, adjacent, payload)


def _scaled_similarity(current, adjacent, patch_size, softmax_scale):
    """Equation 1 times the scale: float32 [H, W, T, H', W']."""
    _check(current, adjacent, patch_size)
    f = current.astype(jnp.float32)
    r = _frames(adjacent).astype(jnp.float32)
    inner = _joint_box_sum(jnp.einsum("hwc,tyxc->hwtyx", f, r), patch_size)
    f_norm = _patch_inverse_norm(f[None], patch_size)[0]
    r_norm = _patch_inverse_norm(r, patch_size)
    return inner * (softmax_scale * f_norm)[:, :, None, None, None] * r_norm


def _laid_back(current, adjacent, patch_size, softmax_scale):
    """B: the weights after the patches' overlap, [H, W, T, H', W']."""
    similarity = _scaled_similarity(current, adjacent, patch_size, softmax_scale)
    return _joint_box_sum(jax.nn.softmax(similarity, axis=(2, 3, 4)), patch_size)


def _joint_box_sum(x, size):
    """Σ_δ x[h+δ_y, w+δ_x, t, y+δ_y, x+δ_x], zeros outside: rows first, then columns."""
    for here, there in ((0, 3), (1, 4)):
        x = sum(_shifted(x, offset, (here, there)) for offset in _offsets(size))
    return x


def _patch_inverse_norm(maps, size):
    """1/‖patch‖ around each position of [T, H, W, C]: [T, H, W]; 0 where the patch is all zeros."""
    squared = jnp.sum(maps * maps, axis=-1)
    for axis in (1, 2):
        squared = sum(_shifted(squared, offset, (axis,)) for offset in _offsets(size))
    some = squared > _SMALLEST_SQUARED_NORM
    # The inner `where` keeps rsqrt's gradient finite where the outer one throws its value away.
    return jnp.where(some, jax.lax.rsqrt(jnp.where(some, squared, 1.0)), 0.0)


def _cover(height, width, size):
    """How many patches cover each position: float32 [H, W]."""
    def along(length):
        at = jnp.arange(length)
        return jnp.minimum(at + size // 2, length - 1) - jnp.maximum(at - size // 2, 0) + 1

    return (along(height)[:, None] * along(width)).astype(jnp.float32)


def _shifted(x, offset, axes):
    """x moved by `offset` along all of `axes` together, zeros where nothing comes from."""
    # lax.pad takes negative amounts, so a shift is one operation that XLA fuses into the sum.
    config = [(0, 0, 0)] * x.ndim
    for axis in axes:
        config[axis] = (-offset, offset, 0)
    return jax.lax.pad(x, jnp.zeros((), x.dtype), config)


def _offsets(size):
    return range(-(size // 2), size // 2 + 1)


def _frames(adjacent):
    return adjacent if adjacent.ndim == 4 else adjacent[None]


def _check(current, adjacent, patch_size):
    if current.ndim != 3:
        raise ValueError(f"current must be [H, W, C]. Got shape {current.shape}.")
    if adjacent.ndim not in (3, 4):
        raise ValueError(f"adjacent must be [H', W', C] or [T, H', W', C]. Got shape {adjacent.shape}.")
    if adjacent.shape[-1] != current.shape[-1]:
        raise ValueError("current and adjacent must have the same number of channels. "
                         f"Got {current.shape[-1]} and {adjacent.shape[-1]}.")
    if 0 in current.shape or 0 in adjacent.shape:
        raise ValueError(f"Maps must not be empty. Got shapes {current.shape} and {adjacent.shape}.")
    if not isinstance(patch_size, int) or patch_size < 1 or patch_size % 2 == 0:
        raise ValueError(f"patch_size must be an odd positive integer. Got {patch_size!r}.")
    for name, array in (("current", current), ("adjacent", adjacent)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{name} must be floating point. Got {array.dtype}.")
