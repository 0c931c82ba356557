"""Non-local blocks (Wang, Girshick, Gupta, He: Non-local Neural Networks, CVPR 2018) for clips of frames."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vrstc_jax.ops.precision import promote_all_but_bias

# Positions of a clip whose weights for one another are held at once; with more, a frame's at a time.
_WHOLE = 4096
_PRESERVING = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


class NonLocal(nn.Module):
    """z = x + norm(W y): at each position of a clip, what all of its positions, of all frames, say to it.

    The embedded Gaussian form of section 3.2 of Wang et al., y_i = Σ_j softmax_j(θ(x_i)ᵀ φ(x_j)) g(x_j), with
    θ, φ, g of half the width (their section 3.3); no scale divides the product, as the paper prints it. The
    last batch norm's scale starts at zero, so that a fresh block gives back its input bit for bit.

    Memory for the weights grows with the positions T·h·w of a clip, squared, up to 4096 of them; in longer
    clips frames ask one after another, and it grows with h·w times that.

    Attributes:
      norm: makes the batch norm; takes `scale_init` and `name`.
      deviation: of the normal distribution that kernels begin with; 0: 1/√(inputs) (`config.Reid`).
      dtype: what it is computed in, as of Flax's layers; the softmax is taken in float32 at least.
    """

    norm: partial
    deviation: float = 0.01
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x, *, valid=None):
        """x [B, T, h, w, C] to the same shape.

        Args:
          valid: bool [B, T], false where a frame is padding, which says nothing to any position; None: none
            is. What comes out at such frames means nothing. Batch norm in training does not heed it.
        """
        batch, frames, height, width, channels = x.shape
        inner = max(channels // 2, 1)
        init = nn.initializers.normal(self.deviation) if self.deviation else _PRESERVING
        dense = partial(nn.Dense, kernel_init=init, dtype=self.dtype, promote_dtype=promote_all_but_bias)
        asked = x.reshape(batch, frames, height * width, channels)
        told = asked.reshape(batch, -1, channels)
        usable = None
        if valid is not None:
            usable = jnp.repeat(valid, height * width, axis=1)
            told = jnp.where(usable[..., None], told, 0)  # 0 times what is not a number would be none either
        # Neither a key's bias nor, before a batch norm, a value's would change anything.
        query = dense(inner, name="query")(asked)
        key, value = (dense(inner, use_bias=False, name=name)(told) for name in ("key", "value"))
        query = query.astype(key.dtype)
        if frames * height * width <= _WHOLE:
            y = _attended(query.reshape(batch, -1, inner), key, value, usable)
        else:
            y = jax.lax.map(lambda q: _attended(q, key, value, usable), jnp.moveaxis(query, 1, 0))
            y = jnp.moveaxis(y, 0, 1)
        y = dense(channels, use_bias=False, name="out")(y.reshape(*x.shape[:-1], inner))
        return x + self.norm(scale_init=nn.initializers.zeros, name="norm")(y)


def _attended(query, key, value, usable):
    """Σ_j softmax_j(query_i · key_j) value_j: [B, I, D], [B, J, D], [B, J, D], bool [B, J] to [B, I, D]."""
    exact = jnp.promote_types(query.dtype, jnp.float32)
    products = jnp.einsum("bid,bjd->bij", query, key, preferred_element_type=exact)
    weights = jax.nn.softmax(products, axis=-1, where=None if usable is None else usable[:, None])
    return jnp.einsum("bij,bjd->bid", weights.astype(value.dtype), value)
