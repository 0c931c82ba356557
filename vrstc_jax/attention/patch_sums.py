"""Sums over the positions that a patch covers; zeros surround every map.

"Pairs" is a matrix [P, Q] with a number for each of P positions of the current frame, all of them or those of some
rows, and each of the Q positions of the adjacent frames.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vrstc_jax.attention.xla_cpu import unfused

# Patches shorter than this count as zero: they are similar to nothing (cosine 0), and no gradient of a
# square root at zero arises. Squared norms of real feature patches are larger by many orders of magnitude.
SMALLEST_SQUARED_NORM = 1e-12


def joint_sums(pairs: jax.Array, width: int, adjacent_shape: Sequence[int], size: int, *,
               margin: int = 0) -> jax.Array:
    """Σ_δ pairs[p+δ, q+δ] over the size×size shifts δ. Without margins the sum is its own transpose.

    Args:
      pairs: [P, Q], P = rows · width and Q = T · H' · W'.
      width: of the current frame.
      adjacent_shape: (T, H', W').
      margin: rows of the current frame at each end that are summed over and have no sum in the result.

    Returns:
      [P − 2 · margin · width, Q].
    """
    frames, adjacent_height, adjacent_width = adjacent_shape
    shape = pairs.shape[0] - 2 * margin * width, pairs.shape[1]
    column = jax.lax.broadcasted_iota(jnp.int32, shape, 0) % width
    position = jax.lax.broadcasted_iota(jnp.int32, shape, 1)
    adjacent_row, adjacent_column = position // adjacent_width % adjacent_height, position % adjacent_width

    total = jnp.zeros((), pairs.dtype)
    for right in _offsets(size):
        in_column = jnp.zeros((), pairs.dtype)
        for down in _offsets(size):
            # Shifting both positions alike moves along a diagonal of the matrix. Beyond a map's first or last row
            # the window is zero already. Beyond the end of a row of positions, and beyond a frame, it holds pairs
            # of other rows and frames, which are masked.
            start = (margin + down) * width + right, down * adjacent_width + right
            moved = _window(pairs, start, shape)
            if frames != 1 and down:
                moved = jnp.where(_inside(adjacent_row, down, adjacent_height), moved, 0)
            in_column += moved
        if right:
            both = _inside(column, right, width) & _inside(adjacent_column, right, adjacent_width)
            in_column = jnp.where(both, in_column, 0)
        total += in_column
    return unfused(total)


def inverse_norms(maps: jax.Array, size: int) -> jax.Array:
    """1 / ‖patch‖ around each position of [T, H, W, C]: [T, H, W]; 0 where the patch counts as zero."""
    squared = jnp.sum(maps * maps, axis=-1)
    for axis in (1, 2):
        moved = (jax.lax.pad(squared, jnp.zeros((), squared.dtype),
                             [(-offset, offset, 0) if a == axis else (0, 0, 0) for a in range(3)])
                 for offset in _offsets(size))
        squared = jnp.asarray(sum(moved))
    # The root is the last operation, so that XLA for CPU does not recompute it for each pair.
    return jax.lax.rsqrt(jnp.where(squared > SMALLEST_SQUARED_NORM, squared, jnp.inf))


def patch_counts(height: int, width: int, size: int) -> jax.Array:
    """How many patches cover each position: float32 [height, width]."""
    def along(length: int) -> jax.Array:
        at = jnp.arange(length)
        return jnp.minimum(at + size // 2, length - 1) - jnp.maximum(at - size // 2, 0) + 1

    return (along(height)[:, None] * along(width)[None]).astype(jnp.float32)


def _window(x: jax.Array, start: Sequence[int], shape: Sequence[int]) -> jax.Array:
    """A window of x at `start`, zero outside of x."""
    # `lax.pad` crops by negative amounts, so this is one operation, which XLA fuses into the sum.
    config = [(-s, s + n - total, 0) for s, n, total in zip(start, shape, x.shape)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), config)


def _inside(at: jax.Array, offset: int, length: int) -> jax.Array:
    return at < length - offset if offset > 0 else at >= -offset


def _offsets(size: int) -> range:
    return range(-(size // 2), size // 2 + 1)
