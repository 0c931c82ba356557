"""Training steps of the trainers with something to run them on: an initial state and a made-up batch."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.models.reid import initial_variables
from vrstc_jax.training import reid_step, stcnet_step
from vrstc_jax.training.devices import Device, jit_without_optimisation

Task = configs.ReidTask | configs.STCnetTask
IDENTITIES = 10


def example_step(task: Task, count: int, devices: Sequence[Device]) -> tuple[Any, tuple, dict[str, np.ndarray]]:
    """(pmapped step, its arguments before the batch, a batch of `count` examples)."""
    pictures = lambda *shape: np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    labels = np.zeros(count, np.int32)
    if isinstance(task, configs.ReidTask):
        c = task.network
        batch = {"clips": pictures(count, c.clip, c.height, c.width, 3), "labels": labels}
        if c.locating_loss:
            batch["hidden"] = np.zeros((count, c.clip, 3), np.float32)
        return reid_step.training_step(task, IDENTITIES, devices), (reid_step.initial_state(task, IDENTITIES),), batch
    c = task.stcnet
    side = count, c.frames_per_side, c.height, c.width, 3
    masks = np.zeros((count, c.height, c.width, 1), bool)
    masks[:, :c.height // 3] = True
    batch = {"frames": pictures(count, c.height, c.width, 3), "masks": masks, "previous": pictures(*side),
             "following": pictures(*side), "labels": labels}
    make = jit_without_optimisation(lambda key: initial_variables(task.guider, IDENTITIES, key))
    guider = jax.tree.map(np.asarray, make(jax.random.key(0)))
    return stcnet_step.training_step(task, IDENTITIES, devices), (stcnet_step.initial_state(task), guider), batch
