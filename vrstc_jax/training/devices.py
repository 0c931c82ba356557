"""The device axis of training, and trees and batches in the layout that a pmapped step takes."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from vrstc_jax.runtime.errors import InputError

AXIS = "batch"  # of devices; gradients and metrics are averaged over it
Device = Any  # jax.Device, which is a variable to type checkers

Tree = TypeVar("Tree")


def replicated(tree: Tree, devices: Sequence[Device]) -> Tree:
    """A tree on this process' part of the devices.

    It is laid out as a pmapped step returns it, so that the step is compiled once, and not again for its own output.
    """
    mesh = jax.sharding.Mesh(np.array(_local(devices)), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def shard(batch: dict, devices: Sequence[Device]) -> dict:
    """This process' rows of a batch [B, …] to [D, B/D, …], for its D of the devices.

    Raises:
      InputError: the rows do not divide by D.
    """
    count = len(_local(devices))

    def split(array):
        if array.shape[0] % count:
            raise InputError(f"The batch of {array.shape[0]} does not divide by the {count} devices here; "
                             "use a number of devices that divides it, or another batch in the config.")
        return array.reshape(count, array.shape[0] // count, *array.shape[1:])

    return jax.tree.map(split, batch)


def _local(devices: Sequence[Device]) -> list[Device]:
    return [device for device in devices if device.process_index == jax.process_index()]


def jit_without_optimisation(function: Callable) -> Callable:
    """`jit` for a function that is called once, such as the one that draws an initial state.

    XLA for CPU takes much longer to optimise its many small random draws than to run them as they are.
    """
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function, compiler_options=options if jax.default_backend() == "cpu" else None)
