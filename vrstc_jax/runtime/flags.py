"""The ranges of the commands' numeric flags, in one table.

A value outside would be refused much later, by a library that does not know the flag, or never: a learning rate that is
not a number, a seed that no generator takes, a number of people that fills the memory.
"""

import dataclasses
import math
from typing import Any, NamedTuple

from vrstc_jax.runtime.errors import InputError, flag


class Limits(NamedTuple):
    """The least and the most that a flag may be; `more` excludes the least itself."""

    least: float
    most: float
    more: bool = False


_SEED, _STEPS, _COUNT = Limits(0, 2**32 - 1), Limits(0, 10**9, more=True), Limits(0, 10**6, more=True)
LIMITS = {
    **dict.fromkeys(("seed", "first_seed"), _SEED),
    **dict.fromkeys(("steps", "reid_steps", "head_steps", "stcnet_steps", "final_steps", "wider_steps"), _STEPS),
    **dict.fromkeys(("count", "people", "frames", "seeds", "batch", "batch_per_chip", "walkers"), _COUNT),
    **dict.fromkeys(("repeats", "rounds", "slices", "patience", "lines", "grace"), Limits(1, 10**6)),
    **dict.fromkeys(("hold_out", "retries", "times", "pairs"), Limits(0, 10**6)),
    **dict.fromkeys(("tau_quantile", "discard", "share"), Limits(0, 1, more=True)),
    "first_frame": Limits(0, 2**31), "minutes": Limits(0, 10**4, more=True),
    "label_smoothing": Limits(0, 1), "triplet": Limits(0, 10**6), "tau": Limits(-1, 1),
    "learning_rate": Limits(0, 10, more=True), "reached": Limits(0, 1, more=True),
    **dict.fromkeys(("memory_limit", "longest_call", "megabytes"), Limits(0, 10**6, more=True))}
"""By the names of the arguments, in every command. A command may narrow a range, and says so itself."""


def require_flags(arguments: Any) -> None:
    """Checks each argument that `LIMITS` names, in a dataclass and in those that it holds. None is one left out.

    Raises:
      InputError: a value is not finite, or out of range.
    """
    for field in dataclasses.fields(arguments):
        value = getattr(arguments, field.name)
        if dataclasses.is_dataclass(value):
            require_flags(value)
        elif field.name in LIMITS:
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float):
                    _require(flag(field.name), number, LIMITS[field.name])


def _require(name: str, value: float, limits: Limits) -> None:
    got = f"Got {str(value) if isinstance(value, float) or abs(value) < 10**40 else 'a longer number'}."
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name} must be a finite number. {got}")
    if value < limits.least or limits.more and value == limits.least:
        wanted = f"more than {limits.least:g}" if limits.more else f"{limits.least:g} or more"
        raise InputError(f"{name} must be {wanted}. {got}")
    if value > limits.most:
        raise InputError(f"{name} must be at most {limits.most:,}. {got}")
