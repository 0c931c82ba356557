"""Temporal attention between frames: the op, its weights for pictures, and the Flax Linen layer.

The NNX layer is `vrstc_jax.attention.nnx.TemporalAttention`; only importing that imports `flax.nnx`.
"""

from vrstc_jax.attention.layers import TemporalAttention
from vrstc_jax.attention.op import attention_weights, temporal_attention

__all__ = ["TemporalAttention", "attention_weights", "temporal_attention"]
