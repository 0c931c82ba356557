"""Training STCnet: generators and discriminators at once, by the steps of `stcnet_step`."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vrstc_jax.config import STCnetTask
from vrstc_jax.data.batches import TrainingFrames, stcnet_batches
from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.models.generators import Generators
from vrstc_jax.ops.pixel_values import to_float, to_uint8
from vrstc_jax.runtime import distributed
from vrstc_jax.training import loop
from vrstc_jax.training.devices import replicated
from vrstc_jax.training.state import TrainState
from vrstc_jax.training.stcnet_step import gradients, initial_state, training_step

__all__ = ["gradients", "initial_state", "train_stcnet", "training_step"]

_SHOWN = 4  # examples of a batch in the picture of what the network does


def train_stcnet(data: TrackletSet, frames: Sequence[TrainingFrames], task: STCnetTask, guider: dict, identities: int,
                 directory: str | os.PathLike, *, start_from: tuple[dict, dict] | None = None,
                 intervals: loop.Intervals = loop.Intervals()) -> tuple[dict, dict]:
    """Trains STCnet on unoccluded frames, with the frozen re-ID network as guider (step 3).

    Args:
      frames: what training may use of each tracklet.
      guider: variables of `ReidNet` with `identities` classes.
      directory: for checkpoints and metrics; an interrupted training goes on from there.
      start_from: as of `initial_state`.

    Returns:
      Parameters of the generators and of the discriminators, on the host.

    Raises:
      InputError, TrainingDiverged, Preempted: as `loop.train`; the first also as `stcnet_batches`.
    """
    devices = distributed.batch_devices(task.training.batch)
    update = training_step(task, identities, devices)
    on_devices = replicated(guider, devices, task.parallel) if task.losses.identity else None
    run = loop.TrainingRun("STCnet", steps=task.training.steps, directory=directory, devices=devices, task=task,
                           intervals=intervals, pictures=_pictures(task))
    state = loop.train(run, initial_state(task, start_from=start_from),
                       lambda state, batch: update(state, on_devices, batch),
                       lambda start: stcnet_batches(data, frames, task, start=start))
    return jax.device_get(state.result), jax.device_get(state.params["discriminators"])


def _pictures(task: STCnetTask) -> Callable[[TrainState, dict], np.ndarray]:
    """From (state, batch) to rows of frame, frame with its hole, and completed frame: uint8 [H', W', 3]."""
    generators = Generators(task.stcnet)

    @jax.jit
    def completed(params: dict, batch: dict) -> jax.Array:
        frames, previous, following = (to_float(batch[k][:_SHOWN]) for k in ("frames", "previous", "following"))
        masks = batch["masks"][:_SHOWN].astype(np.float32)
        both: Any = generators.apply({"params": params}, frames, masks, previous, following)
        return to_uint8(jnp.stack([frames, frames * (1 - masks), both[1]], axis=1))

    def pictures(state: TrainState, batch: dict) -> np.ndarray:
        sheet = np.asarray(completed(jax.device_get(state.result), batch))
        return np.concatenate([np.concatenate(list(row), axis=1) for row in sheet], axis=0)

    return pictures
