"""One training step of the re-ID network: cross-entropy alone (section 4.2 of the paper)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vrstc_jax import config as configs
from vrstc_jax import losses
from vrstc_jax.reid import ReidNet, initial_variables
from vrstc_jax.training.optimiser import adam
from vrstc_jax.training.stcnet import AXIS, jit_once, to_float


@struct.dataclass
class State:
    """The network and its optimiser."""

    step: jax.Array
    params: dict
    batch_stats: dict
    adam: tuple

    @property
    def result(self) -> dict:
        """The network's variables."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def initial_state(config: configs.Config, identities: int) -> State:
    """A fresh state from the config's seed, on the host."""
    @jit_once
    def make(key):
        variables = initial_variables(config.reid, identities, key)
        return State(step=jnp.zeros((), jnp.int32), params=variables["params"],
                     batch_stats=variables["batch_stats"],
                     adam=adam(config.reid_training).init(variables["params"]))

    return jax.tree.map(np.asarray, make(jax.random.key(config.seed + 1)))


def gradients(config: configs.Config, identities: int, state: State, batch: dict, axis_name: str | None):
    """Gradients on this device's part of a batch, the new batch statistics, and the metrics.

    Batch statistics are those of the global batch: they are averaged over `axis_name` inside the forward
    pass, and the gradient passes through that average.
    """
    network = ReidNet(config.reid, identities, axis_name)

    def forward(params):
        logits, updated = network.apply({"params": params, "batch_stats": state.batch_stats},
                                        to_float(batch["clips"]), train=True, mutable=["batch_stats"])
        loss = losses.identity(logits, batch["labels"])
        return loss, (updated["batch_stats"], jnp.mean(jnp.argmax(logits, -1) == batch["labels"]))

    (loss, (batch_stats, accuracy)), grads = jax.value_and_grad(forward, has_aux=True)(state.params)
    return grads, batch_stats, {"cross_entropy": loss, "accuracy": accuracy}


def pmap_step(config: configs.Config, identities: int, devices=None):
    """The step over all devices: (state, batch [devices, B/devices, …]) to (state, metrics)."""
    optimiser = adam(config.reid_training)

    def step(state, batch):
        grads, batch_stats, metrics = gradients(config, identities, state, batch, AXIS)
        # The statistics are the same on every device already; the mean says so to pmap's outputs.
        grads, batch_stats, metrics = jax.lax.pmean((grads, batch_stats, metrics), AXIS)
        updates, adam_state = optimiser.update(grads, state.adam, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        return State(step=state.step + 1, params=params, batch_stats=batch_stats, adam=adam_state), metrics

    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=0,
                    devices=devices)
