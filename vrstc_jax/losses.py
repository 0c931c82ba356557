"""The losses of VRSTC, equations 4 to 10.

Each is a function of arrays to a scalar, a mean over the batch. The paper's ‖·‖₁ is taken as a mean per
pixel and channel: it does not say, and its λ1 = 0.001, λ2 = 0.1 weigh something only so. Discriminators
give logits l, so that log D = log σ(l) = −softplus(−l) and log(1 − D) = −softplus(l), exactly.
"""

import jax
import jax.numpy as jnp
import optax


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


def identity(logits, labels):
    """L_c = −Σ_k q_k log R(x̂2)_k (equation 9): logits [B, K], labels int [B]."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
