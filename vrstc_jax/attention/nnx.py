"""Temporal attention as a Flax NNX module."""

from typing import Any

import jax
from flax import nnx

from vrstc_jax.attention.layers import over_batch


class TemporalAttention(nnx.Module):
    """The Linen layer of the same name as an NNX module; its call and options are the same.

    Args:
      features: channels of `current` and `adjacent`; needed only with projections.
      payload_features: channels of `payload`, if it is projected; None: `adjacent` is projected.
      rngs: for the projections' parameters.

    Raises:
      ValueError: projections without `features` or `rngs`.
    """

    def __init__(self, features: int | None = None, *, patch_size: int = 3, softmax_scale: float = 10.0,
                 block_size: int | None = None, precision: jax.lax.PrecisionLike = None,
                 compared_features: int | None = None, carried_features: int | None = None,
                 payload_features: int | None = None, rngs: nnx.Rngs | None = None):
        if (compared_features or carried_features) and (features is None or rngs is None):
            raise ValueError("Projections need the number of channels and random keys: "
                             f"features and rngs. Got features={features}, rngs={rngs}.")
        self.patch_size, self.softmax_scale = patch_size, softmax_scale
        self.block_size, self.precision = block_size, precision

        # NNX makes parameters here, not at the first call, so it has to know the number of channels.
        def projection(inputs: Any, outputs: int | None) -> Any:
            return nnx.Linear(inputs, outputs, rngs=rngs) if outputs and rngs else None

        self.current = projection(features, compared_features)
        self.adjacent = projection(features, compared_features)
        self.carried = projection(payload_features or features, carried_features)

    def __call__(self, current: jax.Array, adjacent: jax.Array, *, adjacent_mask: jax.Array | None = None,
                 payload: jax.Array | None = None) -> jax.Array:
        if self.carried is not None:
            payload = self.carried(adjacent if payload is None else payload)
        if self.current is not None:
            payload = adjacent if payload is None else payload
            current, adjacent = self.current(current), self.adjacent(adjacent)
        return over_batch(self, current, adjacent, adjacent_mask, payload)
