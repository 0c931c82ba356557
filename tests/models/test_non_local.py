"""Non-local blocks: the equations in loops, their places in a ResNet, and padding.

Against PyTorch they are compared in training, within the re-ID network, in test_parity.py.
"""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from comparing import difference, pictures, random_variables

from vrstc_jax import config as configs
from vrstc_jax.models import non_local
from vrstc_jax.models.non_local import NonLocal
from vrstc_jax.models.resnet import ResNet, non_local_positions

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Sums of some ten float32 numbers and an exponential.
ROUNDING = 2e-6
SHAPE = (2, 3, 2, 2, 6)
NETWORK = configs.Reid(height=8, width=8, blocks=(1, 1), bottleneck=False, base_width=4, stem_pool=False,
                       non_local=(0, 1))


def block(train=False):
    return NonLocal(partial(nn.BatchNorm, use_running_average=not train, momentum=0.9))


def random_block(seed):
    return random_variables(block(), seed, jnp.zeros(SHAPE))


def by_loops(variables, x):
    """Wang et al.'s equations 1 and 6, and the residual, one position at a time; running statistics."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    stats = variables["batch_stats"]["norm"]
    out = []
    for clip in x.reshape(len(x), -1, x.shape[-1]):
        for here in clip:
            theta = here @ p["query"]["kernel"] + p["query"]["bias"]
            f = [np.exp(theta @ (there @ p["key"]["kernel"])) for there in clip]
            y = sum(w * (there @ p["value"]["kernel"]) for w, there in zip(f, clip)) / sum(f)
            said = (y @ p["out"]["kernel"] - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
            out.append(here + said * p["norm"]["scale"] + p["norm"]["bias"])
    return np.reshape(out, x.shape)


def test_is_the_equation_in_loops():
    variables, x = random_block(0), pictures(1, *SHAPE)
    got = jax.jit(block().apply)(variables, x)
    assert difference(got, by_loops(variables, x)) <= ROUNDING
    assert difference(got, x) > 0.1


@pytest.mark.parametrize("train", [False, True])
def test_a_fresh_block_changes_nothing(train):
    x = 9 * pictures(2, *SHAPE)
    variables = block().init(jax.random.key(0), x)
    got, _ = jax.jit(partial(block(train).apply, mutable=["batch_stats"]))(variables, x)
    np.testing.assert_array_equal(got, x)


@pytest.mark.parametrize("deviation, wanted", [(0.01, 0.01), (0.05, 0.05), (0.0, 64 ** -0.5)])
def test_kernels_begin_as_wide_as_asked(deviation, wanted):
    """0: 1/√(inputs). Of 64 · 32 normal numbers the deviation is known to 2 %; 4 times that."""
    config = dataclasses.replace(NETWORK, base_width=32, non_local_deviation=deviation)
    params = jax.jit(ResNet(config).init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]["stage2_non_local1"]
    for name in ("query", "key", "value"):
        kernel = params[name]["kernel"]
        assert kernel.shape == (64, 32)
        assert float(kernel.std()) == pytest.approx(wanted, rel=0.08)


def test_padding_says_nothing():
    variables, x = random_block(3), pictures(4, *SHAPE)
    lengths = np.array([2, 3])
    valid = np.arange(3) < lengths[:, None]
    padded = np.where(valid[..., None, None, None], x, np.nan).astype(np.float32)
    got = jax.jit(block().apply)(variables, padded, valid=valid)
    for i, length in enumerate(lengths):
        wanted = by_loops(variables, x[i:i + 1, :length])
        assert difference(got[i:i + 1, :length], wanted) <= ROUNDING
    assert difference(by_loops(variables, x[:1])[:, :2], by_loops(variables, x[:1, :2])) > 1e-3


def test_frame_by_frame_is_the_same(monkeypatch):
    """Long clips: the same sums in the same order, gradients too."""
    variables, x = random_block(5), pictures(6, *SHAPE)
    valid = np.array([[True] * 3, [True, True, False]])

    def run():
        def forward(params, x):
            return jnp.sin(block().apply({**variables, "params": params}, x, valid=valid)[0]).sum()

        return jax.jit(jax.value_and_grad(forward, (0, 1)))(variables["params"], x)

    whole = run()
    monkeypatch.setattr(non_local, "_AT_ONCE", 3 * 2 * 2 - 1)
    for got, wanted in zip(jax.tree.leaves(run()), jax.tree.leaves(whole), strict=True):
        assert difference(got, wanted) <= ROUNDING


@pytest.mark.parametrize("blocks, count, positions", [
    (4, 2, (2, 4)), (6, 3, (2, 4, 6)), (1, 1, (1,)), (3, 0, ()), (3, 3, (1, 2, 3)), (6, 2, (3, 6)),
    (4, 3, (1, 2, 4))])
def test_positions(blocks, count, positions):
    assert non_local_positions(blocks, count) == positions


def test_more_than_there_is_room_for():
    with pytest.raises(ValueError, match="room for 0 to 2 non-local ones. Got 3"):
        non_local_positions(2, 3)


def test_the_papers_five_follow_every_other_block():
    config = configs.get("full").final
    order = []

    def watch(call, arguments, options, context):
        out = call(*arguments, **options)
        if context.method_name == "__call__" and context.module.name and "stage" in context.module.name:
            order.append(context.module.name)
        return out

    def run(key):
        with nn.intercept_methods(watch):
            return ResNet(config).init(key, jnp.zeros((4, 256, 128, 3)), frames=4)

    params = jax.eval_shape(run, jax.random.key(0))["params"]
    widths = {name: tree["query"]["kernel"].shape for name, tree in params.items() if "non_local" in name}
    assert {name: (order[order.index(name) - 1], shape) for name, shape in widths.items()} == {
        "stage2_non_local1": ("stage2_block2", (512, 256)), "stage2_non_local2": ("stage2_block4", (512, 256)),
        "stage3_non_local1": ("stage3_block2", (1024, 512)), "stage3_non_local2": ("stage3_block4", (1024, 512)),
        "stage3_non_local3": ("stage3_block6", (1024, 512))}


def test_frames_see_their_clip_and_no_other():
    network = ResNet(NETWORK)
    x = pictures(7, 6, 8, 8, 3)  # two clips of three
    variables = random_variables(network, 8, x, frames=3)
    apply = jax.jit(network.apply, static_argnames="frames")
    other = x.copy()
    other[1] += 0.5
    for frames, changed in ((3, {0, 1, 2}), (1, {1})):
        differs = apply(variables, x, frames=frames) != apply(variables, other, frames=frames)
        assert set(np.flatnonzero(differs.any((1, 2, 3)))) == changed
