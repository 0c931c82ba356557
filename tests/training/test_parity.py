"""Whole training steps: against PyTorch twins with PyTorch's Adam, and on eight devices against one.

The twins compute in float64. Differences are the largest over the largest magnitude of the same array.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import random_training as made
from comparing import assert_trees_close, difference, root_mean_square
from random_training import SMOKE

from vrstc_jax import config as configs
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.training import optimiser, reid, stcnet

quickly = pytest.mark.usefixtures("quick_compilation")

# Losses are means of many float32 numbers, good to some 1e-7; a gradient has passed through every layer
# twice, and is good to some 1e-6.
METRICS, GRADIENTS = 5e-6, 1e-5
# Adam divides a gradient by its own size, so that where a gradient is near nothing its rounding is all that
# is seen: of weights near 1, moved by 1e-3 a step, a few end up to 1e-4 apart, and all others within 1e-6. So their
# root mean square has a bound that is a fiftieth of a step, and the farthest one of half a step.
UPDATES, FARTHEST = 2e-5, 5e-4
# On eight devices the same numbers are summed in another order.
DEVICES = 1e-5

# The paper's options, at as few layers as show them.
PLAIN = dataclasses.replace(
    SMOKE, discriminators=configs.Discriminators(widths=(4, 8)),
    stcnet=configs.STCnet(height=32, width=16, spatial=SMOKE.stcnet.spatial, temporal=SMOKE.stcnet.temporal))


def assert_same_metrics(got, wanted, bound=METRICS):
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert got[name] == pytest.approx(value, rel=bound), name


def assert_moved_alike(got, wanted):
    """Each leaf of two trees of parameters, after Adam's steps."""
    assert_trees_close(got, wanted, FARTHEST)
    assert_trees_close(got, wanted, UPDATES, measure=root_mean_square)


# A second block of a stage has no convolution in its shortcut, and a non-local block follows. The decay is
# strong, so that a step tells where it is added.
REID = dataclasses.replace(
    SMOKE, reid=dataclasses.replace(SMOKE.reid, blocks=(1, 2, 1, 1), non_local=(0, 1, 0, 0)),
    reid_training=dataclasses.replace(SMOKE.reid_training, weight_decay=0.1))
CONFIGS = {"smoke": SMOKE, "paper's options, without guider": PLAIN, "re-ID": REID}


def given(name, parallel="pmap"):
    """(a function that makes the step, the state and what else a step is given, a batch by its seed)."""
    config = dataclasses.replace(CONFIGS[name], parallel=parallel)
    if name == "re-ID":
        step = functools.partial(reid.training_step, config.first_reid, made.IDENTITIES)
        return step, (made.reid_state(config),), functools.partial(made.reid_batch, config)
    step = functools.partial(stcnet.training_step, config.stcnet_task, made.IDENTITIES)
    guider = made.random_reid(SMOKE, 5) if name == "smoke" else None
    return step, (made.stcnet_state(config), guider), functools.partial(made.stcnet_batch, config)


@pytest.fixture(scope="module")
def on_one_device(quick_compilation):
    """Three steps of each config on one device: {name: [(batch, metrics, state after)]}, first the state."""
    def run(name):
        make, (state, *guider), batch_of = given(name)
        step, steps = make(devices=jax.devices()[:1]), [(None, None, state)]
        for seed in range(3):
            batch = batch_of(seed)
            state, metrics = jax.device_get(step(state, *guider, made.on(1, batch)))
            steps.append((batch, metrics, state))
        return steps

    return functools.cache(run)


@quickly
@pytest.mark.parametrize("parallel", ["pmap", pytest.param("mesh", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["smoke", pytest.param("re-ID", marks=pytest.mark.slow)])
def test_eight_devices_are_one(eight_devices, on_one_device, name, parallel):
    (_, _, state), (batch, wanted_metrics, wanted), *_ = on_one_device(name)
    make, (_, *guider), _ = given(name, parallel)
    state, metrics = jax.device_get(make(devices=eight_devices)(state, *guider, made.on(8, batch)))
    assert_same_metrics(metrics, wanted_metrics, DEVICES)
    assert_trees_close(made.first_gradients(state.adam), made.first_gradients(wanted.adam), DEVICES)
    assert_trees_close(state.batch_stats, wanted.batch_stats, DEVICES)
    assert_moved_alike(state.params, wanted.params)
    assert_moved_alike(state.result, wanted.result)


@quickly
@pytest.mark.parametrize("name", ["smoke", pytest.param("paper's options, without guider", marks=pytest.mark.slow)])
def test_steps_of_stcnet_are_pytorchs(twin, weights, on_one_device, name):
    config = CONFIGS[name]
    (_, _, start), *steps = on_one_device(name)
    size = (config.stcnet.height, config.stcnet.width)
    modules = {"generators": twin.Generators(config.stcnet),
               "discriminators": twin.DiscriminatorPair(config.discriminators, size)}
    modules = {name: weights.load(module, start.params[name]) for name, module in modules.items()}
    _, (_, guider), _ = given(name)
    if guider is not None:
        guider = weights.load(twin.ReidNet(config.reid, made.IDENTITIES).eval(), *guider.values())
    rate = config.stcnet_training.learning_rate
    adams = [twin.torch.optim.Adam(module.parameters(), rate) for module in modules.values()]

    for number, (batch, metrics, state) in enumerate(steps, 1):
        wanted = twin.stcnet_backward(config, *modules.values(), guider, batch)
        assert_same_metrics(metrics, wanted)
        if number == 1:
            for name, module in modules.items():
                gradients = made.first_gradients(state.adam)[name]
                assert_trees_close(gradients, weights.gradients(module, state.params[name]), GRADIENTS)
        for adam in adams:
            adam.step()
        for name, module in modules.items():
            assert_moved_alike(state.params[name], weights.parameters(module, state.params[name]))
        assert state.step == number


@quickly
def test_running_mean_is_of_the_generators(on_one_device):
    (_, _, start), *steps = on_one_device("smoke")
    mean = start.params["generators"]
    for number, (_, _, state) in enumerate(steps, 1):
        decay = min(SMOKE.stcnet_training.average, (1 + number) / (10 + number))
        mean = jax.tree.map(lambda m, p: decay * m + (1 - decay) * p, mean, state.params["generators"])
        assert_trees_close(state.result, mean, 1e-6)


@quickly
def test_steps_of_the_reid_network_are_pytorchs(twin, weights, on_one_device):
    (_, _, start), *steps = on_one_device("re-ID")
    network = weights.load(twin.ReidNet(REID.reid, made.IDENTITIES).train(), start.params, start.batch_stats)
    training = REID.reid_training
    adam = twin.torch.optim.Adam(network.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    before = weights.statistics(network, start.batch_stats)
    for number, (batch, metrics, state) in enumerate(steps, 1):
        assert_same_metrics(metrics, twin.reid_backward(network, batch))
        if number == 1:
            wanted = jax.tree.map(lambda g, p: g + training.weight_decay * p,
                                  weights.gradients(network, start.params), start.params)
            assert_trees_close(made.first_gradients(state.adam), wanted, GRADIENTS)
        adam.step()
        assert_moved_alike(state.params, weights.parameters(network, state.params))
        after = weights.statistics(network, state.batch_stats)
        if number == 1:  # later ones carry the other kind of variance on
            assert_trees_close(state.batch_stats, weights.biased_statistics(network, before, after), METRICS)


# The optimiser.


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_is_pytorchs(torch, decay):
    """The same gradients in both, in float32: what is left is rounding."""
    training = configs.Training(steps=9, batch=1, learning_rate=0.01, weight_decay=decay)
    ours, random = optimiser.adam(training), np.random.default_rng(0)
    params = random.standard_normal(50).astype(np.float32)
    tensor = torch.tensor(params, requires_grad=True)
    theirs = torch.optim.Adam([tensor], 0.01, weight_decay=decay)
    state, update = ours.init(params), jax.jit(ours.update)
    for _ in range(5):
        gradient = (random.standard_normal(50) * 10.0 ** random.integers(-6, 2, 50)).astype(np.float32)
        updates, state = update(gradient, state, params)
        params = params + np.asarray(updates)
        tensor.grad = torch.tensor(gradient)
        theirs.step()
        assert difference(params, tensor.detach().numpy()) <= 1e-6


def test_learning_rates_by_hand():
    def rates(at, **options):
        schedule = optimiser.learning_rate(configs.Training(batch=1, learning_rate=2.0, **options))
        return [float(schedule(step)) for step in at]

    assert rates([0, 5, 99], steps=10) == [2, 2, 2]
    np.testing.assert_allclose(rates([0, 5, 10], steps=10, schedule="cosine"), [2, 1, 0], atol=1e-6)
    # The paper's: a tenth after each third of the way.
    np.testing.assert_allclose(rates([0, 29, 30, 59, 60, 89], steps=90, schedule="staircase"),
                               [2, 2, 0.2, 0.2, 0.02, 0.02], rtol=1e-6)
    np.testing.assert_allclose(rates([0, 1, 3, 4, 9], steps=10, warmup=4), [0.5, 1, 2, 2, 2])
    with pytest.raises(InputError, match="Training.schedule is 'linear'; choose one of constant, cosine, staircase"):
        rates([0], steps=10, schedule="linear")


# Full size.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full", "as_published"])
def test_one_step_of_the_paper_at_full_size(name):
    config = configs.get(name)
    device = jax.devices()[:1]
    step = reid.training_step(config.first_reid, made.IDENTITIES, devices=device)
    start = reid.initial_state(config.first_reid, made.IDENTITIES)
    state, metrics = step(start, made.on(1, made.reid_batch(config, 0, 2)))
    # A classifier that starts near zero knows nothing of five identities.
    assert metrics["cross_entropy"] == pytest.approx(np.log(made.IDENTITIES), rel=0.2)
    guider = jax.device_get(state.result)

    start = stcnet.initial_state(config.stcnet_task)
    step = stcnet.training_step(config.stcnet_task, made.IDENTITIES, devices=device)
    state, metrics = jax.device_get(step(start, guider, made.on(1, made.stcnet_batch(config, 0, 2))))
    assert all(np.isfinite(value) for value in metrics.values()), metrics
    for old, new in zip(jax.tree.leaves(start.params), jax.tree.leaves(state.params), strict=True):
        assert np.isfinite(new).all() and (old != new).any()
