"""Temporal attention as a Flax Linen layer."""

from typing import Any

import flax.linen as nn
import jax

from vrstc_jax.attention.op import temporal_attention


class TemporalAttention(nn.Module):
    """`temporal_attention` over a batch. It has parameters only with projections.

    Called with current [B, H, W, C] and adjacent [B, H', W', C] or [B, T, H', W', C], it returns [B, H, W, C]; without
    the batch axis on both, it is the op. `payload` and `adjacent_mask` have a batch axis if `adjacent` has one.

    Attributes:
      patch_size, softmax_scale, block_size, precision: as of `temporal_attention`.
      compared_features: channels of 1×1 projections of `current` and of `adjacent`, which are then compared; None: no
        projections.
      carried_features: channels of a 1×1 projection of `adjacent`, or of `payload`, which is then carried over; None:
        no projection.
    """

    patch_size: int = 3
    softmax_scale: float = 10.0
    block_size: int | None = None
    precision: str | jax.lax.Precision | None = None
    compared_features: int | None = None
    carried_features: int | None = None

    @nn.compact
    def __call__(self, current: jax.Array, adjacent: jax.Array, *, adjacent_mask: jax.Array | None = None,
                 payload: jax.Array | None = None) -> jax.Array:
        if self.carried_features:
            carried = adjacent if payload is None else payload
            payload = nn.Dense(self.carried_features, name="carried")(carried)
        if self.compared_features:
            # Without a payload, the unprojected features are still what is carried over.
            payload = adjacent if payload is None else payload
            current = nn.Dense(self.compared_features, name="current")(current)
            adjacent = nn.Dense(self.compared_features, name="adjacent")(adjacent)
        return over_batch(self, current, adjacent, adjacent_mask, payload)


def over_batch(layer: Any, current: jax.Array, adjacent: jax.Array, adjacent_mask: jax.Array | None,
               payload: jax.Array | None) -> jax.Array:
    """The op with the options of a layer (Linen or NNX), mapped over the batch axis if arrays have one.

    Raises:
      ValueError: `current` and `adjacent` are not of one batch.
    """
    def op(current: jax.Array, adjacent: jax.Array, adjacent_mask: jax.Array | None,
           payload: jax.Array | None) -> jax.Array:
        return temporal_attention(current, adjacent, patch_size=layer.patch_size,
                                  softmax_scale=layer.softmax_scale, adjacent_mask=adjacent_mask,
                                  block_size=layer.block_size, precision=layer.precision, payload=payload)

    if current.ndim == 4 and (adjacent.ndim not in (4, 5) or adjacent.shape[0] != current.shape[0]):
        raise ValueError("current must be [H, W, C] or [B, H, W, C], with adjacent of the same batch. "
                         f"Got shapes {current.shape} and {adjacent.shape}.")
    if current.ndim not in (3, 4):
        raise ValueError(f"current must be [H, W, C] or [B, H, W, C]. Got shape {current.shape}.")
    return (op if current.ndim == 3 else jax.vmap(op))(current, adjacent, adjacent_mask, payload)
