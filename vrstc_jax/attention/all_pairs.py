"""The op on all pairs of positions at once, [H·W, T·H'·W'], forward and backward.

The backward pass is written by hand: it needs one such matrix from the forward pass, and autodiff would keep one for
each step.
"""

from functools import partial
from typing import Any

import jax

from vrstc_jax.attention.patch_sums import joint_sums
from vrstc_jax.attention.weights import Maps, Precision, product, softmax, softmax_gradients


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def attend(size: int, precision: Precision, maps: Maps) -> jax.Array:
    """The weighted sum of the carried patches that cover each position: [H, W, D], in float32 at least."""
    return _forward(size, precision, maps)[0]


def similarities(size: int, precision: Precision, maps: Maps) -> jax.Array:
    """The inner product of each pair of patches: [H·W, T·H'·W']."""
    f, r, *_ = maps.flat()
    return _joint(product("pc,qc->pq", f, r, precision), maps, size)


def _forward(size: int, precision: Precision, maps: Maps) -> tuple[jax.Array, Any]:
    similarity = similarities(size, precision, maps)
    *_, carried, factor, adjacent_factor, allowed = maps.flat()
    weights, log_total = softmax(similarity, factor, adjacent_factor, allowed)
    out = product("pq,qd->pd", _joint(weights, maps, size), carried, precision)
    return out.reshape(*maps.current.shape[:2], -1), (maps, weights, log_total)


def _backward(size: int, precision: Precision, saved: Any, d_out: jax.Array) -> tuple[Maps]:
    # Names as in the op's docstring: f current, r adjacent, v carried; d_x is the gradient by x.
    maps, weights, log_total = saved
    f, r, v, factor, adjacent_factor, _ = maps.flat()
    d_out = d_out.reshape(-1, v.shape[-1])
    d_v = product("pq,pd->qd", _joint(weights, maps, size), d_out.astype(v.dtype), precision)
    d_weights = _joint(product("pd,qd->pq", d_out, v, precision), maps, size)
    d_similarity, d_factor, d_adjacent_factor = softmax_gradients(weights, log_total, d_weights, factor,
                                                                  adjacent_factor)
    d_pairs = _joint(d_similarity, maps, size)
    d_f = product("pq,qc->pc", d_pairs, r, precision)
    d_r = product("pq,pc->qc", d_pairs, f, precision)
    return maps.like(d_f, d_r, d_v, d_factor, d_adjacent_factor),


attend.defvjp(_forward, _backward)


def _joint(pairs: jax.Array, maps: Maps, size: int) -> jax.Array:
    return joint_sums(pairs, maps.current.shape[1], maps.adjacent_factor.shape, size)
