"""What the sizes add to locating: bands hidden on purpose, the loss on them, the head, the mean that agrees."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from people import SMOKE, figures, random_model, random_reid

from vrstc_jax.data.hiding import hide_on_purpose
from vrstc_jax.inference.locate import Locator, agreement
from vrstc_jax.models import losses
from vrstc_jax.models.reid import ReidNet
from vrstc_jax.models.resnet import normalise
from vrstc_jax.ops.pictures import to_float
from vrstc_jax.ops.regions import band_weights, cosines, hidden_share
from vrstc_jax.training import reid

pytestmark = pytest.mark.usefixtures("quick_compilation")

LOCATING = dataclasses.replace(SMOKE, reid=dataclasses.replace(SMOKE.reid, locating_loss=0.5, clip=4))


def clips(count, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 4, 32, 16, 3), np.uint8)


class TestHiding:
    def cases(self):
        for seed in range(60):
            clip, passer = clips(1, seed)[0], clips(1, seed + 1000)[0, 0]
            hidden_clip, masks = hide_on_purpose(clip, passer, np.random.default_rng(seed))
            assert masks.shape == clip.shape[:3] and masks.dtype == bool
            yield clip, hidden_clip, np.stack([hidden_share(mask) for mask in masks])

    def test_at_most_half_of_the_frames_change_and_they_are_neighbours(self):
        changed = 0
        for clip, hidden_clip, shares in self.cases():
            frames = np.flatnonzero((clip != hidden_clip).any((1, 2, 3)))
            assert len(frames) <= 2 and (len(frames) < 2 or frames[1] == frames[0] + 1)
            assert not shares[np.setdiff1d(np.arange(4), frames)].any()
            assert hidden_clip.dtype == np.uint8 and hidden_clip.shape == clip.shape
            changed += len(frames) > 0
        assert 40 < changed < 60  # about 85 of 100

    def test_shares_are_of_what_changed(self):
        for clip, hidden_clip, shares in self.cases():
            for t in range(4):
                different = (clip[t] != hidden_clip[t]).any(-1)
                # The edge is soft, a pixel or two wide, and something like what it hides may look the same.
                assert np.all(hidden_share(different) >= shares[t] - 0.15)

    def test_the_clip_given_stays_as_it_was_and_a_seed_says_all(self):
        clip, passer = clips(1)[0], clips(1, 9)[0, 0]
        before = clip.copy()
        first, again = (hide_on_purpose(clip, passer, np.random.default_rng(3)) for _ in range(2))
        np.testing.assert_array_equal(clip, before)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_one_frame_cannot_disagree(self):
        clip = clips(1)[0][:1]
        hidden_clip, masks = hide_on_purpose(clip, clip[0], np.random.default_rng(0))
        np.testing.assert_array_equal(hidden_clip, clip)
        assert not masks.any()


def loop_loss(logits, hidden):
    """The loss by hand."""
    shown = sorted((z for z, h in zip(logits.ravel(), hidden.ravel()) if h < 0.05), reverse=True)
    cut = shown[max(int(0.15 * len(shown)), 1) - 1]
    values = []
    for z, h in zip(logits.ravel().astype(float), hidden.ravel()):
        if h >= 0.05 or z < cut:
            values.append(h * np.log1p(np.exp(-z)) + (1 - h) * np.log1p(np.exp(z)))
    return np.mean(values)


def made_up(seed=0, count=8):
    random = np.random.default_rng(seed)
    hidden = random.choice([0.0, 0.0, 0.02, 0.2, 0.5, 1.0], (count, 4, 3)).astype(np.float32)
    return random.normal(0, 3, (count, 4, 3)).astype(np.float32), hidden


class TestLoss:
    def test_is_the_loop(self):
        logits, hidden = made_up()
        assert losses.locating(logits, hidden) == pytest.approx(loop_loss(logits, hidden), rel=1e-6)

    def test_nothing_hidden_and_everything_hidden_are_finite(self):
        logits, _ = made_up()
        for share in (0.0, 1.0, 0.2):
            value, gradient = jax.value_and_grad(losses.locating)(logits, np.full(logits.shape, share, np.float32))
            assert np.isfinite(value) and np.isfinite(gradient).all()

    @pytest.mark.parametrize("devices", [2, 4])
    def test_devices_take_the_loss_of_the_whole_batch(self, devices):
        logits, hidden = made_up()
        wanted, of_wanted = jax.value_and_grad(losses.locating)(logits, hidden)

        def part(logits, hidden):
            value, gradient = jax.value_and_grad(losses.locating)(logits, hidden, axis_name="batch")
            return jax.lax.pmean(value, "batch"), gradient

        split = [a.reshape(devices, -1, *a.shape[1:]) for a in (logits, hidden)]
        got, of_got = jax.pmap(part, axis_name="batch", devices=jax.devices()[:devices])(*split)
        assert got[0] == pytest.approx(float(wanted), rel=1e-6)
        # A mean over devices follows, so each part's gradient is the number of devices times its share.
        np.testing.assert_allclose(of_got.reshape(logits.shape) / devices, of_wanted, atol=1e-7)

    def test_cosines_are_equation_12(self):
        features = np.random.default_rng(0).standard_normal((2, 5, 3, 7)).astype(np.float32)
        features[0, 2, 1] = 0
        wanted = np.stack([agreement(clip, clip.mean(0)) for clip in features])
        got = cosines(jnp.asarray(features), jnp.asarray(features.mean(1, keepdims=True)))
        np.testing.assert_allclose(got, wanted, atol=1e-6)  # float32 sums

    @pytest.mark.slow
    def test_training_moves_what_only_it_uses(self):
        state = reid.initial_state(LOCATING.first_reid, 3)
        batch = {"clips": clips(4), "labels": np.array([0, 1, 2, 0], np.int32),
                 "hidden": np.random.default_rng(0).choice([0, 1], (4, 4, 3)).astype(np.float32)}
        grads, _, metrics = jax.jit(lambda batch: reid.gradients(LOCATING.first_reid, 3, state, batch))(batch)
        learned = grads["hidden_bands"]
        assert learned["threshold"] != 0 and learned["log_sharpness"] != 0 and np.isfinite(metrics["locating"])
        assert set(grads) == {"backbone", "classifier", "hidden_bands"}
        assert set(learned) == {"threshold", "log_sharpness"}
        assert set(reid.initial_state(SMOKE.first_reid, 3).params) == {"backbone", "classifier"}


HEAD = dataclasses.replace(SMOKE.reid, locating_loss=1.0, locating_width=6, clip=4)


def head_by_hand(maps, params):
    """Scores [T, 3] of feature maps [T, h, w, C], cell by cell, from the head's parameters."""
    def dense(name, x):
        return x @ params[name]["kernel"].astype(np.float64) + params[name]["bias"]

    count, height, width, _ = maps.shape
    hidden = np.zeros((count, height, width))
    for y in range(height):
        for x in range(width):
            rows = [dense("look", maps[t, y, x].astype(np.float64)) for t in range(count)]
            weights = np.exp([float(dense("worths", np.maximum(row, 0))[0]) for row in rows])
            mean = sum(w * row for w, row in zip(weights, rows)) / weights.sum()
            for t, row in enumerate(rows):
                both = np.concatenate([row, mean, row * mean, np.abs(row - mean)])
                hidden[t, y, x] = 1 / (1 + np.exp(-dense("verdict", np.maximum(dense("compare", both), 0))[0]))
    # A cell that a band's edge cuts counts for each band by what lies in it.
    overlap = [[max(0, min(y + 1, (k + 1) * height / 3) - max(y, k * height / 3)) for y in range(height)]
               for k in range(3)]
    share = np.array([[sum(o * hidden[t, y].mean() for y, o in enumerate(band)) / sum(band) for band in overlap]
                      for t in range(count)])
    return 1 - 2 * (1e-4 + (1 - 2e-4) * share)


class TestHead:
    @pytest.mark.parametrize("count", [1, 5, 37])
    def test_scores_are_the_head_s_by_hand(self, count):
        network = random_reid(HEAD)
        frames = figures(count, sizes=((32, 16),))
        maps = ReidNet(HEAD, 3).apply(network.variables, to_float(np.stack(frames)), method="maps")
        wanted = head_by_hand(np.asarray(maps), network.variables["params"]["hidden_bands"])
        got = Locator(HEAD, network.variables, 3).scores(frames)
        assert np.ptp(wanted) > 0.01 and got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, atol=2e-5)  # float32 products of some hundred terms

    def test_training_scores_a_clip_as_locating_scores_a_tracklet(self):
        network, frames = random_reid(HEAD), figures(4, sizes=((32, 16),))
        *_, logits, _ = ReidNet(HEAD, 3).apply(network.variables, to_float(np.stack(frames))[None],
                                            method="located_outputs")
        scores = Locator(HEAD, network.variables, 3).scores(frames)
        np.testing.assert_allclose(1 - 2 * jax.nn.sigmoid(logits[0]), scores, atol=1e-5)

    @pytest.mark.slow
    def test_training_moves_all_of_it(self):
        task = dataclasses.replace(SMOKE, reid=HEAD).first_reid
        state = reid.initial_state(task, 3, start_from=random_reid(HEAD).variables)
        batch = {"clips": clips(4), "labels": np.array([0, 1, 2, 0], np.int32),
                 "hidden": np.random.default_rng(0).uniform(0, 1, (4, 4, 3)).astype(np.float32)}
        grads, _, _ = jax.jit(lambda batch: reid.gradients(task, 3, state, batch))(batch)
        learned = grads["hidden_bands"]
        assert set(learned) == {"look", "worths", "compare", "verdict"}
        assert all(np.abs(part["kernel"]).max() > 0 for part in learned.values())

    def test_a_head_that_no_loss_trains_is_refused(self):
        config = dataclasses.replace(HEAD, locating_loss=0.0)
        with pytest.raises(ValueError, match="locating_loss must be above 0"):
            Locator(config, random_reid(SMOKE.reid).variables, 3)

    def test_known_masks_leave_no_suspects(self):
        logits, hidden = made_up()
        wanted = np.mean([h * np.log1p(np.exp(-z)) + (1 - h) * np.log1p(np.exp(z))
                          for z, h in zip(logits.ravel().astype(float), hidden.ravel())])
        assert losses.locating(logits, hidden, suspect=0.0) == pytest.approx(wanted, rel=1e-6)


STAGES = dataclasses.replace(HEAD, locating_stages=True)


def around(cells, kernel, bias):
    """A 3×3 convolution of [h, w, C] with zeros beyond the edge, cell by cell."""
    height, width, _ = cells.shape
    out = np.zeros((height, width, kernel.shape[-1])) + bias
    for y, x, i, j in np.ndindex(height, width, 3, 3):
        if 0 <= y + i - 1 < height and 0 <= x + j - 1 < width:
            out[y, x] += cells[y + i - 1, x + j - 1] @ kernel[i, j]
    return out


def stages_by_hand(stages, params):
    """Chances [T, h, w] that cells are hidden, of the stages' maps [T, h, w, C], from the head's parameters."""
    def dense(name, x):
        return x @ params[name]["kernel"].astype(np.float64) + params[name]["bias"]

    def conv(name, x):
        return around(x, params[name]["kernel"].astype(np.float64), params[name]["bias"])

    count, height, width, _ = stages[1].shape
    seen = np.zeros((count, height, width, 0))
    for maps in stages:
        columns = []
        if maps.shape[1] > height:  # the finer cells within a cell, row by row
            step = maps.shape[1] // height
            columns = [maps[:, i::step, j::step] for i in range(step) for j in range(step)]
        else:
            step = height // maps.shape[1]
            columns = [maps.repeat(step, 1).repeat(step, 2)]
        seen = np.concatenate([seen, *columns], -1)
    features = [conv("look_around", np.maximum(dense("look", frame), 0)) for frame in seen]
    worth = np.exp([dense("worths", np.maximum(f, 0)) for f in features])
    mean = (worth * features).sum(0) / worth.sum(0)
    compared = [np.maximum(dense("compare", np.concatenate([f, mean, f * mean, np.abs(f - mean)], -1)), 0)
                for f in features]
    return np.array([1 / (1 + np.exp(-dense("verdict", np.maximum(conv("compare_around", c), 0))[..., 0]))
                     for c in compared])


class TestStages:
    @pytest.mark.parametrize("count", [1, 18])
    def test_cells_are_the_head_s_by_hand(self, count):
        network, frames = random_reid(STAGES), figures(count, sizes=((32, 16),))
        clip = to_float(np.stack(frames))
        *_, bands, cells = ReidNet(STAGES, 3).apply(network.variables, clip[None], method="located_outputs")
        stages = ReidNet(STAGES, 3).apply(
            network.variables, clip, method=lambda net, x: net.backbone(normalise(x), every_stage=True))
        stages = [np.asarray(maps, np.float64) for maps in stages]
        assert [maps.shape[1:3] for maps in stages] == [(16, 8), (8, 4), (4, 2), (4, 2)]
        wanted = stages_by_hand(stages, network.variables["params"]["hidden_bands"])
        assert np.ptp(wanted) > 0.01
        np.testing.assert_allclose(jax.nn.sigmoid(cells[0]), wanted, atol=2e-5)  # float32 products
        scores = Locator(STAGES, network.variables, 3).scores(frames)
        np.testing.assert_allclose(1 - 2 * jax.nn.sigmoid(bands[0]), scores, atol=2e-5)
        weights = band_weights(8) / band_weights(8).sum(1, keepdims=True)
        shares = np.einsum("kh,thw->tk", weights, wanted) / 4
        np.testing.assert_allclose(scores, 1 - 2 * shares, atol=4e-4)  # the head keeps 1e-4 from 0 and 1

    def test_the_loss_of_cells(self):
        random = np.random.default_rng(0)
        masks = random.random((2, 4, 32, 16)) < random.random((2, 4, 1, 1))
        bands, cells = (random.normal(0, 2, size).astype(np.float32) for size in ((2, 4, 3), (2, 4, 8, 4)))

        def cross_entropy(z, share):
            return share * np.log1p(np.exp(-z)) + (1 - share) * np.log1p(np.exp(z))

        shares = masks.reshape(2, 4, 8, 4, 4, 4).mean((3, 5))
        of_bands = np.stack([[hidden_share(mask) for mask in clip] for clip in masks])
        wanted = cross_entropy(cells, shares).mean() + cross_entropy(bands, of_bands).mean()
        assert losses.locating_cells((bands, cells), masks) == pytest.approx(wanted, rel=1e-5)

    def test_alone_it_learns_and_nothing_else_moves(self):
        task = dataclasses.replace(SMOKE.first_reid, network=STAGES, training=dataclasses.replace(
            SMOKE.reid_training, only=("hidden_bands",)))
        begin = random_reid(STAGES).variables
        state = reid.initial_state(task, 3, start_from=begin)
        masks = np.random.default_rng(0).random((4, 4, 32, 16)) < 0.3
        batch = {"clips": clips(4), "labels": np.array([0, 1, 2, 0], np.int32), "masks": masks,
                 "hidden": np.zeros((4, 4, 3), np.float32)}
        step = reid.pmap_step(task, 3, jax.devices()[:2])
        new, _ = step(state, {name: value.reshape(2, 2, *value.shape[1:]) for name, value in batch.items()})
        new = jax.device_get(new)
        for name, part in new.params.items():
            same = jax.tree.map(np.array_equal, part, begin["params"][name])
            assert jax.tree.all(same) != (name == "hidden_bands"), name
        assert all(np.abs(np.asarray(a) - b).max() > 0 for a, b in zip(
            jax.tree.leaves(new.params["hidden_bands"]), jax.tree.leaves(begin["params"]["hidden_bands"]), strict=True))
        assert jax.tree.all(jax.tree.map(np.array_equal, new.batch_stats, begin["batch_stats"]))

    def test_a_part_that_the_network_lacks(self):
        task = dataclasses.replace(SMOKE.first_reid, training=dataclasses.replace(SMOKE.reid_training, only=("head",)))
        with pytest.raises(ValueError, match="no part 'head'; it has backbone, classifier"):
            reid.initial_state(task, 3)


def sharp_scores(features, sharpness):
    """Equations 11 and 12 with the mean made again six times, frames and bands one by one."""
    count, bands, _ = features.shape
    scores = np.zeros((count, bands))
    for k in range(bands):
        rows = features[:, k].astype(np.float64)
        mean = rows.mean(0)
        for _ in range(6):
            cosines = [row @ mean / np.linalg.norm(row) / np.linalg.norm(mean) for row in rows]
            weights = [np.exp(sharpness * (cosine - 1)) for cosine in cosines]
            mean = sum(w * row for w, row in zip(weights, rows)) / sum(weights)
        scores[:, k] = [row @ mean / np.linalg.norm(row) / np.linalg.norm(mean) for row in rows]
    return scores


@pytest.mark.parametrize("count", [1, 5, 37])
def test_locating_prefers_frames_that_agree(count):
    config = dataclasses.replace(SMOKE.reid, reference_sharpness=10.0)
    model = random_model()
    frames = figures(count, sizes=((32, 16),))
    plain, sharp = (Locator(c, model.reid, len(model.identities)) for c in (SMOKE.reid, config))
    pictures = np.stack(frames).astype(np.float32) / 127.5 - 1
    features = np.asarray(jax.jit(partial(ReidNet(SMOKE.reid, len(model.identities)).apply, method="bands"))(
        model.reid, pictures))
    # float32 features, of which cosines near 1 lose half the digits.
    np.testing.assert_allclose(sharp.scores(frames), sharp_scores(features, 10.0), atol=2e-6)
    np.testing.assert_allclose(plain.scores(frames), sharp_scores(features, 0.0), atol=2e-6)


def test_the_sharper_mean_is_not_what_hides_somebody_for_long():
    """Of ten frames four show something else: the plain mean is pulled to it, the sharper one hardly."""
    random = np.random.default_rng(0)
    person, thing = random.standard_normal((2, 1, 64))
    rows = np.concatenate([np.repeat(person, 6, 0), np.repeat(thing, 4, 0)])[:, None]
    rows = rows + 0.1 * random.standard_normal((10, 1, 64))
    plain, sharp = sharp_scores(rows, 0.0), sharp_scores(rows, 10.0)
    assert sharp[:6].min() - sharp[6:].max() > 1.5 * (plain[:6].min() - plain[6:].max())
