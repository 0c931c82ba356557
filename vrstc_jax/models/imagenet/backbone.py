"""An imported backbone as a file, and whether a re-ID network can begin with it."""

import os

from vrstc_jax import config as configs
from vrstc_jax.models.imagenet.layouts import Weights
from vrstc_jax.models.tensor_file import read_tensors, write_tensors
from vrstc_jax.runtime.errors import InputError

FORMAT = 1
_KIND = "vrstc_backbone"
_MAKE = "`python tools/import_resnet50.py SOURCE OUTPUT`"


def save_backbone(path: str | os.PathLike, weights: Weights, provenance: dict) -> None:
    """Writes the backbone (not the head), its config's fields and where it came from to `path`.

    Raises:
      InputError: the file cannot be written.
    """
    write_tensors(path, {"backbone": weights.variables},
                  {"config": weights.fields, "provenance": provenance}, kind=_KIND, version=FORMAT)


def load_backbone(path: str | os.PathLike) -> tuple[dict, dict]:
    """The fields of `config.Reid` that the weights fix, and variables of `resnet.ResNet`, from `save_backbone`'s file.

    A re-ID network begins with them if `training.reid_step.initial_state` starts from
    {collection: {'backbone': variables[collection]}}.

    Raises:
      InputError: there is no such file, it is damaged, or it is no imported backbone.
    """
    _, parts, description, _ = read_tensors(path, kinds={_KIND: FORMAT}, what="an imported backbone",
                                            make=_MAKE)
    try:
        fields = {name: tuple(value) if isinstance(value, list) else value
                  for name, value in description["config"].items()}
        return fields, parts["backbone"]
    except (KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: the backbone's file is not complete ({error}); make it again with "
                         f"{_MAKE}.") from None


def require_config(config: configs.Reid, fields: dict, *, source: str | os.PathLike = "the backbone") -> None:
    """Checks that weights with these `fields` (see `load_backbone`) fit a config.

    Raises:
      InputError: a field differs; the message says which, and what to set.
    """
    differ = {name: value for name, value in fields.items() if getattr(config, name) != value}
    if differ:
        got = ", ".join(f"{name}={getattr(config, name)!r}" for name in differ)
        needed = ", ".join(f"{name}={value!r}" for name, value in differ.items())
        raise InputError(f"{source}: these weights are of another network: the re-ID config has {got}; "
                         f"set {needed}.")
