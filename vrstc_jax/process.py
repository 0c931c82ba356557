"""How a command runs: its exit codes, several processes of it, and JAX started for it.

Commands that need no JAX load none.
"""

import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress

from vrstc_jax import config as configs
from vrstc_jax.errors import InputError, Preempted, TrainingDiverged


def run_as_command(work: Callable[[], None]) -> None:
    """Calls `work`, and exits with a code of its own where it fails: 2 (bad input), 1 (training diverged, or another
    process of the run is gone), 75 (preempted: the same command goes on) or 130 (interrupted).

    With several processes, one that fails does not leave the others waiting for it.
    """
    before, patience = signal.getsignal(signal.SIGTERM), 5.0
    try:
        work()
        return
    except TrainingDiverged as error:  # all processes alike, which can wait for each other
        sys.exit(_complain(error, 1))
    except Preempted as error:
        code = _complain(error, 75)
        if error.together:
            sys.exit(code)
    except InputError as error:
        code = _complain(error, 2)
    except KeyboardInterrupt:
        code = _complain("interrupted; the same command goes on from here", 130)
    except Exception as error:
        hosts = _hosts()
        if hosts is None or hosts.count() == 1:
            raise
        if hosts.is_of_another(error):
            code = _complain("another process of this run is gone, see what it says; the same command goes on from "
                             "the last checkpoint", 1)
            patience = 0.0
        else:
            traceback.print_exc()
            code = _complain(f"failed ({type(error).__name__}), and takes the others down", 1)
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)
    if _hosts() is None:
        sys.exit(code)
    _hosts().leave(code, patience=patience)


def _hosts():
    """`vrstc_jax.hosts`, if anything has started JAX through it: commands that need no JAX load none."""
    return sys.modules.get("vrstc_jax.hosts")


def speaks() -> bool:
    """Whether this process is the one of its run that tells what all know."""
    return _hosts() is None or _hosts().first()


def start_jax() -> None:
    """Connects the processes of a run (`hosts.initialize`), keeps what is compiled for the next start, and has SIGTERM
    end the command as preempted, wherever it is: what it has done so far stands. Training makes more of SIGTERM
    (`hosts.preemption_notice`).
    """
    from vrstc_jax import hosts

    hosts.initialize()
    hosts.keep_compiled()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _preempted)


def _preempted(*_):
    raise Preempted("preempted; the same command goes on from here")


def use_cores(config: configs.Config) -> None:
    """Starts JAX for training (`start_jax`). On CPU it shares a batch between as many devices as there are cores and
    it divides by: one device leaves cores idle in the small convolutions. The environment has the last word.

    Raises:
      InputError: a batch does not divide by the number of processes.
    """
    import jax

    from vrstc_jax import hosts

    start_jax()
    # Of all three: what does not divide is refused now, and not when the last of the trainings begins.
    shares = [hosts.share(training.batch) for training in (
        config.stcnet_training, config.reid_training, config.final_training)]
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        with suppress(RuntimeError):  # JAX has been used already, and its devices are set
            jax.config.update("jax_num_cpu_devices", math.gcd(*shares, os.cpu_count() or 1))


def _complain(error, code):
    hosts = _hosts()
    who = f"process {hosts.index()} of {hosts.count()}: " if hosts and hosts.count() > 1 else ""
    print(f"vrstc: {who}{error}", file=sys.stderr, flush=True)
    return code
