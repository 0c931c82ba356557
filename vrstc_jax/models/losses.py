"""The losses of VRSTC, equations 4 to 10, and those that a re-ID network may add.

Each is a function of arrays to a scalar, a mean over the batch. The paper's ‖·‖₁ is taken as a mean per
pixel and channel: it does not say, and its λ1 = 0.001, λ2 = 0.1 weigh something only so. Discriminators
give logits l, so that log D = log σ(l) = −softplus(−l) and log(1 − D) = −softplus(l), exactly.
"""

import jax
import jax.numpy as jnp
import optax

from vrstc_jax.ops.regions import band_weights, cell_means

_A_LITTLE = 0.05  # the share of a band below which it is shown


def reconstruction(frames, first, second, *, kind: str = "l1"):
    """L_r = ‖x − x̂1‖₁ + ‖x − x̂2‖₁ (equation 4); frames [B, H, W, 3]. `kind` 'l2' squares instead."""
    distance = {"l1": jnp.abs, "l2": jnp.square}[kind]
    return jnp.mean(distance(frames - first)) + jnp.mean(distance(frames - second))


def discriminator(real, fake):
    """−L_a of one discriminator (equations 7, 8): logits [B] of real and completed frames.

    The paper prints log D(1 − x̂); what is meant is log(1 − D(x̂)).
    """
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def adversarial(fake):
    """A generator's side of equations 7 and 8 in the non-saturating form, −log D(x̂2); logits [B]."""
    return jnp.mean(jax.nn.softplus(-fake))


def identity(logits, labels, *, smoothing: float = 0.0):
    """L_c = −Σ_k q_k log R(x̂2)_k (equation 9): logits [B, K], labels int [B].

    q is 1 at the label and 0 elsewhere; with `smoothing` ε (Szegedy et al., CVPR 2016) it is ε/K everywhere
    and 1 − ε more at the label.
    """
    exact = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if not smoothing:
        return jnp.mean(exact)
    even = -jax.nn.log_softmax(logits).mean(-1)
    return jnp.mean((1 - smoothing) * exact + smoothing * even)


def batch_hard_triplet(features, labels, *, margin: float, axis_name: str | None = None):
    """Batch-hard triplet loss (Hermans, Beyer, Leibe 2017): features [B, C], labels int [B].

    Of each clip max(0, margin + its farthest of the same person − its nearest of another), in Euclidean
    distance; the mean over clips. The farthest of a clip alone of its person is itself, at distance 0; a
    clip with no other person about it adds nothing. Gradients are finite where features are equal: a
    distance of 0 has the gradient 0.

    Args:
      axis_name: a device axis over which the batch is spread. Each device then takes the loss of its own
        clips against those of all devices. Differentiating on each device and averaging afterwards, as the
        trainers do, is the gradient of the loss of the global batch: the gather's transpose brings to each
        device what all devices' losses have to say of its features, so that it holds the gradient of the
        devices' sum, of which the mean is their share.
    """
    everyone, everyones = features, labels
    if axis_name is not None:
        everyone, everyones = (jax.lax.all_gather(x, axis_name, tiled=True) for x in (features, labels))
    # Which clips they are is found first, without gradients; then two distances a clip need them, not B.
    same = labels[:, None] == everyones[None]
    distances = jax.lax.stop_gradient(distance(features[:, None], everyone[None]))
    farthest = everyone[jnp.argmax(jnp.where(same, distances, -1), axis=1)]
    nearest = everyone[jnp.argmin(jnp.where(same, jnp.inf, distances), axis=1)]
    hinge = jnp.maximum(margin + distance(features, farthest) - distance(features, nearest), 0)
    return jnp.mean(jnp.where(same.all(1), 0, hinge))


def locating(logits, hidden, *, suspect: float = 0.15, axis_name: str | None = None):
    """An option on top of the paper: bands that were hidden on purpose should be found by equation 12.

    Binary cross-entropy of each band, its label the share that is hidden. Something may hide others too, of
    which nobody knows: of the bands that were not hidden on purpose, a share that look hidden most are left out.

    Args:
      logits: float [B, T, 3], of how much of each band looks hidden.
      hidden: float [B, T, 3] in [0, 1], the share of each band that was hidden on purpose, or is known to be.
      suspect: the share to leave out, 0 where all that is hidden is known.
      axis_name: a device axis over which the batch is spread; the mean over devices is then the loss of the
        global batch.
    """
    losses = optax.sigmoid_binary_cross_entropy(logits, hidden)
    shown = hidden < _A_LITTLE
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


def locating_cells(logits, masks):
    """As `locating`, where masks are known: of each cell, and of each band.

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


def contrastive(distances, same, *, margin: float):
    """Of a pair of clips: ½ d² of one person, ½ max(0, margin − d)² of two; distances [B], same bool [B].

    As Hadsell, Chopra and LeCun (2006), and the recurrent network that ASTPN starts from (McLaughlin et al.,
    CVPR 2016); ASTPN's authors' code takes d and max(0, margin − d) instead.
    """
    return jnp.mean(jnp.square(jnp.where(same, distances, jnp.maximum(margin - distances, 0)))) / 2


def distance(first, second):
    """Euclidean distances of vectors: [..., C] and [..., C], broadcast, to [...]; at distance 0 its gradient
    is 0."""
    squared = jnp.square(first - second).sum(-1)
    apart = squared > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1)), 0)
