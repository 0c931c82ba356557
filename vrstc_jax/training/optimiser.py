"""Adam as the paper's PyTorch has it, and its learning rate over time."""

import jax.numpy as jnp
import optax
from jax import tree_util

from vrstc_jax.config import Training


def learning_rate(training: Training) -> optax.Schedule:
    """The learning rate at each step: the config's schedule after its linear warm-up.

    Raises:
      ValueError: the schedule is none of 'constant', 'cosine', 'staircase'.
    """
    steps = max(training.steps, 1)
    if training.schedule == "constant":
        rate = optax.constant_schedule(training.learning_rate)
    elif training.schedule == "cosine":
        rate = optax.cosine_decay_schedule(training.learning_rate, steps)
    elif training.schedule == "staircase":
        rate = optax.piecewise_constant_schedule(
            training.learning_rate, {steps // 3: 0.1, 2 * steps // 3: 0.1} if steps >= 3 else {})
    else:
        raise ValueError(f"schedule must be 'constant', 'cosine' or 'staircase'. Got {training.schedule!r}.")
    if not training.warmup:
        return rate
    return lambda step: rate(step) * jnp.minimum(1.0, (step + 1) / training.warmup)


def adam(training: Training) -> optax.GradientTransformation:
    """Adam with coupled weight decay: the decay joins the gradient before Adam scales it (not AdamW)."""
    decay = optax.add_decayed_weights(training.weight_decay) if training.weight_decay else optax.identity()
    return optax.chain(decay, optax.scale_by_adam(), optax.scale_by_learning_rate(learning_rate(training)))


def running_mean(mean, params, step, decay: float):
    """The running mean of the parameters after `step` updates, quick to forget the first ones."""
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return tree_util.tree_map(lambda m, p: decay * m + (1 - decay) * p, mean, params)
