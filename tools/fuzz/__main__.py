"""The command `python -m tools.fuzz`; the package's docstring describes it."""

import sys

import tyro

from tools import fuzz
from tools.fuzz.session import Arguments, main
from vrstc_jax.runtime.lifecycle import run_as_command

if __name__ == "__main__":
    run_as_command(lambda: sys.exit(0 if main(tyro.cli(Arguments, description=fuzz.__doc__)) else 1))
