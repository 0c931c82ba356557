"""Training a re-ID network: cross-entropy alone (section 4.2 of the paper), unless the task adds to it."""

import os
from collections.abc import Sequence

import jax

from vrstc_jax.config import ReidTask
from vrstc_jax.data.batches import TrainingFrames, reid_batches
from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.runtime import distributed
from vrstc_jax.training import loop
from vrstc_jax.training.reid_step import adopted, gradients, initial_state, training_step

__all__ = ["adopted", "gradients", "initial_state", "train_reid", "training_step"]


def train_reid(data: TrackletSet, frames: Sequence[TrainingFrames], task: ReidTask, identities: int,
               directory: str | os.PathLike, *, start_from: dict | None = None, name: str = "re-ID network",
               intervals: loop.Intervals = loop.Intervals()) -> dict:
    """Trains the first or the final re-ID network (steps 1 and 5).

    Args:
      frames: what training may use of each tracklet.
      directory: for checkpoints and metrics; an interrupted training goes on from there.
      start_from: as of `initial_state`.
      name: for the progress bar.

    Returns:
      Variables of `ReidNet`, on the host.

    Raises:
      InputError, TrainingDiverged, Preempted: as `loop.train`; the first also as `reid_batches`.
    """
    devices = distributed.batch_devices(task.training.batch)
    run = loop.TrainingRun(name, steps=task.training.steps, directory=directory, devices=devices, task=task,
                           intervals=intervals)
    state = loop.train(run, initial_state(task, identities, start_from=start_from),
                       training_step(task, identities, devices),
                       lambda start: reid_batches(data, frames, task, start=start))
    return jax.device_get(state.result)
