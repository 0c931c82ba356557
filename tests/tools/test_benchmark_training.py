"""The tool that times training steps: its smoke size runs, both sides do the same work, and its figures are sound."""

import dataclasses
import json

import flax.linen as nn
import jax
import pytest

from tools import benchmark_training as tool
from tools.step_parts import layers
from vrstc_jax import config as configs
from vrstc_jax.models.layers import Deconvolution
from vrstc_jax.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def quickly():
    """One device, and the smoke size with the paper's options."""
    smoke = configs.get("smoke")
    small = dataclasses.replace(smoke, stcnet=dataclasses.replace(smoke.stcnet, transport=False, learned_scale=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool, "devices_for", lambda config: jax.devices()[:1])
        patch.setitem(configs.SIZES, "smoke", small)
        yield


@pytest.fixture(scope="module")
def written(torch, quickly, tmp_path_factory):
    path = tmp_path_factory.mktemp("out") / "training.json"
    tool.main(tool.Options(size="smoke", batch=4, steps=2, torch_compile=False, json=path))
    return json.loads(path.read_text())


@pytest.mark.slow
def test_both_sides_do_the_same_work(written):
    assert [(case["compute"], case["guider"]) for case in written["cases"]] == [("float32", False), ("float32", True)]
    for case in written["cases"]:
        assert ("identity" in case["metrics"]) == case["guider"]
        theirs = case["forms"][tool.EAGER]
        # Both are in float32, from the same weights.
        assert 0 < theirs["difference"] <= 2e-5
        assert theirs["times_ours"] == pytest.approx(theirs["seconds"] / case["forms"][tool.OURS]["seconds"])
        assert case["left_out"] == {tool.COMPILED: "not asked for"}
        assert 0 < case["share_of_peak"] < 1
    without, guided = (case["operations"] for case in written["cases"])
    assert 0 < without < guided


@pytest.mark.slow
def test_parts_and_input_are_reported(written):
    (parts,) = written["parts"].values()
    assert list(parts) == ["convolutions", "deconvolutions", "attention", "guider", "input"]
    for name in ("convolutions", "deconvolutions", "attention"):
        assert parts[name]["seconds"] > 0
        assert 0 < parts[name]["operations"] < written["cases"][0]["operations"]
    # Convolutions are most of what a step without a guider computes.
    assert parts["convolutions"]["operations"] > 0.3 * written["cases"][0]["operations"]
    assert written["input"]["batches_per_second"] == pytest.approx(1 / parts["input"]["seconds"])


def test_layers_are_counted_as_a_step_has_them():
    found = layers(configs.get("full"), 1)
    kinds = {Deconvolution: 0, nn.Conv: 0}
    for (layer, _), times in found.items():
        kinds[type(layer)] += times
    # Four encoders of nine and two discriminators of six, on two batches; two decoders of two.
    assert kinds == {nn.Conv: 4 * 9 + 2 * 2 * 6, Deconvolution: 4}
    assert sum(times for (layer, shape), times in found.items() if shape == (1, 128, 64, 3)) == 2 + 4


def test_other_work_is_not_timed():
    losses = {"generators": 1.0, "psnr": 12.0}
    assert tool.require_same(losses | {"psnr": 12.006}, losses, 1e-3, "theirs") == pytest.approx(5e-4)
    for other in (1.01, float("nan")):
        with pytest.raises(SystemExit, match=f"generators of 'theirs' is {other}, ours 1:"):
            tool.require_same(losses | {"generators": other}, losses, 1e-3, "theirs")


@pytest.mark.parametrize("name", ["batch", "steps"])
def test_bad_options_are_refused(name):
    with pytest.raises(InputError, match=f"--{name} must be more than 0. Got 0."):
        tool.main(tool.Options(size="smoke", **{name: 0}))
