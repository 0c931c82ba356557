"""One training step of a re-ID network: cross-entropy alone (section 4.2 of the paper), unless the config
adds to it.

The network is `config.reid`, trained as `config.reid_training` says; the final one is trained with the config
that `config.of_final` gives.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct, traverse_util

from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames, reid_batches
from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.models import losses
from vrstc_jax.models.reid import ReidNet, initial_variables
from vrstc_jax.ops.pictures import to_float
from vrstc_jax.runtime import distributed
from vrstc_jax.training import loop
from vrstc_jax.training.devices import AXIS, jit_without_optimisation
from vrstc_jax.training.optimiser import adam, running_mean


@struct.dataclass
class State:
    """The network and the optimiser of what learns (`Training.only`)."""

    step: jax.Array
    params: dict
    batch_stats: dict
    adam: tuple

    @property
    def result(self) -> dict:
        """The network's variables."""
        return {"params": self.params, "batch_stats": self.batch_stats}


@struct.dataclass
class AveragedState(State):
    """With the running mean of the variables, batch statistics too (`Training.average`), which is the result.

    A class of its own, so that checkpoints of trainings without it stay as they are.
    """

    mean: dict

    @property
    def result(self) -> dict:
        """The running mean of the network's variables."""
        return self.mean


def initial_state(config: configs.Config, identities: int, *, start_from: dict | None = None) -> State:
    """A state from the config's seed, on the host.

    Args:
      start_from: variables of `ReidNet` {'params', 'batch_stats'}, or a part of them, to begin with:
        ImageNet's, or those of another training. What they lack (non-local blocks, a pooling) is fresh, and
        so is the classifier where theirs is for another number of identities.

    Raises:
      ValueError: `start_from` holds something that the network has no place for.
    """
    network = partial(initial_variables, config.reid, identities)
    return first_state(network, config.reid_training, seed=config.seed + 1, start_from=start_from)


def first_state(network, training: configs.Training, *, seed: int, start_from: dict | None = None) -> State:
    """As `initial_state`, of any network: `network` is a function of a key to {'params', 'batch_stats'}."""
    @jit_without_optimisation
    def make(key):
        variables = network(key)
        return State(step=jnp.zeros((), jnp.int32), params=variables["params"],
                     batch_stats=variables["batch_stats"],
                     adam=adam(training).init(_learning(variables["params"], training)))

    state = jax.tree.map(np.asarray, make(jax.random.key(seed)))
    if start_from is not None:
        state = state.replace(**_begun(state.result, start_from))
    return AveragedState(**vars(state), mean=state.result) if training.average else state


def _learning(params, training):
    """The parts of the parameters that learn.

    Raises:
      ValueError: `Training.only` names one that the network does not have.
    """
    for name in training.only:
        if name not in params:
            raise ValueError(f"Training.only: the network has no part '{name}'; it has {', '.join(sorted(params))}.")
    return {name: part for name, part in params.items() if not training.only or name in training.only}


def _begun(fresh, start_from):
    """The fresh variables with those of `start_from` in their places."""
    variables = traverse_util.flatten_dict(fresh)
    for path, value in traverse_util.flatten_dict(start_from).items():
        value = np.asarray(value)
        if path in variables and variables[path].shape == value.shape:
            variables[path] = value.astype(variables[path].dtype)
        elif path[1:2] != ("classifier",):
            raise ValueError(f"the network has no place for {'/'.join(path)} of shape {list(value.shape)}"
                             + (f"; its own is {list(variables[path].shape)}." if path in variables else "."))
    return traverse_util.unflatten_dict(variables)


def gradients(config: configs.Config, identities: int, state: State, batch: dict, axis_name: str | None):
    """Gradients on this device's part of a batch, of what learns; the new batch statistics, and the metrics.

    Batch statistics are those of the global batch: they are averaged over `axis_name` inside the forward
    pass, and the gradient passes through that average. So are a triplet loss' positives and negatives.
    """
    network, weights = ReidNet(config.reid, identities, axis_name, config.compute), config.reid_losses
    only = config.reid_training.only
    train = not only or "backbone" in only

    def forward(learning):
        method = "located_outputs" if config.reid.locating_loss else "outputs"
        (logits, features, penalty, *hidden), updated = network.apply(
            {"params": state.params | learning, "batch_stats": state.batch_stats}, to_float(batch["clips"]),
            train=train, mutable=["batch_stats"], method=method)
        loss = losses.identity(logits, batch["labels"], smoothing=weights.label_smoothing)
        parts = {"cross_entropy": loss, "accuracy": jnp.mean(jnp.argmax(logits, -1) == batch["labels"])}
        if weights.triplet:
            parts["triplet"] = losses.batch_hard_triplet(features, batch["labels"], margin=weights.margin,
                                                         axis_name=axis_name)
            loss += weights.triplet * parts["triplet"]
        if config.reid.pooling == "diverse_attention":
            parts["diversity"] = penalty
            loss += weights.diversity * penalty
        if hidden:
            parts["locating"] = losses.locating_cells(hidden, batch["masks"]) if "masks" in batch else losses.locating(
                hidden[0], batch["hidden"], axis_name=axis_name,
                **({"suspect": 0.0} if config.reid.locating_masks else {}))
            loss += config.reid.locating_loss * parts["locating"]
        return loss, (updated["batch_stats"], parts)

    (_, (batch_stats, metrics)), grads = jax.value_and_grad(forward, has_aux=True)(
        _learning(state.params, config.reid_training))
    return grads, batch_stats, metrics


def pmap_step(config: configs.Config, identities: int, devices=None):
    """The step over the devices, of all processes, or all there are: (state, batch [devices, B/devices, …]) to
    (state, metrics).

    Raises:
      ValueError: a triplet loss is asked for, and batches that would hold no two clips of a person.
    """
    if config.reid_losses.triplet and config.reid_training.clips_per_identity < 2:
        raise ValueError("the triplet loss needs two clips of a person in a batch: "
                         "Training.clips_per_identity must be at least 2. Got "
                         f"{config.reid_training.clips_per_identity}.")
    return pmap_update(partial(gradients, config, identities), config.reid_training, devices)


def pmap_update(gradients, training: configs.Training, devices=None):
    """As `pmap_step`, of any network: `gradients` of (state, batch, axis_name) is as the function above."""
    optimiser = adam(training)

    def step(state, batch):
        grads, batch_stats, metrics = gradients(state, batch, AXIS)
        # The statistics are the same on every device already; the mean says so to pmap's outputs.
        grads, batch_stats, metrics = jax.lax.pmean((grads, batch_stats, metrics), AXIS)
        learning = _learning(state.params, training)
        updates, adam_state = optimiser.update(grads, state.adam, learning)
        params = state.params | jax.tree.map(jnp.add, learning, updates)
        new = state.replace(step=state.step + 1, params=params, batch_stats=batch_stats, adam=adam_state)
        if training.average:
            now = {"params": params, "batch_stats": batch_stats}
            new = new.replace(mean=running_mean(state.mean, now, new.step, training.average))
        return new, metrics

    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=0,
                    devices=devices)


def train_reid(data: TrackletSet, seen: Sequence[TrainingFrames], config: configs.Config, identities: int, directory, *,
               start_from: dict | None = None, name: str = "re-ID network", log_every: int = 20,
               checkpoint_every: int = 200) -> dict:
    """DESIGN's step 1, and with `config.of_final`'s config its step 5: the variables of a trained `ReidNet`.

    Args:
      seen: what training may use of each tracklet.
      start_from: as of `initial_state`.
      name: for the progress bar.
    """
    config, devices = _of_reid(config), distributed.batch_devices(config.reid_training.batch)
    state = loop.train(
        name, initial_state(config, identities, start_from=start_from),
        pmap_step(config, identities, devices), lambda start: reid_batches(data, seen, config, start=start),
        steps=config.reid_training.steps, directory=directory, devices=devices, config=config, log_every=log_every,
        checkpoint_every=checkpoint_every)
    return jax.device_get(state.result)


def _of_reid(config):
    """The part that a re-ID network's training sees: the rest may change beside its checkpoints, as where variants of
    STCnet share one network."""
    return configs.Config(**{name: getattr(config, name) for name in (
        "name", "reid", "reid_training", "reid_losses", "compute", "seed")})
