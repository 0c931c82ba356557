"""The command `python -m tools.launch`: parses, and prints or carries out the plan."""

import signal
import sys

import tyro

from tools import launch
from tools.launch import gke, slurm, tpu_vm
from tools.launch.program import program_of
from tools.launch.steps import CommandFailed, carry_out, sketch
from vrstc_jax.errors import InputError
from vrstc_jax.process import run_as_command

BACKENDS = {"tpu-vm": tpu_vm, "gke": gke, "slurm": slurm}


def main(arguments: list[str] | None = None) -> None:
    """The entry point; exits with 0, 1 (a command failed), 2 (bad input) or 130 (interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in ([], ["-h"], ["--help"]):
        print(launch.__doc__.strip())
        return
    run_as_command(lambda: _launch(words))


def _launch(words):
    own, program = words, None
    if "--" in words:
        own, program = words[:words.index("--")], words[words.index("--") + 1:]
    backend = BACKENDS.get(own[0]) if own else None
    if backend is None:
        raise InputError(f"choose one of {', '.join(BACKENDS)}. Got '{own[0] if own else '--'}'.")
    impossible = getattr(backend, "NOT_VERBS", {})
    if own[1:] and own[1] in impossible:
        raise InputError(impossible[own[1]])
    verb = tyro.extras.subcommand_cli_from_dict(
        backend.VERBS, prog=f"python -m tools.launch {own[0]}", args=own[1:], description=backend.__doc__)
    if not verb.takes_program and program is not None:
        raise InputError(f"{own[1]} takes nothing after --; only run does.")
    plan = verb.plan(program_of(program or []) if verb.takes_program else None)
    if verb.dry_run:
        print(sketch(plan))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was made is taken back then too
    try:
        carry_out(plan, keep=verb.keep)
    except CommandFailed as error:
        sys.exit(f"launch: {error}")


if __name__ == "__main__":
    main()
