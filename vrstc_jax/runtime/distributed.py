"""The processes of one run: how they find each other, which one this is, and how one ends without the others hanging.

A run is one process or several, on one machine or many; each reads the same files and does the same steps. Process
0 alone writes metrics and speaks. JAX's own runtime (`jax.distributed`) connects them, and ends all where one dies.
"""

import ctypes
import hashlib
import importlib.util
import itertools
import json
import os
import platform
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vrstc_jax.runtime.errors import InputError

_VARIABLES = ("VRSTC_COORDINATOR", "VRSTC_PROCESSES", "VRSTC_PROCESS")
# A process that does not answer for so long is taken for dead, and the others end.
HEARTBEAT_SECONDS = 30
# Process 0 may have work of its own at the end, while the others wait for it to leave together. A death ends that
# wait at once.
_SHUTDOWN_SECONDS = 3600
_MAY_BE_LONG = 7 * 24 * 3600  # seconds at a barrier
_PATIENCE = 5  # seconds that a process which failed waits for the others
_calls, _barriers = itertools.count(1), Counter()
_given_rank: tuple[int, int] | None = None  # (process, processes), where VRSTC_* say them
_c = ctypes.CDLL(None)
_c.signal.argtypes, _c.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
_jax_on_sigterm = None  # a function of C, which Python's `signal` cannot give back
_alone = False  # this is process 0, in what it does for all


class PeerFailed(Exception):
    """Process 0 failed at what it did for all; it says itself how."""


def initialize(*, heartbeat: int = HEARTBEAT_SECONDS) -> None:
    """Connects this process to the others of its run, before anything asks JAX for its devices.

    Given by VRSTC_COORDINATOR (host:port of process 0), VRSTC_PROCESSES (how many) and VRSTC_PROCESS (which, from
    0), or else found by JAX: on TPU pods, Slurm, Open MPI and Kubernetes. On a machine with none of these nothing is
    asked for, and nothing is waited for.

    Args:
      heartbeat: seconds without a sign of life after which a process is taken for dead.

    Raises:
      InputError: the variables are wrong or incomplete, or the processes did not find each other.
    """
    global _given_rank, _jax_on_sigterm
    if jax.distributed.is_initialized():
        return
    given = _given(os.environ)
    if not (_in_a_cluster(os.environ) if given is None else given["num_processes"] > 1):
        return
    try:
        jax.distributed.initialize(**(given or {}), heartbeat_timeout_seconds=heartbeat,
                                   shutdown_timeout_seconds=_SHUTDOWN_SECONDS)
    except Exception as error:  # JAX's detection raises errors of requests, socket and Kubernetes too
        if given is None and "coordinator_address should be defined" in str(error):
            return  # not one of several after all
        who = (f"VRSTC_COORDINATOR={given['coordinator_address']}, process {given['process_id']} of "
               f"{given['num_processes']}" if given else "the cluster that JAX found")
        raise InputError(f"{who}: this process did not reach the others ({_first_line(error)}); "
                         f"{', '.join(_VARIABLES)} say where they are.") from None
    if given is not None:
        _given_rank = given["process_id"], given["num_processes"]
    _jax_on_sigterm = _c.signal(signal.SIGTERM, None)  # None, SIG_DFL, for as long as asking takes
    _c.signal(signal.SIGTERM, _jax_on_sigterm)


def _given(environment) -> dict | None:
    """What the variables say, as `jax.distributed.initialize` takes it; None: nothing."""
    values = {name: environment.get(name, "") for name in _VARIABLES}
    if not any(values.values()):
        return None
    for name, value in values.items():
        if not value:
            raise InputError(f"{name} is not set, but {' and '.join(n for n, v in values.items() if v)} is; "
                             "set all three, or none.")
    coordinator, processes, process = values.values()
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise InputError(f"VRSTC_COORDINATOR={coordinator}: must be host:port of process 0, such as 10.0.0.1:8476.")
    if not (processes.isdecimal() and int(processes) > 0):
        raise InputError(f"VRSTC_PROCESSES={processes}: must be the number of processes, 1 or more.")
    if not (process.isdecimal() and int(process) < int(processes)):
        raise InputError(f"VRSTC_PROCESS={process}: must be this process' number, 0 to {int(processes) - 1}.")
    return {"coordinator_address": coordinator, "num_processes": int(processes), "process_id": int(process),
            "cluster_detection_method": "deactivate"}


def _in_a_cluster(environment) -> bool:
    """Whether this may be one process of several, by what JAX's own detection goes by; nothing is asked over the
    network, which on a plain machine that looks a little like a cluster would cost seconds."""
    def number(name):
        value = environment.get(name, "")
        return int(value) if value.isdecimal() else 1

    slurm = "SLURM_STEP_NODELIST" in environment and number("SLURM_NTASKS") > 1
    open_mpi = "OMPI_MCA_orte_hnp_uri" in environment and number("OMPI_COMM_WORLD_SIZE") > 1
    kubernetes = ("KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment
                  and importlib.util.find_spec("kubernetes") is not None)
    return slurm or open_mpi or kubernetes or _on_a_tpu_pod(environment, number("MEGASCALE_NUM_SLICES"))


def _on_a_tpu_pod(environment, slices):
    # JAX, when imported where there are TPUs, sets its platforms to them.
    if "tpu" not in (jax.config.jax_platforms or "") or importlib.util.find_spec("libtpu") is None:
        return False
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
    # TPU VMs know the others from their metadata server, which GKE has switched off.
    return slices > 1 or "," in workers or (not workers and "TPU_SKIP_MDS_QUERY" not in environment)


def process_index() -> int:
    """This process' number, from 0.

    Starts JAX's devices where JAX found the cluster by itself (not `rank_is_given`): JAX has no public way to ask for
    the number without.
    """
    if _given_rank is not None:
        return _given_rank[0]
    return jax.process_index() if jax.distributed.is_initialized() else 0


def process_count() -> int:
    """How many processes the run has; starts devices as `process_index` does."""
    if _given_rank is not None:
        return _given_rank[1]
    return jax.process_count() if jax.distributed.is_initialized() else 1


def rank_is_given() -> bool:
    """Whether `process_index` and `process_count` are known without starting devices."""
    return _given_rank is not None or not jax.distributed.is_initialized()


def is_first() -> bool:
    """Whether this process is the one that speaks and writes metrics."""
    return process_index() == 0


def rows_per_process(batch: int) -> int:
    """How many rows of a global batch each process takes: process p those from p · rows_per_process(batch) on.

    Raises:
      InputError: the batch does not divide by the number of processes.
    """
    if batch % process_count():
        raise InputError(f"The batch of {batch} does not divide by {process_count()} processes; "
                         "start a number of them that divides it, or take another batch in the config.")
    return batch // process_count()


def batch_devices(batch: int) -> list[jax.Device]:
    """The devices that a global batch is divided between, in the order of its rows: of each process as many as divide
    its share, so that a batch made for a small machine also runs on a large one, on a part of it.

    Raises:
      InputError: the batch does not divide by the number of processes.
    """
    rows = rows_per_process(batch)
    of_each = max(k for k in range(1, jax.local_device_count() + 1) if rows % k == 0)
    return [device for process in range(process_count())
            for device in [d for d in jax.devices() if d.process_index == process][:of_each]]


def barrier(name: str) -> None:
    """Waits until every process has come here, for days if need be; a process that dies ends the wait."""
    _require_together()
    if process_count() > 1:
        _meet(name)


def run_on_first(make: Callable[[], Any]) -> Any:
    """Calls `make` in process 0 alone, while the others wait for it; all return its result, anything JSON has.

    Every process must come to the same calls in the same order. Everything that a call decides on, such as whether a
    file exists, belongs into `make`: the others may look later than process 0, and see something else.

    Raises:
      InputError: `make` raised one in process 0; then all do, with the same words.
      PeerFailed: in the others, where `make` raised anything else.
      RuntimeError: `make` comes to another `run_on_first`, or to a `barrier`, which the others do not.
    """
    global _alone
    _require_together()
    answer, failure = b"", None
    if is_first():
        _alone = True
        try:
            answer = json.dumps({"given": make()}).encode()
        except InputError as error:
            answer = json.dumps({"wrong": str(error)}).encode()
        except BaseException as error:
            answer, failure = json.dumps({"failed": str(error)}).encode(), error
        finally:
            _alone = False
    if process_count() > 1:
        try:
            # After a failure, the others are told if they wait here already; busy ones see that this process is gone.
            _meet("run_on_first", seconds=_MAY_BE_LONG if failure is None else _PATIENCE)
            answer = _broadcast(answer)
        except Exception:
            if failure is None:
                raise
    if failure is not None:
        raise failure
    found = json.loads(answer)
    if "wrong" in found:
        raise InputError(found["wrong"])
    if "failed" in found:
        raise PeerFailed(found["failed"])
    return found["given"]


def _meet(name: str, *, seconds: int = _MAY_BE_LONG) -> None:
    """A barrier through the coordinator and not by a computation, which would fail after half a minute's wait."""
    _start_devices()
    # Orbax has the public way to the barrier of JAX's coordination service; imported here, as one process needs none.
    from orbax.checkpoint import multihost

    _barriers[name] += 1
    multihost.get_barrier_sync_fn()(key=f"vrstc/{name}/{_barriers[name]}", timeout_ms=1000 * seconds)


def _broadcast(message: bytes) -> bytes:
    """Process 0's message, in every process; all must have met."""
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(message)), is_source=is_first()))
    # A power of two: few lengths, so that few programs are compiled.
    padded = np.zeros(1 << max(10, (length - 1).bit_length()), np.uint8)
    if is_first():
        padded[:length] = np.frombuffer(message, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded, is_source=is_first()))[:length].tobytes()


def _start_devices() -> None:
    """Starting devices is collective: every process does it before it waits, or a waiting process, which would not,
    keeps one that computes from starting."""
    jax.local_devices()


def _require_together() -> None:
    if _alone:
        raise RuntimeError("process 0 does this for all, so it cannot wait for the others in it")


def print_on_first(text: str) -> None:
    """Prints a line, in process 0 alone."""
    if is_first():
        print(text, flush=True)


def require_single_process(what: str) -> None:
    """Checks that the run has one process.

    Raises:
      InputError: it has several, and `what` is for one.
    """
    if process_count() > 1:
        raise InputError(f"{what} runs in one process, and this run has {process_count()}; start one of it.")


def own_items(items: int) -> range:
    """Which of so many pieces of work this process does: every `process_count()`-th. What a piece is, and what comes of it,
    must not depend on the number of processes."""
    return range(process_index(), items, process_count())


@contextmanager
def preemption_notice() -> Iterator[Callable[[], bool]]:
    """While it lasts, SIGTERM does not end this process: the function it gives says whether to make room now.

    Among several processes it must be called equally often by each. It says yes at the same call everywhere, soon
    after any of them was told, by SIGTERM or by what else JAX takes for a notice.
    """
    if jax.distributed.is_initialized():
        before = _c.signal(signal.SIGTERM, _jax_on_sigterm)
        try:
            # JAX agrees on a number that no process has reached yet, so numbers must rise in all of a process' life.
            yield lambda: multihost_utils.reached_preemption_sync_point(next(_calls))
        finally:
            _c.signal(signal.SIGTERM, before)
            signal.siginterrupt(signal.SIGTERM, True)  # as Python has it: what waits is interrupted
    elif threading.current_thread() is not threading.main_thread():
        yield lambda: False  # signals are the main thread's
    else:
        told = threading.Event()
        before = signal.signal(signal.SIGTERM, lambda *_: told.set())
        try:
            yield told.is_set
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def exit_process(code: int, *, patience: float = 5.0) -> None:
    """Ends this process with an exit code, though the others may be waiting for it in the middle of something.

    Leaving JAX's runtime properly waits for all. Where all fail alike that takes a moment; one that fails alone
    leaves without, after `patience` seconds, and so takes the others down.
    """
    if not jax.distributed.is_initialized():
        sys.exit(code)

    def properly():
        with suppress(Exception):
            jax.distributed.shutdown()

    waiting = threading.Thread(target=properly, daemon=True)
    waiting.start()
    waiting.join(patience)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error of JAX says that another process of the run is gone, and nothing of this one."""
    if isinstance(error, PeerFailed):
        return True
    signs = ("gloo", "connection", "coordination service", "heartbeat", "another task", "unavailable", "nccl")
    return (process_count() > 1 and isinstance(error, jax.errors.JaxRuntimeError)
            and any(sign in str(error).lower() for sign in signs))


def enable_compilation_cache() -> None:
    """Keeps what JAX compiles, for the next start, in XDG_CACHE_HOME/vrstc_jax (~/.cache/vrstc_jax).

    JAX_COMPILATION_CACHE_DIR names another directory, and JAX_ENABLE_COMPILATION_CACHE=false switches it off. Where
    nothing can be written, nothing is kept.
    """
    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        return
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vrstc_jax/compiled" / _processor()
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as probe:
            probe.write(b"x")
    except (OSError, RuntimeError):  # the second where there is no home
        return
    jax.config.update("jax_compilation_cache_dir", str(cache))


def _processor() -> str:
    """What code for this processor runs on: homes are shared between machines, and XLA does not always notice."""
    about = [platform.machine(), platform.processor()]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about += sorted({line for line in lines if line.split(":")[0].strip() in ("model name", "flags", "Features")})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:12]


def _first_line(error):
    return next(iter(str(error).strip().splitlines()), type(error).__name__).strip().rstrip(".")
