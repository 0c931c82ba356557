"""The networks of STCnet: generators G_s and G_t, discriminators D_g and D_l (sections 3.1 to 3.4).

Frames are float [B, H, W, 3] in [−1, 1], masks [B, H, W, 1] with 1 where the person is hidden. The widths
and whatever else the paper leaves open are in `config.STCnet` and `config.Discriminators`.

Modules have a `dtype` as Flax's layers do: what convolutions and attention are given, whatever the type of the
parameters and of what comes in; None: the type that the two promote to. All else is computed in the parameters'
type, in which pictures and logits come out.
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


class Encoder(nn.Module):
    """Five convolutions, then dilated ones, all 3×3 with ELU: [B, H, W, I] to [B, H/4, W/4, C]."""

    config: configs.Autoencoder
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x):
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
    def __call__(self, x):
        x = nn.elu(Deconvolution(self.config.decoder_width, self.dtype, name="deconv1")(x))
        return nn.tanh(Deconvolution(3, self.dtype, name="deconv2")(x))


class SpatialGenerator(nn.Module):
    """G_s: guesses the hidden part from the visible part of the same frame."""

    config: configs.STCnet
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, frames, masks):
        """frames [B, H, W, 3], whatever stands in the hole is not used; masks [B, H, W, 1]. Returns G_s."""
        visible = jnp.where(masks > 0.5, 0.0, frames)
        features = Encoder(self.config.spatial, self.dtype, name="encoder")(jnp.concatenate([visible, masks], -1))
        return Decoder(self.config.spatial, self.dtype, name="decoder")(features)


class TemporalGenerator(nn.Module):
    """G_t: rebuilds the hidden part from the frames before and after, by temporal attention.

    Encoding the neighbours is a method of its own, so that a frame is encoded once however many frames are
    completed from it. The config's `temporal_form` gives the networks of the paper's ablation instead
    (Table 1): neighbours' features as they are, or no neighbours and an encoder of three times the filters.
    """

    config: configs.STCnet
    dtype: DTypeLike | None = None

    def setup(self):
        c, encoder = self.config, partial(Encoder, dtype=self.dtype)
        self.decoder = Decoder(c.temporal, self.dtype)
        self.current_encoder = encoder(_widened(c.temporal, c.form.widening))
        if c.form.neighbours:
            self.neighbour_encoder = encoder(c.temporal)
            self.following_encoder = (self.neighbour_encoder if c.share_neighbour_encoders
                                      else encoder(c.temporal))
        if c.form.attention:
            if c.learned_scale:
                self.scale = self.param("softmax_scale", nn.initializers.constant(c.softmax_scale), ())
            if c.transport:
                self.blend = Blend(c.blend_width, self.dtype)

    def encode(self, frames, *, following: bool = False):
        """Neighbours' features: [B, H, W, 3] to [B, H/4, W/4, C]; of no channel where they are not used."""
        if not self.config.form.neighbours:
            return frames[..., :0]
        return (self.following_encoder if following else self.neighbour_encoder)(frames)

    def __call__(self, frames, masks, previous, following):
        """frames: x̂1 [B, H, W, 3]; masks [B, H, W, 1]; previous, following: x_p, x_n [B, T, H, W, 3]."""
        encoded = [self._encode_all(side, following=last) for side, last in
                   ((previous, False), (following, True))]
        return self.generate(frames, masks, (previous, encoded[0]), (following, encoded[1]))

    def generate(self, frames, masks, previous, following):
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

    def attention(self, frames, masks, previous, following):
        """Where each patch looked: weights [B, H/4, W/4, T, H/4, W/4] over each side's features."""
        current = self.current_encoder(jnp.concatenate([frames, masks], -1))
        c, scale = self.config, self._softmax_scale()
        return tuple(jax.vmap(lambda f, r: attention_weights(f, r, patch_size=c.patch_size,
                                                             softmax_scale=scale))(current, features)
                     for _, features in (previous, following))

    def _softmax_scale(self):
        return self.scale if self.config.learned_scale else self.config.softmax_scale

    def _encode_all(self, frames, *, following):
        batch, count = frames.shape[:2]
        features = self.encode(frames.reshape(batch * count, *frames.shape[2:]), following=following)
        return features.reshape(batch, count, *features.shape[1:])

    def _attend(self, current, frames, features):
        c, scale = self.config, self._softmax_scale()
        payload = features
        if c.transport:
            block = frames.shape[2] // features.shape[2]
            payload = jnp.concatenate([features, to_blocks(frames, block).astype(features.dtype)], -1)

        def one(current, features, payload):
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

    def __call__(self, frames, masks, previous, following):
        """frames [B, H, W, 3], masks [B, H, W, 1], previous and following [B, T, H, W, 3].

        Returns:
          x̂1, x̂2, each [B, H, W, 3], equal to `frames` where the mask is 0; the same without G_t.
        """
        first = self.complete_spatially(frames, masks)
        if self.temporal is None:
            return first, first
        generated = self.temporal(first, masks, previous, following)
        return first, copy_back(generated, frames, masks)

    def complete_spatially(self, frames, masks):
        """x̂1 (equation 5)."""
        return copy_back(self.spatial(frames, masks), frames, masks)

    def encode_neighbours(self, frames, *, following: bool = False):
        """Features of unoccluded frames [B, H, W, 3], to be used again: [B, H/4, W/4, C]."""
        if self.temporal is None:
            return frames[..., :0]
        return self.temporal.encode(frames, following=following)

    def complete_from_encoded(self, frames, masks, previous, following):
        """x̂1 and x̂2 with neighbours encoded before: each side (frames, features), [B, T, …]."""
        first = self.complete_spatially(frames, masks)
        if self.temporal is None:
            return first, first
        return first, copy_back(self.temporal.generate(first, masks, previous, following), frames, masks)

    def attention(self, frames, masks, previous, following):
        """Where each patch of x̂1 looked in each side's frames; arguments as `complete_from_encoded`."""
        return self.temporal.attention(self.complete_spatially(frames, masks), masks, previous, following)


