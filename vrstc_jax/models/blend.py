"""An option on top of the paper: pixels of the neighbours in the completed picture."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vrstc_jax.models.layers import Deconvolution, conv3x3

# One unit of predicted flow is 4 pixels, so that one Adam step is a visible shift.
_PIXELS = 4.0


class Blend(nn.Module):
    """Improves the decoder's picture with pixels from the neighbours.

    A small U-net sees the decoder's picture, x̂1, the mask, what attention carried over from each side and the
    nearest frame of each side, all at full resolution. For each pixel it predicts how far to move the two nearest
    frames, because boxes jitter and people move; how to mix the five pictures; and a correction.
    """

    width: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, generated: jax.Array, frames: jax.Array, masks: jax.Array, carried: Sequence[jax.Array],
                 nearest: Sequence[jax.Array]) -> jax.Array:
        """Pictures [B, H, W, 3], masks [B, H, W, 1]; `carried` and `nearest` of both sides. Returns [B, H, W, 3]."""
        w, conv, deconv = self.width, partial(conv3x3, dtype=self.dtype), partial(Deconvolution, dtype=self.dtype)
        pictures = [generated, *carried, *nearest]
        fine = nn.elu(conv(w, name="fine")(jnp.concatenate([*pictures, frames, masks], -1)))
        middle = nn.elu(conv(2 * w, stride=2, name="middle1")(fine))
        middle = nn.elu(conv(2 * w, name="middle2")(middle))
        coarse = nn.elu(conv(4 * w, stride=2, name="coarse1")(middle))
        coarse = nn.elu(conv(4 * w, dilation=2, name="coarse2")(coarse))
        coarse = nn.elu(conv(4 * w, dilation=4, name="coarse3")(coarse))
        middle = nn.elu(conv(2 * w, name="middle3")(middle + deconv(2 * w, name="up1")(coarse)))
        fine = nn.elu(conv(w, name="fine2")(fine + deconv(w, name="up2")(middle)))
        # With zeros it starts as an even mixture of unmoved pictures.
        heads = conv(4 + len(pictures) + 3, name="heads", init=nn.initializers.zeros)(fine)
        flows, shares, correction = jnp.split(heads, (4, 4 + len(pictures)), axis=-1)
        moved = [warp(frame, _PIXELS * flow) for frame, flow in zip(nearest, jnp.split(flows, 2, axis=-1))]
        shares = nn.softmax(shares)
        mixed = sum(shares[..., i, None] * picture for i, picture in enumerate([generated, *carried, *moved]))
        return mixed + correction


def warp(frames: jax.Array, flow: jax.Array) -> jax.Array:
    """Samples [B, H, W, C] bilinearly where flow [B, H, W, 2] (rows, columns, in pixels) points; edges repeat."""
    batch, height, width, channels = frames.shape
    rows, columns = jnp.arange(height, dtype=flow.dtype), jnp.arange(width, dtype=flow.dtype)
    at = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), -1)[None] + flow
    low = jnp.floor(at)
    share = at - low
    low = low.astype(jnp.int32)
    flat = frames.reshape(batch, height * width, channels)

    def corner(down: int, right: int) -> jax.Array:
        row = jnp.clip(low[..., 0] + down, 0, height - 1)
        column = jnp.clip(low[..., 1] + right, 0, width - 1)
        index = (row * width + column).reshape(batch, -1, 1)
        return jnp.take_along_axis(flat, index, axis=1).reshape(frames.shape)

    y, x = share[..., :1], share[..., 1:]
    return (1 - y) * ((1 - x) * corner(0, 0) + x * corner(0, 1)) + y * ((1 - x) * corner(1, 0) + x * corner(1, 1))


def to_blocks(frames: jax.Array, block: int) -> jax.Array:
    """[B, T, H, W, 3] to [B, T, H/b, W/b, b·b·3]: the pixels behind each position of the feature map."""
    b, t, h, w, c = frames.shape
    blocks = frames.reshape(b, t, h // block, block, w // block, block, c)
    return blocks.transpose(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h // block, w // block, block * block * c)


def from_blocks(blocks: jax.Array, block: int) -> jax.Array:
    """[B, h, w, b·b·3] to [B, h·b, w·b, 3]."""
    b, h, w, _ = blocks.shape
    pixels = blocks.reshape(b, h, w, block, block, 3).transpose(0, 1, 3, 2, 4, 5)
    return pixels.reshape(b, h * block, w * block, 3)
