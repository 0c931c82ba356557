"""The generators G_s and G_t of STCnet (sections 3.1 to 3.3).

Frames are float [B, H, W, 3] in [−1, 1], masks [B, H, W, 1] with 1 where the person is hidden. The widths and
whatever else the paper leaves open are in `config.STCnet`.

Modules have a `dtype` as Flax's layers do: the type in which convolutions and attention are computed; None: the one
that parameters and input promote to. All else is computed, and returned, in the parameters' type.
"""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vrstc_jax import config as configs
from vrstc_jax.attention import attention_weights, temporal_attention
from vrstc_jax.models.blend import Blend, from_blocks, to_blocks
from vrstc_jax.models.layers import Deconvolution, conv3x3
from vrstc_jax.ops.regions import copy_back

# A side's frames [B, T, H, W, 3] and their features [B, T, H/4, W/4, C].
Side = tuple[jax.Array, jax.Array]


class Encoder(nn.Module):
    """Five convolutions, then dilated ones, all 3×3 with ELU: [B, H, W, I] to [B, H/4, W/4, C]."""

    config: configs.Autoencoder
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c, conv = self.config, partial(conv3x3, dtype=self.dtype)
        for i, (width, stride) in enumerate(zip(c.widths, c.strides, strict=True)):
            x = nn.elu(conv(width, stride=stride, name=f"conv{i + 1}")(x))
        for i, dilation in enumerate(c.dilations):
            x = nn.elu(conv(c.dilated_width, dilation=dilation, name=f"dilated{i + 1}")(x))
        return x if self.dtype is None else x.astype(self.dtype)


class Decoder(nn.Module):
    """Two deconvolutions, ELU between: [B, H/4, W/4, C] to a frame [B, H, W, 3] in [−1, 1]."""

    config: configs.Autoencoder
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.elu(Deconvolution(self.config.decoder_width, self.dtype, name="deconv1")(x))
        return nn.tanh(Deconvolution(3, self.dtype, name="deconv2")(x))


class SpatialGenerator(nn.Module):
    """G_s: completes the hidden part from the visible part of the same frame."""

    config: configs.STCnet
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, frames: jax.Array, masks: jax.Array) -> jax.Array:
        """frames [B, H, W, 3], of which the hidden part is ignored; masks [B, H, W, 1]. Returns [B, H, W, 3]."""
        visible = jnp.where(masks > 0.5, 0.0, frames)
        features = Encoder(self.config.spatial, self.dtype, name="encoder")(jnp.concatenate([visible, masks], -1))
        return Decoder(self.config.spatial, self.dtype, name="decoder")(features)


class TemporalGenerator(nn.Module):
    """G_t: completes the hidden part from the frames before and after, by temporal attention.

    Encoding the neighbours is a separate method, so that a frame is encoded once however many frames are completed
    from it. The config's `temporal_form` replaces G_t by another row of the paper's ablation (Table 1).
    """

    config: configs.STCnet
    dtype: DTypeLike | None = None

    def setup(self):
        c = self.config
        encoder = partial(Encoder, _widened(c.temporal, c.form.widening), self.dtype)
        self.decoder = Decoder(c.temporal, self.dtype)
        self.current_encoder = encoder()
        if c.form.neighbours:
            self.neighbour_encoder = encoder()
            self.following_encoder = (self.neighbour_encoder if c.share_neighbour_encoders
                                      else encoder())
        if c.form.attention:
            if c.learned_scale:
                self.scale = self.param("softmax_scale", nn.initializers.constant(c.softmax_scale), ())
            if c.transport:
                self.blend = Blend(c.blend_width, self.dtype)

    def encode(self, frames: jax.Array, *, following: bool = False) -> jax.Array:
        """Neighbours' features: [B, H, W, 3] to [B, H/4, W/4, C]; without channels where they are not used."""
        if not self.config.form.neighbours:
            return frames[..., :0]
        return (self.following_encoder if following else self.neighbour_encoder)(frames)

    def __call__(self, frames: jax.Array, masks: jax.Array, previous: jax.Array,
                 following: jax.Array) -> jax.Array:
        """frames: x̂1 [B, H, W, 3]; masks [B, H, W, 1]; previous, following: x_p, x_n [B, T, H, W, 3]."""
        encoded = [self._encode_all(side, following=last) for side, last in
                   ((previous, False), (following, True))]
        return self.generate(frames, masks, (previous, encoded[0]), (following, encoded[1]))

    def generate(self, frames: jax.Array, masks: jax.Array, previous: Side, following: Side) -> jax.Array:
        """As `__call__`, with each side as (frames [B, T, H, W, 3], features [B, T, H/4, W/4, C])."""
        current = self.current_encoder(jnp.concatenate([frames, masks], -1))
        if not self.config.form.neighbours:
            return self.decoder(current)
        if not self.config.form.attention:
            sides = [features.mean(1) for _, features in (previous, following)]
            return self.decoder(jnp.concatenate([current, *sides], -1))
        attended, carried = zip(*(self._attend(current, *side) for side in (previous, following)))
        generated = self.decoder(jnp.concatenate([current, *attended], -1))
        if not self.config.transport:
            return generated
        nearest = [side[0][:, 0] for side in (previous, following)]
        return self.blend(generated, frames, masks, carried, nearest)

    def attention(self, frames: jax.Array, masks: jax.Array, previous: Side,
                  following: Side) -> tuple[jax.Array, ...]:
        """What each patch attends to: weights [B, H/4, W/4, T, H/4, W/4] over each side's features."""
        current = self.current_encoder(jnp.concatenate([frames, masks], -1))
        c, scale = self.config, self._softmax_scale()
        return tuple(jax.vmap(lambda f, r: attention_weights(f, r, patch_size=c.patch_size,
                                                             softmax_scale=scale))(current, features)
                     for _, features in (previous, following))

    def _softmax_scale(self) -> float | jax.Array:
        return self.scale if self.config.learned_scale else self.config.softmax_scale

    def _encode_all(self, frames: jax.Array, *, following: bool) -> jax.Array:
        batch, count = frames.shape[:2]
        features = self.encode(frames.reshape(batch * count, *frames.shape[2:]), following=following)
        return features.reshape(batch, count, *features.shape[1:])

    def _attend(self, current: jax.Array, frames: jax.Array,
                features: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Attended features, and with `transport` the pixels that the same weights carry over."""
        c, scale = self.config, self._softmax_scale()
        payload, block = features, frames.shape[2] // features.shape[2]
        if c.transport:
            payload = jnp.concatenate([features, to_blocks(frames, block).astype(features.dtype)], -1)

        def one(current: jax.Array, features: jax.Array, payload: jax.Array) -> jax.Array:
            return temporal_attention(current, features, patch_size=c.patch_size, softmax_scale=scale,
                                      payload=payload)

        out = jax.vmap(one)(current, features, payload)
        channels = features.shape[-1]
        carried = from_blocks(out[..., channels:], block) if c.transport else None
        return out[..., :channels], carried


def _widened(config: configs.Autoencoder, times: int) -> configs.Autoencoder:
    return dataclasses.replace(config, widths=tuple(times * width for width in config.widths),
                               dilated_width=times * config.dilated_width)


class Generators(nn.Module):
    """G_s and G_t in sequence, with copy-back (equations 5 and 6)."""

    config: configs.STCnet
    dtype: DTypeLike | None = None

    def setup(self):
        self.spatial = SpatialGenerator(self.config, self.dtype)
        self.temporal = TemporalGenerator(self.config, self.dtype) if self.config.form.temporal else None

    def __call__(self, frames: jax.Array, masks: jax.Array, previous: jax.Array,
                 following: jax.Array) -> tuple[jax.Array, jax.Array]:
        """frames [B, H, W, 3], masks [B, H, W, 1], previous and following [B, T, H, W, 3].

        Returns:
          x̂1, x̂2, each [B, H, W, 3], equal to `frames` where the mask is 0; the same without G_t.
        """
        first = self.complete_spatially(frames, masks)
        if self.temporal is None:
            return first, first
        generated = self.temporal(first, masks, previous, following)
        return first, copy_back(generated, frames, masks)

    def complete_spatially(self, frames: jax.Array, masks: jax.Array) -> jax.Array:
        """x̂1 (equation 5)."""
        return copy_back(self.spatial(frames, masks), frames, masks)

    def encode_neighbours(self, frames: jax.Array, *, following: bool = False) -> jax.Array:
        """Features of unoccluded frames, for `complete_from_encoded`: [B, H, W, 3] to [B, H/4, W/4, C]."""
        if self.temporal is None:
            return frames[..., :0]
        return self.temporal.encode(frames, following=following)

    def complete_from_encoded(self, frames: jax.Array, masks: jax.Array, previous: Side,
                              following: Side) -> tuple[jax.Array, jax.Array]:
        """x̂1 and x̂2 from neighbours that `encode_neighbours` encoded; each side is (frames, features), [B, T, …]."""
        first = self.complete_spatially(frames, masks)
        if self.temporal is None:
            return first, first
        return first, copy_back(self.temporal.generate(first, masks, previous, following), frames, masks)

    def attention(self, frames: jax.Array, masks: jax.Array, previous: Side,
                  following: Side) -> tuple[jax.Array, ...]:
        """What each patch of x̂1 attends to on each side; arguments as `complete_from_encoded`.

        Raises:
          ValueError: the config's form has no attention.
        """
        if self.temporal is None or not self.config.form.attention:
            raise ValueError(f"the form '{self.config.temporal_form}' has no attention.")
        return self.temporal.attention(self.complete_spatially(frames, masks), masks, previous, following)
