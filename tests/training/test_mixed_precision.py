"""Training in bfloat16: what is computed in it, what stays float32, and how near it comes to float32.

bfloat16 has 8 significant bits: what is rounded to it is off by up to 0.4 %, and a step rounds many times, in
both directions.
"""

import dataclasses
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_training as made
from comparing import some_masks
from jax.extend import core
from random_training import SMOKE

from vrstc_jax import config as configs
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.reid import ReidNet
from vrstc_jax.ops.pictures import to_float
from vrstc_jax.training import reid, stcnet

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Losses are means over many numbers whose roundings are independent.
LOSSES = 0.01
# Of all of a network's gradients laid end to end, and of the array that is worst off.
COSINE, LEAST_COSINE = 0.998, 0.99

# The paper's options at as few layers as show them: generators, discriminators and a guider; a re-ID network with a
# non-local block.
CONFIG = dataclasses.replace(
    SMOKE, stcnet=configs.STCnet(height=32, width=16, spatial=SMOKE.stcnet.spatial, temporal=SMOKE.stcnet.temporal),
    discriminators=configs.Discriminators(widths=(4, 8)),
    reid=dataclasses.replace(SMOKE.reid, blocks=(1, 1), non_local=(0, 1)))


def given(network, config):
    """(what a step of `stcnet` or `reid` is given before the batch, the batch)."""
    if network is stcnet:
        return (made.stcnet_state(config), made.random_reid(config, 5)), made.stcnet_batch(config, 0)
    return (made.reid_state(config),), made.reid_batch(config, 0)


def task_of(network, config):
    return config.stcnet_task if network is stcnet else config.first_reid


def first_step(network, config):
    before, batch = given(network, config)
    step = network.training_step(task_of(network, config), made.IDENTITIES, devices=jax.devices()[:1])
    return before[0], *jax.device_get(step(*before, made.on(1, batch)))


def assert_near(got, wanted):
    """Two trees of gradients, by the cosine of the whole and of each leaf."""
    got, wanted = ([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)] for tree in (got, wanted))
    assert cosine(np.concatenate(got), np.concatenate(wanted)) >= COSINE
    assert min(map(cosine, got, wanted)) >= LEAST_COSINE


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def assert_float32(tree):
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} <= {np.dtype(np.float32), np.dtype(np.int32)}


@pytest.mark.slow
@pytest.mark.parametrize("network", [stcnet, reid])
def test_a_step_is_nearly_float32s_and_leaves_float32(network):
    before, exact, wanted = first_step(network, CONFIG)
    _, state, metrics = first_step(network, dataclasses.replace(CONFIG, compute="bfloat16"))
    assert_float32((state, metrics))
    assert state.step == 1
    for name in wanted.keys() - {"accuracy"}:
        assert metrics[name] == pytest.approx(wanted[name], rel=LOSSES), name
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.result, before.result)
    assert all(jax.tree.leaves(moved))
    got, wanted = (made.first_gradients(s.adam) for s in (state, exact))
    if network is reid:
        got, wanted = {"all": got, "stats": state.batch_stats}, {"all": wanted, "stats": exact.batch_stats}
    for name in wanted:
        assert_near(got[name], wanted[name])


def operations(jaxpr):
    """All of a program's, those of its inner programs among them."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()),
                                     is_leaf=lambda x: isinstance(x, (core.Jaxpr, core.ClosedJaxpr))):
            inner = value.jaxpr if isinstance(value, core.ClosedJaxpr) else value
            if isinstance(inner, core.Jaxpr):
                yield from operations(inner)


@pytest.mark.parametrize("compute", get_args(configs.Compute))
@pytest.mark.parametrize("network", [stcnet, reid])
def test_convolutions_are_in_it_and_softmax_and_losses_are_not(network, compute):
    config = dataclasses.replace(CONFIG, compute=compute)
    (state, *guider), batch = given(network, config)
    task = task_of(network, config)
    program = jax.make_jaxpr(lambda state: network.gradients(task, made.IDENTITIES, state, *guider, batch))(state)
    types = {}
    for operation in operations(program.jaxpr):
        types.setdefault(operation.primitive.name, set()).update(v.aval.dtype.name for v in operation.invars)
    assert types["conv_general_dilated"] == {compute}
    # ELU is expm1; these are of softmax, of the losses, and of batch norm.
    assert {"exp", "log1p" if network is stcnet else "rsqrt"} <= types.keys()
    for name in ("exp", "log", "log1p", "logistic", "rsqrt"):
        assert types.get(name, set()) <= {"float32"}, name


def test_pictures_are_nearly_float32s_and_what_is_visible_stays():
    """Pixels are carried over and blended too; gradients through that are not compared, for they jump wherever a
    flow crosses a pixel's border, and of random weights and noise there is nothing but such places."""
    c, random = SMOKE.stcnet, np.random.default_rng(0)
    assert c.transport
    frames = random.uniform(-1, 1, (4, c.height, c.width, 3)).astype(np.float32)
    sides = random.uniform(-1, 1, (4, c.frames_per_side, c.height, c.width, 3)).astype(np.float32)
    masks = some_masks(4, c.height, c.width)
    params = made.random_parameters(Generators(c), 1, frames, masks, sides, sides)
    exact, rounded = (jax.jit(Generators(c, dtype).apply)({"params": params}, frames, masks, sides, sides)
                      for dtype in ("float32", "bfloat16"))
    for got, wanted in zip(rounded, exact):
        assert got.dtype == jnp.float32
        np.testing.assert_array_equal(*(np.where(masks > 0.5, 0, x) for x in (got, frames)))
        assert np.abs(got - wanted).mean() <= 0.01 * np.abs(wanted).mean()


def test_float32_is_the_program_that_it_is_without_a_type():
    c = CONFIG.stcnet
    ((state, variables), batch), clips = given(stcnet, CONFIG), made.reid_batch(CONFIG, 0)["clips"]
    inputs = [to_float(batch[k]) for k in ("frames", "masks", "previous", "following")]

    def program(dtype):
        def run(params, variables):
            first = Generators(c, dtype).apply({"params": params}, *inputs)
            return first, ReidNet(CONFIG.reid, made.IDENTITIES, dtype=dtype).apply(
                variables, to_float(clips), train=True, mutable=["batch_stats"])

        return jax.jit(run).lower(state.params["generators"], variables).as_text()

    assert program("float32") == program(None) != program("bfloat16")
