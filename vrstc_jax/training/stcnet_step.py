"""STCnet's initial state, gradients and step (section 3.5, equations 4 to 10); `training.stcnet` trains with them.

    step = training_step(task, identities, devices)
    state, metrics = step(state, guider, shard(batch, devices, task.parallel))

One forward pass computes the losses of both, and two pullbacks through it give the gradients: of the generators'
loss for the generators, of the discriminators' for the discriminators. Both thus move from the same point, and
nothing is computed twice.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vrstc_jax.config import STCnetTask
from vrstc_jax.models import losses
from vrstc_jax.models.discriminators import DiscriminatorPair
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.reid import ReidNet
from vrstc_jax.ops.pixel_values import to_float
from vrstc_jax.training import state as states
from vrstc_jax.training import step
from vrstc_jax.training.state import TrainState

# PSNR is infinite where a hole is filled to the bit; this keeps the mean finite.
_SMALLEST_MEAN_SQUARE = 1e-10


def initial_state(task: STCnetTask, *, start_from: tuple[dict, dict] | None = None) -> TrainState:
    """A state from the task's seed, on the host; its result is the generators.

    Args:
      start_from: parameters of the generators and of the discriminators to begin with, those of another training.

    Raises:
      ValueError: they are of networks of another shape.
    """
    c = task.stcnet
    frames, masks = jnp.zeros((1, c.height, c.width, 3)), jnp.ones((1, c.height, c.width, 1))
    sides = jnp.zeros((1, c.frames_per_side, c.height, c.width, 3))

    def init(key):
        for_generators, for_discriminators = jax.random.split(key)
        generators = Generators(c).init(for_generators, frames, masks, sides, sides)
        discriminators = DiscriminatorPair(task.discriminators).init(for_discriminators, frames, masks)
        return {"params": {"generators": generators["params"], "discriminators": discriminators["params"]}}

    def adopt(fresh):
        if start_from is None:
            return fresh
        given = {"params": dict(zip(("generators", "discriminators"), jax.tree.map(np.asarray, start_from)))}
        if jax.tree.map(np.shape, fresh) != jax.tree.map(np.shape, given):
            raise ValueError("training cannot start from these parameters: they are of networks of another shape.")
        return given

    return states.initial_state(init, task.training, seed=task.seed, adopt=adopt, main="generators")


def gradients(task: STCnetTask, identities: int, state: TrainState, guider: dict | None,
              batch: dict) -> tuple[dict, dict, dict]:
    """Gradients of generators and discriminators on this device's part of a batch.

    Args:
      guider: variables of the frozen re-ID network R with `identities` classes; None leaves L_c out.
      batch: as `data.batches.stcnet_batches` yields it.

    Returns:
      ({'generators', 'discriminators'}, {}, metrics); the empty dictionary because neither has batch statistics.
    """
    frames, previous, following = (to_float(batch[k]) for k in ("frames", "previous", "following"))
    masks = batch["masks"].astype(jnp.float32)
    weights = task.losses
    generators = Generators(task.stcnet, task.compute)
    discriminators = DiscriminatorPair(task.discriminators, task.compute)

    def forward(generator_params, discriminator_params):
        completed: Any = generators.apply({"params": generator_params}, frames, masks, previous, following)
        first, second = completed
        parts = {"reconstruction": losses.reconstruction(frames, first, second, kind=weights.reconstruction)}
        total, against = parts["reconstruction"], jnp.zeros(())
        if weights.trains_discriminators:
            variables = {"params": discriminator_params}
            real: Any = discriminators.apply(variables, frames, masks)
            fake: Any = discriminators.apply(variables, second, masks)
            (real_global, real_local), (fake_global, fake_local) = real, fake
            parts |= {"adversarial_global": losses.adversarial(fake_global),
                      "adversarial_local": losses.adversarial(fake_local),
                      "discriminator_global": losses.discriminator(real_global, fake_global),
                      "discriminator_local": losses.discriminator(real_local, fake_local)}
            weighed = (float(weights.global_discriminator) * parts["adversarial_global"]
                       + float(weights.local_discriminator) * parts["adversarial_local"])
            total += weights.adversarial * weighed
            against = parts["discriminator_global"] + parts["discriminator_local"]
        if guider is not None and weights.identity:
            logits: Any = ReidNet(task.guider, identities, dtype=task.compute).apply(guider, second[:, None])
            parts["identity"] = losses.identity(logits, batch["labels"])
            total += weights.identity * parts["identity"]
        parts |= {"generators": total, "discriminators": against,
                  "psnr_spatial": _psnr(first, frames, masks), "psnr_stcnet": _psnr(second, frames, masks)}
        return (total, against), parts

    (total, against), pullback, metrics = jax.vjp(
        forward, state.params["generators"], state.params["discriminators"], has_aux=True)
    # Each pullback weighs one loss with 1 and the other with 0, and keeps the gradients of one network.
    for_generators, _ = pullback((jnp.ones_like(total), jnp.zeros_like(against)))
    _, for_discriminators = pullback((jnp.zeros_like(total), jnp.ones_like(against)))
    return {"generators": for_generators, "discriminators": for_discriminators}, {}, metrics


def training_step(task: STCnetTask, identities: int, devices: step.Devices = None) -> Callable:
    """The step over devices: (state, guider, batch [devices, B/devices, …]) to (state, metrics); see
    `step.training_step`."""
    return step.training_step(partial(gradients, task, identities), task.training, constants=1, devices=devices,
                              parallel=task.parallel)


def _psnr(completed: jax.Array, frames: jax.Array, masks: jax.Array) -> jax.Array:
    """Mean over the batch of the PSNR in the hole, in dB, at the network's size; frames in [−1, 1]."""
    error = jnp.sum(jnp.square(completed - frames) * masks, (1, 2, 3))
    mean_square = error / (3 * jnp.sum(masks, (1, 2, 3)))
    return jnp.mean(10 * jnp.log10(4.0 / jnp.maximum(mean_square, _SMALLEST_MEAN_SQUARE)))
