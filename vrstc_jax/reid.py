"""The re-ID network R: a ResNet over the frames of a clip, averaged, and a classifier over identities.

It serves three ends: its features of bands locate what is hidden (section 3.2), its classifier guides the
generators while they train (equation 9), and, later, its features say who it is.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vrstc_jax import config as configs
from vrstc_jax.regions import band_means
from vrstc_jax.resnet import ResNet, normalise


class ReidNet(nn.Module):
    """Clips of frames to identity logits.

    Attributes:
      config: the network's shape.
      identities: number of training identities, K.
      axis_name: the device axis over which batch statistics are averaged in training.
    """

    config: configs.Reid
    identities: int
    axis_name: str | None = None

    def setup(self):
        self.backbone = ResNet(self.config, self.axis_name)
        self.classifier = nn.Dense(self.identities, kernel_init=nn.initializers.normal(0.001))

    def __call__(self, clips, *, train: bool = False):
        """clips float [B, T, H, W, 3] in [−1, 1], of the config's size; logits [B, K]."""
        batch, frames = clips.shape[:2]
        features = self.maps(clips.reshape(batch * frames, *clips.shape[2:]), train=train)
        pooled = features.mean((1, 2)).reshape(batch, frames, -1).mean(1)
        return self.classifier(pooled)

    def maps(self, frames, *, train: bool = False):
        """Feature maps [B, h, w, C] of frames float [B, H, W, 3] in [−1, 1], resized if need be."""
        return self.backbone(normalise(self._resized(frames)), train=train)

    def bands(self, frames):
        """v_t^k of equation 11: the features of the three bands of each frame, [B, 3, C]."""
        return band_means(self.maps(frames))

    def _resized(self, frames):
        size = (frames.shape[0], self.config.height, self.config.width, frames.shape[3])
        if frames.shape == size:
            return frames
        return jax.image.resize(frames, size, "bilinear", antialias=True)


def initial_variables(config: configs.Reid, identities: int, key) -> dict:
    """Fresh {'params', 'batch_stats'} for `ReidNet`."""
    clips = jnp.zeros((1, 1, config.height, config.width, 3))
    return ReidNet(config, identities).init(key, clips)
