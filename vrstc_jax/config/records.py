"""Configs as JSON has them, and back, those that earlier versions wrote among them."""

import dataclasses
from typing import Any

from vrstc_jax.config.method import Config
from vrstc_jax.runtime.errors import InputError


def to_dict(config: Any) -> dict:
    """The config, or any part of it, as plain dictionaries, lists and numbers, for JSON."""
    return dataclasses.asdict(config)


def from_dict(values: dict, kind: type = Config) -> Any:
    """The inverse of `to_dict`, also after a trip through JSON; `kind` is the dataclass that was given.

    Raises:
      InputError: a field is unknown, a choice is none of its field's, or a field is missing that has no default.
    """
    return _build(kind, values, "config")


def with_defaults(values: dict) -> dict:
    """A `Config` as JSON has it, as records of runs are compared.

    Fields that it lacks are filled in: the default of a later field is what an earlier version did. `parallel`, which
    changes no result, has its default.

    Raises:
      InputError: as `from_dict`.
    """
    return to_dict(dataclasses.replace(from_dict(values), parallel=Config.parallel))


def _build(kind: type, values: dict, path: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise InputError(f"{path} has no field '{unknown[0]}'; it was written by another version.")
    arguments = {}
    for name, value in values.items():
        part = fields[name].type
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            value = _build(part, value, f"{path}.{name}")
        elif isinstance(value, list):
            value = tuple(value)
        arguments[name] = value
    try:
        return kind(**arguments)
    except TypeError as error:
        raise InputError(f"{path} is not complete: {error}.") from error
