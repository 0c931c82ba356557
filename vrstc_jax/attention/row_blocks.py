"""The op over blocks of the current frame's rows, so that not all pairs of positions are in memory at once.

The rows stream through the steps of `all_pairs`. A step that sums over a patch's rows needs `size // 2` rows on
either side, so its result is `size // 2` rows late: a block's sums are of rows that lie before the block's own by so
much, and each block takes over the `size − 1` last rows of the one before, so that nothing is computed twice. Only
the backward pass computes the pairs again.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from vrstc_jax.attention.patch_sums import joint_sums
from vrstc_jax.attention.weights import Maps, Precision, product, softmax, softmax_again, softmax_gradients


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def attend(rows: int, size: int, precision: Precision, maps: Maps) -> jax.Array:
    """`all_pairs.attend`, `rows` rows of the current frame at a time."""
    return _forward(rows, size, precision, maps)[0]


def _forward(rows: int, size: int, precision: Precision, maps: Maps) -> tuple[jax.Array, Any]:
    stream = _Stream(maps, rows, size)
    _, r, v, _, adjacent_factor, allowed = maps.flat()

    def block(tails, given):
        pairs_tail, weights_tail = tails
        f, factor, real = given
        pairs, pairs_tail = stream.join(pairs_tail, product("pc,qc->pq", f, r, precision))
        weights, log_total = softmax(stream.joint(pairs), factor, adjacent_factor, allowed)
        weights, weights_tail = stream.join(weights_tail, jnp.where(real[:, None], weights, 0))
        out = product("pq,qd->pd", stream.joint(weights), v, precision)
        return (pairs_tail, weights_tail), (out, log_total)

    given = stream.blocks(maps.current), stream.blocks(maps.factor, late=1), stream.real(late=1)
    _, (out, log_total) = jax.lax.scan(block, (stream.no_tail(),) * 2, given)
    return stream.rejoined(out, late=2), (maps, stream.rejoined(log_total, late=1))


def _backward(rows: int, size: int, precision: Precision, saved: Any, d_out: jax.Array) -> tuple[Maps]:
    maps, log_total = saved
    stream = _Stream(maps, rows, size)
    _, r, v, _, adjacent_factor, allowed = maps.flat()

    def block(carry, given):
        (pairs_tail, d_sums_tail, weights_tail, d_similarity_tail), (d_r, d_v, d_adjacent_factor) = carry
        f, d_out, factor, log_total, real, f_late, d_out_late = given
        pairs, pairs_tail = stream.join(pairs_tail, product("pc,qc->pq", f, r, precision))
        d_sums, d_sums_tail = stream.join(d_sums_tail, product("pd,qd->pq", d_out, v, precision))
        weights = jnp.where(real[:, None], softmax_again(
            stream.joint(pairs), factor, adjacent_factor, allowed, log_total), 0)
        d_similarity, d_factor, d_adjacent_factor_here = softmax_gradients(
            weights, log_total, stream.joint(d_sums), factor, adjacent_factor)
        weights, weights_tail = stream.join(weights_tail, weights)
        d_v += product("pq,pd->qd", stream.joint(weights), d_out_late.astype(v.dtype), precision)
        d_similarity, d_similarity_tail = stream.join(d_similarity_tail, d_similarity)
        d_pairs = stream.joint(d_similarity)
        d_f = product("pq,qc->pc", d_pairs, r, precision)
        d_r += product("pq,pc->qc", d_pairs, f_late, precision)
        tails = pairs_tail, d_sums_tail, weights_tail, d_similarity_tail
        return (tails, (d_r, d_v, d_adjacent_factor + d_adjacent_factor_here)), (d_f, d_factor)

    given = (stream.blocks(maps.current), stream.blocks(d_out), stream.blocks(maps.factor, late=1),
             stream.blocks(log_total, late=1), stream.real(late=1), stream.blocks(maps.current, late=2),
             stream.blocks(d_out, late=2))
    totals = tuple(jnp.zeros_like(adjacent_factor, shape=x.shape) for x in (r, v, adjacent_factor))
    (_, (d_r, d_v, d_adjacent_factor)), (d_f, d_factor) = jax.lax.scan(
        block, ((stream.no_tail(),) * 4, totals), given)
    return maps.like(stream.rejoined(d_f, late=2), d_r, d_v, stream.rejoined(d_factor, late=1), d_adjacent_factor),


attend.defvjp(_forward, _backward)


class _Stream:
    """Cuts the current frame's rows into blocks, some sums late, and joins them again."""

    def __init__(self, maps: Maps, rows: int, size: int):
        self.height, self.width = maps.current.shape[:2]
        self.adjacent_factor = maps.adjacent_factor
        self.rows, self.size, self.half = rows, size, size // 2
        # The result of the last row is two sums late, so as many more rows are streamed.
        self.count = -(-(self.height + 2 * self.half) // rows)

    def blocks(self, x: jax.Array, *, late: int = 0) -> jax.Array:
        """[H, W, …] to [blocks, rows · W, …], zeros where there is no row; `late` counts sums."""
        before = late * self.half
        after = self.count * self.rows - before - self.height
        x = jnp.pad(x, [(before, after)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(self.count, self.rows * self.width, *x.shape[2:])

    def real(self, *, late: int) -> jax.Array:
        """Which positions of each block are positions of the map: bool [blocks, rows · W]."""
        return self.blocks(jnp.ones((self.height, self.width), bool), late=late)

    def rejoined(self, blocks: jax.Array, *, late: int) -> jax.Array:
        """The inverse of `blocks`."""
        x = blocks.reshape(-1, self.width, *blocks.shape[2:])
        return jax.lax.slice_in_dim(x, late * self.half, late * self.half + self.height)

    def joint(self, pairs: jax.Array) -> jax.Array:
        """`joint_sums` of a block and the rows before it."""
        return joint_sums(pairs, self.width, self.adjacent_factor.shape, self.size, margin=self.half)

    def join(self, tail: jax.Array, block: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A block's rows after those before it, and the tail for the next block."""
        both = jnp.concatenate([tail, block])
        return both, jax.lax.slice_in_dim(both, self.rows * self.width, both.shape[0])

    def no_tail(self) -> jax.Array:
        """The tail before the first block: zeros."""
        # `zeros_like`, so that it varies over the mesh axes that the maps vary over under `shard_map`.
        factor = self.adjacent_factor
        return jnp.zeros_like(factor, shape=(2 * self.half * self.width, factor.size))
