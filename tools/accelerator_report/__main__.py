"""The command `python -m tools.accelerator_report`: parses its flags and measures."""

import argparse
import signal
from pathlib import Path
from typing import NoReturn

from tools import accelerator_report
from tools.accelerator_report.plan import PARTS, SIZES, Options
from tools.accelerator_report.run import run
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (--help lists the flags)")


def main(arguments: list[str] | None = None) -> None:
    """The entry point; exits with 0 (the report is written), 2 (bad input) or 130 (interrupted).

    Args:
      arguments: the command line; `sys.argv` by default.
    """
    # Ended while it measures, the command must still end the process that measures.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_as_command(lambda: run(parsed(arguments)))


def parsed(arguments: list[str] | None) -> Options:
    """The options that a command line gives.

    Raises:
      InputError: a flag is unknown, or its value cannot be used.
    """
    parser = _Parser(prog="python -m tools.accelerator_report", description=accelerator_report.__doc__,
                     formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True, help="folder for report.md, report.json and the parts")
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit of the whole command (default: 8)")
    parser.add_argument("--size", choices=tuple(SIZES), help="default: smoke on a CPU, full on other devices")
    parser.add_argument("--parts", choices=tuple(PARTS), nargs="+", metavar="PART",
                        help=f"measure only these of {', '.join(PARTS)}")
    parser.add_argument("--anew", action="store_true", help="discard what the folder has of an earlier report")
    given = parser.parse_args(arguments)
    options = Options(output=given.output, minutes=given.minutes, size=given.size, anew=given.anew,
                      parts=tuple(given.parts or PARTS))
    require_flags(options)
    return options


if __name__ == "__main__":
    main()
