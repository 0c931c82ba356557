"""The command `python -m tools.launch`: parses its arguments and carries out one verb."""

import signal
import sys
from pathlib import Path

import tyro

from tools import launch
from tools.launch import tpu_vm
from tools.launch.checkout import Checkout
from tools.launch.shell import CommandFailed, Shell
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command

_ROOT = Path(__file__).resolve().parents[2]
_ELSEWHERE = {"gke": "xpk starts runs on GKE", "slurm": "sbatch starts runs on Slurm"}


def main(arguments: list[str] | None = None, *, root: Path = _ROOT) -> None:
    """The entry point; exits with 0, 1 (a command failed), 2 (bad input) or 130 (interrupted).

    Args:
      arguments: the command line; `sys.argv` by default.
      root: the Git checkout to send; the one that holds this file by default.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] in ([], ["-h"], ["--help"]):
        print((launch.__doc__ or "").strip())
        return
    run_as_command(lambda: _launch(words, Checkout(root)))


def _launch(words: list[str], checkout: Checkout) -> None:
    backend, *words = words
    if backend in _ELSEWHERE:
        raise InputError(f"{_ELSEWHERE[backend]}: docs/clusters.md has the commands; tools.launch takes tpu-vm alone.")
    if backend != "tpu-vm":
        raise InputError(f"the first word must be tpu-vm. Got '{backend}'.")
    cut = words.index("--") if "--" in words else len(words)
    verb = tyro.extras.subcommand_cli_from_dict(
        tpu_vm.VERBS, prog="python -m tools.launch tpu-vm", args=words[:cut], description=tpu_vm.__doc__)
    require_flags(verb)
    program = checkout.program(words[cut + 1:]) if isinstance(verb, tpu_vm.Run) else []
    if cut < len(words) and not program:
        raise InputError(f"{words[0]} takes nothing after --; only run does.")
    # Killed while it creates a TPU VM, the launcher must still delete it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        verb.do(Shell(verb.dry_run), checkout, program)
    except CommandFailed as error:
        sys.exit(f"launch: {error}.")


if __name__ == "__main__":
    main()
