"""The device axis of training, and trees and batches in the layout that a step takes (`step.training_step`)."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vrstc_jax.config import Parallel
from vrstc_jax.runtime.errors import InputError

AXIS = "batch"  # of devices; gradients and metrics are averaged over it
Device = Any  # jax.Device, which is a variable to type checkers

Tree = TypeVar("Tree")


def mesh_of(devices: Sequence[Device]) -> Mesh:
    """The devices as a mesh with the one axis `AXIS`."""
    return Mesh(np.array(devices), (AXIS,))


def replicated(tree: Tree, devices: Sequence[Device], parallel: Parallel = "pmap") -> Tree:
    """A tree on the devices: under pmap on those of this process, on a mesh as global arrays on all of them.

    It is laid out as the step returns it, so that the step is compiled once, and not again for its own output.
    """
    if parallel == "pmap":
        return jax.device_put(tree, NamedSharding(mesh_of(_local(devices)), PartitionSpec()))
    everywhere = NamedSharding(mesh_of(devices), PartitionSpec())

    def place(array):
        # Unlike device_put, it does not make the processes compare what each of them has.
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, everywhere, lambda index: array[index])

    return jax.tree.map(place, tree)


def shard(batch: dict, devices: Sequence[Device], parallel: Parallel = "pmap") -> dict:
    """This process' rows of a batch [B, …] to [D, B/D, …], for its D of the devices; on a mesh as part of a global
    array with the rows of all processes.

    Raises:
      InputError: the rows do not divide by D.
    """
    count = len(_local(devices))

    def split(array):
        if array.shape[0] % count:
            raise InputError(f"The batch of {array.shape[0]} does not divide by the {count} devices here; "
                             "use a number of devices that divides it, or another batch in the config.")
        rows = array.reshape(count, array.shape[0] // count, *array.shape[1:])
        if parallel == "pmap":
            return rows
        return jax.make_array_from_process_local_data(split_rows, rows, (len(devices), *rows.shape[1:]))

    split_rows = NamedSharding(mesh_of(devices), PartitionSpec(AXIS))
    return jax.tree.map(split, batch)


def _local(devices: Sequence[Device]) -> list[Device]:
    return [device for device in devices if device.process_index == jax.process_index()]


def jit_without_optimisation(function: Callable) -> Callable:
    """`jit` for a function that is called once, such as the one that draws an initial state.

    XLA for CPU takes much longer to optimise its many small random draws than to run them as they are.
    """
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    device = jax.config.values["jax_default_device"]  # a device, or a platform's name
    platform = jax.default_backend() if device is None else getattr(device, "platform", device)
    return jax.jit(function, compiler_options=options if platform == "cpu" else None)
