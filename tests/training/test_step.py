"""A training step divided between devices by pmap and by a mesh: the same numbers, interchangeable checkpoints."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import assert_trees_close

from vrstc_jax import config as configs
from vrstc_jax.training import loop
from vrstc_jax.training.devices import AXIS
from vrstc_jax.training.state import initial_state
from vrstc_jax.training.step import training_step

WAYS = "pmap", "mesh"
TRAINING = configs.Training(steps=8, batch=8, learning_rate=0.1, average=0.9)
TASK = configs.get("smoke").first_reid


def network(key):
    return {"params": {"w": jax.random.normal(key, (3, 4))}, "batch_stats": {"seen": jnp.zeros(3)}}


def gradients(factor, state, scale, batch):
    """Of a loss that joins the examples of all devices, as batch normalisation does."""
    def loss(params):
        rows = batch["rows"] * scale["scale"]
        centred = rows - jax.lax.pmean(rows.mean(0), AXIS)
        return factor * jnp.mean((centred @ params["w"]) ** 2), rows.mean(0)

    (value, seen), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    return grads, {"seen": 0.9 * state.batch_stats["seen"] + 0.1 * seen}, {"loss": value}


def batches(start):
    return ({"rows": np.random.default_rng(k).standard_normal((8, 3)).astype(np.float32)}
            for k in range(start, TRAINING.steps))


def train(directory, parallel, steps=TRAINING.steps):
    """The last state, by way of checkpoints, and each step's loss."""
    step = training_step(lambda *given: gradients(2.0, *given), TRAINING, constants=1, parallel=parallel)
    scale, losses = {"scale": np.float32(1.5)}, []

    def counted(state, batch):
        state, metrics = step(state, scale, batch)
        losses.append(float(metrics["loss"]))
        return state, metrics

    run = loop.TrainingRun("test", steps, directory, task=dataclasses.replace(TASK, parallel=parallel))
    return jax.device_get(loop.train(run, initial_state(network, TRAINING, seed=3), counted, batches)), losses


@pytest.fixture(scope="module")
def by_hand():
    """The last parameters and statistics, and each step's loss, by the whole batch in NumPy, with Adam as published."""
    state = initial_state(network, TRAINING, seed=3)
    w, seen = np.float64(state.params["w"]), np.zeros(3)
    first, second, losses = np.zeros_like(w), np.zeros_like(w), []
    for number, batch in enumerate(batches(0), 1):
        rows = 1.5 * np.float64(batch["rows"])
        centred = rows - rows.mean(0)
        losses.append(2 * ((centred @ w) ** 2).mean())
        gradient = 4 * centred.T @ (centred @ w) / (8 * 4)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient ** 2
        w = w - 0.1 * (first / (1 - 0.9 ** number)) / (np.sqrt(second / (1 - 0.999 ** number)) + 1e-8)
        seen = 0.9 * seen + 0.1 * rows.mean(0)
    return {"w": w}, {"seen": seen}, losses


@pytest.mark.parametrize("parallel", WAYS)
def test_a_step_is_the_whole_batchs(eight_devices, by_hand, tmp_path, parallel):
    state, losses = train(tmp_path, parallel)
    # Adam divides by the gradient's magnitude, so float32's rounding grows from step to step: 1e-5 after eight.
    np.testing.assert_allclose(losses, by_hand[2], rtol=1e-4)
    assert_trees_close(state.params, by_hand[0], 1e-4)
    assert_trees_close(state.batch_stats, by_hand[1], 1e-6)


@pytest.mark.parametrize("first, then", [WAYS, WAYS[::-1]])
def test_each_way_goes_on_from_the_others_checkpoint(eight_devices, tmp_path, first, then):
    train(tmp_path / "changed", first, 4)
    changed, losses = train(tmp_path / "changed", then)
    whole, whole_losses = train(tmp_path / "whole", then)
    np.testing.assert_allclose(losses, whole_losses[4:], rtol=1e-6)  # float32's rounding
    for got, wanted in zip(jax.tree.leaves(changed), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize("parallel", WAYS)
def test_it_is_compiled_once(eight_devices, tmp_path, caplog, parallel):
    with jax.log_compiles():
        train(tmp_path, parallel)
    compiled = [record.getMessage() for record in caplog.records if "XLA compilation" in record.getMessage()]
    assert sum("jit(make)" not in message for message in compiled) == 1, compiled  # the initial state's, which is first


def test_records_of_runs_do_not_tell_the_ways_apart():
    smoke = configs.get("smoke")
    by_mesh = dataclasses.replace(smoke, parallel="mesh")
    assert configs.with_defaults(configs.to_dict(by_mesh)) == configs.to_dict(smoke)
    assert {task.parallel for task in (by_mesh.first_reid, by_mesh.final_reid, by_mesh.stcnet_task)} == {"mesh"}
