"""The one training loop: batches in, steps, metrics out, checkpoints, and going on where it stopped."""

import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from vrstc_jax import config as configs
from vrstc_jax import hosts
from vrstc_jax.errors import InputError, Preempted, TrainingDiverged
from vrstc_jax.places import as_path, is_remote, write_whole
from vrstc_jax.training.checkpoints import Checkpoints, told_of_a_full_disk
from vrstc_jax.training.stcnet import AXIS

_UPLOAD_SECONDS = 60  # between writings of a whole log into a bucket


class MetricsLog:
    """Metrics as JSON lines and as TensorBoard events, in one directory; a context manager.

    On going on from a checkpoint, lines of steps after it are dropped, so that each step stands once. In a bucket,
    where nothing is added to a file, both are written anew, once a minute and where `flush` says.

    Args:
      directory: local, or in gs://.
      start: the step from which training goes on.

    Raises:
      InputError: the disk is full, here or in any method.
    """

    def __init__(self, directory, start: int = 0):
        # Imported here: it takes a second, and only training writes events. Its SummaryWriter writes in a thread,
        # which a full disk ends, and then blocks.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self.directory = as_path(directory)
        kept = [line for line in read_metrics(self.directory) if line["step"] <= start]
        with told_of_a_full_disk(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(line) + "\n" for line in kept)
            write_whole(self.path, text.encode())
            self._remote, self._flushed = is_remote(self.path), time.monotonic()
            self._here = tempfile.TemporaryDirectory() if self._remote else nullcontext(os.fspath(self.directory))
            here = self._here.__enter__()
            self._lines = os.path.join(here, self.path.name)
            if self._remote:
                Path(self._lines).write_text(text)
            self._events = EventsWriter(os.path.join(here, "events"))
            self._add(start + 1, session_log=SessionLog(status=SessionLog.START))  # drops what it shows from there on

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            with self._here, told_of_a_full_disk(self.directory):
                self._events.close()
                self._upload()
        except Exception:
            if kind is None:  # else what is being raised already is what there is to tell
                raise

    @property
    def path(self) -> Path:
        """The file of JSON lines."""
        return self.directory / "metrics.jsonl"

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds one line: {'step': step, **metrics}."""
        from tensorboardX import summary

        with told_of_a_full_disk(self.directory):
            with open(self._lines, "a", encoding="utf-8") as lines:
                lines.write(json.dumps({"step": step, **metrics}) + "\n")
            for name, value in metrics.items():
                self._add(step, summary=summary.scalar(name, value))
            self._events.flush()
        if time.monotonic() - self._flushed >= _UPLOAD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Puts everything into the bucket, if it is in one: due before each checkpoint, which counts on what it has."""
        self._flushed = time.monotonic()
        with told_of_a_full_disk(self.directory):
            self._events.flush()
            self._upload()

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, 3], to the events."""
        from tensorboardX import summary

        with told_of_a_full_disk(self.directory):
            self._add(step, summary=summary.image(name, image, dataformats="HWC"))

    def _upload(self):
        if self._remote:
            for file in Path(self._lines).parent.iterdir():
                write_whole(self.directory / file.name, file.read_bytes())

    def _add(self, step, **what):
        from tensorboardX.proto.event_pb2 import Event

        self._events.write_event(Event(wall_time=time.time(), step=step, **what))


def read_metrics(directory) -> list[dict]:
    """The lines of a `MetricsLog`, in order; a last line that was cut off is left out."""
    path = as_path(directory) / "metrics.jsonl"
    lines = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


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
      devices: those of all processes that the step was pmapped for (`hosts.devices`); all there are if left out.
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
          hosts.preemption_notice() as told):
        state, start = checkpoints.restore(state)
        if start >= steps:
            return state
        devices = jax.devices() if devices is None else devices
        if len(devices) < jax.device_count():
            hosts.say(f"{name}: on {len(devices)} of {jax.device_count()} devices, since the batch divides by no more; "
                      "a larger one in the config would use them.")
        state = replicated(state, devices)
        incoming = batches(start)
        waiting = _pending(checkpoints, start)
        since = time.monotonic(), start
        with (MetricsLog(directory, start) if hosts.first() else nullcontext() as log,
              tqdm(total=steps, initial=start, desc=name, unit="step", dynamic_ncols=True,
                   disable=not hosts.first()) as bar):
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


def replicated(tree, devices: Sequence[jax.Device]):
    """A tree on this process' part of the devices as a pmapped step returns it, so that it compiles once."""
    mesh = jax.sharding.Mesh(np.array(_local(devices)), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def shard(batch: dict, devices: Sequence[jax.Device]) -> dict:
    """This process' rows of a batch [B, …] to [D, B/D, …], for its D of the devices.

    Raises:
      InputError: the rows do not divide by D.
    """
    count = len(_local(devices))

    def split(array):
        if array.shape[0] % count:
            raise InputError(f"The batch of {array.shape[0]} does not divide by the {count} devices here; "
                             "use a number of devices that divides it, or another batch in the config.")
        return array.reshape(count, array.shape[0] // count, *array.shape[1:])

    return jax.tree.map(split, batch)


def _local(devices):
    return [device for device in devices if device.process_index == jax.process_index()]


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
