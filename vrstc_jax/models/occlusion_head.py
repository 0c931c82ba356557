"""Whether bands are hidden, by a frame's features and its tracklet's: what a locating loss trains (an option).

Equations 11 and 12 compare a band with the mean over its tracklet by one cosine. Where something hides a person
most of the time, that mean is of the thing, and the cosine finds the person hidden; and a band hidden by half is
as unlike the mean as one in another pose. The head looks at the cells of the feature map on their own, frames
count in the mean as much as their cell looks like a person's, and the verdict sees both features. The last map's
cells are as large as what hides a person in part, or larger; the head over all stages looks at finer ones.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from vrstc_jax import config as configs
from vrstc_jax.ops.convolution import convolution
from vrstc_jax.ops.regions import band_means, band_weights, cosines


class HiddenBands(nn.Module):
    """Equation 12 as a verdict: sharpness · (threshold − u), both numbers learned."""

    def setup(self):
        self.log_sharpness = self.param("log_sharpness", nn.initializers.constant(2.0), ())
        self.threshold = self.param("threshold", nn.initializers.constant(0.8), ())

    def features(self, stages):
        """What is compared, of the stages' feature maps [..., h, w, C]: the last one's v_t^k, [..., 3, C]."""
        return band_means(stages[-1])

    def worth(self, features):
        """Logarithms of what a frame counts in the tracklet's mean, [..., 3]: all the same."""
        return jnp.zeros(features.shape[:-1], features.dtype)

    def __call__(self, features, mean):
        """Logits [..., 3] of the share of each band that is hidden, of features and their tracklet's mean."""
        return jnp.exp(self.log_sharpness) * (self.threshold - cosines(features, mean))

    def cells(self, features, mean):
        """There are none: None."""


class HiddenCells(nn.Module):
    """A head on top of equations 11 and 12: how likely each cell is hidden, of which a band's share is the mean.

    Attributes:
      width: of what a cell is compared by, and hidden units of the verdict.
      stages: the cells are the second stage's, all stages are seen, and each cell's neighbours.
    """

    width: int
    stages: bool = False

    def setup(self):
        self.look, self.worths = nn.Dense(self.width), nn.Dense(1, kernel_init=nn.initializers.zeros)
        self.compare, self.verdict = nn.Dense(self.width), nn.Dense(1, bias_init=nn.initializers.constant(-2.0))
        if self.stages:
            conv = partial(nn.Conv, kernel_size=(3, 3), conv_general_dilated=convolution)
            self.look_around, self.compare_around = conv(self.width), conv(self.width // 2)

    def features(self, stages):
        """What is compared, of the stages' feature maps [..., h, w, C]: [..., h, w, width]."""
        if not self.stages:
            return self.look(stages[-1])
        size = stages[min(1, len(stages) - 1)].shape[-3:-1]
        return self.look_around(nn.relu(self.look(jnp.concatenate([_on_grid(maps, size) for maps in stages], -1))))

    def worth(self, features):
        """Logarithms of what a frame counts in the tracklet's mean, cell by cell: [..., h, w]."""
        return self.worths(nn.relu(features))[..., 0]

    def __call__(self, features, mean):
        """Logits [..., 3] of the share of each band that is hidden, of features and their tracklet's mean."""
        hidden = jax.nn.sigmoid(self.cells(features, mean))
        weights = band_weights(features.shape[-3])
        share = jnp.einsum("kh,...hw->...k", weights / weights.sum(1, keepdims=True), hidden) / features.shape[-2]
        share = _LEAST + (1 - 2 * _LEAST) * share
        return jnp.log(share) - jnp.log1p(-share)

    def cells(self, features, mean):
        """Logits [..., h, w] of each cell being hidden, as above."""
        mean = jnp.broadcast_to(mean, features.shape)
        both = jnp.concatenate([features, mean, features * mean, jnp.abs(features - mean)], -1)
        compared = nn.relu(self.compare(both))
        return self.verdict(nn.relu(self.compare_around(compared)) if self.stages else compared)[..., 0]


def _on_grid(maps, size):
    """Maps [..., h, w, C] on a grid of another size: a finer one's cells are channels, a coarser one's are repeated."""
    *outer, height, width, channels = maps.shape
    if height > size[0]:
        rows, columns = height // size[0], width // size[1]
        cut = maps[..., :rows * size[0], :columns * size[1], :].reshape(
            *outer, size[0], rows, size[1], columns, channels)
        return jnp.moveaxis(cut, -4, -3).reshape(*outer, *size, rows * columns * channels)
    return jax.image.resize(maps, (*outer, *size, channels), "nearest")


_LEAST = 1e-4  # of a share, so that its logit is finite


def occlusion_head(config: configs.Reid) -> nn.Module:
    """What `Reid.locating_width` and `Reid.locating_stages` ask for."""
    return HiddenCells(config.locating_width, config.locating_stages) if config.locating_width else HiddenBands()
