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

import jax
from jax._src import distributed  # for a barrier beside the computations, and a count without starting devices
from jax.experimental import multihost_utils

from vrstc_jax.runtime.errors import InputError

_VARIABLES = ("VRSTC_COORDINATOR", "VRSTC_PROCESSES", "VRSTC_PROCESS")
# A process that does not answer for so long is taken for dead, and the others end.
HEARTBEAT_SECONDS = 30
# Process 0 may have work of its own at the end, while the others wait for it to leave together. A death ends that
# wait at once.
_SHUTDOWN_SECONDS = 3600
_BARRIER_MILLISECONDS = 7 * 24 * 3600 * 1000
_calls, _barriers, _told = itertools.count(1), Counter(), itertools.count(1)
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
    global _jax_on_sigterm
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
    """This process' number, from 0. Like `process_count`, it does not start JAX's devices."""
    return distributed.global_state.process_id if jax.distributed.is_initialized() else 0


def process_count() -> int:
    """How many processes the run has."""
    return distributed.global_state.num_processes if jax.distributed.is_initialized() else 1


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
        _start_devices()
        _barriers[name] += 1
        distributed.global_state.client.wait_at_barrier(f"vrstc/{name}/{_barriers[name]}", _BARRIER_MILLISECONDS)


def run_on_first(make: Callable):
    """Calls `make` in process 0 alone, while the others wait for it; all return what it gave, anything JSON has.

    Every process must come to the same calls in the same order. What a call decides on, such as whether a file
    stands, belongs into `make`: the others may look later than process 0, and see something else.

    Raises:
      InputError: `make` raised one in process 0; then all do, with the same words.
      AnotherFailed: in the others, where `make` raised anything else.
      RuntimeError: `make` comes to another `run_on_first`, or to a `barrier`, which the others do not.
    """
    global _alone
    _require_together()
    if process_count() == 1:
        return json.loads(json.dumps(make()))  # as the others would get it
    _start_devices()
    key, client = f"vrstc/once/{next(_told)}", distributed.global_state.client
    if is_first():
        _alone = True
        try:
            answer = json.dumps({"given": make()})
        except BaseException as error:
            client.key_value_set(key, json.dumps({
                "wrong" if isinstance(error, InputError) else "failed": str(error)}))
            raise
        finally:
            _alone = False
        client.key_value_set(key, answer)
    else:
        answer = client.blocking_key_value_get(key, _BARRIER_MILLISECONDS)
    answer = json.loads(answer)
    if "wrong" in answer:
        raise InputError(answer["wrong"])
    if "failed" in answer:
        raise PeerFailed(answer["failed"])
    return answer["given"]


def _start_devices():
    """No process has its devices before all have asked for theirs: one that has nothing to compute, and waits, would
    keep waiting the one that it waits for."""
    jax.local_devices()


def _require_together():
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
