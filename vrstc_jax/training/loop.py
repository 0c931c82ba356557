"""The one training loop: batches in, steps, metrics out, checkpoints, and going on where it stopped."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from vrstc_jax.errors import InputError, TrainingDiverged
from vrstc_jax.training.checkpoints import Checkpoints
from vrstc_jax.training.stcnet import AXIS


@dataclass
class MetricsLog:
    """Metrics as JSON lines and as TensorBoard events, in one directory.

    On going on from a checkpoint, lines of steps after it are dropped, so that each step stands once.
    """

    directory: Path
    start: int = 0
    _events: object = field(default=None, repr=False)

    def __post_init__(self):
        # Imported here: it takes a second, and only training writes events.
        from tensorboardX import SummaryWriter

        self.directory.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(self.directory) if line["step"] <= self.start]
        unfinished = self.path.with_suffix(".partial")
        unfinished.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(unfinished, self.path)
        self._events = SummaryWriter(str(self.directory), purge_step=self.start + 1)

    @property
    def path(self) -> Path:
        """The file of JSON lines."""
        return self.directory / "metrics.jsonl"

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds one line: {'step': step, **metrics}."""
        with self.path.open("a") as lines:
            lines.write(json.dumps({"step": step, **metrics}) + "\n")
        for name, value in metrics.items():
            self._events.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, 3], to the events."""
        self._events.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is still in memory."""
        self._events.close()


def read_metrics(directory) -> list[dict]:
    """The lines of a `MetricsLog`, in order; a last line that was cut off is left out."""
    path = Path(directory) / "metrics.jsonl"
    lines = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def train(name: str, state, step: Callable, batches: Callable[[int], Iterator[dict]], *, steps: int,
          directory, log_every: int = 20, checkpoint_every: int = 500,
          pictures: Callable | None = None, pictures_every: int = 500):
    """Runs `step` until `steps` steps are done, from the last checkpoint in `directory` if there is one.

    Args:
      name: what is trained, for the progress bar.
      state: the initial state, with a field `step`.
      step: (state, batch [devices, B/devices, …]) to (state, metrics).
      batches: gives, for a starting step, the batches from that step on.
      directory: where checkpoints and metrics go.
      pictures: (state, batch) to a picture, uint8 [H, W, 3], of what the network does by now.

    Returns:
      The state after `steps` steps.

    Raises:
      TrainingDiverged: a metric or the state was not finite. The last good checkpoint is kept.
    """
    directory = Path(directory)
    with Checkpoints(directory / "checkpoints") as checkpoints:
        state, start = checkpoints.restore(state)
        if start >= steps:
            return state
        state = replicated(state)
        log = MetricsLog(directory, start)
        incoming = batches(start)
        waiting, since = [], time.monotonic()
        with tqdm(total=steps, initial=start, desc=name, unit="step", dynamic_ncols=True) as bar:
            for number in range(start + 1, steps + 1):
                batch = next(incoming)
                state, metrics = step(state, shard(batch))
                waiting.append(metrics)
                last = number == steps
                if number % log_every == 0 or number % checkpoint_every == 0 or last:
                    means = _means(waiting, name, number, checkpoints)
                    rate = len(waiting) / (time.monotonic() - since)
                    log.write(number, means | {"steps_per_second": rate})
                    bar.set_postfix({k: f"{v:.3g}" for k, v in list(means.items())[-2:]})
                    waiting, since = [], time.monotonic()
                if pictures and (number % pictures_every == 0 or last):
                    log.picture(number, name.replace(" ", "_"), pictures(state, batch))
                if number % checkpoint_every == 0 or last:
                    _require_finite(state, name, number, checkpoints)
                    checkpoints.save(number, state)
                bar.update()
        log.close()
    return state


def replicated(tree):
    """A tree on all of this process' devices as a pmapped step returns it, so that it compiles once."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def shard(batch: dict) -> dict:
    """A batch [B, …] to [devices, B/devices, …].

    Raises:
      InputError: the batch does not divide by the number of devices.
    """
    devices = jax.local_device_count()

    def split(array):
        if array.shape[0] % devices:
            raise InputError(f"The batch of {array.shape[0]} does not divide by the {devices} devices here; "
                             "use a number of devices that divides it, or another batch in the config.")
        return array.reshape(devices, array.shape[0] // devices, *array.shape[1:])

    return jax.tree.map(split, batch)


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
