"""The network that locates pixel by pixel: its parts against loops and layers of others, and what it must not mix."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from locating import TINY, random_parameters

from vrstc_jax import config as configs
from vrstc_jax.models.imagenet.layouts import Weights
from vrstc_jax.models.locating import LocatingNet, calibrated, folded_stages
from vrstc_jax.models.locating.comparing import agreement, relations, row_agreement, within_frames
from vrstc_jax.models.locating.maps import Conv3x3, block_means, coarser, colours, expanded, to_grid
from vrstc_jax.models.locating.stages import Stages
from vrstc_jax.models.resnet import ResNet, normalise
from vrstc_jax.ops.pixel_values import to_float
from vrstc_jax.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")

COUNT = 5
# Sums of float32 in another order; logits are up to 40.
CLOSE = {"rtol": 1e-4, "atol": 2e-4}


def inputs(seed=0, count=COUNT):
    """(frames, nearer, offsets, seen) of a clip."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.choice(20, count, replace=False)).astype(np.float32)
    return (rng.integers(0, 256, (count, 32, 16, 3)).astype(np.uint8), rng.random((count, 8, 4, 2), np.float32),
            times[None] - times[:, None], ~np.eye(count, dtype=bool))


@jax.jit
def applied(parameters, frames, nearer, offsets, seen):
    return LocatingNet(TINY).apply({"params": parameters}, frames, nearer, offsets, seen)


def logits(frames, nearer, offsets, seen, parameters=None):
    return applied(parameters or random_parameters(), frames, nearer, offsets, seen)


class TestMaps:
    def test_coarser_takes_blocks_apart_and_expanded_puts_them_together(self):
        maps = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
        found = np.asarray(coarser(maps))
        for row in range(2):
            for column in range(3):
                block = maps[:, 2 * row:2 * row + 2, 2 * column:2 * column + 2]
                np.testing.assert_array_equal(found[:, row, column], block.reshape(2, -1))
        np.testing.assert_array_equal(expanded(found), maps)
        np.testing.assert_allclose(block_means(maps, 2)[0, 1, 2], maps[0, 2:4, 4:6].mean((0, 1)))
        np.testing.assert_allclose(block_means(maps > 20, 2)[1, 0, 1], (maps[1, 0:2, 2:4] > 20).mean((0, 1)))

    def test_a_grid_is_reached_from_both_sides(self):
        maps = np.random.default_rng(0).normal(size=(1, 4, 2, 3)).astype(np.float32)
        np.testing.assert_array_equal(to_grid(maps, (8, 4)), maps.repeat(2, 1).repeat(2, 2))
        assert to_grid(maps, (2, 1)).shape == (1, 2, 1, 12)

    @pytest.mark.parametrize("dilation", [1, 2])
    def test_conv3x3_is_a_convolution(self, dilation):
        maps = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32)
        layer = Conv3x3(4, dilation=dilation)
        variables = layer.init(jax.random.key(0), maps)
        taps = variables["params"]["taps"]
        conv = nn.Conv(4, (3, 3), padding=dilation, kernel_dilation=dilation)
        wanted = conv.apply({"params": {"kernel": taps["kernel"].reshape(3, 3, 3, 4), "bias": taps["bias"]}}, maps)
        # float32 sums of 27 products of numbers about 1, in another order.
        np.testing.assert_allclose(layer.apply(variables, maps), wanted, atol=1e-5)


class TestStages:
    @pytest.mark.parametrize("stride_on", ["1x1", "3x3"])
    def test_they_are_the_resnet_with_batch_norm_folded_in(self, stride_on):
        reid = configs.Reid(blocks=(1, 2), base_width=4, stride_on=stride_on, last_stride=2, norm_epsilon=1e-3)
        frames = np.random.default_rng(0).integers(0, 256, (2, 32, 16, 3)).astype(np.uint8)
        network, rng = ResNet(reid), np.random.default_rng(1)
        apply, init = jax.jit(partial(network.apply, every_stage=True)), jax.jit(network.init)
        x = normalise(to_float(jnp.asarray(frames)))
        variables = jax.tree.map(lambda leaf: rng.uniform(0.2, 1, leaf.shape).astype(np.float32) * np.sign(
            rng.normal(size=leaf.shape) + 1.5).astype(np.float32), init(jax.random.key(0), x))
        variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
        fields = {"blocks": (1, 2, 3), "base_width": 4, "stride_on": stride_on, "bottleneck": True,
                  "stem_pool": True, "norm_epsilon": 1e-3}
        weights = Weights(fields, variables, None, None, "torchvision", 50, 0, 0)
        config = configs.Locating(blocks=(1, 2), base_width=4, stride_on=stride_on)
        folded = folded_stages(weights, config)
        found = jax.jit(Stages(config).apply)({"params": folded}, frames)
        wanted = apply(variables, x)
        assert [maps.shape for maps in found] == [(2, 8, 4, 16), (2, 4, 2, 32)]
        for mine, theirs in zip(found, wanted, strict=True):
            # Folding changes the order of float32 products; the maps grow with each layer of positive weights.
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4 * float(np.abs(theirs).max()))

    @pytest.mark.parametrize("change", [{"blocks": (2, 2)}, {"base_width": 8}, {"stride_on": "3x3"}])
    def test_weights_of_another_network_are_refused(self, change):
        fields = {"blocks": (1, 2, 3), "base_width": 4, "stride_on": "1x1", "bottleneck": True, "norm_epsilon": 1e-3}
        weights = Weights(fields, {"params": {}, "batch_stats": {}}, None, None, "torchvision", 50, 0, 0)
        config = dataclasses.replace(configs.Locating(blocks=(1, 2), base_width=4), **change)
        with pytest.raises(InputError, match="another network"):
            folded_stages(weights, config)

    @pytest.mark.slow
    def test_training_leaves_them_as_they_are(self):
        frames, nearer, offsets, seen = inputs()
        grads = jax.jit(jax.grad(lambda p: logits(frames, nearer, offsets, seen, p)[-1].sum()))(random_parameters())
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads["stages"]))
        assert all(np.any(leaf) for leaf in jax.tree.leaves(grads["frame"]))


class TestClip:
    def test_a_cell_is_compared_with_its_surroundings_in_every_frame(self):
        match = np.random.default_rng(0).normal(size=(3, 4, 2, 2, 5)).astype(np.float32)
        match /= np.linalg.norm(match, axis=-1, keepdims=True)
        found = np.asarray(agreement(match)).reshape(2, 4, 2, 3, 3)
        for stage, row, column, one, other in np.ndindex(2, 4, 2, 3, 3):
            cosines = [match[one, row, column, stage] @ match[other, y, x, stage] if 0 <= y < 4 and 0 <= x < 2 else 0.0
                       for y in range(row - 1, row + 2) for x in range(column - 1, column + 2)]
            assert found[stage, row, column, one, other] == pytest.approx(max(cosines), abs=1e-6)

    def test_cells_are_compared_with_those_of_their_own_frame(self):
        rng = np.random.default_rng(0)
        kinds = rng.normal(size=(3, 4, 2, 2, 5)), rng.normal(size=(3, 4, 2, 1, 7))
        found = np.asarray(within_frames([jnp.asarray(kind) for kind in kinds]))
        assert found.shape == (3, 8, 8, 4)
        for frame, one, other in np.ndindex(3, 8, 8):
            (y, x), (v, u) = divmod(one, 2), divmod(other, 2)
            products = [a @ b for kind in kinds for a, b in zip(kind[frame, y, x], kind[frame, v, u])]
            np.testing.assert_allclose(found[frame, one, other], [*products, -(y - v) ** 2 - (x - u) ** 2], atol=1e-5)

    def test_rows_are_compared_too(self):
        rng = np.random.default_rng(0)
        match, body = rng.normal(size=(3, 4, 2, 2, 5)).astype(np.float32), rng.random((3, 4, 2, 1), np.float32)
        found = np.asarray(row_agreement(match, body)).reshape(2, 4, 2, 3, 3)

        def cosine(a, b):
            return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

        def row(frame, y, stage):
            return (match[frame, y, :, stage] * body[frame, y]).sum(0)

        for stage, y, x, one, other in np.ndindex(2, 4, 2, 3, 3):
            around = [cosine(row(one, y, stage), row(other, near, stage)) if 0 <= near < 4 else 0.0
                      for near in range(y - 1, y + 2)]
            assert found[stage, y, x, one, other] == pytest.approx(max(around), abs=1e-5)

    @pytest.mark.parametrize("left_out", [None, 3])
    def test_relations_by_hand(self, left_out):
        rng = np.random.default_rng(0)
        cosines, worth = rng.uniform(-1, 1, (2, 3, 5, 5)), rng.uniform(0.1, 1, (3, 5))
        offsets = np.arange(5)[None] - np.arange(5)[:, None]
        near = np.exp(-np.abs(offsets)[..., None] / np.array([1.5, 6.0]))
        seen = ~np.eye(5, dtype=bool)
        present = np.arange(5) != left_out
        seen[:, ~present] = False
        found = np.asarray(relations(*(x.astype(np.float32) for x in (cosines, worth, near)), seen))
        assert found.shape == (3, 5, 12)
        for stage in range(2):
            unlike = 1 - cosines[stage]
            unlike = unlike / (np.mean([unlike[:, t, s] for t in range(5) for s in range(5)
                                        if seen[t, s] and present[t]]) + 1e-2)
            told = np.zeros((3, 5, 4))
            for place, t in np.ndindex(3, 5):
                others = [s for s in range(5) if seen[t, s]]
                values = unlike[place, t, others]
                far = np.array([worth[place, s] * (1 - near[t, s, 1]) for s in others])
                close = np.array([worth[place, s] * near[t, s, 0] for s in others])
                far, close = far / far.sum(), close / close.sum()
                told[place, t] = [np.log((far * np.exp(-6 * values)).sum()) / -6, (far * values).sum(),
                                  np.log((far * np.exp(3 * values)).sum()) / 3, (close * values).sum()]
            there = told[:, present]
            usual = np.sort(there, 1)[:, (present.sum() - 1) // 2][:, None]
            off = np.abs(there - usual).reshape(-1, 4)
            spread = np.sort(off, 0)[(len(off) - 1) // 2] + 0.05
            wanted = np.concatenate([np.clip((told - usual) / spread, -8, 8), told[..., :1],
                                     told[..., 1:2] - told[..., 3:]], -1)
            # Float32; weights get a millionth more, so that they never sum to 0.
            np.testing.assert_allclose(found[..., 6 * stage:6 * stage + 6], wanted, rtol=2e-3, atol=2e-3)

    def test_in_footage_that_stands_still_all_is_finite(self):
        """Its cells agree so well that a trifle is many times what is usual."""
        cosines = jnp.ones((2, 3, 5, 5)).at[1, 0, 2].set(-1.0)  # and at one place of one frame not at all
        near, seen = jnp.exp(-jnp.abs(inputs()[2])[..., None] / jnp.array([1.5, 6.0])), ~np.eye(5, dtype=bool)

        @jax.jit
        def total(cosines, worth):
            return (relations(cosines, worth, near, seen) ** 2).mean()

        value, grads = jax.value_and_grad(total, (0, 1))(cosines, jnp.full((3, 5), 0.5))
        assert np.isfinite(value) and value > 0 and all(np.isfinite(leaf).all() for leaf in grads)

    def test_colours_are_told_apart_and_brightness_little(self):
        def told(*rgb):
            return np.asarray(colours(np.broadcast_to(np.array(rgb, np.float32) / 127.5 - 1, (1, 32, 16, 3))))[0]

        red, green, darker = told(180, 60, 60), told(60, 180, 60), told(165, 50, 50)
        np.testing.assert_allclose(np.linalg.norm(red, axis=-1), 1, atol=1e-5)
        assert (red * darker).sum(-1).min() > 0.9 > 0.7 > (red * green).sum(-1).max()

    def test_training_sometimes_does_without_looks_or_a_kind_of_agreement(self):
        frames, nearer, offsets, seen = inputs()
        network, variables = LocatingNet(TINY), {"params": random_parameters()}
        maps = jax.jit(partial(network.apply, method="maps"))(variables, frames)

        @jax.jit
        def total(key):
            return network.apply(variables, maps, nearer, offsets, seen, train=True, method="logits",
                                 rngs={"dropout": key})[-1].sum()

        outs = {float(total(jax.random.key(seed))) for seed in range(12)}
        assert len(outs) > 2

    def test_every_resolution_up_to_half_has_three_maps(self):
        assert [x.shape for x in logits(*inputs())] == [(COUNT, 4, 2, 3)] * 2 + [(COUNT, 8, 4, 3), (COUNT, 16, 8, 3)]

    def test_the_order_of_frames_does_not_matter(self):
        frames, nearer, offsets, seen = inputs()
        order = np.array([3, 0, 4, 1, 2])
        seen[1, 3] = False
        wanted = logits(frames, nearer, offsets, seen)[-1][order]
        found = logits(frames[order], nearer[order], offsets[order][:, order], seen[order][:, order])[-1]
        np.testing.assert_allclose(found, wanted, **CLOSE)

    def test_a_frame_that_is_not_looked_at_changes_nothing(self):
        frames, nearer, offsets, seen = inputs()
        seen[:, 2] = False
        before = np.asarray(logits(frames, nearer, offsets, seen)[-1])
        frames[2], nearer[2] = 255 - frames[2], 1 - nearer[2]
        after = np.asarray(logits(frames, nearer, offsets, seen)[-1])
        others = [0, 1, 3, 4]
        np.testing.assert_array_equal(after[others], before[others])
        assert not np.allclose(after[2], before[2])

    def test_frames_that_nobody_looks_at_might_as_well_not_be_there(self):
        """So a frame is located live as it is with the whole file at hand and later frames not looked at."""
        frames, nearer, offsets, seen = inputs()
        seen[:, 3:] = False
        whole = logits(frames, nearer, offsets, seen)[-1]
        part = logits(frames[:3], nearer[:3], offsets[:3, :3], seen[:3, :3])[-1]
        np.testing.assert_allclose(part, whole[:3], **CLOSE)

    def test_finer_maps_of_the_first_frames_alone_are_the_same(self):
        frames, nearer, offsets, seen = inputs()
        network, variables = LocatingNet(TINY), {"params": random_parameters()}
        maps = jax.jit(partial(network.apply, method="maps"))(variables, frames)
        whole = logits(frames, nearer, offsets, seen)
        part = jax.jit(partial(network.apply, first=2, method="logits"))(variables, maps, nearer, offsets, seen)
        assert [len(x) for x in part] == [COUNT, COUNT, 2, 2]
        np.testing.assert_allclose(part[-1], whole[-1][:2], **CLOSE)

    def test_boxes_matter(self):
        frames, nearer, offsets, seen = inputs()
        assert not np.allclose(logits(frames, nearer, offsets, seen)[-1], logits(frames, 0 * nearer, offsets, seen)[-1])


class TestCalibrated:
    def test_the_finest_logits_are_scaled_and_shifted(self):
        clip = inputs()
        before = logits(*clip)
        after = logits(*clip, calibrated(random_parameters(), [0.5, 2.0, 1.0], [0.1, -0.3, 0.0]))
        np.testing.assert_allclose(after[-1], np.asarray(before[-1]) * [0.5, 2.0, 1.0] + [0.1, -0.3, 0.0], **CLOSE)
        np.testing.assert_array_equal(after[0], before[0])
