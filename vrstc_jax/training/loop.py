"""The one training loop: batches in, steps, metrics out, checkpoints, and going on where it stopped."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import jax
import numpy as np
from tqdm import tqdm

from vrstc_jax import config as configs
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import Preempted, TrainingDiverged
from vrstc_jax.runtime.storage import as_path
from vrstc_jax.training.checkpoints import Checkpoints
from vrstc_jax.training.devices import replicated, shard
from vrstc_jax.training.metrics_log import MetricsLog


def train(name: str, state, step: Callable, batches: Callable[[int], Iterator[dict]], *, steps: int,
          directory, devices: Sequence[jax.Device] | None = None, config: configs.Config | None = None,
          best: str | None = None, log_every: int = 20,
          checkpoint_every: int = 500, pictures: Callable | None = None, pictures_every: int = 500):
    """Runs `step` until `steps` steps are done, from the last checkpoint in `directory` if there is one.

    Every process of a run calls it with the same arguments; each trains on its rows of the batches. Told to make
    room (SIGTERM), it writes one more checkpoint, at the same step everywhere.

    Args:
      name: what is trained, for the progress bar.
      state: the initial state, with a field `step`.
      step: (state, batch [devices, B/devices, …]) to (state, metrics).
      batches: gives, for a starting step, the batches from that step on.
      directory: where checkpoints and metrics go; local, or in gs://.
      devices: those of all processes that the step was pmapped for (`distributed.batch_devices`); all there are if left out.
      config: of the run, kept in its checkpoints; those of another config are refused.
      best: a metric; the checkpoint at which it was lowest is kept beside the newest ones.
      pictures: (state, batch) to a picture, uint8 [H, W, 3], of what the network does by now. Process 0 alone calls
        it, so it must not compute with the other processes.

    Returns:
      The state after `steps` steps.

    Raises:
      TrainingDiverged: a metric or the state was not finite. The last good checkpoint is kept.
      Preempted: it was told to make room; the same call goes on.
      InputError: the disk is full, the checkpoints are of another config, or the batch does not divide by the
        devices given.
    """
    directory = as_path(directory)
    with (Checkpoints(directory / "checkpoints", best=best, config=config) as checkpoints,
          distributed.preemption_notice() as told):
        state, start = checkpoints.restore(state)
        if start >= steps:
            return state
        devices = jax.devices() if devices is None else devices
        if len(devices) < jax.device_count():
            distributed.print_on_first(f"{name}: on {len(devices)} of {jax.device_count()} devices, since the batch divides by no more; "
                      "a larger one in the config would use them.")
        state = replicated(state, devices)
        incoming = batches(start)
        waiting = _pending(checkpoints, start)
        since = time.monotonic(), start
        with (MetricsLog(directory, start) if distributed.is_first() else nullcontext() as log,
              tqdm(total=steps, initial=start, desc=name, unit="step", dynamic_ncols=True,
                   disable=not distributed.is_first()) as bar):
            for number in range(start + 1, steps + 1):
                batch = next(incoming)
                state, metrics = step(state, shard(batch, devices))
                waiting.append(metrics)
                stop, last = told(), number == steps
                due, means = number % checkpoint_every == 0 or last, None
                if number % log_every == 0 or due:
                    checkpoints.check()
                    means = _means(waiting, name, number, checkpoints)
                    if log:
                        rate = (number - since[1]) / (time.monotonic() - since[0])
                        log.write(number, means | {"steps_per_second": rate})
                    bar.set_postfix({k: f"{v:.3g}" for k, v in list(means.items())[-2:]})
                    waiting, since = [], (time.monotonic(), number)
                if log and pictures and (number % pictures_every == 0 or last):
                    log.picture(number, name.replace(" ", "_"), pictures(state, batch))
                if due or stop:
                    _require_finite(state, name, number, checkpoints)
                    if log:
                        log.flush()
                    checkpoints.save(number, state, metrics=means, pending=jax.device_get(waiting))
                bar.update()
                if stop:
                    checkpoints.finish()
                    raise Preempted(f"{name}: preempted at step {number}; the same command goes on from here",
                                    together=True)
        checkpoints.finish()
    return state


def _pending(checkpoints, start):
    """The metrics of steps before `start` whose mean is still to come, if it was a preemption that ended there: so
    the log, too, is what it would have been. They are float32, as steps give them."""
    rows = checkpoints.about(start).get("pending", []) if start else []
    return [{key: np.float32(value) for key, value in row.items()} for row in rows]


def _means(waiting, name, number, checkpoints):
    rows = jax.device_get(waiting)
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    for key, value in means.items():
        if not math.isfinite(value):
            raise _diverged(f"{key} is {value}", name, number, checkpoints)
    return means


def _require_finite(state, name, number, checkpoints):
    """A step's losses are those before its update, which may be what spoils the network."""
    for leaf in map(np.asarray, jax.tree.leaves(state)):
        if np.issubdtype(leaf.dtype, np.inexact) and not np.isfinite(leaf).all():
            raise _diverged("the network is not finite", name, number, checkpoints)


def _diverged(what, name, number, checkpoints):
    kept = checkpoints.latest()
    where = f"the checkpoint of step {kept} is kept" if kept else "there was no checkpoint yet"
    return TrainingDiverged(f"{name}: {what} by step {number}; training stopped, and {where}. "
                            "A lower learning rate would help.")
