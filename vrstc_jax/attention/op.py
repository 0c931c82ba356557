"""Temporal attention between frames (VRSTC section 3.3, equations 1 to 3).

`temporal_attention` rebuilds a feature map from the patches of other frames' feature maps. Each k×k patch of `current`
is compared with each k×k patch of `adjacent` by cosine similarity; a softmax over all of `adjacent` turns similarities
into weights; the weighted patches are pasted at their positions, and overlapping ones are averaged. Maps are surrounded
by zeros.

Arrays are those of one example, [H, W, C]; callers batch with `jax.vmap` and compile with `jax.jit`.

No patch is ever cut out. With pixels f of `current` and r of `adjacent`, and shifts δ over the k×k window,

    <patch p of f, patch q of r> = Σ_δ <f[p+δ], r[q+δ]>          = Σ_δ G[p+δ, q+δ],   G = f rᵀ
    out[p] = 1/n(p) Σ_δ Σ_q A[p−δ, q−δ] r[q]                     = 1/n(p) (B r)[p],   B[p, q] = Σ_δ A[p−δ, q−δ]

so both steps are a matrix product over C channels, not k²C, and a box sum over joint shifts of p and q. The box is
symmetric, so both sums are the same function, and it separates into rows and columns. The result equals that of
patches, up to rounding.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vrstc_jax.attention import blocks, sums, whole
from vrstc_jax.attention.weights import Maps, softmax

# For block_size=None, in bytes: the largest matrix of pairs that is computed whole, and the size of a block's matrix,
# which fits into a core's cache.
_LARGEST_WHOLE = 64 << 20
_BLOCK = 4 << 20


def temporal_attention(current: jax.Array, adjacent: jax.Array, *, patch_size: int = 3,
                       softmax_scale: float | jax.Array = 10.0, adjacent_mask: jax.Array | None = None,
                       block_size: int | None = None, precision: jax.lax.PrecisionLike = None,
                       payload: jax.Array | None = None) -> jax.Array:
    """Rebuilds `current` from patches of `adjacent` (equations 1 to 3).

    The scale of features does not matter. Patches with a norm below 1e-6 count as zero; norms must be below 1e12 in
    float32, since their squares and cubes are computed.

    Args:
      current: [H, W, C] features of the frame to complete: float32, bfloat16, float16 or float64. Sums and
        the softmax are in float32 at least.
      adjacent: [H', W', C] features of another frame, or [T, H', W', C] of several, under one softmax.
      patch_size: side of the compared patches, odd.
      softmax_scale: multiplies the cosine similarity before the softmax; a number or a scalar array, which may be
        trained. The paper prints none, which is 1.0: cosines are in [−1, 1], so over hundreds of positions that is
        almost a plain average. Gradients lose digits at very small scales (a relative error of about
        1e-7 / softmax_scale); at 0, the gradient of the scale is taken as 0.
      adjacent_mask: bool [H', W'] or [T, H', W'], true where `adjacent` may be used. Elsewhere its features count as
        zero in patches, and no patch centred there is attended. If it is false everywhere, the result is zeros.
      block_size: rows of `current` handled at a time. Memory then grows with block_size · W · T · H' · W', not with
        H · W · T · H' · W'; the result is the same up to rounding. None: all rows at once where that takes at most
        64 MiB, else as many as take 4 MiB.
      precision: of the matrix products, as of `jax.lax.dot_general`.
      payload: [H', W', D] or [T, H', W', D], carried over in place of `adjacent`, such as the pixels of each position;
        the weights are the same.

    Returns:
      [H, W, C] (with `payload`, [H, W, D]), in `current`'s type. Gradients flow to `current`, `adjacent`,
      `payload` and `softmax_scale`, by reverse mode only (`jax.grad`, `jax.vjp`).

    Raises:
      ValueError, TypeError: a shape, a type, a patch or block size that is not valid; the message says what was got.
    """
    _check(current, adjacent, patch_size, softmax_scale, adjacent_mask)
    if payload is not None:
        _check_payload(payload, adjacent)
    rows = _rows_at_a_time(current, adjacent, block_size)
    maps = _maps(current, adjacent, patch_size, softmax_scale, adjacent_mask, payload)
    height, width, _ = current.shape
    # `custom_vjp` hides the type of the result.
    out: Any = blocks.attend(rows, patch_size, precision, maps) if rows < height \
        else whole.attend(patch_size, precision, maps)
    return (out / sums.cover(height, width, patch_size)[..., None]).astype(current.dtype)


def attention_weights(current: jax.Array, adjacent: jax.Array, *, patch_size: int = 3,
                      softmax_scale: float | jax.Array = 10.0, adjacent_mask: jax.Array | None = None,
                      precision: jax.lax.PrecisionLike = None) -> jax.Array:
    """The weights of `adjacent`'s patches for each patch of `current`: the softmax of equation 2.

    Arguments and errors are `temporal_attention`'s.

    Returns:
      float32 (float64 for float64) [H, W, H', W'] or [H, W, T, H', W']. The weights of each position of `current` sum
      to 1, or are all 0 if `adjacent_mask` is false everywhere.
    """
    _check(current, adjacent, patch_size, softmax_scale, adjacent_mask)
    maps = _maps(current, adjacent, patch_size, softmax_scale, adjacent_mask, None)
    similarity = whole.similarities(patch_size, precision, maps)
    *_, here, there, usable = maps.flat()
    weights, _ = softmax(similarity, here, there, usable)
    return weights.reshape(*current.shape[:2], *adjacent.shape[:-1])


def _maps(current: jax.Array, adjacent: jax.Array, patch_size: int, softmax_scale: float | jax.Array,
          adjacent_mask: jax.Array | None, payload: jax.Array | None) -> Maps:
    dtype = jnp.promote_types(current.dtype, adjacent.dtype)
    total = jnp.promote_types(dtype, jnp.float32)
    f, r = current.astype(dtype), _frames(adjacent, 4).astype(dtype)
    v = r if payload is None else _frames(payload, 4).astype(dtype)
    usable = None
    if adjacent_mask is not None:
        # Zeroed too, because unusable features would count in the patches around usable positions.
        usable = _frames(adjacent_mask, 3)
        r, v = (jnp.where(usable[..., None], x, 0) for x in (r, v))
    # The scale is a factor of one end, so that logits need no further multiplication of pairs.
    here = softmax_scale * sums.inverse_norms(f[None].astype(total), patch_size)[0]
    there = sums.inverse_norms(r.astype(total), patch_size)
    return Maps(f, r, v, here.astype(total), there, usable).varying_alike()


def _rows_at_a_time(current: jax.Array, adjacent: jax.Array, block_size: int | None) -> int:
    height, width = current.shape[:2]
    if block_size is not None:
        if isinstance(block_size, bool) or not isinstance(block_size, int) or block_size < 1:
            raise ValueError(f"block_size must be a positive number of rows, or None. Got {block_size!r}.")
        return min(block_size, height)
    row = 4 * width * _frames(adjacent, 4)[..., 0].size  # bytes of a row's pairs, in float32
    return height if height * row <= _LARGEST_WHOLE else max(1, _BLOCK // row)


def _frames(array: jax.Array, ndim: int) -> jax.Array:
    """The array with an axis of frames in front, if it is of a single frame."""
    return array if array.ndim == ndim else array[None]


def _check(current: jax.Array, adjacent: jax.Array, patch_size: int, softmax_scale: float | jax.Array,
           adjacent_mask: jax.Array | None) -> None:
    if current.ndim != 3:
        raise ValueError(f"current must be [H, W, C]. Got shape {current.shape}.")
    if adjacent.ndim not in (3, 4):
        raise ValueError(f"adjacent must be [H', W', C] or [T, H', W', C]. Got shape {adjacent.shape}.")
    if adjacent.shape[-1] != current.shape[-1]:
        raise ValueError("current and adjacent must have the same number of channels. "
                         f"Got {current.shape[-1]} and {adjacent.shape[-1]}.")
    if 0 in current.shape or 0 in adjacent.shape:
        raise ValueError(f"Maps must not be empty. Got shapes {current.shape} and {adjacent.shape}.")
    # An even patch has no centre. True is an int in Python.
    if isinstance(patch_size, bool) or not isinstance(patch_size, int) or patch_size < 1 or not patch_size % 2:
        raise ValueError(f"patch_size must be an odd positive integer. Got {patch_size!r}.")
    if jnp.ndim(softmax_scale):
        raise ValueError(f"softmax_scale must be a single number. Got shape {jnp.shape(softmax_scale)}.")
    for name, array in (("current", current), ("adjacent", adjacent)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{name} must be floating point. Got {array.dtype}.")
    if adjacent_mask is not None:
        if adjacent_mask.dtype != bool:
            raise TypeError("adjacent_mask must be boolean, true where adjacent may be used. "
                            f"Got {adjacent_mask.dtype}.")
        if adjacent_mask.shape != adjacent.shape[:-1]:
            raise ValueError(f"adjacent_mask must have adjacent's frames and positions, {adjacent.shape[:-1]}. "
                             f"Got shape {adjacent_mask.shape}.")


def _check_payload(payload: jax.Array, adjacent: jax.Array) -> None:
    if payload.ndim != adjacent.ndim or payload.shape[:-1] != adjacent.shape[:-1] or not payload.size:
        raise ValueError(f"payload must have adjacent's frames and positions, {adjacent.shape[:-1]}, and "
                         f"channels. Got shape {payload.shape}.")
    if not jnp.issubdtype(payload.dtype, jnp.floating):
        raise TypeError(f"payload must be floating point. Got {payload.dtype}.")
