"""The op over blocks of the current frame's rows, so that memory never holds the whole matrix of pairs.

Row after row streams through the steps of `whole`. A step that sums over a patch's rows needs `size // 2` rows on
either side, so its result is `size // 2` rows later than its input, and each block keeps the last `size − 1` rows of
the block before. Nothing is computed twice in a pass; the backward pass computes the pairs again instead of storing
them.
"""

from functools import partial

import jax
import jax.numpy as jnp

from vrstc_jax.attention import sums
from vrstc_jax.attention.weights import Maps, product, softmax, softmax_again, through_softmax

_Saved = tuple[Maps, jax.Array]  # for the backward pass: maps, log of each row's total [H, W]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def attend(rows: int, size: int, precision: jax.lax.PrecisionLike, maps: Maps) -> jax.Array:
    """`whole.attend`, `rows` rows of the current frame at a time."""
    return _forward(rows, size, precision, maps)[0]


def _forward(rows: int, size: int, precision: jax.lax.PrecisionLike, maps: Maps) -> tuple[jax.Array, _Saved]:
    stream = _Stream(maps, rows, size)
    _, r, v, _, there, usable = maps.flat()

    def block(tails, given):
        pairs_tail, weights_tail = tails
        f, here, real = given
        pairs, pairs_tail = stream.join(pairs_tail, product("pc,qc->pq", f, r, precision))
        weights, log_total = softmax(stream.joint(pairs), here, there, usable)
        # Rows before the map's first and after its last have no patches, but a softmax of them has weights.
        weights, weights_tail = stream.join(weights_tail, jnp.where(real[:, None], weights, 0))
        out = product("pq,qd->pd", stream.joint(weights), v, precision)
        return (pairs_tail, weights_tail), (out, log_total)

    given = stream.blocks(maps.current), stream.blocks(maps.here, late=1), stream.real(late=1)
    _, (out, log_total) = jax.lax.scan(block, (stream.no_tail(),) * 2, given)
    return stream.whole(out, late=2), (maps, stream.whole(log_total, late=1))


def _backward(rows: int, size: int, precision: jax.lax.PrecisionLike, saved: _Saved, d_out: jax.Array) -> tuple[Maps]:
    # d_x is the gradient of x; "late" arrays are delayed by as many rows as the result that they are combined with.
    maps, log_total = saved
    stream = _Stream(maps, rows, size)
    _, r, v, _, there, usable = maps.flat()

    def block(carry, given):
        (pairs_tail, d_sums_tail, weights_tail, d_similarity_tail), (d_r, d_v, d_there) = carry
        f, d_out, here, log_total, real, f_late, d_out_late = given
        pairs, pairs_tail = stream.join(pairs_tail, product("pc,qc->pq", f, r, precision))
        d_sums, d_sums_tail = stream.join(d_sums_tail, product("pd,qd->pq", d_out, v, precision))
        weights = jnp.where(real[:, None], softmax_again(stream.joint(pairs), here, there, usable, log_total), 0)
        d_similarity, d_here, d_there_here = through_softmax(weights, log_total, stream.joint(d_sums), here, there)
        weights, weights_tail = stream.join(weights_tail, weights)
        d_v += product("pq,pd->qd", stream.joint(weights), d_out_late.astype(v.dtype), precision)
        d_similarity, d_similarity_tail = stream.join(d_similarity_tail, d_similarity)
        d_pairs = stream.joint(d_similarity)
        d_f = product("pq,qc->pc", d_pairs, r, precision)
        d_r += product("pq,pc->qc", d_pairs, f_late, precision)
        tails = pairs_tail, d_sums_tail, weights_tail, d_similarity_tail
        return (tails, (d_r, d_v, d_there + d_there_here)), (d_f, d_here)

    given = (stream.blocks(maps.current), stream.blocks(d_out), stream.blocks(maps.here, late=1),
             stream.blocks(log_total, late=1), stream.real(late=1), stream.blocks(maps.current, late=2),
             stream.blocks(d_out, late=2))
    totals = tuple(jnp.zeros_like(there, shape=x.shape) for x in (r, v, there))
    (_, (d_r, d_v, d_there)), (d_f, d_here) = jax.lax.scan(block, ((stream.no_tail(),) * 4, totals), given)
    return maps.like(stream.whole(d_f, late=2), d_r, d_v, stream.whole(d_here, late=1), d_there),


attend.defvjp(_forward, _backward)


class _Stream:
    """Cuts the current frame's rows into blocks, delayed by some steps, and joins blocks again."""

    def __init__(self, maps: Maps, rows: int, size: int):
        self.height, self.width = maps.current.shape[:2]
        self.there = maps.there
        self.rows, self.size, self.half = rows, size, size // 2
        # The last row's result is two steps of `half` rows late.
        self.count = -(-(self.height + 2 * self.half) // rows)

    def blocks(self, x: jax.Array, *, late: int = 0) -> jax.Array:
        """[H, W, …] to [blocks, rows · W, …], delayed by `late` steps; zeros where there is no row."""
        before = late * self.half
        after = self.count * self.rows - before - self.height
        x = jnp.pad(x, [(before, after)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(self.count, self.rows * self.width, *x.shape[2:])

    def real(self, *, late: int) -> jax.Array:
        """Which positions of each block are positions of the map: bool [blocks, rows · W]."""
        return self.blocks(jnp.ones((self.height, self.width), bool), late=late)

    def whole(self, blocks: jax.Array, *, late: int) -> jax.Array:
        """The inverse of `blocks`."""
        x = blocks.reshape(-1, self.width, *blocks.shape[2:])
        return jax.lax.slice_in_dim(x, late * self.half, late * self.half + self.height)

    def joint(self, pairs: jax.Array) -> jax.Array:
        """`sums.joint` of a block and the rows before it."""
        return sums.joint(pairs, self.width, self.there.shape, self.size, margin=self.half)

    def join(self, tail: jax.Array, block: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(the rows of `tail` and of the block, the tail for the next block)."""
        both = jnp.concatenate([tail, block])
        return both, jax.lax.slice_in_dim(both, self.rows * self.width, both.shape[0])

    def no_tail(self) -> jax.Array:
        """The tail before the first block: zeros."""
        # `zeros_like` a map: under `shard_map` a scan's carry must vary over the mesh as its results do.
        return jnp.zeros_like(self.there, shape=(2 * self.half * self.width, self.there.size))
