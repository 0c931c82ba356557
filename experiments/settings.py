"""Shared by the experiments: a check of names in arguments, changes of parts of a config, and a walker's masks."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vrstc_jax.config import Config
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.data.walkers import WalkerProtocol
from vrstc_jax.runtime.errors import InputError

Changes = Mapping[str, Mapping[str, Any]]
"""{part of a config: {field: value}}, such as {'stcnet': {'transport': False}}."""
FEW_WALKERS = WalkerProtocol(train_people=6, test_people=4, distractors=2, frames=8, height=32, width=16)


def changed(config: Config, changes: Changes) -> Config:
    """The config with some fields of some of its parts replaced."""
    return dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **fields)
                                          for part, fields in changes.items()})


def with_steps(config: Config, **steps: int | None) -> Config:
    """The config with other numbers of training steps, by part (`stcnet_training=400`); None keeps a part's number."""
    return changed(config, {part: {"steps": number} for part, number in steps.items() if number is not None})


def given(arguments: object, *names: str) -> dict[str, Any]:
    """{name: value} of the named arguments that are not None."""
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def require_known(what: str, names: Collection[str], known: Collection[str]) -> None:
    """Raises InputError for the first unknown name; the message calls it a `what`."""
    for name in names:
        if name not in known:
            raise InputError(f"There is no {what} '{name}'; choose from {'; '.join(known)}.")


def masks_of(walker: Tracklet) -> Sequence[np.ndarray]:
    """The true masks of a walker, bool [H, W] each."""
    assert walker.masks is not None
    return walker.masks
