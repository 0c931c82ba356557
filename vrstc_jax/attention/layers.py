"""Temporal attention as a Flax Linen layer."""

from typing import Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from vrstc_jax.attention.op import temporal_attention
from vrstc_jax.attention.weights import Precision


class TemporalAttention(nn.Module):
    """`temporal_attention` over a batch. It has no parameters unless it projects.

    Called with current [B, H, W, C] and adjacent [B, H', W', C] or [B, T, H', W', C], it returns [B, H, W, D], with
    the channels of what is carried over; without the batch axis on both, it is the op itself. `payload` and
    `adjacent_mask`, where given, have the batch axis that `adjacent` has.

    Attributes:
      patch_size, softmax_scale, block_size, precision: as of `temporal_attention`.
      compared_features: channels of 1×1 projections of `current` and `adjacent`, which are compared instead of
        the maps themselves; None: no projection.
      carried_features: channels of a 1×1 projection of what is carried over, `adjacent` or `payload`; None: no
        projection.
    """

    patch_size: int = 3
    softmax_scale: float = 10.0
    block_size: int | None = None
    precision: Precision = None
    compared_features: int | None = None
    carried_features: int | None = None

    @nn.compact
    def __call__(self, current: jax.Array, adjacent: jax.Array, *, adjacent_mask: jax.Array | None = None,
                 payload: jax.Array | None = None) -> jax.Array:
        if self.carried_features:
            carried = adjacent if payload is None else payload
            payload = nn.Dense(self.carried_features, name="carried")(carried)
        if self.compared_features:
            payload = adjacent if payload is None else payload
            current = nn.Dense(self.compared_features, name="current")(current)
            adjacent = nn.Dense(self.compared_features, name="adjacent")(adjacent)
        return over_batch(self, current, adjacent, adjacent_mask, payload)


class Options(Protocol):
    """What the Linen and the NNX layer share."""

    patch_size: int
    softmax_scale: float
    block_size: int | None
    precision: Precision


def over_batch(layer: Options, current: jax.Array, adjacent: jax.Array, adjacent_mask: jax.Array | None,
               payload: jax.Array | None) -> jax.Array:
    """The op with a layer's options, over the batch axis that all arrays have, or none.

    Raises:
      ValueError: `current` and `adjacent` are not of one batch.
    """
    def op(current, adjacent, adjacent_mask, payload):
        return temporal_attention(current, adjacent, patch_size=layer.patch_size,
                                  softmax_scale=layer.softmax_scale, adjacent_mask=adjacent_mask,
                                  block_size=layer.block_size, precision=layer.precision, payload=payload)

    alike = adjacent.ndim in (4, 5) and adjacent.shape[0] == current.shape[0]
    if current.ndim != 3 and not (current.ndim == 4 and alike):
        raise ValueError("current must be [H, W, C] or [B, H, W, C], with adjacent of the same batch. "
                         f"Got shapes {current.shape} and {adjacent.shape}.")
    # Not NumPy's arrays: within `jax.jit`, a custom VJP within a vmap fails on constants that are.
    arrays = jax.tree.map(jnp.asarray, (current, adjacent, adjacent_mask, payload))
    return (op if current.ndim == 3 else jax.vmap(op))(*arrays)
