"""The discriminators D_g and D_l of STCnet (section 3.4)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vrstc_jax import config as configs
from vrstc_jax.models.layers import conv3x3
from vrstc_jax.ops.regions import crop_to_mask


class Discriminator(nn.Module):
    """D_g or D_l: six 3×3 convolutions of stride 2 and one unit; [B, H, W, 3] to logits [B]."""

    config: configs.Discriminators
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, frames: jax.Array) -> jax.Array:
        x = frames
        for i, width in enumerate(self.config.widths):
            x = nn.leaky_relu(conv3x3(width, stride=2, dtype=self.dtype, name=f"conv{i + 1}")(x), self.config.slope)
        return nn.Dense(1, name="unit")(x.reshape(x.shape[0], -1))[:, 0]


class DiscriminatorPair(nn.Module):
    """D_g on the whole frame and D_l on its hidden part: (logits [B], logits [B])."""

    config: configs.Discriminators
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, frames: jax.Array, masks: jax.Array) -> tuple[jax.Array, jax.Array]:
        whole = Discriminator(self.config, self.dtype, name="global")(frames)
        # D_l sees the hole alone: enlarged to the frame's size, or in place with zeros around it.
        if self.config.local_input == "cropped":
            part = crop_to_mask(frames, masks, (frames.shape[1], frames.shape[2]))
        else:
            part = jnp.where(masks > 0.5, frames, 0.0)
        return whole, Discriminator(self.config, self.dtype, name="local")(part)
