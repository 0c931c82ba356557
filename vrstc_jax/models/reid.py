"""The re-ID network R: a ResNet over the frames of a clip, pooled, and a classifier over identities.

It has three uses: its features of bands locate what is hidden (section 3.2), its classifier guides the generators
while they train (equation 9), and its features of clips rank people (section 4.2). The first two are of the network
without non-local blocks, the third of the one with them.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vrstc_jax import config as configs
from vrstc_jax.models.losses import distance
from vrstc_jax.models.occlusion_head import occlusion_head
from vrstc_jax.models.pooling import PairAttention, SequenceEmbedding, pooling
from vrstc_jax.models.resnet import ResNet, normalise
from vrstc_jax.ops.regions import band_means

_CLASSIFIER_INIT = nn.initializers.normal(0.001)


class _Network(nn.Module):
    """What `ReidNet` and `PairScorer` are given.

    Attributes:
      config: the network's shape.
      identities: number of training identities, K.
      axis_name: the device axis over which batch statistics are averaged in training.
      dtype: what the backbone is computed in, as of Flax's layers; pooling and heads are in float32 at least.
    """

    config: configs.Reid
    identities: int
    axis_name: str | None = None
    dtype: DTypeLike | None = None


class ReidNet(_Network):
    """Clips of frames to identity logits; attributes as of `_Network`."""

    def setup(self):
        self.backbone = ResNet(self.config, self.axis_name, self.dtype)
        self.pooling = pooling(self.config)
        self.classifier = nn.Dense(self.identities, kernel_init=_CLASSIFIER_INIT)
        if self.config.locating_loss:
            self.hidden_bands = occlusion_head(self.config)

    def __call__(self, clips: jax.Array, *, train: bool = False) -> jax.Array:
        """clips float [B, T, H, W, 3] in [−1, 1], resized if need be; logits [B, K]."""
        return self.outputs(clips, train=train)[0]

    def outputs(self, clips: jax.Array, *, train: bool = False) -> tuple[jax.Array, jax.Array, jax.Array | float]:
        """For training, of clips as above: (logits [B, K], features [B, C'], the pooling's penalty)."""
        features, penalty = self._pooled(clips, None, train)
        return self.classifier(features), features, penalty

    def located_outputs(self, clips: jax.Array, *, train: bool = False) -> tuple:
        """As `outputs`, and how much of each band and each cell looks hidden: the occlusion head's logits [B, T, 3],
        and [B, T, h, w] or None where it has no cells.

        The config's `locating_loss` must not be 0.
        """
        stages = clip_stages(self.backbone, clips, train=train)
        features, penalty = self.pooling(stages[-1])
        compared = self.hidden_bands.features(stages)
        weights = jax.nn.softmax(self.hidden_bands.log_weights(compared), axis=1)[..., None]
        mean = (weights * compared).sum(1, keepdims=True)
        return (self.classifier(features), features, penalty, self.hidden_bands(compared, mean),
                self.hidden_bands.cells(compared, mean))

    def compared(self, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The occlusion head's `features` of frames (as of `maps`), and their `log_weights` in a tracklet's mean."""
        features = self.hidden_bands.features(self.backbone(normalise(resized(frames, self.config)), every_stage=True))
        return features, self.hidden_bands.log_weights(features)

    def hidden(self, features: jax.Array, mean: jax.Array) -> jax.Array:
        """How much of each band looks hidden, logits [..., 3], of `compared` features and their tracklet's mean."""
        return self.hidden_bands(features, mean)

    def features(self, clips: jax.Array, *, valid: jax.Array | None = None, train: bool = False) -> jax.Array:
        """What people are ranked by: clips as above to [B, C'], C' = C of the feature maps unless the pooling
        projects.

        Args:
          valid: bool [B, T], false where a frame is padding, whose content is then ignored; None: all are valid.
        """
        return self._pooled(clips, valid, train)[0]

    def maps(self, frames: jax.Array, *, train: bool = False) -> jax.Array:
        """Feature maps [B, h, w, C] of frames float [B, H, W, 3] in [−1, 1], resized if need be.

        To non-local blocks each frame is a separate clip.
        """
        return self.backbone(normalise(resized(frames, self.config)), train=train)

    def bands(self, frames: jax.Array) -> jax.Array:
        """v_t^k of equation 11: the features of the three bands of each frame, [B, 3, C]."""
        return band_means(self.maps(frames))

    def _pooled(self, clips: jax.Array, valid: jax.Array | None, train: bool) -> tuple[jax.Array, jax.Array | float]:
        return self.pooling(clip_maps(self.backbone, clips, valid=valid, train=train), valid=valid)


class PairScorer(_Network):
    """ASTPN (Xu et al., ICCV 2017): the distance of two clips, each pooled by attention to the other.

    A frame's weight depends on the other clip, so that a tracklet has no feature independent of what it is compared
    with: it has the rows of `embed`, and a pair has a distance. The backbone is ours, not their three layers.
    Attributes are as of `_Network`; of `config`, it uses the backbone's shape, `embedding` and `pyramid`.
    """

    def setup(self):
        self.backbone = ResNet(self.config, self.axis_name, self.dtype)
        self.sequence = SequenceEmbedding(self.config.embedding, self.config.pyramid)
        self.attention = PairAttention()
        self.classifier = nn.Dense(self.identities, kernel_init=_CLASSIFIER_INIT)

    def __call__(self, first: jax.Array, second: jax.Array, *,
                 train: bool = False) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Clips float [B, T, H, W, 3] and [B, S, H, W, 3] in [−1, 1], of the same person or not.

        Returns:
          (Euclidean distances [B], logits of the first clips, and of the second, [B, K] each).
        """
        return self.compare(self.embed(first, train=train), self.embed(second, train=train))

    def embed(self, clips: jax.Array, *, valid: jax.Array | None = None, train: bool = False) -> jax.Array:
        """The rows of clips as above, [B, T, E]; `valid` as of `ReidNet.features`."""
        return self.sequence(clip_maps(self.backbone, clips, valid=valid, train=train), valid=valid)

    def compare(self, first: jax.Array, second: jax.Array, *, first_valid: jax.Array | None = None,
                second_valid: jax.Array | None = None) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Rows [B, T, E] and [B, S, E] of `embed`, pair by pair, to what `__call__` returns."""
        one, other = self.attention(first, second, first_valid=first_valid, second_valid=second_valid)
        return distance(one, other), self.classifier(one), self.classifier(other)

    def distances(self, queries: jax.Array, gallery: jax.Array, *, queries_valid: jax.Array | None = None,
                  gallery_valid: jax.Array | None = None) -> jax.Array:
        """Distances [Q, G] of every query from every entry of the gallery: rows [Q, T, E] and [G, S, E]."""
        def from_all(entry: jax.Array, entry_valid: jax.Array | None) -> jax.Array:
            entries = jnp.broadcast_to(entry, (len(queries), *entry.shape))
            valid = None if entry_valid is None else jnp.broadcast_to(entry_valid, entries.shape[:2])
            return distance(*self.attention(queries, entries, first_valid=queries_valid, second_valid=valid))

        valid_axis = None if gallery_valid is None else 0
        return jax.vmap(from_all, (0, valid_axis), 1)(gallery, gallery_valid)


def clip_maps(backbone: ResNet, clips: jax.Array, *, valid: jax.Array | None = None, train: bool = False) -> jax.Array:
    """Feature maps [B, T, h, w, C] of clips float [B, T, H, W, 3] in [−1, 1], resized if need be."""
    return clip_stages(backbone, clips, valid=valid, train=train)[-1]


def clip_stages(backbone: ResNet, clips: jax.Array, *, valid: jax.Array | None = None,
                train: bool = False) -> list[jax.Array]:
    """As `clip_maps`, of every stage of the network."""
    batch, frames = clips.shape[:2]
    if valid is not None:
        clips = jnp.where(valid[..., None, None, None], clips, 0)
    pictures = normalise(resized(clips.reshape(batch * frames, *clips.shape[2:]), backbone.config))
    stages = backbone(pictures, frames=frames, valid=valid, train=train, every_stage=True)
    return [maps.reshape(batch, frames, *maps.shape[1:]) for maps in stages]


def resized(frames: jax.Array, config: configs.Reid) -> jax.Array:
    """Frames [B, H, W, 3] at the network's size."""
    size = (frames.shape[0], config.height, config.width, frames.shape[3])
    if frames.shape == size:
        return frames
    return jax.image.resize(frames, size, "bilinear", antialias=True)


def initial_variables(config: configs.Reid, identities: int, key: jax.Array) -> dict:
    """Fresh {'params', 'batch_stats'} for `ReidNet`."""
    clips = jnp.zeros((1, 1, config.height, config.width, 3))
    method = "located_outputs" if config.locating_loss else "outputs"  # the first also makes the occlusion head
    return dict(ReidNet(config, identities).init(key, clips, method=method))
