"""The op with the whole matrix of pairs of positions, [H·W, T·H'·W'], and its backward pass.

The backward pass is by hand: it stores one such matrix, where autodiff would store one for each step.
"""

from functools import partial

import jax

from vrstc_jax.attention import sums
from vrstc_jax.attention.weights import Maps, product, softmax, through_softmax

_Saved = tuple[Maps, jax.Array, jax.Array]  # for the backward pass: maps, weights [P, Q], log of each row's total [P]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def attend(size: int, precision: jax.lax.PrecisionLike, maps: Maps) -> jax.Array:
    """The weighted sum of the carried patches that cover each position: [H, W, D], in float32 at least."""
    return _forward(size, precision, maps)[0]


def similarities(size: int, precision: jax.lax.PrecisionLike, maps: Maps) -> jax.Array:
    """Inner products of patches, [H·W, T·H'·W']."""
    f, r, *_ = maps.flat()
    return _joint(product("pc,qc->pq", f, r, precision), maps, size)


def _forward(size: int, precision: jax.lax.PrecisionLike, maps: Maps) -> tuple[jax.Array, _Saved]:
    similarity = similarities(size, precision, maps)
    *_, carried, here, there, usable = maps.flat()
    weights, log_total = softmax(similarity, here, there, usable)
    out = product("pq,qd->pd", _joint(weights, maps, size), carried, precision)
    return out.reshape(*maps.current.shape[:2], -1), (maps, weights, log_total)


def _backward(size: int, precision: jax.lax.PrecisionLike, saved: _Saved, d_out: jax.Array) -> tuple[Maps]:
    # d_x is the gradient of x. `_joint` is its own transpose, so it serves both directions.
    maps, weights, log_total = saved
    f, r, v, here, there, _ = maps.flat()
    d_out = d_out.reshape(-1, v.shape[-1])
    d_v = product("pq,pd->qd", _joint(weights, maps, size), d_out.astype(v.dtype), precision)
    d_weights = _joint(product("pd,qd->pq", d_out, v, precision), maps, size)
    d_similarity, d_here, d_there = through_softmax(weights, log_total, d_weights, here, there)
    d_pairs = _joint(d_similarity, maps, size)
    d_f = product("pq,qc->pc", d_pairs, r, precision)
    d_r = product("pq,pc->qc", d_pairs, f, precision)
    return maps.like(d_f, d_r, d_v, d_here, d_there),


attend.defvjp(_forward, _backward)


def _joint(pairs: jax.Array, maps: Maps, size: int) -> jax.Array:
    return sums.joint(pairs, maps.current.shape[1], maps.there.shape, size)

