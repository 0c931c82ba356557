"""The op over blocks of the current frame's rows, so that the pairs of positions are never held whole.

Row after row streams through the steps of `whole`. A step that sums over a patch's rows needs `size // 2`
rows on either side, so its result comes `size // 2` rows later than what it is made from, and each block
takes over the `size − 1` last rows of the one before; nothing is computed twice. The backward pass makes the
pairs again.
"""

from functools import partial

import jax
import jax.numpy as jnp

from vrstc_jax.attention import sums
from vrstc_jax.attention.weights import Maps, product, softmax, softmax_again, through_softmax


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def attend(rows: int, size: int, precision, maps: Maps):
    """`whole.attend`, `rows` rows of the current frame at a time."""
    return _forward(rows, size, precision, maps)[0]


def _forward(rows, size, precision, maps):
    stream = _Stream(maps, rows, size)
    _, r, v, _, there, usable = maps.flat()

    def block(tails, given):
        pairs_tail, weights_tail = tails
        f, here, real = given
        pairs, pairs_tail = stream.join(pairs_tail, product("pc,qc->pq", f, r, precision))
        weights, log_total = softmax(stream.joint(pairs), here, there, usable)
        weights, weights_tail = stream.join(weights_tail, jnp.where(real[:, None], weights, 0))
        out = product("pq,qd->pd", stream.joint(weights), v, precision)
        return (pairs_tail, weights_tail), (out, log_total)

    given = stream.blocks(maps.current), stream.blocks(maps.here, late=1), stream.real(late=1)
    _, (out, log_total) = jax.lax.scan(block, (stream.no_tail(),) * 2, given)
    return stream.whole(out, late=2), (maps, stream.whole(log_total, late=1))


def _backward(rows, size, precision, saved, d_out):
    maps, log_total = saved
    stream = _Stream(maps, rows, size)
    _, r, v, _, there, usable = maps.flat()

    def block(carry, given):
        (pairs_tail, d_sums_tail, weights_tail, d_similarity_tail), (d_r, d_v, d_there) = carry
        f, d_out, here, log_total, real, f_late, d_out_late = given
        pairs, pairs_tail = stream.join(pairs_tail, product("pc,qc->pq", f, r, precision))
        d_sums, d_sums_tail = stream.join(d_sums_tail, product("pd,qd->pq", d_out, v, precision))
        weights = jnp.where(real[:, None], softmax_again(stream.joint(pairs), here, there, usable, log_total), 0)
        d_similarity, d_here, d_there_here = through_softmax(weights, log_total, stream.joint(d_sums), here,
                                                             there)
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
    """Cuts the current frame's rows into blocks, some steps late, and puts them together again."""

    def __init__(self, maps, rows, size):
        self.height, self.width = maps.current.shape[:2]
        self.there = maps.there
        self.rows, self.size, self.half = rows, size, size // 2
        # The last row's result is two steps late.
        self.count = -(-(self.height + 2 * self.half) // rows)

    def blocks(self, x, *, late=0):
        """[H, W, …] to [blocks, rows · W, …], zeros where there is no row."""
        before = late * self.half
        after = self.count * self.rows - before - self.height
        x = jnp.pad(x, [(before, after)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(self.count, self.rows * self.width, *x.shape[2:])

    def real(self, *, late):
        """Which positions of each block are positions of the map: bool [blocks, rows · W]."""
        return self.blocks(jnp.ones((self.height, self.width), bool), late=late)

    def whole(self, blocks, *, late):
        """The inverse of `blocks`."""
        x = blocks.reshape(-1, self.width, *blocks.shape[2:])
        return jax.lax.slice_in_dim(x, late * self.half, late * self.half + self.height)

    def joint(self, pairs):
        """`sums.joint` of a block and the rows before it."""
        return sums.joint(pairs, self.width, self.there.shape, self.size, margin=self.half)

    def join(self, tail, block):
        """(the rows before and a block's own, the tail for the next block)."""
        both = jnp.concatenate([tail, block])
        return both, jax.lax.slice_in_dim(both, self.rows * self.width, both.shape[0])

    def no_tail(self):
        # Like a map, it varies over a mesh that `shard_map` splits.
        return jnp.zeros_like(self.there, shape=(2 * self.half * self.width, self.there.size))
