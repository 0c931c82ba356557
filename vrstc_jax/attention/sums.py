"""Sums over the positions that a patch covers; zeros surround every map.

"Pairs" is a matrix [P, Q] with a number for each pair of positions: one of the current frame, or of some of its rows,
and one of the adjacent frames.
"""

import jax
import jax.numpy as jnp

from vrstc_jax.attention.cpu import apart

# Patches with a smaller squared norm count as zero: their cosine with everything is 0, and the gradient of a square
# root at zero does not arise. Squared norms of real feature patches are larger by many orders of magnitude.
SMALLEST_SQUARED_NORM = 1e-12


def joint(pairs: jax.Array, width: int, there: tuple[int, ...], size: int, *, margin: int = 0) -> jax.Array:
    """Σ_δ pairs[p+δ, q+δ] over the size×size shifts δ. Without margins it is its own transpose.

    Args:
      pairs: [P, Q], P = rows · width and Q = T · H' · W'.
      width: of the current frame.
      there: (T, H', W'), the adjacent frames' shape.
      margin: rows of the current frame at each end of `pairs` that are read but not in the result.

    Returns:
      [P − 2 · margin · width, Q].
    """
    frames, height_there, width_there = there
    shape = pairs.shape[0] - 2 * margin * width, pairs.shape[1]
    column = jax.lax.broadcasted_iota(jnp.int32, shape, 0) % width
    at_there = jax.lax.broadcasted_iota(jnp.int32, shape, 1)
    row_there, column_there = at_there // width_there % height_there, at_there % width_there

    total = jnp.zeros((), pairs.dtype)
    for right in _offsets(size):
        in_column = jnp.zeros((), pairs.dtype)
        for down in _offsets(size):
            # A joint shift of p and q is a diagonal shift of the matrix. Beyond a map's first or last row the window is
            # 0; beyond a row's end or a frame's last row it holds the next row or frame, which is masked.
            start = (margin + down) * width + right, down * width_there + right
            moved = _window(pairs, start, shape)
            if frames > 1 and down:
                moved = jnp.where(_inside(row_there, down, height_there), moved, 0)
            in_column += moved
        if right:
            both = _inside(column, right, width) & _inside(column_there, right, width_there)
            in_column = jnp.where(both, in_column, 0)
        total += in_column
    return apart(total)


def inverse_norms(maps: jax.Array, size: int) -> jax.Array:
    """1 / ‖patch‖ around each position of [T, H, W, C]: [T, H, W]; 0 where the patch counts as zero."""
    squared = jnp.sum(maps * maps, axis=-1)
    # Along rows, then along columns: 2k terms instead of k².
    for axis in (1, 2):
        moved = (jax.lax.pad(squared, jnp.zeros((), squared.dtype),
                             [(-offset, offset, 0) if a == axis else (0, 0, 0) for a in range(3)])
                 for offset in _offsets(size))
        squared = jnp.asarray(sum(moved))
    # Nothing follows the root, so that XLA for CPU computes it once, not again for each pair.
    return jax.lax.rsqrt(jnp.where(squared > SMALLEST_SQUARED_NORM, squared, jnp.inf))


def cover(height: int, width: int, size: int) -> jax.Array:
    """The number of patches that cover each position: float32 [height, width]."""
    def along(length: int) -> jax.Array:
        # Near an edge, fewer patches have their centre on the map.
        at = jnp.arange(length)
        return jnp.minimum(at + size // 2, length - 1) - jnp.maximum(at - size // 2, 0) + 1

    return (along(height)[:, None] * along(width)).astype(jnp.float32)


def _window(x: jax.Array, start: tuple[int, int], shape: tuple[int, int]) -> jax.Array:
    """The part of x from `start` on, with zeros outside of x."""
    # lax.pad takes negative amounts, so this is one operation that XLA fuses into the sum.
    config = [(-s, s + n - total, 0) for s, n, total in zip(start, shape, x.shape)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), config)


def _inside(at: jax.Array, offset: int, length: int) -> jax.Array:
    return at < length - offset if offset > 0 else at >= -offset


def _offsets(size: int) -> range:
    return range(-(size // 2), size // 2 + 1)
