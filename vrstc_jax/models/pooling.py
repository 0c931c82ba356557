"""Poolings over a clip: feature maps of its frames to one feature.

Each is a Linen module from maps [B, T, h, w, C] to (features [B, C'], penalty). The penalty is a scalar to add to the
loss, 0 where there is none. `valid`, bool [B, T], is false where a frame is padding, whose maps are then ignored;
None: all are valid. Of a clip without a valid frame all features are 0. Softmax is computed in float32 at least.

Average is the paper's. The others are what the paper argues against: they give occluded frames, or parts of them, less
weight, where the paper completes them.

To add a pooling, name it in `config.Pooling` and in `pooling`.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from vrstc_jax import config as configs

Pooled = tuple[jax.Array, jax.Array | float]


def pooling(config: configs.Reid) -> nn.Module:
    """The module that the config names."""
    modules: dict[configs.Pooling, Callable[[], nn.Module]] = {
        "average": Average,
        "maximum": Maximum,
        "temporal_attention": lambda: TemporalAttention(config.attention_width),
        "diverse_attention": lambda: DiverseAttention(config.attention_maps, config.attention_width, config.embedding),
        "astpn_one_sequence": lambda: OneSequence(config.embedding, config.pyramid)}
    return modules[config.pooling]()


class Average(nn.Module):
    """The mean over frames and positions."""

    @nn.compact
    def __call__(self, maps: jax.Array, *, valid: jax.Array | None = None) -> Pooled:
        """As the module's docstring says; C' = C."""
        frames = frame_means(maps, valid)
        if valid is None:
            return frames.mean(1), 0.0
        return frames.sum(1) / jnp.maximum(valid.sum(1), 1)[:, None], 0.0


class Maximum(nn.Module):
    """The largest frame mean of each channel."""

    @nn.compact
    def __call__(self, maps: jax.Array, *, valid: jax.Array | None = None) -> Pooled:
        """As the module's docstring says; C' = C."""
        frames = frame_means(maps, valid)
        if valid is None:
            return largest(frames, 1), 0.0
        features = largest(jnp.where(valid[..., None], frames, -jnp.inf), 1)
        return jnp.where(valid.any(1)[:, None], features, 0), 0.0


class TemporalAttention(nn.Module):
    """The mean of frames, weighted by a score that each frame gets independently of the others.

    The score w₂ᵀ relu(W₁ f_t + b₁), softmax over frames, weighted sum. This is the form of Gao and Nevatia
    (Revisiting Temporal Modeling for Video-based Person ReID, 2018), without their convolution over neighbouring
    frames; the quality-aware network (Liu et al., CVPR 2017) divides by the sum of sigmoids instead. The last
    layer starts at zero, so that a fresh network averages.

    Attributes:
      width: hidden units.
    """

    width: int

    @nn.compact
    def __call__(self, maps: jax.Array, *, valid: jax.Array | None = None) -> Pooled:
        """As the module's docstring says; C' = C."""
        frames = frame_means(maps, valid)
        hidden = nn.relu(nn.Dense(self.width, name="hidden")(frames))
        scores = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros, name="score")(hidden)
        weights = _softmax(scores, 1, None if valid is None else valid[..., None])
        return (weights * frames).sum(1), 0.0


class DiverseAttention(nn.Module):
    """Several spatial attention maps that a penalty keeps diverse, each with its own attention over time.

    Li, Bak, Carr, Wang: Diversity Regularized Spatiotemporal Attention for Video-based Person
    Re-identification (CVPR 2018). In frame t, map k weighs positions by softmax_l(w_kᵀ relu(W f_tl + b)), and
    the attended features are projected, by one matrix for all maps, to x_tk; frames are weighed by
    softmax_t(u_kᵀ x_tk), and the K sums are concatenated. The penalty is the mean over frames of
    Q = ‖R Rᵀ − I‖²_F, where R holds the square roots of a frame's K maps: off the diagonal, R Rᵀ is 1 minus the
    squared Hellinger distance of two maps. They normalise x_tk to length 1, for the sake of their loss; here a
    linear classifier follows, and nothing is normalised.

    Attributes:
      maps: K.
      width: hidden units of the spatial scores.
      embedding: E, features of each map.
    """

    maps: int
    width: int
    embedding: int

    @nn.compact
    def __call__(self, maps: jax.Array, *, valid: jax.Array | None = None) -> Pooled:
        """As the module's docstring says; C' = K·E."""
        maps = _blanked(maps, valid)
        positions = maps.reshape(*maps.shape[:2], -1, maps.shape[-1])
        hidden = nn.relu(nn.Dense(self.width, name="hidden")(positions))
        scores = nn.Dense(self.maps, use_bias=False, name="spatial_score")(hidden)
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        logarithms = jax.nn.log_softmax(scores, axis=2)  # [B, T, h·w, K]
        attended = jnp.einsum("btlk,btlc->btkc", jnp.exp(logarithms).astype(maps.dtype), positions)
        parts = nn.Dense(self.embedding, name="project")(attended)
        kernel = self.param("temporal_score", nn.initializers.lecun_normal(), (self.maps, self.embedding))
        weights = _softmax(jnp.einsum("btke,ke->btk", parts, kernel), 1, None if valid is None else valid[..., None])
        features = jnp.einsum("btk,btke->bke", weights, parts).reshape(len(maps), -1)

        roots = jnp.exp(logarithms / 2)  # its gradient, unlike a square root's, is finite at 0
        alike = jnp.einsum("btlj,btlk->btjk", roots, roots) - jnp.eye(self.maps)
        penalty = jnp.square(alike).sum((2, 3))
        if valid is None:
            return features, penalty.mean()
        return features, jnp.where(valid, penalty, 0).sum() / jnp.maximum(valid.sum(), 1)


class SequenceEmbedding(nn.Module):
    """ASTPN's frame features: pooled over a spatial pyramid, projected, and passed through a recurrence.

    Xu et al., Jointly Attentive Spatial-Temporal Pooling Networks (ICCV 2017): of each frame the maxima over
    n×n cells, for each n of the pyramid; one projection c_t of them all; and the recurrence
    o_t = c_t + W s_{t−1} + b, s_t = tanh(o_t), of which the o_t are the rows of P. Dropout is left out.

    Attributes:
      embedding: E.
      pyramid: the numbers n.
    """

    embedding: int
    pyramid: tuple[int, ...]

    @nn.compact
    def __call__(self, maps: jax.Array, *, valid: jax.Array | None = None) -> jax.Array:
        """maps [B, T, h, w, C] to P [B, T, E]; a frame that is padding passes on the state before it."""
        cells = jnp.concatenate([pyramid_level(_blanked(maps, valid), n) for n in self.pyramid], axis=-2)
        inputs = nn.Dense(self.embedding, name="project")(cells.reshape(*maps.shape[:2], -1))
        valid = jnp.ones(maps.shape[:2], bool) if valid is None else valid
        recur = nn.Dense(self.embedding, name="recur")

        def step(recur, before, frame):
            projected, real = frame
            out = projected + jnp.where(before[1][:, None], recur(jnp.tanh(before[0])), 0)
            after = jnp.where(real[:, None], out, before[0]), before[1] | real
            return after, out

        # (last output, whether a frame came before): the first frame gets neither the recurrence nor its bias.
        start = jnp.zeros_like(inputs[:, 0]), jnp.zeros_like(valid[:, 0])
        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
        return scan(recur, start, (inputs, valid))[1]


class OneSequence(nn.Module):
    """ASTPN's attention, of a sequence to itself; Xu et al. attend between the sequences of a pair.

    A = tanh(P U Pᵀ) in place of tanh(P U Gᵀ); t = softmax of the largest of each row; v = Pᵀ t. It gives a single
    tracklet a feature, which the attention of a pair (`reid.PairScorer`) does not.

    Attributes:
      embedding, pyramid: as of `SequenceEmbedding`.
    """

    embedding: int
    pyramid: tuple[int, ...]

    @nn.compact
    def __call__(self, maps: jax.Array, *, valid: jax.Array | None = None) -> Pooled:
        """As the module's docstring says; C' = E."""
        rows = SequenceEmbedding(self.embedding, self.pyramid, name="sequence")(maps, valid=valid)
        return PairAttention(name="attention")(rows, rows, first_valid=valid, second_valid=valid)[0], 0.0


class PairAttention(nn.Module):
    """The attentive temporal pooling of ASTPN: frames of two sequences attend to each other.

    A = tanh(P U Gᵀ); t_p is the softmax of the largest of each row, t_g of each column; v_p = Pᵀ t_p and
    v_g = Gᵀ t_g.
    """

    @nn.compact
    def __call__(self, first: jax.Array, second: jax.Array, *, first_valid: jax.Array | None = None,
                 second_valid: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """P [B, T, E], G [B, S, E] and bool [B, T], [B, S] (None: all valid) to v_p and v_g, [B, E] each."""
        width = first.shape[-1]
        matrix = self.param("matrix", _centred_uniform(1 / width), (width, width))
        attention = jnp.tanh(jnp.einsum("bte,ef,bsf->bts", first, matrix, second))

        def attend(rows: jax.Array, valid: jax.Array | None, attention: jax.Array,
                   others_valid: jax.Array | None) -> jax.Array:
            if others_valid is not None:  # −1 is tanh's infimum
                attention = jnp.where(others_valid[:, None], attention, -1)
            weights = _softmax(largest(attention, 2), 1, valid)
            return jnp.einsum("bt,bte->be", weights, rows if valid is None else jnp.where(valid[..., None], rows, 0))

        return (attend(first, first_valid, attention, second_valid),
                attend(second, second_valid, attention.swapaxes(1, 2), first_valid))


def frame_means(maps: jax.Array, valid: jax.Array | None) -> jax.Array:
    """The mean over positions: [B, T, h, w, C] to [B, T, C], 0 at frames that are padding."""
    means = maps.mean((2, 3))
    return means if valid is None else jnp.where(valid[..., None], means, 0)


def pyramid_level(maps: jax.Array, count: int) -> jax.Array:
    """The largest value of each channel in each of count×count cells: [..., h, w, C] to [..., count², C].

    A cell is extended to whole rows and columns, so that cells overlap where there are more of them than rows.
    """
    def over(axis: int, maps: jax.Array) -> jax.Array:
        size = maps.shape[axis]
        edges = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        return jnp.stack([largest(jax.lax.slice_in_dim(maps, first, end, axis=axis), axis)
                          for first, end in edges], axis)

    axis = maps.ndim - 3
    cells = over(axis + 1, over(axis, maps))
    return cells.reshape(*maps.shape[:axis], count * count, maps.shape[-1])


def largest(x: jax.Array, axis: int) -> jax.Array:
    """The maximum over an axis, whose gradient goes to the first element that has it.

    The gradient of `max` compares each element with the maximum. Where XLA recomputes the elements with another
    rounding, none is equal, and the gradient is 0/0; this happened behind a ReLU on CPU.
    """
    first = jnp.argmax(x, axis, keepdims=True)
    index = jax.lax.broadcasted_iota(first.dtype, x.shape, axis)
    return jnp.where(index == first, x, 0).sum(axis)


def _blanked(maps: jax.Array, valid: jax.Array | None) -> jax.Array:
    return maps if valid is None else jnp.where(valid[..., None, None, None], maps, 0)


def _softmax(scores: jax.Array, axis: int, where: jax.Array | None) -> jax.Array:
    weights = jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32)), axis, where=where)
    return weights.astype(scores.dtype)


def _centred_uniform(bound: float) -> Callable:
    return lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
