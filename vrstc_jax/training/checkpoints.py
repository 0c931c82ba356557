"""Training's own checkpoints, by Orbax. What a user keeps is the model file (`vrstc_jax.models.model_file`).

    DIRECTORY/<step>/state         networks, optimisers and step (`state.TrainState.saved`), as Orbax keeps them
    DIRECTORY/<step>/about         JSON: data position, task, versions of the libraries
    DIRECTORY/<step>/digests.json  SHA-256 of every file of the other two, written last

Orbax restores flipped bytes without noticing, hence the digests: a checkpoint without them is incomplete, and one
that does not agree with them is damaged. Neither is used; the one before it is. Every process of a run writes its
part, so all must see the same DIRECTORY, and call the same methods.
"""

import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from importlib import metadata
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from vrstc_jax import config as configs
from vrstc_jax.config import LocatingTask, ReidTask, STCnetTask
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError, TrainingDiverged
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.storage import is_remote, require_writable_directory
from vrstc_jax.training import checkpoint_files as files
from vrstc_jax.training.state import TrainState

_STATE, _ABOUT = "state", "about"
_ORBAX = os.path.dirname(os.path.dirname(ocp.__file__))
_LIBRARIES = ("vrstc_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class Checkpoints:
    """States of a training run in a directory, by number of steps; a context manager.

    Opening removes what is half-written or damaged, newest first, until a whole checkpoint is found, and says so on
    stderr. A state is a `TrainState`, or any tree of arrays.

    Args:
      directory: local, or anything that epath knows, such as gs://bucket/run.
      keep: how many of the newest are kept.
      best: a metric; the checkpoint at which it was lowest is kept too.
      task: of the run, kept in each checkpoint; None: not kept, and not compared.

    Raises:
      InputError: the disk is full; here or in a later call.
    """

    def __init__(self, directory: str | os.PathLike, *, keep: int = 2, best: str | None = None,
                 task: ReidTask | STCnetTask | LocatingTask | None = None):
        self.directory = epath.Path(os.path.abspath(directory) if "://" not in str(directory) else directory)
        self._task, self._silent = task, _SilentOrbax()
        self._digesting: threading.Thread | None = None
        self._failure: BaseException | None = None
        if not is_remote(directory):
            distributed.run_on_first(lambda: require_writable_directory(directory))
        distributed.run_on_first(lambda: files.remove_damaged(self.directory))
        # At least two, because the newest may have no digests yet.
        preserved: list[policies.PreservationPolicy] = [policies.LatestN(n=max(keep, 2))]
        metric = (lambda metrics: metrics[best]) if best else None
        if metric:
            preserved.append(policies.BestN(get_metric_fn=metric, reverse=True, n=1,
                                            keep_checkpoints_without_metrics=False))
        with files.full_disk_as_input_error(self.directory):
            self._manager = _Manager(self.directory, options=ocp.CheckpointManagerOptions(
                create=True, preservation_policy=policies.AnyPreservationPolicy(preserved), best_fn=metric,
                best_mode="min", single_host_load_and_broadcast=distributed.process_count() > 1))

    def __enter__(self) -> "Checkpoints":
        logging.getLogger("absl").addFilter(self._silent)  # Orbax logs through absl
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self.finish()
                self._manager.close()
            # Closing waits for the other processes; after an error on this one alone they would never come.
            elif (distributed.process_count() == 1 or issubclass(kind, TrainingDiverged)
                  or getattr(error, "together", False)):
                with suppress(Exception):  # the error that is being raised already is the one to report
                    self.finish()
                    self._manager.close()
        finally:
            logging.getLogger("absl").removeFilter(self._silent)

    def latest(self) -> int | None:
        """The number of the newest checkpoint."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The number of the checkpoint at which the metric `best` was lowest."""
        return self._manager.best_step()

    def save(self, step: int, state: Any, *, metrics: dict[str, float] | None = None,
             pending: Iterable[dict] = ()) -> None:
        """Saves `state`; it is on the host when this returns, and on disk a little later.

        Args:
          metrics: by which the best is found.
          pending: metrics of steps that are not in the log yet, kept for whoever goes on from here.

        Raises:
          InputError: the disk was full, now or when the checkpoint before this one was written.
        """
        self._require_written()
        about = {
            "step": step, "data_position": step, "devices": jax.device_count(),
            "processes": distributed.process_count(), "versions": {name: _version(name) for name in _LIBRARIES},
            "pending": [{name: float(value) for name, value in row.items()} for row in pending]}
        if self._task is not None:
            about["config"] = asdict(self._task)
        with self._room_required():
            self._manager.save(step, metrics=metrics, args=ocp.args.Composite(**{
                _STATE: ocp.args.StandardSave(jax.tree.map(_for_orbax, _tree(state))),
                _ABOUT: ocp.args.JsonSave(about)}))
        if distributed.is_first():
            self._digesting = threading.Thread(target=self._write_digests, args=(step,))
            self._digesting.start()

    def check(self) -> None:
        """Raises InputError if the disk was full when the last checkpoint was written; does not wait for it."""
        if self._digesting is not None and not self._digesting.is_alive():
            self._require_written()

    def finish(self) -> None:
        """Waits until the last checkpoint is on disk, digests too.

        Raises:
          InputError: the disk was full.
        """
        self._require_written()
        with self._room_required():
            self._manager.wait_until_finished()

    def restore(self, state: Any, *, step: int | None = None) -> tuple[Any, int]:
        """The state of a checkpoint and its step, for any number of devices and processes that saved it.

        Args:
          state: one of the same form; where there is no checkpoint, (`state`, 0) is returned.
          step: which checkpoint; None: the newest.

        Raises:
          InputError: the checkpoint is of another task, or the one of `step` is damaged.
        """
        chosen = self.latest() if step is None else step
        if chosen is None:
            return state, 0
        path = self.directory / str(chosen)
        if step is not None and (problem := files.problem_of(path)):
            raise InputError(f"{path}: this checkpoint {problem}; choose another one.")
        self._require_task(path)
        with ocp.StandardCheckpointer() as checkpointer:
            item = path / (_STATE if (path / _STATE).exists() else files.STATE_ALONE)
            tree = checkpointer.restore(item, jax.tree.map(np.asarray, _tree(state)))
        return (state.restored(tree) if isinstance(state, TrainState) else tree), chosen

    def about(self, step: int) -> dict:
        """What was kept beside the state: 'data_position', 'config' (the task), 'versions', 'pending' and others.
        Checkpoints of the earliest versions have nothing."""
        file = self.directory / str(step) / _ABOUT / "metadata"
        return read_record(file, remedy=f"remove {self.directory / str(step)}") if file.exists() else {}

    def _require_task(self, path: epath.Path) -> None:
        theirs = self.about(int(path.name)).get("config")
        if theirs is None or self._task is None:
            return
        with suppress(InputError):  # of a later version, with fields that are unknown here
            if replace(_task(theirs, type(self._task)), parallel=self._task.parallel) == self._task:
                return
        raise InputError(f"{path}: this checkpoint is of another config; remove {self.directory}, or give another "
                         "directory.")

    def _require_written(self) -> None:
        if self._digesting is not None:
            self._digesting.join()
            self._digesting = None
        failure, self._failure = self._failure, None
        if failure is not None:
            with self._room_required():
                raise failure

    def _write_digests(self, step: int) -> None:
        path = self.directory / str(step)
        unfinished = path / f".{files.DIGESTS}.partial"
        try:
            self._manager.wait_until_finished()
            unfinished.write_text(json.dumps(files.digests_of(path), indent=1))
            unfinished.replace(path / files.DIGESTS)
        except BaseException as error:  # raised by the main thread's next call
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            self._failure = error

    @contextmanager
    def _room_required(self) -> Iterator[None]:
        """As `full_disk_as_input_error`, and removes the half-written checkpoint, which nothing can use."""
        try:
            with files.full_disk_as_input_error(self.directory):
                yield
        except InputError:
            files.remove_unfinished(self.directory)
            raise


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        """Never: the training loop asks JAX itself, which wants one question a step, with rising numbers."""
        return False


class _SilentOrbax(logging.Filter):
    """Drops what Orbax logs, and no other record of the program.

    Orbax logs tracebacks of errors that it also raises, from threads too; a user would see them beside our one line.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is kept: it is critical, or not from Orbax's files."""
        return record.levelno >= logging.CRITICAL or not record.pathname.startswith(_ORBAX)


def _tree(state: Any) -> Any:
    return state.saved() if isinstance(state, TrainState) else state


def _task(values: dict, kind: type[ReidTask] | type[STCnetTask] | type[LocatingTask],
          ) -> ReidTask | STCnetTask | LocatingTask:
    """The task that a checkpoint has; it has a whole `Config` if version 0.1 wrote it, where a re-ID network's training
    was always that of `reid`."""
    if "stcnet_training" not in values:
        return configs.from_dict(values, kind)
    config = configs.from_dict(values)
    return config.first_reid if kind is ReidTask else config.stcnet_task


def _for_orbax(array: jax.Array) -> np.ndarray | jax.Array:
    """An array as Orbax takes it: with several processes, a global one, of which each process writes a part.

    What pmap returns is local to a process. It is the same on all devices, so the first one's will do.
    """
    if distributed.process_count() == 1:
        return np.asarray(array)
    firsts = distributed.batch_devices(distributed.process_count())
    mesh = jax.sharding.Mesh(np.array(firsts), ("process",))
    local, = (shard.data for shard in array.addressable_shards if shard.device == firsts[distributed.process_index()])
    return jax.make_array_from_single_device_arrays(
        local.shape, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()), [local])


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None  # from a checkout
