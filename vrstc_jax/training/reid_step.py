"""A re-ID network's initial state, gradients and step; `training.reid` trains with them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vrstc_jax.config import ReidTask
from vrstc_jax.models import losses
from vrstc_jax.models.reid import ReidNet, initial_variables
from vrstc_jax.ops.pixel_values import to_float
from vrstc_jax.training import state as states
from vrstc_jax.training import step
from vrstc_jax.training.devices import AXIS
from vrstc_jax.training.state import TrainState, learning_part


def initial_state(task: ReidTask, identities: int, *, start_from: dict | None = None) -> TrainState:
    """A state from the task's seed, on the host.

    Args:
      start_from: variables of `ReidNet` {'params', 'batch_stats'}, or a part of them, to begin with:
        ImageNet's, or those of another training. What they lack (non-local blocks, a pooling) is fresh, and
        so is the classifier where theirs is for another number of identities.

    Raises:
      ValueError: `start_from` holds something that the network does not have.
    """
    init = partial(initial_variables, task.network, identities)
    return states.initial_state(init, task.training, seed=task.seed, adopt=partial(adopted, start_from=start_from))


def adopted(fresh: dict, *, start_from: dict | None) -> dict:
    """Fresh variables, replaced by those of `start_from` where it has them; arguments and errors as `initial_state`."""
    variables: dict[tuple, Any] = dict(traverse_util.flatten_dict(fresh))
    for path, value in traverse_util.flatten_dict(start_from or {}).items():
        value = np.asarray(value)
        if path in variables and variables[path].shape == value.shape:
            variables[path] = value.astype(variables[path].dtype)
        elif path[1:2] != ("classifier",):
            raise ValueError(f"the network has no {'/'.join(path)} of shape {list(value.shape)}"
                             + (f"; its own is {list(variables[path].shape)}." if path in variables else "."))
    return traverse_util.unflatten_dict(variables)


def gradients(task: ReidTask, identities: int, state: TrainState, batch: dict, *,
              axis_name: str | None = None) -> tuple[dict, dict, dict]:
    """Gradients of what learns on this device's part of a batch, the new batch statistics, and the metrics.

    Args:
      batch: as `data.batches.reid_batches` yields it.
      axis_name: device axis over which the batch is spread. Batch statistics are then averaged over it inside the
        forward pass, and the gradient passes through that average, as it does through a triplet loss' positives
        and negatives.
    """
    network, weights = ReidNet(task.network, identities, axis_name, task.compute), task.losses
    only = task.training.only
    train = not only or "backbone" in only  # a backbone that does not learn keeps its batch statistics too
    # Where masks are known, every hidden band is known, so none is suspected.
    suspects = {"suspect": 0.0} if task.network.locating_masks else {}

    def forward(learning):
        method = "located_outputs" if task.network.locating_loss else "outputs"
        (logits, features, penalty, *hidden), updated = network.apply(
            {"params": state.params | learning, "batch_stats": state.batch_stats}, to_float(batch["clips"]),
            train=train, mutable=["batch_stats"], method=method)
        loss = losses.identity(logits, batch["labels"], smoothing=weights.label_smoothing)
        parts = {"cross_entropy": loss, "accuracy": jnp.mean(jnp.argmax(logits, -1) == batch["labels"])}
        if weights.triplet:
            parts["triplet"] = losses.batch_hard_triplet(features, batch["labels"], margin=weights.margin,
                                                         axis_name=axis_name)
            loss += weights.triplet * parts["triplet"]
        if task.network.pooling == "diverse_attention":
            parts["diversity"] = penalty
            loss += weights.diversity * penalty
        if hidden:
            parts["locating"] = (losses.locating_cells(hidden, batch["masks"]) if "masks" in batch else
                                 losses.locating(hidden[0], batch["hidden"], axis_name=axis_name, **suspects))
            loss += task.network.locating_loss * parts["locating"]
        return loss, (updated["batch_stats"], parts)

    learning = learning_part(state.params, task.training)
    (_, (batch_stats, metrics)), grads = jax.value_and_grad(forward, has_aux=True)(learning)
    return grads, batch_stats, metrics


def training_step(task: ReidTask, identities: int, devices: step.Devices = None) -> Callable:
    """The step over devices: (state, batch [devices, B/devices, …]) to (state, metrics); see `step.training_step`.

    Raises:
      ValueError: a triplet loss is asked for, and batches that would hold no two clips of a person.
    """
    if task.losses.triplet and task.training.clips_per_identity < 2:
        raise ValueError("the triplet loss needs two clips of a person in a batch: Training.clips_per_identity must be "
                         f"at least 2. Got {task.training.clips_per_identity}.")
    return step.training_step(partial(gradients, task, identities, axis_name=AXIS), task.training, devices=devices,
                              parallel=task.parallel)
