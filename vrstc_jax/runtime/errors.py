"""The errors that end a run with one line for the user (a wrong input, a diverged training, a preemption), and
warnings."""

import math
import sys

from vrstc_jax.runtime.names import printable


class InputError(ValueError):
    """The user gave something that cannot be used.

    The message is one line: what is wrong, what was given, and what would work. The command line prints it without a
    traceback and exits with code 2.

    Args:
      message: `printable` is applied to it, as names of files in it may hold line ends and a terminal's escapes.
    """

    def __init__(self, message: str = ""):
        super().__init__(printable(message))


class TrainingDiverged(RuntimeError):
    """A loss stopped being finite. The message names the loss, the step, and the last good checkpoint."""


class Preempted(BaseException):
    """The run was asked to end so that another can have the machine; training has written a checkpoint.

    The command line exits with code 75 (EX_TEMPFAIL of sysexits.h: try again), by which launchers recognise it. Like
    `KeyboardInterrupt` it is no `Exception`, so that code that handles errors does not catch it.

    Attributes:
      together: all processes of the run raise this in the same step, so that they can wait for each other.
    """

    def __init__(self, message: str, *, together: bool = False):
        super().__init__(message)
        self.together = together


def warn(text: str) -> None:
    """Prints a warning, one sentence, on stderr, from whichever process calls it."""
    print(f"vrstc: warning: {printable(text)}", file=sys.stderr, flush=True)


def flag(name: str) -> str:
    """The flag of an argument: '--final-steps' for 'final_steps'."""
    return f"--{name.replace('_', '-')}"


def require_range(arguments: object, *names: str, above: float = 0, least: float | None = None,
                  below: float = math.inf, most: float = math.inf) -> None:
    """Checks that named arguments are finite numbers in a range, by default more than 0. None is one left out.

    Args:
      arguments: has the arguments as attributes: a number each, or a tuple of numbers.
      above, below: bounds that are excluded.
      least: a lower bound that is included, in place of `above`.
      most: an upper bound that is included.

    Raises:
      InputError: a value is not in the range.
    """
    wanted = f"more than {above:g}" if least is None else f"{least:g} or more"
    wanted += f" and less than {below:g}" * (below < math.inf) + f" and at most {most:g}" * (most < math.inf)
    for name in names:
        given = getattr(arguments, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is None:
                continue
            low = value > above if least is None else value >= least
            if not (low and value < below and value <= most):
                finite = "" if isinstance(value, int) or math.isfinite(value) else ", and finite"
                raise InputError(f"{flag(name)} must be {wanted}{finite}. Got {value}.")
