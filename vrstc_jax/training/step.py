"""The training step of any network, over the devices of all processes."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from vrstc_jax.config import Parallel, Training
from vrstc_jax.training.devices import AXIS, Device, mesh_of
from vrstc_jax.training.optimiser import adam, running_mean
from vrstc_jax.training.state import TrainState, learning_part

Devices = Sequence[Device] | None  # of all processes; None: all there are


def training_step(gradients: Callable, training: Training, *, constants: int = 0, devices: Devices = None,
                  parallel: Parallel = "pmap") -> Callable:
    """One Adam step from a network's gradients, divided between devices.

    Args:
      gradients: (state, *constants, batch) to (gradients of what learns, new batch statistics, metrics), on a
        device's part of the batch. Its outputs are averaged over devices afterwards, so each must be a mean over the
        examples, not a sum.
      constants: number of arguments between state and batch that are the same on every device.
      devices: those that the batch is divided between.
      parallel: how, as `Config.parallel`; arguments are laid out by `devices.replicated` and `devices.shard`.

    Returns:
      (state, *constants, batch [devices, B/devices, …]) to (state, metrics). The state is not mapped, and it is
      donated: the caller must not use it again.
    """
    optimiser = adam(training)

    def step(state: TrainState, *arguments):
        # The first device's value is returned without a check that the others are equal, so every output is averaged.
        grads, batch_stats, metrics = jax.lax.pmean(gradients(state, *arguments), AXIS)
        learning = learning_part(state.params, training)
        updates, adam_state = optimiser.update(grads, state.adam, learning)
        params = state.params | jax.tree.map(jnp.add, learning, updates)
        new = state.replace(step=state.step + 1, params=params, batch_stats=batch_stats, adam=adam_state)
        if training.average:
            new = new.replace(mean=running_mean(state.mean, new.current, new.step, training.average))
        return new, metrics

    if parallel == "pmap":
        return jax.pmap(step, axis_name=AXIS, in_axes=(*[None] * (1 + constants), 0), out_axes=(None, None),
                        donate_argnums=0, devices=devices)

    def on_a_device(*arguments):
        *same, batch = arguments
        return step(*same, jax.tree.map(lambda rows: rows[0], batch))

    everywhere = PartitionSpec()
    # Without the check of what varies over devices, derivatives of collectives are those that they have under pmap.
    return jax.jit(jax.shard_map(
        on_a_device, mesh=mesh_of(jax.devices() if devices is None else devices),
        in_specs=(*[everywhere] * (1 + constants), PartitionSpec(AXIS)), out_specs=(everywhere, everywhere),
        check_vma=False), donate_argnums=0)
