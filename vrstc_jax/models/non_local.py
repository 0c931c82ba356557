"""Non-local blocks (Wang, Girshick, Gupta, He: Non-local Neural Networks, CVPR 2018) for clips of frames."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vrstc_jax.ops.precision import promote_all_but_bias

# Up to so many positions of a clip attend to each other at once; of a longer clip, one frame's positions at a time.
_AT_ONCE = 4096
_PRESERVING = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


class NonLocal(nn.Module):
    """z = x + norm(W y): each position of a clip attends to all positions of all its frames.

    The embedded Gaussian form of section 3.2 of Wang et al., y_i = Σ_j softmax_j(θ(x_i)ᵀ φ(x_j)) g(x_j), with
    θ, φ, g of half the width (their section 3.3); no scale divides the product, as the paper prints it. The
    last batch norm's scale starts at zero, so that a fresh block returns its input bit for bit.

    Memory for the weights grows with the square of a clip's positions T·h·w up to 4096 of them. In longer clips one
    frame after another attends, and it grows with h·w · T·h·w.

    Attributes:
      norm: makes the batch norm; takes `scale_init` and `name`.
      deviation: of the normal distribution that kernels begin with; 0: 1/√(inputs) (`config.Reid`).
      dtype: what it is computed in, as of Flax's layers; the softmax is taken in float32 at least.
    """

    norm: partial
    deviation: float = 0.01
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, valid: jax.Array | None = None) -> jax.Array:
        """x [B, T, h, w, C] to the same shape.

        Args:
          valid: bool [B, T], false where a frame is padding, to which no position attends; None: all are valid.
            The result at padding has no meaning, but in training the batch norm's statistics include it.
        """
        batch, frames, height, width, channels = x.shape
        inner = max(channels // 2, 1)
        init = nn.initializers.normal(self.deviation) if self.deviation else _PRESERVING
        dense = partial(nn.Dense, kernel_init=init, dtype=self.dtype, promote_dtype=promote_all_but_bias)
        by_frame = x.reshape(batch, frames, height * width, channels)
        attended = by_frame.reshape(batch, -1, channels)
        valid_positions = None
        if valid is not None:
            valid_positions = jnp.repeat(valid, height * width, axis=1)
            # A weight of 0 does not keep out a value that is not a number.
            attended = jnp.where(valid_positions[..., None], attended, 0)
        # A bias of the keys would cancel in the softmax, and one of the values in the batch norm.
        query = dense(inner, name="query")(by_frame)
        key, value = (dense(inner, use_bias=False, name=name)(attended) for name in ("key", "value"))
        query = query.astype(key.dtype)
        if frames * height * width <= _AT_ONCE:
            y = _attended(query.reshape(batch, -1, inner), key, value, valid_positions)
        else:
            y = jax.lax.map(lambda q: _attended(q, key, value, valid_positions), jnp.moveaxis(query, 1, 0))
            y = jnp.moveaxis(y, 0, 1)
        y = dense(channels, use_bias=False, name="out")(y.reshape(*x.shape[:-1], inner))
        return x + self.norm(scale_init=nn.initializers.zeros, name="norm")(y)


def _attended(query: jax.Array, key: jax.Array, value: jax.Array, valid: jax.Array | None) -> jax.Array:
    """Σ_j softmax_j(query_i · key_j) value_j: [B, I, D], [B, J, D], [B, J, D], bool [B, J] to [B, I, D]."""
    exact = jnp.promote_types(query.dtype, jnp.float32)
    products = jnp.einsum("bid,bjd->bij", query, key, preferred_element_type=exact)
    weights = jax.nn.softmax(products, axis=-1, where=None if valid is None else valid[:, None])
    return jnp.einsum("bij,bjd->bid", weights.astype(value.dtype), value)
