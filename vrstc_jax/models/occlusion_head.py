"""Heads that predict which bands are hidden, trained by a locating loss; an option on top of the paper.

Equations 11 and 12 compare a band with the mean over its tracklet by one cosine. Where an occluder is in front for most
of a tracklet, that mean shows the occluder, and the cosine calls the person hidden; and a band that is half hidden is
as unlike the mean as one in another pose. `CellHead` looks at each cell of the feature map, weighs frames in the mean
by how much their cell looks like a person's, and classifies by both features. A cell of the last map is as large as a
small occluder, or larger; with `stages` the cells are finer.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from vrstc_jax import config as configs
from vrstc_jax.ops.convolution import convolution
from vrstc_jax.ops.regions import band_means, band_weights, cosines

_LEAST = 1e-4  # of a share, so that its logit is finite


class CosineHead(nn.Module):
    """Equation 12 as a logit: sharpness · (threshold − u), both numbers learned."""

    def setup(self):
        self.log_sharpness = self.param("log_sharpness", nn.initializers.constant(2.0), ())
        self.threshold = self.param("threshold", nn.initializers.constant(0.8), ())

    def features(self, stages: Sequence[jax.Array]) -> jax.Array:
        """What is compared: of the stages' feature maps [..., h, w, C], the last one's v_t^k, [..., 3, C]."""
        return band_means(stages[-1])

    def log_weights(self, features: jax.Array) -> jax.Array:
        """Logarithms of a frame's weights in the tracklet's mean, [..., 3]: zeros."""
        return jnp.zeros(features.shape[:-1], features.dtype)

    def __call__(self, features: jax.Array, mean: jax.Array) -> jax.Array:
        """Logits [..., 3] of the share of each band that is hidden, from features and their tracklet's mean."""
        return jnp.exp(self.log_sharpness) * (self.threshold - cosines(features, mean))

    def cells(self, features: jax.Array, mean: jax.Array) -> None:
        """None: this head has no cells."""


class CellHead(nn.Module):
    """The probability that each cell is hidden, of which a band's share is the mean.

    Attributes:
      width: of a cell's features, and hidden units of the classifier.
      stages: the cells are the second stage's; the features are of all stages and of a cell's surroundings.
    """

    width: int
    stages: bool = False

    def setup(self):
        # The explicit names are those of the parameters in model files.
        self.project = nn.Dense(self.width, name="look")
        # Zeros, so that a fresh head weighs all frames alike.
        self.weigh = nn.Dense(1, kernel_init=nn.initializers.zeros, name="worths")
        self.compare = nn.Dense(self.width)
        # The bias makes a fresh head call a cell hidden with a probability of 12 %.
        self.classify = nn.Dense(1, bias_init=nn.initializers.constant(-2.0), name="verdict")
        if self.stages:
            conv = partial(nn.Conv, kernel_size=(3, 3), conv_general_dilated=convolution)
            self.project_around = conv(self.width, name="look_around")
            self.compare_around = conv(self.width // 2)

    def features(self, stages: Sequence[jax.Array]) -> jax.Array:
        """What is compared: from the stages' feature maps [..., h, w, C] to [..., h, w, width]."""
        if not self.stages:
            return self.project(stages[-1])
        height, width = stages[min(1, len(stages) - 1)].shape[-3:-1]
        together = jnp.concatenate([_on_grid(maps, (height, width)) for maps in stages], -1)
        return self.project_around(nn.relu(self.project(together)))

    def log_weights(self, features: jax.Array) -> jax.Array:
        """Logarithms of a frame's weights in the tracklet's mean, for each cell: [..., h, w]."""
        return self.weigh(nn.relu(features))[..., 0]

    def __call__(self, features: jax.Array, mean: jax.Array) -> jax.Array:
        """Logits [..., 3] of the share of each band that is hidden, from features and their tracklet's mean."""
        hidden = jax.nn.sigmoid(self.cells(features, mean))
        weights = band_weights(features.shape[-3])
        share = jnp.einsum("kh,...hw->...k", weights / weights.sum(1, keepdims=True), hidden) / features.shape[-2]
        share = _LEAST + (1 - 2 * _LEAST) * share
        return jnp.log(share) - jnp.log1p(-share)

    def cells(self, features: jax.Array, mean: jax.Array) -> jax.Array:
        """Logits [..., h, w] of each cell being hidden, from features and their tracklet's mean."""
        mean = jnp.broadcast_to(mean, features.shape)
        both = jnp.concatenate([features, mean, features * mean, jnp.abs(features - mean)], -1)
        compared = nn.relu(self.compare(both))
        return self.classify(nn.relu(self.compare_around(compared)) if self.stages else compared)[..., 0]


def _on_grid(maps: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Maps [..., h, w, C] on a grid of another size: cells of a finer map become channels, those of a coarser one are
    repeated."""
    *outer, height, width, channels = maps.shape
    if height > size[0]:
        rows, columns = height // size[0], width // size[1]
        cut = maps[..., :rows * size[0], :columns * size[1], :].reshape(
            *outer, size[0], rows, size[1], columns, channels)
        return jnp.moveaxis(cut, -4, -3).reshape(*outer, *size, rows * columns * channels)
    return jax.image.resize(maps, (*outer, *size, channels), "nearest")


def occlusion_head(config: configs.Reid) -> CellHead | CosineHead:
    """The head that `Reid.locating_width` and `Reid.locating_stages` describe."""
    return CellHead(config.locating_width, config.locating_stages) if config.locating_width else CosineHead()
