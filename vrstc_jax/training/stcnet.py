"""One training step of STCnet: both players at once (section 3.5, equations 4 to 10).

    step = pmap_step(config, identities, devices)
    state, metrics = step(state, guider, shard(batch, devices))

One forward pass gives both players' losses, and two pullbacks through it their gradients: of the
generators' loss for the generators, of the discriminators' for the discriminators. Both players thus move
from the same point, and nothing is computed twice.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames, stcnet_batches
from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.models import losses
from vrstc_jax.models.discriminators import DiscriminatorPair
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.reid import ReidNet
from vrstc_jax.ops.pictures import to_float, to_uint8
from vrstc_jax.runtime import distributed
from vrstc_jax.training import loop
from vrstc_jax.training.devices import AXIS, jit_without_optimisation, replicated
from vrstc_jax.training.optimiser import adam, running_mean

# PSNR of a hole that is filled to the bit; it keeps the mean finite.
_SMALLEST_MEAN_SQUARE = 1e-10


@struct.dataclass
class State:
    """Both players. `mean` is the running mean of the generators' parameters, or None."""

    step: jax.Array
    generators: dict
    discriminators: dict
    generators_adam: tuple
    discriminators_adam: tuple
    mean: dict | None

    @property
    def result(self) -> dict:
        """The generators' parameters to use: the running mean where there is one."""
        return self.generators if self.mean is None else self.mean


def initial_state(config: configs.Config, *, start_from: tuple[dict, dict] | None = None) -> State:
    """A fresh state from the config's seed, on the host, as a pod's first donated call needs it.

    Args:
      start_from: parameters of the generators and of the discriminators to begin with, those of another training.

    Raises:
      ValueError: they are of networks of another shape.
    """
    c = config.stcnet
    frames, masks = jnp.zeros((1, c.height, c.width, 3)), jnp.ones((1, c.height, c.width, 1))
    sides = jnp.zeros((1, c.frames_per_side, c.height, c.width, 3))

    @jit_without_optimisation
    def make(key):
        for_generators, for_discriminators = jax.random.split(key)
        generators = Generators(c).init(for_generators, frames, masks, sides, sides)["params"]
        discriminators = DiscriminatorPair(config.discriminators).init(for_discriminators, frames, masks)
        optimiser = adam(config.stcnet_training)
        return State(step=jnp.zeros((), jnp.int32), generators=generators,
                     discriminators=discriminators["params"], generators_adam=optimiser.init(generators),
                     discriminators_adam=optimiser.init(discriminators["params"]),
                     mean=generators if config.stcnet_training.average else None)

    state = jax.tree.map(np.asarray, make(jax.random.key(config.seed)))
    if start_from is None:
        return state
    generators, discriminators = (jax.tree.map(np.asarray, params) for params in start_from)
    for fresh, given in ((state.generators, generators), (state.discriminators, discriminators)):
        if jax.tree.map(np.shape, fresh) != jax.tree.map(np.shape, given):
            raise ValueError("training cannot start from these parameters: they are of networks of another shape.")
    return state.replace(generators=generators, discriminators=discriminators,
                         mean=None if state.mean is None else generators)


def gradients(config: configs.Config, identities: int, state: State, guider: dict | None, batch: dict):
    """Gradients of both players on this device's part of a batch, and the metrics.

    Args:
      guider: variables of the frozen re-ID network R with `identities` classes; None leaves L_c out.
      batch: what `data.pipeline.stcnet_batches` yields.

    Returns:
      (generators' gradients, discriminators' gradients, metrics).
    """
    frames, previous, following = (to_float(batch[k]) for k in ("frames", "previous", "following"))
    masks = batch["masks"].astype(jnp.float32)
    weights = config.losses
    generators = Generators(config.stcnet, config.compute)
    players = DiscriminatorPair(config.discriminators, config.compute)

    def forward(generator_params, discriminator_params):
        first, second = generators.apply({"params": generator_params}, frames, masks, previous, following)
        parts = {"reconstruction": losses.reconstruction(frames, first, second, kind=weights.reconstruction)}
        total, against = parts["reconstruction"], jnp.zeros(())
        if trains_discriminators(weights):
            judge = partial(players.apply, {"params": discriminator_params})
            (real_global, real_local), (fake_global, fake_local) = judge(frames, masks), judge(second, masks)
            parts |= {
                "adversarial_global": losses.adversarial(fake_global),
                "adversarial_local": losses.adversarial(fake_local),
                "discriminator_global": losses.discriminator(real_global, fake_global),
                "discriminator_local": losses.discriminator(real_local, fake_local),
            }
            taking_part = (weights.global_discriminator * parts["adversarial_global"]
                           + weights.local_discriminator * parts["adversarial_local"])
            total += weights.adversarial * taking_part
            against = parts["discriminator_global"] + parts["discriminator_local"]
        if guider is not None and weights.identity:
            logits = ReidNet(config.reid, identities, dtype=config.compute).apply(guider, second[:, None])
            parts["identity"] = losses.identity(logits, batch["labels"])
            total += weights.identity * parts["identity"]
        parts |= {"generators": total, "discriminators": against,
                  "psnr_spatial": _psnr(first, frames, masks), "psnr_stcnet": _psnr(second, frames, masks)}
        return (total, against), parts

    (total, against), pullback, metrics = jax.vjp(forward, state.generators, state.discriminators,
                                                  has_aux=True)
    one = lambda like: jnp.ones_like(like)
    zero = lambda like: jnp.zeros_like(like)
    for_generators, _ = pullback((one(total), zero(against)))
    _, for_discriminators = pullback((zero(total), one(against)))
    return for_generators, for_discriminators, metrics


def trains_discriminators(weights: configs.Losses) -> bool:
    """Whether a discriminator takes part at all; where none does, none is trained."""
    return bool(weights.adversarial and (weights.global_discriminator or weights.local_discriminator))


def update(config: configs.Config, state: State, for_generators, for_discriminators) -> State:
    """Both players' Adam step."""
    optimiser = adam(config.stcnet_training)

    def move(params, adam_state, grads):
        updates, adam_state = optimiser.update(grads, adam_state, params)
        return jax.tree.map(jnp.add, params, updates), adam_state

    generators, generators_adam = move(state.generators, state.generators_adam, for_generators)
    discriminators, discriminators_adam = move(state.discriminators, state.discriminators_adam,
                                               for_discriminators)
    mean = state.mean
    if mean is not None:
        mean = running_mean(mean, generators, state.step + 1, config.stcnet_training.average)
    return State(step=state.step + 1, generators=generators, discriminators=discriminators,
                 generators_adam=generators_adam, discriminators_adam=discriminators_adam, mean=mean)


def pmap_step(config: configs.Config, identities: int, devices=None):
    """The step over the devices, of all processes, or all there are: (state, guider, batch [devices, B/devices, …])
    to (state, metrics).

    The state is not mapped, and it is donated; gradients are averaged over devices (AXIS) after they are
    taken, and so are the metrics, so that every output is the same everywhere.
    """
    def step(state, guider, batch):
        *grads, metrics = gradients(config, identities, state, guider, batch)
        for_generators, for_discriminators, metrics = jax.lax.pmean((*grads, metrics), AXIS)
        return update(config, state, for_generators, for_discriminators), metrics

    return jax.pmap(step, axis_name=AXIS, in_axes=(None, None, 0), out_axes=(None, None), donate_argnums=0,
                    devices=devices)


def _psnr(completed, frames, masks):
    """Mean over the batch of the PSNR in the hole, in dB, at the network's size; frames in [−1, 1]."""
    error = jnp.sum(jnp.square(completed - frames) * masks, (1, 2, 3))
    mean_square = error / (3 * jnp.sum(masks, (1, 2, 3)))
    return jnp.mean(10 * jnp.log10(4.0 / jnp.maximum(mean_square, _SMALLEST_MEAN_SQUARE)))


def train_stcnet(data: TrackletSet, usable: Sequence[TrainingFrames], config: configs.Config, guider: dict,
                 identities: int, directory, *, start_from: tuple[dict, dict] | None = None, log_every: int = 20,
                 checkpoint_every: int = 200):
    """DESIGN's step 3: STCnet on unoccluded frames, with the frozen re-ID network as guider.

    Args:
      start_from: as of `initial_state`.
    """
    devices = distributed.batch_devices(config.stcnet_training.batch)
    step = pmap_step(config, identities, devices)
    placed = replicated(guider, devices) if config.losses.identity else None
    generators = Generators(config.stcnet)

    @jax.jit
    def completed(params, batch):
        frames, previous, following = (to_float(batch[k][:4]) for k in
                                       ("frames", "previous", "following"))
        masks = batch["masks"][:4].astype(np.float32)
        _, second = generators.apply({"params": params}, frames, masks, previous, following)
        return to_uint8(jnp.stack([frames, frames * (1 - masks), second], axis=1))

    def pictures(state, batch):
        sheet = np.asarray(completed(jax.device_get(state.result), batch))
        return np.concatenate([np.concatenate(list(row), axis=1) for row in sheet], axis=0)

    return loop.train(
        "STCnet", initial_state(config, start_from=start_from), lambda state, batch: step(state, placed, batch),
        lambda start: stcnet_batches(data, usable, config, start=start),
        steps=config.stcnet_training.steps, directory=directory, devices=devices, config=config, log_every=log_every,
        checkpoint_every=checkpoint_every, pictures=pictures)
