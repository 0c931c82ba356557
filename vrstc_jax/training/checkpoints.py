"""Training's own checkpoints, by Orbax. What a user keeps is the model file (`vrstc_jax.models.model_file`).

    DIRECTORY/<step>/state         both players, optimisers and step, as Orbax keeps them
    DIRECTORY/<step>/about         JSON: data position, config, versions of the libraries
    DIRECTORY/<step>/digests.json  SHA-256 of every file of the other two, written last

Orbax restores flipped bytes without noticing, hence the digests: a checkpoint without them was not finished, and one
that does not agree with them is damaged. Neither is used; the one before it is. Every process of a run writes its
part, so all must see the same DIRECTORY, and call the same methods.
"""

import errno
import hashlib
import json
import logging
import os
import sys
import threading
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from importlib import metadata

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from vrstc_jax import config as configs
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError, TrainingDiverged

_STATE, _ABOUT, _DIGESTS = "state", "about", "digests.json"
_STATE_ALONE = "default"  # what checkpoints held before there were digests
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the names that Orbax gives while it writes
_LIBRARIES = ("vrstc_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class Checkpoints:
    """States of a training run in a directory, by number of steps; a context manager.

    Opening removes what is half-written or damaged, newest first, until a whole checkpoint is found, and says so on
    stderr.

    Args:
      directory: local, or anything that epath knows, such as gs://bucket/run.
      keep: how many of the newest are kept.
      best: a metric; the checkpoint at which it was lowest is kept too.
      config: of the run, kept in each checkpoint.

    Raises:
      InputError: the directory cannot be written in, now or later, because the disk is full.
    """

    def __init__(self, directory, *, keep: int = 2, best: str | None = None, config: configs.Config | None = None):
        # Orbax logs tracebacks of the errors that it raises.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self.directory = epath.Path(os.path.abspath(directory) if "://" not in str(directory) else directory)
        self._config, self._digesting, self._failure = config, None, None
        distributed.run_on_first(lambda: _tidy(self.directory))
        preserved = [policies.LatestN(n=max(keep, 2))]  # of which the newest may have no digests yet
        metric = (lambda metrics: metrics[best]) if best else None
        if best:
            preserved.append(policies.BestN(get_metric_fn=metric, reverse=True, n=1,
                                            keep_checkpoints_without_metrics=False))
        with full_disk_as_input_error(self.directory):
            self._manager = _Manager(self.directory, options=ocp.CheckpointManagerOptions(
                create=True, preservation_policy=policies.AnyPreservationPolicy(preserved), best_fn=metric,
                best_mode="min", single_host_load_and_broadcast=distributed.process_count() > 1))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if kind is None:
            self.finish()
            self._manager.close()
        # Closing waits for the other processes, which know nothing of an error that is this one's alone.
        elif distributed.process_count() == 1 or issubclass(kind, TrainingDiverged) or getattr(error, "together", False):
            with suppress(Exception):  # what is being raised already is what there is to tell
                self.finish()
                self._manager.close()

    def latest(self) -> int | None:
        """The number of the newest checkpoint."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The number of the checkpoint at which the metric `best` was lowest."""
        return self._manager.best_step()

    def save(self, step: int, state, *, metrics: dict[str, float] | None = None, pending: Iterable[dict] = ()) -> None:
        """Saves `state`; it is on the host when this returns, and on disk a little later.

        Args:
          metrics: by which the best is found.
          pending: metrics of steps that are not in the log yet, kept for whoever goes on from here.

        Raises:
          InputError: the disk was full, now or when the checkpoint before this one was written.
        """
        self._require_written()
        about = {
            "step": step, "data_position": step, "devices": jax.device_count(), "processes": distributed.process_count(),
            "versions": {name: _version(name) for name in _LIBRARIES},
            "pending": [{name: float(value) for name, value in row.items()} for row in pending],
        }
        if self._config is not None:
            about["config"] = configs.to_dict(self._config)
        with self._told_of_a_full_disk():
            self._manager.save(step, metrics=metrics, args=ocp.args.Composite(**{
                _STATE: ocp.args.StandardSave(jax.tree.map(_for_orbax, state)), _ABOUT: ocp.args.JsonSave(about)}))
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
        with self._told_of_a_full_disk():
            self._manager.wait_until_finished()

    def restore(self, state, *, step: int | None = None):
        """(the state of a checkpoint, the newest if no step is given, and its step), or (`state`, 0) where there is
        none; whatever number of devices and processes it was saved from.

        Raises:
          InputError: the checkpoint is of another config, or of an older step and damaged.
        """
        chosen = self.latest() if step is None else step
        if chosen is None:
            return state, 0
        path = self.directory / str(chosen)
        if step is not None and (problem := _problem(path)):
            raise InputError(f"{path}: this checkpoint {problem}; choose another one.")
        self._require_config(path)
        with ocp.StandardCheckpointer() as checkpointer:
            item = path / (_STATE if (path / _STATE).exists() else _STATE_ALONE)
            return checkpointer.restore(item, jax.tree.map(np.asarray, state)), chosen

    def about(self, step: int) -> dict:
        """What was kept beside the state: 'data_position', 'config', 'versions', 'pending' and others. Checkpoints
        of earlier versions have nothing."""
        file = self.directory / str(step) / _ABOUT / "metadata"
        return json.loads(file.read_text()) if file.exists() else {}

    def _require_config(self, path):
        theirs = self.about(int(path.name)).get("config")
        if theirs is None or self._config is None:
            return
        try:  # through the class, so that fields that came later have their defaults
            same = configs.from_dict(theirs) == self._config
        except InputError:  # of a later version, with fields that are unknown here
            same = False
        if not same:
            raise InputError(f"{path}: this checkpoint is of another config; remove {self.directory}, or give another "
                             "directory.")

    def _require_written(self):
        if self._digesting is not None:
            self._digesting.join()
            self._digesting = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            with self._told_of_a_full_disk():
                raise failure

    def _write_digests(self, step):
        path = self.directory / str(step)
        unfinished = path / f".{_DIGESTS}.partial"
        try:
            self._manager.wait_until_finished()
            unfinished.write_text(json.dumps(_digests(path), indent=1))
            unfinished.replace(path / _DIGESTS)
        except BaseException as error:  # told by whoever asks next, in the main thread
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            self._failure = error

    @contextmanager
    def _told_of_a_full_disk(self):
        try:
            with full_disk_as_input_error(self.directory):
                yield
        except InputError:
            _remove_unfinished(self.directory)  # it is what there is no room for
            raise


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step):
        """Never: the training loop asks, and JAX wants it to be asked once a step, with numbers that rise."""
        return False


@contextmanager
def full_disk_as_input_error(directory):
    """Turns the errors of a disk that is full, or of a spent quota, into an `InputError` that names `directory`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not _is_full(error):
            raise
        raise InputError(f"{directory}: the disk is full; make room, and the same command goes on from the last whole "
                         "checkpoint.") from None


def _is_full(error):
    seen = []
    while error is not None and error not in seen:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        # TensorStore's errors are a ValueError with the system's words.
        if full or any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT)):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


def _tidy(directory):
    """Leaves the newest whole checkpoint the newest, and says what had to go for it."""
    if not directory.exists():
        return
    _remove_unfinished(directory)
    steps = sorted((int(path.name) for path in directory.iterdir() if path.name.isdecimal()), reverse=True)
    refused = []
    for step in steps:
        problem = _problem(directory / str(step))
        if problem is None:
            break
        refused.append(f"the checkpoint of step {step} {problem}")
        (directory / str(step)).rmtree(missing_ok=True)
    if refused:
        left = steps[len(refused):]
        print(f"vrstc: {directory}: {'; '.join(refused)}. "
              + (f"Going on from step {left[0]}." if left else "Training starts anew."), file=sys.stderr)


def _remove_unfinished(directory):
    with suppress(OSError):
        for path in directory.iterdir():
            if _UNFINISHED in path.name:
                path.rmtree(missing_ok=True)


def _problem(path) -> str | None:
    """What is wrong with a checkpoint, to follow on 'the checkpoint'; None: it is whole."""
    if not (path / _DIGESTS).exists():
        return None if (path / _STATE_ALONE).exists() else "is half-written"
    try:
        wanted = json.loads((path / _DIGESTS).read_text())
    except ValueError:  # not JSON, or not even text
        return f"is damaged ({_DIGESTS})"
    found = _digests(path)
    if found == wanted:
        return None
    return f"is damaged ({min(name for name, _ in set(found.items()) ^ set(wanted.items()))})"


def _digests(path) -> dict[str, str]:
    """{name below `path`: SHA-256} of every file, but of those that hold the digests."""
    files = [root / name for root, _, names in path.walk() for name in names if _DIGESTS not in name]
    return {str(file.relative_to(path)): _sha256(file) for file in sorted(files)}


def _sha256(file):
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _for_orbax(array):
    """As Orbax takes it: a global array, of which each process writes a part, where there are several processes;
    what pmap returns is local to each. It is the same on all of a process' devices, so that the first will do."""
    if distributed.process_count() == 1:
        return np.asarray(array)
    firsts = distributed.batch_devices(distributed.process_count())
    mesh = jax.sharding.Mesh(np.array(firsts), ("process",))
    local, = (shard.data for shard in array.addressable_shards if shard.device == firsts[distributed.process_index()])
    return jax.make_array_from_single_device_arrays(
        local.shape, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()), [local])


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None  # from a checkout
