"""Whether bands are hidden, by a frame's features and its tracklet's: what a locating loss trains (an option).

Equations 11 and 12 compare a band with the mean over its tracklet by one cosine. Where something hides a person
most of the time, that mean is of the thing, and the cosine finds the person hidden; and a band hidden by half is
as unlike the mean as one in another pose. The head looks at the cells of the feature map on their own, frames
count in the mean as much as their cell looks like a person's, and the verdict sees both features.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vrstc_jax.regions import band_means, band_weights, cosines


class HiddenBands(nn.Module):
    """Equation 12 as a verdict: sharpness · (threshold − u), both numbers learned."""

    def setup(self):
        self.log_sharpness = self.param("log_sharpness", nn.initializers.constant(2.0), ())
        self.threshold = self.param("threshold", nn.initializers.constant(0.8), ())

    def features(self, maps):
        """What is compared, of feature maps [..., h, w, C]: v_t^k, [..., 3, C]."""
        return band_means(maps)

    def worth(self, features):
        """Logarithms of what a frame counts in the tracklet's mean, [..., 3]: all the same."""
        return jnp.zeros(features.shape[:-1], features.dtype)

    def __call__(self, features, mean):
        """Logits [..., 3] of the share of each band that is hidden, of features and their tracklet's mean."""
        return jnp.exp(self.log_sharpness) * (self.threshold - cosines(features, mean))


class HiddenCells(nn.Module):
    """A head on top of equations 11 and 12: how likely each cell is hidden, of which a band's share is the mean.

    Attributes:
      width: of what a cell is compared by, and hidden units of the verdict.
    """

    width: int

    def setup(self):
        self.look, self.worths = nn.Dense(self.width), nn.Dense(1, kernel_init=nn.initializers.zeros)
        self.compare, self.verdict = nn.Dense(self.width), nn.Dense(1, bias_init=nn.initializers.constant(-2.0))

    def features(self, maps):
        """What is compared, of feature maps [..., h, w, C]: [..., h, w, width]."""
        return self.look(maps)

    def worth(self, features):
        """Logarithms of what a frame counts in the tracklet's mean, cell by cell: [..., h, w]."""
        return self.worths(nn.relu(features))[..., 0]

    def __call__(self, features, mean):
        """Logits [..., 3] of the share of each band that is hidden, of features and their tracklet's mean."""
        mean = jnp.broadcast_to(mean, features.shape)
        both = jnp.concatenate([features, mean, features * mean, jnp.abs(features - mean)], -1)
        hidden = jax.nn.sigmoid(self.verdict(nn.relu(self.compare(both)))[..., 0])
        weights = band_weights(features.shape[-3])
        share = jnp.einsum("kh,...hw->...k", weights / weights.sum(1, keepdims=True), hidden) / features.shape[-2]
        share = _LEAST + (1 - 2 * _LEAST) * share
        return jnp.log(share) - jnp.log1p(-share)


_LEAST = 1e-4  # of a share, so that its logit is finite


def verdict(width: int) -> nn.Module:
    """What `Reid.locating_width` asks for."""
    return HiddenCells(width) if width else HiddenBands()
