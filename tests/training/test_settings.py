"""The networks' forward and backward passes, and a step of STCnet, under JAX's settings that forbid something.

Promotion matters only while a program is traced, so nothing is compiled for it.
"""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
import random_training as made
from random_training import SMOKE

from vrstc_jax.training import stcnet

BY_MESH = dataclasses.replace(SMOKE, parallel="mesh")


@pytest.fixture
def given():
    """The state, the guider's variables and a batch."""
    return made.stcnet_state(BY_MESH), made.random_reid(BY_MESH, 5), made.stcnet_batch(BY_MESH, 0, 2)


@pytest.mark.parametrize("setting", [
    lambda: jax.numpy_rank_promotion("raise"), lambda: jax.numpy_dtype_promotion("strict")], ids=["rank", "type"])
def test_generators_discriminators_and_guider_promote_nothing(given, setting):
    state, guider, batch = given
    function = partial(stcnet.gradients, BY_MESH.stcnet_task, made.IDENTITIES)
    with setting():
        gradients, _, metrics = jax.eval_shape(function, state, guider, batch)
    assert jax.tree.map(np.shape, gradients) == jax.tree.map(np.shape, state.params)
    assert "identity" in metrics


@pytest.fixture
def step():
    return stcnet.training_step(BY_MESH.stcnet_task, made.IDENTITIES, devices=jax.devices()[:1])


def test_a_step_promotes_no_rank(given, step):
    # Strict promotion of types is left out: Optax's Adam raises a float to an integer's power.
    state, guider, batch = given
    with jax.numpy_rank_promotion("raise"):
        new, _ = jax.eval_shape(step, state, guider, made.on(1, batch))
    assert jax.tree.map(np.shape, new.params) == jax.tree.map(np.shape, state.params)


@pytest.mark.slow
def test_a_step_yields_no_nan(quick_compilation, given, step):
    state, guider, batch = given
    with jax.debug_nans(True):
        _, metrics = step(state, guider, made.on(1, batch))
    assert all(np.isfinite(value) for value in jax.device_get(metrics).values())
