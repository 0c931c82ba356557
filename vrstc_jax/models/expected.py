"""The names and shapes of the tensors that a config's networks have, found without computing anything."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vrstc_jax import config as configs
from vrstc_jax.models.discriminators import DiscriminatorPair
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.locating import initial_parameters
from vrstc_jax.models.reid import PairScorer, initial_variables
from vrstc_jax.runtime.errors import InputError

_LARGEST = 1e10  # weights are about 1, statistics up to some thousands

Shapes = dict[str, tuple[int, ...]]


@lru_cache(maxsize=8)
def completion_shapes(config: configs.Config) -> dict[str, Shapes]:
    """{'generators', 'discriminators': {name: shape}} of a config.

    Raises:
      Exception: of any kind, where the config describes no network.
    """
    c = config.stcnet

    def init() -> Any:  # traced alone, so that no device is started
        key, size = jax.random.key(0), (c.height, c.width)
        frames, masks = jnp.zeros((1, *size, 3)), jnp.zeros((1, *size, 1))
        sides = jnp.zeros((1, c.frames_per_side, *size, 3))
        return (Generators(c).init(key, frames, masks, sides, sides)["params"],
                DiscriminatorPair(config.discriminators).init(key, frames, masks)["params"])

    generators, discriminators = jax.eval_shape(init)
    return {"generators": _shapes(generators), "discriminators": _shapes(discriminators)}


@lru_cache(maxsize=8)
def reid_shapes(config: configs.Reid, identities: int, network: str) -> Shapes:
    """{name: shape} of the variables of a 'ReidNet' or a 'PairScorer'; raises as `completion_shapes`."""
    def init() -> Any:
        key, clips = jax.random.key(0), jnp.zeros((1, 1, config.height, config.width, 3))
        if network == "PairScorer":
            return PairScorer(config, identities).init(key, clips, clips)
        return initial_variables(config, identities, key)

    return _shapes(jax.eval_shape(init))


@lru_cache(maxsize=8)
def locating_shapes(config: configs.Locating) -> Shapes:
    """{name: shape} of the parameters of a `LocatingNet`; raises as `completion_shapes`."""
    return _shapes(jax.eval_shape(lambda: initial_parameters(config, jax.random.key(0))))


def require_tensors(tree: Any, shapes: Shapes, part: str) -> None:
    """Checks the tensors of one part of a model: none missing, none more, each float32, finite, of its shape.

    Raises:
      InputError: a tensor is not as it should be; the message names it.
    """
    found: dict[str, Any] = traverse_util.flatten_dict(tree, sep="/") if isinstance(tree, dict) else {"": tree}
    for name in sorted(found.keys() | shapes.keys()):
        tensor, full = found.get(name), f"{part}/{name}".rstrip("/")
        if tensor is None:
            raise InputError(f"the tensor {full} is missing; make the model again.")
        if name not in shapes:
            raise InputError(f"the tensor {full} is of no network that the config describes; make the model again.")
        if tensor.shape != shapes[name] or tensor.dtype != np.float32:
            raise InputError(f"the tensor {full} is {tensor.dtype} {list(tensor.shape)}, and the config's is float32 "
                             f"{list(shapes[name])}; make the model again.")
        if not np.isfinite(tensor).all():
            raise InputError(f"the tensor {full} has values that are not finite; make the model again.")
        # XLA's ReLU for CPU turns NaN into 0, so that what follows from these would be finite, and mean nothing.
        if tensor.size and (np.abs(tensor).max() > _LARGEST or name.endswith("/var") and tensor.min() < 0):
            raise InputError(f"the tensor {full} has values from {tensor.min():g} to {tensor.max():g}, which no "
                             "training gives; make the model again.")


def _shapes(tree: Any) -> Shapes:
    flat: dict[str, Any] = traverse_util.flatten_dict(dict(tree), sep="/")
    return {name: tuple(leaf.shape) for name, leaf in flat.items()}
