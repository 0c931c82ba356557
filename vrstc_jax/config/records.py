"""Configs as JSON has them, and back, those that earlier versions wrote among them."""

import dataclasses
import math
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vrstc_jax.config.method import Config
from vrstc_jax.runtime.errors import InputError

LARGEST_TAU = 1.001
"""Scores are cosines, which may exceed 1 by rounding."""
_LONGEST = 64  # entries of a field
_SIZE, _CHANNELS, _COUNT = (1, 8192), (1, 65536), (1, 10**6)
# By the names of the fields, in every part: far beyond what any network has, so that a damaged record neither hangs nor
# fills the memory.
_RANGES: dict[str, tuple[float, float]] = {
    "height": _SIZE, "width": _SIZE, "widths": _CHANNELS, "strides": (1, 16), "dilated_width": _CHANNELS,
    "dilations": (1, 1024), "decoder_width": _CHANNELS, "patch_size": (1, 127), "frames_per_side": (1, 1000),
    "neighbour_reach": _COUNT, "frame_step": _COUNT, "blend_width": _CHANNELS, "blocks": (0, 256),
    "base_width": _CHANNELS, "last_stride": (1, 16), "norm_epsilon": (0, 1), "clip": _COUNT, "test_clip": _COUNT,
    "non_local": (0, 256), "attention_maps": _CHANNELS, "attention_width": _CHANNELS, "embedding": _CHANNELS,
    "pyramid": (1, 256), "locating_width": (0, 65536),
    "edge_width": _CHANNELS, "maps_width": _CHANNELS, "match_width": _CHANNELS, "hidden": _CHANNELS, "passes": (1, 64),
    "considered": (1, 10**5), "registered": (1, 10**4), "window": (1, 4096), "margin": (0, 4096), "context": (0, 4096),
    "tau": (-LARGEST_TAU, LARGEST_TAU), "tau_quantile": (0, 1)}


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


def _build(kind: type, values: Any, path: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{path} is {_short(values)}, and must be an object of fields.")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise InputError(f"{path} has no field '{unknown[0]}'; it was written by another version.")
    hints, arguments = _hints(kind), {}
    for name, value in values.items():
        hint = hints[name]
        if part := next((one for one in get_args(hint) if dataclasses.is_dataclass(one)), None):  # a part, or None
            hint = type(None) if value is None else part
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            value = _build(hint, value, f"{path}.{name}")
        else:
            value = tuple(value) if isinstance(value, list) else value
            _require_value(value, hint, f"{path}.{name}", name)
        arguments[name] = value
    try:
        return kind(**arguments)
    except TypeError as error:
        raise InputError(f"{path} is not complete: {error}.") from error


_hints = cache(get_type_hints)


def _require_value(value: Any, hint: Any, path: str, name: str) -> None:
    """Checks a field's type, that it is finite, and the range of what gives a network its form.

    Raises:
      InputError: it is of another type, or out of range.
    """
    if not _fits(value, hint):
        wanted = getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
        raise InputError(f"{path} is {_short(value)}, and must be {wanted.replace('typing.', '')}.")
    least, most = _RANGES.get(name, (-math.inf, math.inf))
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and not least <= number <= most:
            raise InputError(f"{path} is {_short(value)}, and must be from {least:g} to {most:g}.")
    if isinstance(value, tuple) and len(value) > _LONGEST:
        raise InputError(f"{path} has {len(value)} entries, and may have {_LONGEST}.")


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str)  # its choices are checked when the config is made
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(entry, inner[0]) for entry in value)
    if inner:  # float | None
        return any(_fits(value, one) for one in inner)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
