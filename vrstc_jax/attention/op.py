"""Temporal attention between frames (VRSTC section 3.3, equations 1 to 3).

`temporal_attention` rebuilds a feature map from the patches of other frames' feature maps. Each k×k patch of
`current` is compared with each k×k patch of `adjacent` by cosine similarity; a softmax over all of `adjacent` turns
similarities into weights; and the weighted sums of patches are written to the positions of `current`'s patches, where
overlapping values are averaged. Maps are padded with zeros.

Arrays are one example's, [H, W, C]; batching is `jax.vmap`, compiling is `jax.jit`, at the caller's edge.

No patch is ever extracted. With pixels f of `current` and r of `adjacent`, and shifts δ over the k×k window,

    <patch p of f, patch q of r> = Σ_δ <f[p+δ], r[q+δ]>          = Σ_δ G[p+δ, q+δ],   G = f rᵀ
    out[p] = 1/n(p) Σ_δ Σ_q A[p−δ, q−δ] r[q]                     = 1/n(p) (B r)[p],   B[p, q] = Σ_δ A[p−δ, q−δ]

where n(p) is the number of patches that cover p. So both steps are a matrix product over C channels, not k²C, and a
box sum over shifts of p and q together. The box is symmetric, so both sums are the same function, and it separates
into rows and columns. The result is exactly that of the patches, up to rounding.
"""

import math

import jax
import jax.numpy as jnp
from jax.errors import InconclusiveDimensionOperation

from vrstc_jax.attention import all_pairs, row_blocks
from vrstc_jax.attention.patch_sums import inverse_norms, patch_counts
from vrstc_jax.attention.weights import Maps, Precision, softmax, sum_type

# With block_size=None, in bytes: up to this size all pairs are held at once, and else blocks have at most this size.
_LARGEST_AT_ONCE = 64 << 20
_BLOCK = 4 << 20


def temporal_attention(current: jax.Array, adjacent: jax.Array, *, patch_size: int = 3,
                       softmax_scale: float | jax.Array = 10.0, adjacent_mask: jax.Array | None = None,
                       block_size: int | None = None, precision: Precision = None,
                       payload: jax.Array | None = None) -> jax.Array:
    """Rebuilds `current` from patches of `adjacent` (equations 1 to 3).

    Features of any scale are compared. Patches of a norm below 1e-6 count as zero, and in float32 norms must be below
    1e12, since their squares and cubes are computed.

    Args:
      current: [H, W, C] features of the frame to complete: float32, bfloat16, float16 or float64. Sums and
        the softmax are in float32 at least.
      adjacent: [H', W', C] features of another frame, or [T, H', W', C] of several, all of them under one
        softmax.
      patch_size: side of the compared patches, odd.
      softmax_scale: multiplies the cosine similarity before the softmax; a number or a scalar array, which
        may be trained. The paper prints none, which is 1.0: cosines lie in [−1, 1], and over hundreds of
        positions their softmax is almost a plain average. Gradients lose digits at very small scales (a relative error
        of about 1e-7 / softmax_scale); at 0, the scale's own gradient is taken as 0.
      adjacent_mask: bool [H', W'] or [T, H', W'], true where `adjacent` may be used. Elsewhere its features
        count as zero in patches, and no patch centred there is attended to. Where nothing may be used, the
        result is zeros.
      block_size: rows of `current` computed at a time. Memory then grows with block_size · W · T · H' · W',
        not with H · W · T · H' · W'; the result is the same up to rounding. None: all rows where their pairs
        take at most 64 MiB, else as many as take 4 MiB. It must be given where sizes of maps are symbolic
        (`jax.export`).
      precision: of the matrix products, as `jax.lax.dot_general` takes it.
      payload: [H', W', D] or [T, H', W', D], carried over in place of `adjacent` itself, such as the pixels
        behind each position; the weights are the same.

    Returns:
      [H, W, C] (with `payload`, [H, W, D]), in `current`'s type. Gradients flow to `current`, `adjacent`,
      `payload` and `softmax_scale`, by reverse mode only (`jax.grad`, `jax.vjp`).

    Raises:
      ValueError, TypeError: a shape, a type, a patch or block size cannot be used; the message says what was got.
    """
    _check(current, adjacent, patch_size, softmax_scale, adjacent_mask)
    if payload is not None:
        _check_payload(payload, adjacent)
    rows = _rows_of_a_block(current, adjacent, block_size)
    maps = _maps(current, adjacent, patch_size, softmax_scale, adjacent_mask, payload)
    if rows is None:
        out: jax.Array = all_pairs.attend(patch_size, precision, maps)
    else:
        out = row_blocks.attend(rows, patch_size, precision, maps)
    counts = patch_counts(current.shape[0], current.shape[1], patch_size)[..., None]
    return (out / counts.astype(out.dtype)).astype(current.dtype)


def attention_weights(current: jax.Array, adjacent: jax.Array, *, patch_size: int = 3,
                      softmax_scale: float | jax.Array = 10.0, adjacent_mask: jax.Array | None = None,
                      precision: Precision = None) -> jax.Array:
    """Where each patch of `current` looks: the softmax of equation 2.

    Arguments and errors are `temporal_attention`'s.

    Returns:
      float32 (float64 of float64) [H, W, H', W'] or [H, W, T, H', W']; the weights of each position of
      `current` sum to 1, or are all 0 where `adjacent_mask` allows nothing.
    """
    _check(current, adjacent, patch_size, softmax_scale, adjacent_mask)
    maps = _maps(current, adjacent, patch_size, softmax_scale, adjacent_mask, None)
    similarity = all_pairs.similarities(patch_size, precision, maps)
    *_, factor, adjacent_factor, allowed = maps.flat()
    weights, _ = softmax(similarity, factor, adjacent_factor, allowed)
    return weights.reshape(*current.shape[:2], *adjacent.shape[:-1])


def _maps(current: jax.Array, adjacent: jax.Array, patch_size: int, softmax_scale: float | jax.Array,
          adjacent_mask: jax.Array | None, payload: jax.Array | None) -> Maps:
    # NumPy's float64 is float32 here, unless 64 bits are enabled.
    current, adjacent = jnp.asarray(current), jnp.asarray(adjacent)
    dtype = jnp.promote_types(current.dtype, adjacent.dtype)
    total = sum_type(dtype)
    f, r = current.astype(dtype), _frames(adjacent, 4).astype(dtype)
    v = r if payload is None else _frames(payload, 4).astype(dtype)
    allowed = None
    if adjacent_mask is not None:
        allowed = _frames(adjacent_mask, 3)
        r, v = (jnp.where(allowed[..., None], x, 0) for x in (r, v))
    # The scale joins the inverse norms, so that it costs no pass over the pairs.
    factor = jnp.asarray(softmax_scale, total) * inverse_norms(f[None].astype(total), patch_size)[0]
    adjacent_factor = inverse_norms(r.astype(total), patch_size)
    return Maps(f, r, v, factor, adjacent_factor, allowed).varying_alike()


def _rows_of_a_block(current: jax.Array, adjacent: jax.Array, block_size: int | None) -> int | None:
    """Rows of `current` computed at a time; None: all."""
    height, width = current.shape[:2]
    if block_size is not None:
        if isinstance(block_size, bool) or not isinstance(block_size, int) or block_size < 1:
            raise ValueError(f"block_size must be a positive number of rows, or None. Got {block_size!r}.")
        try:
            return block_size if block_size < height else None
        except InconclusiveDimensionOperation:  # a symbolic height; blocks are right for each
            return block_size
    row = 4 * width * math.prod(adjacent.shape[:-1])
    try:
        return None if height * row <= _LARGEST_AT_ONCE else max(1, _BLOCK // row)
    except InconclusiveDimensionOperation as error:
        raise ValueError("block_size must be given where the maps' size is symbolic. "
                         f"Got shapes {current.shape} and {adjacent.shape}.") from error


def _frames(array: jax.Array, ndim: int) -> jax.Array:
    """The array with an axis for frames, which one frame may lack."""
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
