"""Adam as the paper's PyTorch has it, its learning rate over time, and the running mean of what it trains."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vrstc_jax.config import Training


def learning_rate(training: Training) -> optax.Schedule:
    """The learning rate at each step: the config's schedule after its linear warm-up."""
    steps = max(training.steps, 1)
    # With fewer than three steps there are no thirds, and the rate stays as it is.
    thirds = {steps // 3: 0.1, 2 * steps // 3: 0.1} if steps >= 3 else {}
    rate = {
        "constant": lambda: optax.constant_schedule(training.learning_rate),
        "cosine": lambda: optax.cosine_decay_schedule(training.learning_rate, steps),
        "staircase": lambda: optax.piecewise_constant_schedule(training.learning_rate, thirds)}[training.schedule]()
    if not training.warmup:
        return rate
    return lambda step: rate(step) * jnp.minimum(1.0, (step + 1) / training.warmup)


def adam(training: Training) -> optax.GradientTransformation:
    """Adam with coupled weight decay: the decay joins the gradient before Adam scales it (not AdamW)."""
    decay = optax.add_decayed_weights(training.weight_decay) if training.weight_decay else optax.identity()
    return optax.chain(decay, optax.scale_by_adam(), optax.scale_by_learning_rate(learning_rate(training)))


def running_mean(mean: Any, values: Any, step: jax.Array, decay: float) -> Any:
    """The running mean of a tree after `step` updates.

    The decay grows from 2/11 to `decay`, so that the initial values are soon forgotten.
    """
    keep = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda m, p: keep * m + (1 - keep) * p, mean, values)
