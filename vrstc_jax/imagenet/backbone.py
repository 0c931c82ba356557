"""An imported backbone as a file, and in the variables of a re-ID network."""

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vrstc_jax import config as configs
from vrstc_jax.errors import InputError
from vrstc_jax.imagenet.layouts import OF_RESNET, Weights
from vrstc_jax.tensor_file import read_tensors, write_tensors

FORMAT = 1
_KIND = "vrstc_backbone"
_MAKE = "`python tools/import_resnet50.py SOURCE OUTPUT`"


def save_backbone(path, weights: Weights, provenance: dict) -> None:
    """Writes the backbone (not the head), its config's fields and where it came from to `path`.

    Raises:
      InputError: the file cannot be written.
    """
    write_tensors(path, {"backbone": weights.variables},
                  {"config": weights.fields, "provenance": provenance}, kind=_KIND, version=FORMAT)


def load_backbone(path) -> tuple[dict, dict]:
    """(fields of `config.Reid` that the weights fix, variables of `resnet.ResNet`) of `save_backbone`'s file.

    Raises:
      InputError: there is no such file, it is damaged, or it was not imported.
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


def require_config(config: configs.Reid, fields: dict, *, source="the backbone") -> None:
    """Nothing, if `config` is one that weights with these `fields` (see `load_backbone`) can serve.

    Raises:
      InputError: a field differs; the message says which, and what to set.
    """
    differ = {name: value for name, value in fields.items() if getattr(config, name) != value}
    if differ:
        got = ", ".join(f"{name}={getattr(config, name)!r}" for name in differ)
        needed = ", ".join(f"{name}={value!r}" for name, value in differ.items())
        raise InputError(f"{source}: these weights are of another network: the re-ID config has {got}; "
                         f"set {needed}.")


def backbone_into(variables: dict, backbone: dict) -> dict:
    """`ReidNet` variables with an imported backbone in them.

    Args:
      variables: {'params', 'batch_stats'} of `reid.ReidNet`.
      backbone: {'params', 'batch_stats'} of `resnet.ResNet`, from `load_backbone`.

    Returns:
      New variables. The classifier and non-local blocks, which no import has, stay as they are.

    Raises:
      InputError: a tensor of the import has no place or another shape, or one of the ResNet stays unfilled.
    """
    out, given = (traverse_util.flatten_dict(tree) for tree in (variables, backbone))
    for (collection, *path), value in given.items():
        name, place = "/".join(path), (collection, "backbone", *path)
        if place not in out:
            raise InputError(f"backbone: the import's {collection}/{name} has no place in this re-ID "
                             "network; set its blocks and bottleneck as the import's.")
        if np.shape(value) != np.shape(out[place]):
            raise InputError(f"backbone: {collection}/{name} is {list(np.shape(value))} in the import and "
                             f"{list(out[place].shape)} in this re-ID network; set its base_width and "
                             "bottleneck as the import's.")
        out[place] = jnp.asarray(value, out[place].dtype)
    for collection, part, *path in out:
        of_resnet = part == "backbone" and OF_RESNET.fullmatch("/".join(path[:-1]))
        if of_resnet and (collection, *path) not in given:
            raise InputError(f"backbone: the import lacks {collection}/{'/'.join(path)}; set the re-ID "
                             "network's blocks and bottleneck as the import's.")
    return traverse_util.unflatten_dict(out)
