"""The command `vrstc`: it parses and calls. `vrstc COMMAND --help` lists what each takes."""

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from vrstc_jax.cli.complete import Complete
from vrstc_jax.cli.fit import Fit
from vrstc_jax.cli.judge import Judge
from vrstc_jax.cli.rank import Rank
from vrstc_jax.cli.without_footage import Demo, ModelCommand, Walkers
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.names import path_problem, shortened
from vrstc_jax.runtime.storage import require_local

COMMANDS = {"demo": Demo, "fit": Fit, "complete": Complete, "judge": Judge, "rank": Rank, "model": ModelCommand,
            "walkers": Walkers}


def main(arguments: list[str] | None = None) -> None:
    """The entry point; exits with 0, or as `run_as_command` says."""
    chosen = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="vrstc", args=arguments,
        description="Finds the hidden parts of walking people and paints them back in (VRSTC, CVPR 2019).")

    def run() -> None:
        _require_usable_paths(chosen)
        require_flags(chosen)
        chosen.run()

    run_as_command(run)


def _require_usable_paths(command: Any) -> None:
    """Checks that each path that a command was given is local, and can be one of a file."""
    for value in vars(command).values():
        if dataclasses.is_dataclass(value):
            _require_usable_paths(value)
        elif isinstance(value, Path):
            require_local(value, "what `vrstc` reads and writes")
            if problem := path_problem(value):
                raise InputError(f"{shortened(value)}: this path {problem}.")
