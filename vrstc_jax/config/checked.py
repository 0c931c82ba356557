"""What the dataclasses of the config have in common: their choices are checked when they are made."""

from functools import cache
from typing import Literal, get_args, get_origin, get_type_hints

from vrstc_jax.runtime.errors import InputError

StrideOn = Literal["3x3", "1x1"]


class Checked:
    """A dataclass whose `Literal` fields are checked when it is made."""

    def __post_init__(self) -> None:
        for field, choices in _choices(type(self)).items():
            value = getattr(self, field)
            if value not in choices:
                raise InputError(f"{type(self).__name__}.{field} is {value!r}; choose one of {', '.join(choices)}.")


@cache
def _choices(kind: type) -> dict[str, tuple[str, ...]]:
    return {name: get_args(hint) for name, hint in get_type_hints(kind).items() if get_origin(hint) is Literal}
