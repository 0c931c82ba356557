"""The losses of VRSTC, equations 4 to 10, and those that a re-ID network may add.

Each is a function of arrays to a scalar, a mean over the batch. The paper's ‖·‖₁ is taken as a mean per pixel and
channel; the paper does not say, and its λ1 = 0.001 and λ2 = 0.1 have an effect only so. Discriminators
give logits l, so that log D = log σ(l) = −softplus(−l) and log(1 − D) = −softplus(l), exactly.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from vrstc_jax.config import Reconstruction
from vrstc_jax.ops.regions import band_weights, cell_means

_SHOWN_BELOW = 0.05  # a band counts as shown if less than this share of it is hidden


def reconstruction(frames: jax.Array, first: jax.Array, second: jax.Array, *, kind: Reconstruction = "l1") -> jax.Array:
    """L_r = ‖x − x̂1‖₁ + ‖x − x̂2‖₁ (equation 4); frames [B, H, W, 3]. `kind` 'l2' squares instead."""
    distance = {"l1": jnp.abs, "l2": jnp.square}[kind]
    return jnp.mean(distance(frames - first)) + jnp.mean(distance(frames - second))


def discriminator(real: jax.Array, fake: jax.Array) -> jax.Array:
    """−L_a of one discriminator (equations 7, 8): logits [B] of real and completed frames.

    The paper prints log D(1 − x̂), and means log(1 − D(x̂)).
    """
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def adversarial(fake: jax.Array) -> jax.Array:
    """A generator's side of equations 7 and 8 in the non-saturating form, −log D(x̂2); logits [B]."""
    return jnp.mean(jax.nn.softplus(-fake))


def identity(logits: jax.Array, labels: jax.Array, *, smoothing: float = 0.0) -> jax.Array:
    """L_c = −Σ_k q_k log R(x̂2)_k (equation 9): logits [B, K], labels int [B].

    q is 1 at the label and 0 elsewhere; with `smoothing` ε (Szegedy et al., CVPR 2016) it is ε/K everywhere
    and 1 − ε more at the label.
    """
    exact = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if not smoothing:
        return jnp.mean(exact)
    even = -jax.nn.log_softmax(logits).mean(-1)
    return jnp.mean((1 - smoothing) * exact + smoothing * even)


def batch_hard_triplet(features: jax.Array, labels: jax.Array, *, margin: float,
                       axis_name: str | None = None) -> jax.Array:
    """Batch-hard triplet loss (Hermans, Beyer, Leibe 2017): features [B, C], labels int [B].

    The mean over clips of max(0, margin + distance of the farthest clip of the same person − distance of the
    nearest clip of another person), in Euclidean distance. A person's only clip is its own farthest, at distance
    0. Where a batch has one person, the loss is 0. Gradients are finite where features are equal: a distance of 0
    has the gradient 0.

    Args:
      axis_name: a device axis over which the batch is spread. Each device then computes the loss of its
        clips against those of all devices. Differentiating on each device and averaging afterwards, as the
        trainers do, gives the gradient of the global batch's loss: the gather's transpose sums, for each
        device's features, the gradients of all devices' losses.
    """
    everyone, everyones = features, labels
    if axis_name is not None:
        everyone, everyones = (jax.lax.all_gather(x, axis_name, tiled=True) for x in (features, labels))
    # Farthest and nearest are found without gradients, so that the backward pass has two distances a clip, not B.
    same = labels[:, None] == everyones[None]
    distances = jax.lax.stop_gradient(distance(features[:, None], everyone[None]))
    farthest = everyone[jnp.argmax(jnp.where(same, distances, -1), axis=1)]
    nearest = everyone[jnp.argmin(jnp.where(same, jnp.inf, distances), axis=1)]
    hinge = jnp.maximum(margin + distance(features, farthest) - distance(features, nearest), 0)
    return jnp.mean(jnp.where(same.all(1), 0, hinge))


def locating(logits: jax.Array, hidden: jax.Array, *, suspect: float = 0.15, axis_name: str | None = None) -> jax.Array:
    """Binary cross-entropy of whether bands are hidden; an option on top of the paper.

    A band's label is the share of it that was hidden on purpose. Real occluders, which are not labelled, may hide
    other bands; so of the bands that were not hidden on purpose, the share that look hidden most is left out.

    Args:
      logits: float [B, T, 3], of how much of each band looks hidden.
      hidden: float [B, T, 3] in [0, 1], the share of each band that was hidden on purpose, or is known to be.
      suspect: the share to leave out; 0 where all that is hidden is known.
      axis_name: a device axis over which the batch is spread; the mean over devices is then the loss of the
        global batch.
    """
    losses = optax.sigmoid_binary_cross_entropy(logits, hidden)
    shown = hidden < _SHOWN_BELOW
    suspicion = jnp.where(shown, jax.lax.stop_gradient(logits), -jnp.inf)
    everywhere = suspicion if axis_name is None else jax.lax.all_gather(suspicion, axis_name)
    kept = shown
    if suspect:
        ordered = jnp.sort(everywhere.ravel())[::-1]
        suspects = (suspect * jnp.isfinite(everywhere).sum()).astype(jnp.int32)
        kept = shown & (suspicion < ordered[jnp.maximum(suspects, 1) - 1])
    weights = ~shown | kept
    total = weights.sum()
    if axis_name is not None:
        total = jax.lax.pmean(total.astype(jnp.float32), axis_name)
    return jnp.where(weights, losses, 0).sum() / jnp.maximum(total, 1)


def locating_cells(logits: Sequence[jax.Array], masks: jax.Array) -> jax.Array:
    """As `locating`, of each band and of each cell, where all that is hidden is known.

    Args:
      logits: float [B, T, 3] of bands, and [B, T, h, w] of cells.
      masks: bool [B, T, H, W], true = hidden.
    """
    bands, cells = logits
    masks = masks.astype(cells.dtype)
    weights = band_weights(masks.shape[-2])
    shares = jnp.einsum("kh,bthw->btk", weights / weights.sum(1, keepdims=True), masks) / masks.shape[-1]
    of_cells = optax.sigmoid_binary_cross_entropy(cells, cell_means(masks, *cells.shape[-2:])).mean()
    return of_cells + optax.sigmoid_binary_cross_entropy(bands, shares).mean()


def contrastive(distances: jax.Array, same: jax.Array, *, margin: float) -> jax.Array:
    """½ d² for a pair of clips of one person, ½ max(0, margin − d)² of two people: distances [B], same bool [B].

    After Hadsell, Chopra and LeCun (2006), and McLaughlin et al. (CVPR 2016), whose network ASTPN starts from; the
    code of ASTPN's authors uses d and max(0, margin − d) instead.
    """
    return jnp.mean(jnp.square(jnp.where(same, distances, jnp.maximum(margin - distances, 0)))) / 2


def distance(first: jax.Array, second: jax.Array) -> jax.Array:
    """Euclidean distances of vectors: [..., C] and [..., C], broadcast, to [...]. At 0 the gradient is 0."""
    squared = jnp.square(first - second).sum(-1)
    differ = squared > 0
    # The inner selection keeps 1/√0 out of the gradient, where the outer one would turn it into 0·∞.
    return jnp.where(differ, jnp.sqrt(jnp.where(differ, squared, 1)), 0)
