"""The processes of one run: which one this is, how they wait for each other, and how one ends without hanging others.

A run is one process or several, on one machine or many; each reads the same files and does the same steps. Process
0 alone writes metrics and prints. JAX's own runtime (`jax.distributed`) connects them, and ends all where one dies.
"""

import ctypes
import itertools
import json
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vrstc_jax.runtime import signals
from vrstc_jax.runtime.cluster import VARIABLES, given_by_variables, may_be_in_cluster, rank_by_launcher
from vrstc_jax.runtime.errors import InputError, Preempted

HEARTBEAT_SECONDS = 30
"""Seconds without an answer after which a process is taken for dead, and the others end."""
# Process 0 may work alone at the end, while the others wait for it to leave together. A death ends that wait at once.
_SHUTDOWN_SECONDS = 3600
_BARRIER_SECONDS = 7 * 24 * 3600
_PATIENCE = 5  # seconds that a process which failed waits for the others

_notice_calls, _barriers = itertools.count(1), Counter()
_rank: tuple[int, int] | None = None  # (this process, processes), once they are known
_alone = False  # process 0 is in the `make` of `run_on_first`
# Python's `signal` can neither read nor set a handler written in C, as JAX's for SIGTERM is.
_c = ctypes.CDLL(None)
_c.signal.argtypes, _c.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
_jax_on_sigterm = None


class PeerFailed(Exception):
    """Process 0 failed in `run_on_first`; it prints the cause itself."""


def initialize(*, heartbeat: int = HEARTBEAT_SECONDS) -> None:
    """Connects this process to the others of its run, before anything asks JAX for its devices.

    Reads VRSTC_COORDINATOR (host:port of process 0), VRSTC_PROCESSES (how many) and VRSTC_PROCESS (which, from 0). If
    they are not set, JAX detects TPU pods, Slurm, Open MPI and Kubernetes. On other machines this does nothing.

    Args:
      heartbeat: seconds without a sign of life after which a process is taken for dead.

    Raises:
      InputError: the variables are wrong or incomplete, or the processes did not find each other.
    """
    global _rank, _jax_on_sigterm
    if jax.distributed.is_initialized():
        return
    given = given_by_variables(os.environ)
    if not (may_be_in_cluster(os.environ) if given is None else given["num_processes"] > 1):
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
                         f"{', '.join(VARIABLES)} say where they are.") from None
    _rank = (given["process_id"], given["num_processes"]) if given else rank_by_launcher(os.environ)
    # C's `signal` reads a handler only by replacing it. None is SIG_DFL; the next line restores the handler.
    _jax_on_sigterm = _c.signal(signal.SIGTERM, None)
    _c.signal(signal.SIGTERM, _jax_on_sigterm)


def process_index() -> int:
    """This process' number, from 0.

    On TPU pods and Kubernetes the first call starts JAX's devices: without devices, JAX has no public way to ask for
    the number.
    """
    return _own_rank()[0]


def process_count() -> int:
    """The number of processes in the run; starts devices as `process_index` does."""
    return _own_rank()[1]


def _own_rank() -> tuple[int, int]:
    global _rank
    if _rank is None and jax.distributed.is_initialized():
        _rank = jax.process_index(), jax.process_count()
    return _rank or (0, 1)


def rank_is_known() -> bool:
    """Whether `process_index` and `process_count` start no devices. An error's report must not start any: the start
    may be what failed, or wait for the other processes."""
    return _rank is not None or not jax.distributed.is_initialized()


def is_first() -> bool:
    """Whether this process is the one that prints and writes metrics."""
    return process_index() == 0


def rows_per_process(batch: int) -> int:
    """The rows of a global batch for each process: process p takes those from p · rows_per_process(batch) on.

    Raises:
      InputError: the batch does not divide by the number of processes.
    """
    if batch % process_count():
        raise InputError(f"The batch of {batch} does not divide by {process_count()} processes; "
                         "start a number of them that divides it, or take another batch in the config.")
    return batch // process_count()


def batch_devices(batch: int) -> list[jax.Device]:  # pyright: ignore[reportInvalidTypeForm]  # JAX's is a variable
    """The devices that a global batch is divided between, in the order of its rows.

    Each process contributes the largest number of devices that divides its rows, so that a batch for a small machine
    also runs on part of a large one.

    Raises:
      InputError: the batch does not divide by the number of processes.
    """
    rows = rows_per_process(batch)
    of_each = max(k for k in range(1, jax.local_device_count() + 1) if rows % k == 0)
    return [device for process in range(process_count())
            for device in [d for d in jax.devices() if d.process_index == process][:of_each]]


def barrier(name: str) -> None:
    """Waits until every process calls it, up to 7 days; the death of a process ends the wait."""
    _require_together()
    if process_count() > 1:
        _meet(name)


def run_on_first(make: Callable[[], Any]) -> Any:
    """Calls `make` in process 0 alone, while the others wait for it; all return its result, anything JSON has.

    Every process must make the same calls in the same order. A test that decides what to do, such as whether a file
    exists, belongs into `make`: another process may look later than process 0, and see a different answer.

    Raises:
      InputError: `make` raised one in process 0; all processes raise it with the same message.
      PeerFailed: in the others, where `make` raised anything else.
      RuntimeError: `make` calls `run_on_first` or `barrier`, which the other processes would not reach.
    """
    global _alone
    _require_together()
    if process_count() > 1:
        # Device initialisation is collective and times out after minutes. A long `make` comes after it.
        jax.local_devices()
    answer, failure = b"", None
    if is_first():
        _alone = True
        try:
            answer = json.dumps({"given": make()}).encode()
        except BaseException as error:
            failure = error
            answer = json.dumps({"wrong" if isinstance(error, InputError) else "failed": str(error)}).encode()
        finally:
            _alone = False
    if process_count() > 1:
        try:
            # After a failure other than bad input, which all processes raise together, process 0 waits only briefly:
            # processes already at this barrier receive the message, and those still busy find later that it has ended.
            together = failure is None or isinstance(failure, InputError)
            with nullcontext() if failure is None else signals.held():
                _meet("run_on_first", seconds=_BARRIER_SECONDS if together else _PATIENCE)
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


def _meet(name: str, *, seconds: int = _BARRIER_SECONDS) -> None:
    """A barrier by messages to process 0: one by a collective computation would time out after half a minute."""
    # Device initialisation is collective: a process that waits here before it has started its devices would keep the
    # others from computing.
    jax.local_devices()
    # Orbax has the public way to the barrier of JAX's coordination service. A run of one process does not import it.
    from orbax.checkpoint import multihost

    _barriers[name] += 1  # JAX accepts each barrier's name only once
    multihost.get_barrier_sync_fn()(key=f"vrstc/{name}/{_barriers[name]}", timeout_ms=1000 * seconds)


def _broadcast(message: bytes) -> bytes:
    """Process 0's message, in every process, by a computation; all must have met."""
    # On one device of each process: JAX's own broadcast wants equally many.
    mesh = jax.sharding.Mesh(np.array(batch_devices(process_count())), ("process",))
    by_process, everywhere = (jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
                              for axes in (("process",), ()))
    total = jax.jit(lambda values: values.sum(0, dtype=values.dtype), out_shardings=everywhere)

    def first(value: np.ndarray) -> np.ndarray:
        own = value if is_first() else np.zeros_like(value)
        rows = jax.make_array_from_process_local_data(by_process, own[None])
        return np.asarray(total(rows).addressable_data(0))

    length = int(first(np.array(len(message), np.int32)))
    # A power of two: few lengths, so that few programs are compiled.
    padded = np.zeros(1 << max(10, (length - 1).bit_length()), np.uint8)
    if is_first():
        padded[:length] = np.frombuffer(message, np.uint8)
    return first(padded)[:length].tobytes()


def _require_together() -> None:
    if _alone:
        raise RuntimeError("`run_on_first` and `barrier` cannot be called inside the function that `run_on_first` "
                           "runs: only process 0 runs it.")


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
        raise InputError(f"{what} runs in one process, and this run has {process_count()}; start one process.")


def own_items(items: int) -> range:
    """The indices, of `items` items, that this process works on: every `process_count()`-th.

    What an item is, and its result, must not depend on the number of processes.
    """
    return range(process_index(), items, process_count())


@contextmanager
def preemption_notice() -> Iterator[Callable[[], bool]]:
    """Catches SIGTERM inside the block, and yields a function that returns whether to stop now.

    Every process must call that function equally often. It returns True at the same call in all of them, soon after
    any process received SIGTERM or another preemption notice that JAX knows.

    Raises:
      Preempted: the block ended without an error after a SIGTERM that the function did not report any more.
    """
    if jax.distributed.is_initialized():
        before = _c.signal(signal.SIGTERM, _jax_on_sigterm)

        def must_stop() -> bool:
            # JAX agrees on a call number that no process has reached yet, so numbers never restart within a process.
            return multihost_utils.reached_preemption_sync_point(next(_notice_calls))

        try:
            yield must_stop
            if must_stop():
                raise Preempted(signals.MESSAGES[signal.SIGTERM], together=True)
        finally:
            _c.signal(signal.SIGTERM, before)
            signal.siginterrupt(signal.SIGTERM, True)  # as Python sets it: SIGTERM interrupts system calls
    elif threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread gets signals
    else:
        noticed = threading.Event()
        before = signal.signal(signal.SIGTERM, lambda *_: noticed.set())
        try:
            yield noticed.is_set
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
        if noticed.is_set():
            raise Preempted(signals.MESSAGES[signal.SIGTERM])


def exit_process(code: int, *, patience: float = _PATIENCE) -> None:
    """Ends this process with an exit code, even while the others wait for it.

    A clean shutdown of JAX's runtime waits for all processes. If all of them fail, that is quick. A process that fails
    alone exits after `patience` seconds without a clean shutdown, which ends the others too.
    """
    if not jax.distributed.is_initialized():
        sys.exit(code)

    def leave() -> None:
        with suppress(Exception):
            jax.distributed.shutdown()

    leaving = threading.Thread(target=leave, daemon=True)
    leaving.start()
    leaving.join(patience)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error was caused by the end of another process of the run."""
    if isinstance(error, PeerFailed):
        return True
    signs = ("gloo", "connection", "coordination service", "heartbeat", "another task", "unavailable", "nccl",
             "barrier timed out")  # the last: process 0 failed, and ended before this process came
    return (jax.distributed.is_initialized() and isinstance(error, jax.errors.JaxRuntimeError)
            and any(sign in str(error).lower() for sign in signs))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).strip().rstrip(".")
