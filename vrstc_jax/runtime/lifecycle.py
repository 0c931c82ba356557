"""How a command runs: its exit codes, its processes, and how it starts JAX. Commands that need no JAX start none."""

import io
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import ModuleType

from vrstc_jax.runtime import lock, signals
from vrstc_jax.runtime.errors import InputError, Preempted, TrainingDiverged
from vrstc_jax.runtime.names import printable
from vrstc_jax.runtime.storage import is_full


def run_as_command(work: Callable[[], object]) -> None:
    """Calls `work`. On failure exits with 2 (bad input), 1 (training diverged, or another process of the run is gone),
    75 (SIGTERM: the same command continues the run) or 130 (SIGINT); other errors are raised.

    With several processes, one that fails ends without leaving the others waiting for it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a name's letters must not fail finished work
            stream.reconfigure(errors="backslashreplace")
    with signals.raised():
        code, patience = 0, 5.0
        try:
            _without_losing_signals(work)
            signals.done(0)
            return
        except SystemExit as error:
            signals.done(error.code)
            raise
        except TrainingDiverged as error:  # raised by all processes in the same step, so they can wait for each other
            code = _complain(error, 1)
            signals.done(code)
            sys.exit(code)
        except Preempted as error:
            code = _complain(error, 75)
            if error.together:
                signals.done(code)
                sys.exit(code)
        except InputError as error:
            code = _complain(error, 2)
        except KeyboardInterrupt:
            code = _complain(signals.MESSAGES[signal.SIGINT], 130)
        except Exception as error:
            distributed = _distributed()
            if is_full(error):  # wherever it was that something was written
                where = getattr(error, "filename", None) or "a disk that the command writes to"
                code = _complain(f"{where}: the disk is full; make room, and the same command goes on from here", 2)
            elif distributed is None or (distributed.rank_is_known() and distributed.process_count() == 1):
                signals.done("a traceback")
                raise
            elif distributed.is_peer_failure(error):
                code = _complain("another process of this run is gone, see what it says; the same command goes on from "
                                 "the last checkpoint", 1)
                patience = 0.0
            else:
                traceback.print_exc()
                code = _complain(f"failed ({type(error).__name__}), and takes the others down", 1)
        finally:
            signals.settle()
        distributed = _distributed()
        signals.done(code)
        if distributed is None:
            sys.exit(code)
        distributed.exit_process(code, patience=patience)


def _without_losing_signals(work: Callable[[], object]) -> None:
    """Calls `work`; raises the error of a signal that code in it dropped, or turned into an error of its own."""
    try:
        with lock.releasing():
            work()
    except (KeyboardInterrupt, Preempted, TrainingDiverged):
        raise
    except BaseException:
        if lost := signals.received():
            raise lost from None
        raise
    if lost := signals.received():
        raise lost


def _distributed() -> ModuleType | None:
    """`vrstc_jax.runtime.distributed`, if anything has started JAX through it: commands that need no JAX start none."""
    return sys.modules.get("vrstc_jax.runtime.distributed")


def is_first_process() -> bool:
    """Whether this process is the one of its run that prints (`distributed.is_first`)."""
    distributed = _distributed()
    return distributed is None or distributed.is_first()


def start_jax() -> None:
    """Connects the processes of a run, enables the compilation cache, and makes SIGTERM raise `Preempted`.

    Training catches SIGTERM itself, to write a checkpoint first (`distributed.preemption_notice`).
    """
    from vrstc_jax.runtime import distributed
    from vrstc_jax.runtime.compilation_cache import enable_compilation_cache

    distributed.initialize()
    enable_compilation_cache()
    signals.raise_on_sigterm()


def start_jax_for_training(batches: Iterable[int]) -> None:
    """Starts JAX for training (`start_jax`).

    On CPU, sets the number of devices to the greatest common divisor of the batches and the cores: one device leaves
    cores idle in small convolutions. JAX_NUM_CPU_DEVICES takes precedence.

    Args:
      batches: rows of each training's global batch.

    Raises:
      InputError: a batch does not divide by the number of processes.
    """
    import jax

    from vrstc_jax.runtime import distributed

    start_jax()
    shares, rank_was_known = list(batches), distributed.rank_is_known()
    if rank_was_known:
        shares = [distributed.rows_per_process(batch) for batch in shares]
    # Otherwise the number of processes is known only after devices have started. A process leaves devices idle that do
    # not divide its rows, so the divisor of the whole batches is safe.
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        with suppress(RuntimeError):  # JAX has been used already, and its devices are set
            jax.config.update("jax_num_cpu_devices", math.gcd(*shares, os.cpu_count() or 1))
    if not rank_was_known:
        for batch in shares:  # check all batches now, not when the last of several trainings begins
            distributed.rows_per_process(batch)


def _complain(error: object, code: int) -> int:
    """Prints one line on stderr, and returns the exit code."""
    distributed, who = _distributed(), ""
    if distributed is not None and distributed.rank_is_known() and distributed.process_count() > 1:
        who = f"process {distributed.process_index()} of {distributed.process_count()}: "
    print(f"vrstc: {who}{printable(error)}", file=sys.stderr, flush=True)
    return code
