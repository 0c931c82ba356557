"""Training the network that locates on composed clips, over frozen ImageNet stages."""

import dataclasses
import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from vrstc_jax.config import LocatingTask
from vrstc_jax.data.composing.batches import locating_batches
from vrstc_jax.data.composing.material import Material
from vrstc_jax.models.locating import LocatingNet, initial_parameters
from vrstc_jax.models.locating.maps import block_means
from vrstc_jax.models.locating.network import FrameMaps
from vrstc_jax.runtime import distributed
from vrstc_jax.training import loop, step
from vrstc_jax.training import state as states
from vrstc_jax.training.state import TrainState, learning_part

# Of the person, the occluder, and what is hidden: the first is not what masks are made of.
_WEIGHTS = np.array([0.5, 1.0, 1.0], np.float32)
_WHITENED = 512  # frames to learn from what cells have in common
_LEAST_TOLD = 0.05  # the weight of a place that is covered throughout
_COARSE = 0.5  # weight of the maps at lower resolutions, so that each pass learns what it is for


def train_locating(material: Material, task: LocatingTask, start_from: dict, directory: str | os.PathLike, *,
                   intervals: loop.Intervals = loop.Intervals()) -> dict:
    """Trains the network that locates.

    Args:
      material: what clips are composed of.
      start_from: parameters of `LocatingNet`, of which those of its stages are needed (`folded_stages`).
      directory: for checkpoints and metrics; an interrupted training goes on from there.

    Returns:
      Parameters of `LocatingNet`, on the host.

    Raises:
      InputError, TrainingDiverged, Preempted: as `loop.train`; the first also as `locating_batches`.
    """
    devices = distributed.batch_devices(task.training.batch)
    run = loop.TrainingRun("network that locates", steps=task.training.steps, directory=directory, devices=devices,
                           task=task, intervals=intervals)
    state = loop.train(run, initial_state(task, _with_matching(material, task, start_from)),
                       training_step(task, devices),
                       lambda start: locating_batches(material, task, start=start))
    return jax.device_get(state.result["params"])


def _with_matching(material: Material, task: LocatingTask, start_from: dict) -> dict:
    """Parameters to begin with: the stages, and projections of them that whiten the cells of real and painted frames.

    Cosines of a stage's own features are high between any two cells, since all have much in common. In whitened ones
    what is rare counts as much as what is common, so that from the first step on they tell people apart.
    """
    if "frame" in start_from:
        return start_from
    compute = jax.jit(lambda params, frames: LocatingNet(task.network).apply(
        {"params": params}, frames, method="stage_cells"))
    clips = locating_batches(material, dataclasses.replace(task, seed=task.seed + 2))
    cells: list[list[np.ndarray]] = []
    for _ in range(math.ceil(_WHITENED / (task.training.batch * task.clip))):
        frames = next(clips)["frames"]
        cells.append([np.asarray(each, np.float64).reshape(-1, each.shape[-1])
                      for each in compute(start_from, frames.reshape(-1, *frames.shape[2:]))])
    match = {f"match{i}": _whitening(np.concatenate(each), task.network.match_width)
             for i, each in enumerate(zip(*cells))}
    return start_from | {"frame": match}


def _whitening(features: np.ndarray, width: int) -> dict[str, np.ndarray]:
    """The linear layer that gives features [N, C] mean 0 and, in their `width` strongest directions, deviation 1."""
    mean = features.mean(0)
    values, vectors = np.linalg.eigh(np.cov(features - mean, rowvar=False))
    kernel = np.zeros((features.shape[1], width))
    count = min(width, len(values))
    strongest = slice(len(values) - count, None)
    kernel[:, :count] = vectors[:, strongest] / np.sqrt(values[strongest] + 1e-3 * values[-1])
    return {"kernel": kernel.astype(np.float32), "bias": (-mean @ kernel).astype(np.float32)}


def initial_state(task: LocatingTask, start_from: dict) -> TrainState:
    """A state from the task's seed, on the host.

    Args:
      start_from: parameters of `LocatingNet`, or some of them.
    """
    def init(key: jax.Array) -> dict:
        return {"params": initial_parameters(task.network, key)}

    def adopt(fresh: dict) -> dict:
        values = traverse_util.flatten_dict(fresh) | traverse_util.flatten_dict({"params": start_from})
        return jax.tree.map(np.asarray, traverse_util.unflatten_dict(values))

    return states.initial_state(init, task.training, seed=task.seed, adopt=adopt)


def gradients(task: LocatingTask, state: TrainState, batch: dict) -> tuple[dict, dict, dict]:
    """Gradients of what learns on this device's part of a batch (`locating_batches`), no batch statistics, and the
    metrics."""
    network = LocatingNet(task.network)
    frames = batch["frames"]
    clips, count = frames.shape[:2]
    person, occluder = batch["person"], batch["occluder"]
    # Half of the frames' resolution: the share of each 2×2 pixels.
    truth = block_means(jnp.stack([person, occluder, person & occluder], -1), 2)

    told = told_apart(truth[..., 1])[..., None]

    keys = jax.random.split(jax.random.fold_in(jax.random.key(task.seed), state.step), clips)

    def of_clip(params: dict, key: jax.Array, maps: FrameMaps, nearer: jax.Array, offsets: jax.Array,
                seen: jax.Array) -> Any:
        return network.apply({"params": params}, maps, nearer, offsets, seen, train=True, rngs={"dropout": key},
                             method="logits")

    def forward(learning: dict) -> tuple[jax.Array, dict]:
        params = state.params | learning
        maps: Any = network.apply({"params": params}, frames.reshape(-1, *frames.shape[2:]), method="maps")
        maps = jax.tree.map(lambda x: x.reshape(clips, count, *x.shape[1:]), maps)
        *coarse, finest = jax.vmap(partial(of_clip, params))(
            keys, maps, *(batch[name] for name in ("nearer", "offsets", "seen")))
        parts = _cross_entropies(finest, truth, told)
        loss = (parts * _WEIGHTS).sum()
        for logits in coarse:
            wanted, weights = (block_means(each, each.shape[2] // logits.shape[2]) for each in (truth, told))
            loss += _COARSE * (_cross_entropies(logits, wanted, weights) * _WEIGHTS).sum() / 3
        names = ("person", "occluder", "hidden")
        return loss, {f"{name}_cross_entropy": part for name, part in zip(names, parts)}

    learning = learning_part(state.params, task.training)
    (_, metrics), grads = jax.value_and_grad(forward, has_aux=True)(learning)
    return grads, state.batch_stats, metrics


def training_step(task: LocatingTask, devices: step.Devices = None) -> Callable:
    """The step over devices: (state, batch [devices, B/devices, …]) to (state, metrics); see `step.training_step`."""
    return step.training_step(partial(gradients, task), task.training, devices=devices, parallel=task.parallel)


def told_apart(occluder: jax.Array) -> jax.Array:
    """How much each place of a clip counts: occluder [B, T, h, w] to [B, 1, h, w], from 1 where nothing ever hides it.

    What hides a place in most frames cannot be told from the person by comparing frames. Such places have by far the
    largest losses, and with equal weights would be most of what the network learns from.
    """
    return jnp.maximum(1 - occluder.mean(1, keepdims=True), _LEAST_TOLD)


def _cross_entropies(logits: jax.Array, shares: jax.Array, weights: jax.Array) -> jax.Array:
    """Mean weighted binary cross-entropy of each channel, [C]."""
    return (weights * optax.sigmoid_binary_cross_entropy(logits, shares)).mean((0, 1, 2, 3))
