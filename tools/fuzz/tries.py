"""What a try is: the call, what it may write, and how to check what it wrote."""

import pkgutil
import random
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.fuzz.good import Good


@dataclass
class Try:
    """One call with one input.

    Attributes:
      call: the call; it returns or raises as a command's `main` or a public function does.
      words: the call in words, for the record.
      outputs: names in the try's folder that an accepted call may write, and all below them.
      resumed: the outputs existed before, so a call that fails may have changed them too.
      check: after an accepted call, what is wrong with its results; None: nothing.
    """

    call: Callable[[], object]
    words: str
    outputs: tuple[str, ...] = ()
    resumed: bool = False
    check: Callable[[], str | None] | None = None


Kind = Callable[[random.Random, Path, Good], Try]
"""Makes the input of a try in a folder."""


def command(*arguments: object, outputs: tuple[str, ...] = (), resumed: bool = False,
            check: Callable[[], str | None] | None = None) -> Try:
    """A call of `vrstc`."""
    words = [str(argument) for argument in arguments]

    def call() -> None:
        sys.argv = ["vrstc", *words]
        # As the installed script finds it: modules of this floor do not import each other.
        pkgutil.resolve_name("vrstc_jax.cli:main")(words)

    return Try(call, shlex.join(["vrstc", *words]), outputs, resumed, check)


def draw(seed: int, kind: str, number: int) -> random.Random:
    """The random numbers of a try, which depend on nothing else."""
    return random.Random(f"{seed}/{kind}/{number}")
