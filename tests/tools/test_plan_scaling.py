"""The planner: what it reads off a compiled step, and what it makes of it, by hand."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tools import plan_scaling as planner
from tools import rates
from tools.chips import CHIPS, published
from vrstc_jax import config as configs
from vrstc_jax.models.reid import ReidNet
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.training import reid

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_all_reduced_bytes_are_those_of_the_program(eight_devices):
    def both(x, y):
        return jax.lax.pmean({"a": x * 2, "b": y + 1}, "batch")

    program = jax.pmap(both, axis_name="batch", devices=eight_devices[:2]).lower(
        jnp.ones((2, 30, 7)), jnp.ones((2, 11), jnp.bfloat16)).compile().as_text()
    # The CPU backend may reduce bfloat16 as float32.
    assert planner.all_reduced(program) in (4 * 210 + 2 * 11, 4 * 210 + 4 * 11)
    assert planner.all_reduced("  %x.1 = f32[3]{0} get-tuple-element(%all-reduce.1), index=0") == 0


def test_work_of_a_step_by_hand(eight_devices):
    """A product of [n, 30] with [30, 7], n examples, and a fixed one of [20, 30] with it, the sum all-reduced."""
    weights, fixed = jnp.ones((30, 7)), jnp.ones((20, 30))

    def example_step(task, count, devices):
        def step(weights, batch):
            return jax.lax.pmean(jnp.sum(batch["x"] @ weights, 0) + jnp.sum(fixed @ weights, 0), "batch")

        batch = {"x": np.ones((count, 30), np.float32)}
        return jax.pmap(step, axis_name="batch", in_axes=(None, 0), devices=devices), (weights,), batch

    work = planner.analysed(configs.get("smoke").first_reid, example_step)
    # A row of 7 takes 2 · 30 · 7 operations, and 7 more for the sum over rows.
    assert work.operations[1] == pytest.approx(2 * 30 * 7 + 7, rel=0.05)
    assert work.operations[0] == pytest.approx(20 * (2 * 30 * 7 + 7), rel=0.05)
    assert work.reduced == 4 * 7


@pytest.mark.slow
def test_work_of_the_smallest_step(eight_devices):
    task = configs.get("smoke").first_reid
    work = planner.analysed(task)
    params = sum(np.size(leaf) for leaf in jax.tree.leaves(reid.initial_state(task, 10).params))
    # Gradients of all parameters are reduced, besides batch statistics and metrics, which are fewer.
    assert 4 * params <= work.reduced < 1.5 * 4 * params
    # The forward pass of one clip, and the backward one, which takes a product by the weights and one by what they saw.
    net = ReidNet(task.network, 10)
    clips = np.zeros((1, task.network.clip, task.network.height, task.network.width, 3), np.float32)
    variables = jax.eval_shape(net.init, jax.random.key(0), clips)
    forward = rates.analysis(jax.jit(net.apply).lower(variables, clips))["flops"]
    assert 2.5 * forward < work.operations[1] < 4 * forward
    assert work.moved[1] > 0 and work.moved[0] > 4 * params


def test_a_prediction_by_hand():
    def predicted(chips, **changes):
        work = planner.Work((0.0, 2e12), (1e9, 0.5e9), 100_000_000)
        training = configs.Training(steps=1000, batch=32, learning_rate=1e-4)
        return planner.predict(work, "h100", chips, training, planner.Arguments(reached=0.5, **changes))

    got = predicted(16)
    assert got.batch == 32 and got.computing == pytest.approx(2 * 2e12 / (495e12 / 2))
    assert got.memory == pytest.approx(2e9 / (3350e9 / 2))
    # A ring of eight in a server: 14 messages of an eighth each; then two servers, an eighth of it for each chip.
    inside = 14 * (100e6 / 8 / 450e9 + 2e-6)
    between = 2 * (100e6 / 8 / 2 / 50e9 + 10e-6)
    assert got.reducing == pytest.approx(inside + between)
    assert got.step == pytest.approx(got.computing + inside + between) and got.limit == "computing"
    assert got.hours == pytest.approx(1000 * got.step / 3600)
    assert got.efficiency == pytest.approx(32 * 2e12 / (495e12 / 2) / (16 * got.step))
    alone = predicted(1)
    assert alone.reducing == 0 and alone.efficiency == pytest.approx(1)
    weak = predicted(16, batch_per_chip=32)
    many = predicted(64)  # more chips than examples: one for each
    assert many.batch == 64 and many.computing == pytest.approx(2e12 / (495e12 / 2))
    assert many.hours == pytest.approx(1000 / 2 * many.step / 3600)
    assert weak.batch == 512 and weak.hours == pytest.approx(1000 / 16 * weak.step / 3600)


@pytest.mark.parametrize("kind, chip", [("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA A100-SXM4-80GB", "a100"),
                                        ("TPU v5 lite", "v5e"), ("TPU v5e", "v5e"), ("TPU v5", "v5p"),
                                        ("TPU v5p", "v5p"), ("TPU v6 lite", "v6e"), ("TPU v4", None),
                                        ("NVIDIA H100 PCIe", None), ("cpu", None)])
def test_published_rates_go_by_the_device_s_name(kind, chip):
    assert published(kind) == CHIPS.get(chip)


@pytest.mark.parametrize("change, said", [({"reached": 0.0}, "--reached"), ({"batch_per_chip": 0}, "--batch-per-chip")])
def test_bad_numbers(change, said):
    with pytest.raises(InputError, match=said):
        planner.main(planner.Arguments(size="smoke", **change))


@pytest.mark.slow
def test_the_whole_plan_at_smoke_size(tmp_path, capsys, eight_devices):
    result = planner.main(planner.Arguments(size="smoke", output=tmp_path / "plan.json"))
    printed = capsys.readouterr().out
    assert "Assumed: 40% of the published rates" in printed and "this CPU:" in printed
    assert json.loads((tmp_path / "plan.json").read_text()) == json.loads(json.dumps(result))
    pods = {(chip, 2**k) for chip in CHIPS for k in range(11)}
    for network in planner.NETWORKS:
        rows = {(p["chip"], p["chips"]): p for p in result[network]["predictions"]}
        assert set(rows) == pods and result[network]["here"]["measured"] > 0
        assert all(0 < p["step"] < math.inf and p["limit"] in ("computing", "memory", "all-reduce")
                   for p in rows.values())
    hours = {(row["chip"], row["chips"]): row["hours"] for row in result["recipe"]}
    assert set(hours) == pods
    assert hours["v5e", 64] == pytest.approx(sum(
        row["hours"] for network in planner.NETWORKS for row in result[network]["predictions"]
        if (row["chip"], row["chips"]) == ("v5e", 64)))
