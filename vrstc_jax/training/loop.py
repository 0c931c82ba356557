"""The training loop of every network: steps, metrics, checkpoints, and resuming."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from vrstc_jax.config import LocatingTask, ReidTask, STCnetTask
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import Preempted, TrainingDiverged
from vrstc_jax.runtime.storage import as_path
from vrstc_jax.training.checkpoints import Checkpoints
from vrstc_jax.training.devices import Device, replicated, shard
from vrstc_jax.training.metrics_log import MetricsLog


@dataclass(frozen=True)
class Intervals:
    """How often a training writes something, in steps."""

    log: int = 20  # metrics, as means over the steps since the last line
    checkpoint: int = 200
    pictures: int = 500


@dataclass(frozen=True)
class TrainingRun:
    """What a training is called, how long it is, and what it leaves where.

    Attributes:
      name: for the progress bar.
      steps: how many there are in all.
      directory: for checkpoints and metrics; local, or in gs://.
      devices: those of all processes that the step is for (`distributed.batch_devices`); None: all.
      task: kept in the checkpoints; those of another task are refused. It also says how the step is divided between
        devices; None: by pmap.
      best: a metric; the checkpoint at which it was lowest is kept beside the newest ones.
      intervals: how often something is written.
      pictures: (state, batch) to a picture, uint8 [H, W, 3], of what the network does by now. Process 0 alone calls
        it, so it must not compute with the other processes.
    """

    name: str
    steps: int
    directory: str | os.PathLike
    devices: Sequence[Device] | None = None
    task: ReidTask | STCnetTask | LocatingTask | None = None
    best: str | None = None
    intervals: Intervals = Intervals()
    pictures: Callable[[Any, dict], np.ndarray] | None = None


def train(run: TrainingRun, state: Any, step: Callable, batches: Callable[[int], Iterator[dict]]) -> Any:
    """Runs `step` until `run.steps` steps are done, from the last checkpoint in the directory if there is one.

    Every process of a run calls it with the same arguments; each trains on its rows of the batches. On SIGTERM it
    writes one more checkpoint, at the same step everywhere.

    Args:
      state: the initial state, a `TrainState` or any tree of arrays.
      step: (state, batch [devices, B/devices, …]) to (state, metrics), as `step.training_step`.
      batches: from a number of steps done to the batches of the steps after them.

    Returns:
      The state after all steps.

    Raises:
      TrainingDiverged: a metric or the state was not finite. The last good checkpoint is kept.
      Preempted: there was a SIGTERM; the same call goes on.
      InputError: the disk is full, the checkpoints are of another task, or the batch does not divide by the
        devices given.
    """
    name, directory, every = run.name, as_path(run.directory), run.intervals
    with (Checkpoints(directory / "checkpoints", best=run.best, task=run.task) as checkpoints,
          distributed.preemption_notice() as must_stop):
        state, start = checkpoints.restore(state)
        if start >= run.steps:
            return state
        devices = _devices(run)
        parallel = run.task.parallel if run.task else "pmap"
        state = replicated(state, devices, parallel)
        incoming = batches(start)
        waiting = _pending(checkpoints, start)
        since = time.monotonic(), start
        with (MetricsLog(directory, start) if distributed.is_first() else nullcontext() as log,
              tqdm(total=run.steps, initial=start, desc=name, unit="step", dynamic_ncols=True,
                   disable=not distributed.is_first()) as bar):
            for number in range(start + 1, run.steps + 1):
                batch = next(incoming)
                state, metrics = step(state, shard(batch, devices, parallel))
                waiting.append(metrics)
                stop, last = must_stop(), number == run.steps
                due, means = number % every.checkpoint == 0 or last, None
                if number % every.log == 0 or due:
                    checkpoints.check()
                    means = _means(waiting, name, number, checkpoints)
                    if log:
                        rate = (number - since[1]) / (time.monotonic() - since[0])
                        log.write(number, means | {"steps_per_second": rate})
                    bar.set_postfix({k: f"{v:.3g}" for k, v in list(means.items())[-2:]})
                    waiting, since = [], (time.monotonic(), number)
                if log and run.pictures and (number % every.pictures == 0 or last):
                    log.picture(number, name.replace(" ", "_"), run.pictures(state, batch))
                if due or stop:
                    _require_finite(state, name, number, checkpoints)
                    if log:
                        log.flush()
                    # Save the metrics that are not logged yet, so that a resumed run writes the same log.
                    checkpoints.save(number, state, metrics=means, pending=jax.device_get(waiting))
                bar.update()
                if stop:
                    checkpoints.finish()
                    raise Preempted(f"{name}: preempted at step {number}; the same command goes on from here",
                                    together=True)
        checkpoints.finish()
    return state


def _devices(run: TrainingRun) -> Sequence[Device]:
    devices = jax.devices() if run.devices is None else run.devices
    if len(devices) < jax.device_count():
        distributed.print_on_first(f"{run.name}: on {len(devices)} of {jax.device_count()} devices, since the batch "
                                   "divides by no more; a larger batch in the config would use them.")
    return devices


def _pending(checkpoints: Checkpoints, start: int) -> list[dict]:
    """The metrics, float32 as steps give them, of steps up to `start` that were not logged before a preemption."""
    rows = checkpoints.about(start).get("pending", []) if start else []
    return [{key: np.float32(value) for key, value in row.items()} for row in rows]


def _means(waiting: list[dict], name: str, number: int, checkpoints: Checkpoints) -> dict[str, float]:
    rows = jax.device_get(waiting)
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    for key, value in means.items():
        if not math.isfinite(value):
            raise _diverged(f"{key} is {value}", name, number, checkpoints)
    return means


def _require_finite(state: Any, name: str, number: int, checkpoints: Checkpoints) -> None:
    # A step's losses are those before its update, so they do not show that the update spoiled the network.
    for leaf in map(np.asarray, jax.tree.leaves(state)):
        if np.issubdtype(leaf.dtype, np.inexact) and not np.isfinite(leaf).all():
            raise _diverged("the network is not finite", name, number, checkpoints)


def _diverged(what: str, name: str, number: int, checkpoints: Checkpoints) -> TrainingDiverged:
    kept = checkpoints.latest()
    where = f"the checkpoint of step {kept} is kept" if kept else "there was no checkpoint yet"
    return TrainingDiverged(f"{name}: {what} by step {number}; training stopped, and {where}. "
                            "A lower learning rate would help.")
