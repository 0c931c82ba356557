"""What the sizes add to locating: bands hidden on purpose, the loss on them, the head, the mean that agrees."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from people import SMOKE, changed, figures, random_model, random_reid
from random_training import on

from vrstc_jax.data.hiding import hide_on_purpose
from vrstc_jax.inference.locate import Locator, agreement
from vrstc_jax.models import losses
from vrstc_jax.models.reid import ReidNet
from vrstc_jax.models.resnet import normalise
from vrstc_jax.ops.pictures import to_float
from vrstc_jax.ops.regions import cosines, hidden_share
from vrstc_jax.training import reid

pytestmark = pytest.mark.usefixtures("quick_compilation")

LOCATING = changed(SMOKE, reid={"locating_loss": 0.5, "clip": 4}).first_reid


def clips(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 32, 16, 3), np.uint8)


def train_batch(**more):
    """Four clips of three people, and what is hidden in them."""
    return {"clips": clips(4), "labels": np.array([0, 1, 2, 0], np.int32),
            "hidden": np.random.default_rng(0).uniform(0, 1, (4, 4, 3)).astype(np.float32), **more}


class TestHiding:
    def test_at_most_half_of_the_frames_change_and_shares_are_of_what_changed(self):
        clips_changed = 0
        for seed in range(60):
            clip, passer = clips(1, seed)[0], clips(1, seed + 1000)[0, 0]
            hidden_clip, masks = hide_on_purpose(clip, passer, np.random.default_rng(seed))
            assert masks.shape == clip.shape[:3] and masks.dtype == bool
            assert hidden_clip.dtype == np.uint8 and hidden_clip.shape == clip.shape
            different = (clip != hidden_clip).any(-1)
            shares, seen = (np.stack([hidden_share(frame) for frame in part]) for part in (masks, different))
            frames = np.flatnonzero(different.any((1, 2)))
            assert len(frames) <= 2 and (len(frames) < 2 or frames[1] == frames[0] + 1)
            assert not np.delete(shares, frames, 0).any()
            # The edge is soft, a pixel or two wide, and something like what it hides may look the same.
            assert np.all(seen >= shares - 0.15)
            clips_changed += len(frames) > 0
        assert 40 < clips_changed < 60  # about 85 of 100

    def test_the_clip_given_stays_as_it_was_and_a_seed_says_all(self):
        clip, passer = clips(1)[0], clips(1, 9)[0, 0]
        first, again = (hide_on_purpose(clip, passer, np.random.default_rng(3)) for _ in range(2))
        np.testing.assert_array_equal(clip, clips(1)[0])
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_one_frame_cannot_disagree(self):
        clip = clips(1)[0][:1]
        hidden_clip, masks = hide_on_purpose(clip, clip[0], np.random.default_rng(0))
        np.testing.assert_array_equal(hidden_clip, clip)
        assert not masks.any()


def cross_entropy(logits, share):
    return share * np.log1p(np.exp(-logits.astype(float))) + (1 - share) * np.log1p(np.exp(logits.astype(float)))


def loss_by_hand(logits, hidden):
    shown = np.sort(logits[hidden < 0.05])[::-1]
    cut = shown[max(int(0.15 * len(shown)), 1) - 1]
    return cross_entropy(logits, hidden)[(hidden >= 0.05) | (logits < cut)].mean()


def made_up(seed=0, count=8):
    random = np.random.default_rng(seed)
    hidden = random.choice([0.0, 0.0, 0.02, 0.2, 0.5, 1.0], (count, 4, 3)).astype(np.float32)
    return random.normal(0, 3, (count, 4, 3)).astype(np.float32), hidden


class TestLoss:
    def test_is_the_loss_by_hand(self):
        logits, hidden = made_up()
        assert losses.locating(logits, hidden) == pytest.approx(loss_by_hand(logits, hidden), rel=1e-6)
        # Known masks leave no suspects.
        every = cross_entropy(logits, hidden).mean()
        assert losses.locating(logits, hidden, suspect=0.0) == pytest.approx(every, rel=1e-6)

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
        state, batch = reid.initial_state(LOCATING, 3), train_batch()
        grads, _, metrics = jax.jit(lambda batch: reid.gradients(LOCATING, 3, state, batch))(batch)
        learned = grads["hidden_bands"]
        assert learned["threshold"] != 0 and learned["log_sharpness"] != 0 and np.isfinite(metrics["locating"])
        assert set(grads) == {"backbone", "classifier", "hidden_bands"}
        assert set(learned) == {"threshold", "log_sharpness"}
        assert set(reid.initial_state(SMOKE.first_reid, 3).params) == {"backbone", "classifier"}


HEAD = dataclasses.replace(SMOKE.reid, locating_loss=1.0, locating_width=6, clip=4)


def dense(params, x):
    return x @ params["kernel"].astype(np.float64) + params["bias"]


def compared_by_hand(features, params):
    """The rectified comparison [T, h, w, C] of cells with their mean over the frames, weighed by worth."""
    worth = np.exp(dense(params["worths"], np.maximum(features, 0)))
    mean = np.broadcast_to((worth * features).sum(0) / worth.sum(0), features.shape)
    both = np.concatenate([features, mean, features * mean, np.abs(features - mean)], -1)
    return np.maximum(dense(params["compare"], both), 0)


def scores_by_hand(hidden):
    """Scores [T, 3] of chances [T, h, w]; a cell that a band's edge cuts counts for each band by what lies in it."""
    rows, edges = np.arange(hidden.shape[1]), hidden.shape[1] * np.arange(4)[:, None] / 3
    overlap = np.clip(np.minimum(rows + 1, edges[1:]) - np.maximum(rows, edges[:-1]), 0, None)
    share = hidden.mean(2) @ (overlap / overlap.sum(1, keepdims=True)).T
    return 1 - 2 * (1e-4 + (1 - 2e-4) * share)  # the head keeps 1e-4 from 0 and 1


def head_by_hand(maps, params):
    """Scores [T, 3] of feature maps [T, h, w, C], from the head's parameters."""
    compared = compared_by_hand(dense(params["look"], maps.astype(np.float64)), params)
    return scores_by_hand(1 / (1 + np.exp(-dense(params["verdict"], compared)[..., 0])))


class TestHead:
    @pytest.mark.parametrize("count", [1, 5, 37])
    def test_scores_are_the_head_s_by_hand(self, count):
        network = random_reid(HEAD)
        frames = figures(count, sizes=((32, 16),))
        maps = jax.jit(partial(ReidNet(HEAD, 3).apply, method="maps"))(network.variables, to_float(np.stack(frames)))
        wanted = head_by_hand(np.asarray(maps), network.variables["params"]["hidden_bands"])
        got = Locator(HEAD, network.variables, 3).scores(frames)
        assert np.ptp(wanted) > 0.01 and got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, atol=2e-5)  # float32 products of some hundred terms

    def test_training_scores_a_clip_as_locating_scores_a_tracklet(self):
        network, frames = random_reid(HEAD), figures(4, sizes=((32, 16),))
        outputs = jax.jit(partial(ReidNet(HEAD, 3).apply, method="located_outputs"))
        *_, logits, _ = outputs(network.variables, to_float(np.stack(frames))[None])
        scores = Locator(HEAD, network.variables, 3).scores(frames)
        np.testing.assert_allclose(1 - 2 * jax.nn.sigmoid(logits[0]), scores, atol=1e-5)

    @pytest.mark.slow
    def test_training_moves_all_of_it(self):
        task = changed(SMOKE, reid=HEAD).first_reid
        state = reid.initial_state(task, 3, start_from=random_reid(HEAD).variables)
        grads, _, _ = jax.jit(lambda batch: reid.gradients(task, 3, state, batch))(train_batch())
        learned = grads["hidden_bands"]
        assert set(learned) == {"look", "worths", "compare", "verdict"}
        assert all(np.abs(part["kernel"]).max() > 0 for part in learned.values())

    def test_a_head_that_no_loss_trains_is_refused(self):
        with pytest.raises(ValueError, match="locating_loss must be above 0"):
            Locator(dataclasses.replace(HEAD, locating_loss=0.0), random_reid(SMOKE.reid).variables, 3)


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
    def conv(name, frames):
        kernel, bias = params[name]["kernel"].astype(np.float64), params[name]["bias"]
        return np.array([around(frame, kernel, bias) for frame in frames])

    height, columns = stages[1].shape[1], []
    for maps in stages:
        step = maps.shape[1] // height
        if step > 1:  # the finer cells within a cell, row by row
            columns += [maps[:, i::step, j::step] for i, j in np.ndindex(step, step)]
        else:
            step = height // maps.shape[1]
            columns.append(maps.repeat(step, 1).repeat(step, 2))
    features = conv("look_around", np.maximum(dense(params["look"], np.concatenate(columns, -1)), 0))
    compared = np.maximum(conv("compare_around", compared_by_hand(features, params)), 0)
    return 1 / (1 + np.exp(-dense(params["verdict"], compared)[..., 0]))


class TestStages:
    @pytest.mark.parametrize("count", [1, 18])
    def test_cells_are_the_head_s_by_hand(self, count):
        network, frames = random_reid(STAGES), figures(count, sizes=((32, 16),))
        clip = to_float(np.stack(frames))
        outputs, maps = (jax.jit(partial(ReidNet(STAGES, 3).apply, method=method)) for method in (
            "located_outputs", lambda net, x: net.backbone(normalise(x), every_stage=True)))
        *_, bands, cells = outputs(network.variables, clip[None])
        stages = maps(network.variables, clip)
        stages = [np.asarray(maps, np.float64) for maps in stages]
        assert [maps.shape[1:3] for maps in stages] == [(16, 8), (8, 4), (4, 2), (4, 2)]
        wanted = stages_by_hand(stages, network.variables["params"]["hidden_bands"])
        assert np.ptp(wanted) > 0.01
        np.testing.assert_allclose(jax.nn.sigmoid(cells[0]), wanted, atol=2e-5)  # float32 products
        scores = Locator(STAGES, network.variables, 3).scores(frames)
        np.testing.assert_allclose(1 - 2 * jax.nn.sigmoid(bands[0]), scores, atol=2e-5)
        np.testing.assert_allclose(scores, scores_by_hand(wanted), atol=4e-5)

    def test_the_loss_of_cells(self):
        random = np.random.default_rng(0)
        masks = random.random((2, 4, 32, 16)) < random.random((2, 4, 1, 1))
        bands, cells = (random.normal(0, 2, size).astype(np.float32) for size in ((2, 4, 3), (2, 4, 8, 4)))

        shares = masks.reshape(2, 4, 8, 4, 4, 4).mean((3, 5))
        of_bands = np.stack([[hidden_share(mask) for mask in clip] for clip in masks])
        wanted = cross_entropy(cells, shares).mean() + cross_entropy(bands, of_bands).mean()
        assert losses.locating_cells((bands, cells), masks) == pytest.approx(wanted, rel=1e-5)

    def test_alone_it_learns_and_nothing_else_moves(self):
        task = changed(SMOKE.first_reid, network=STAGES, training={"only": ("hidden_bands",)})
        begin = random_reid(STAGES).variables
        state = reid.initial_state(task, 3, start_from=begin)
        masks = np.random.default_rng(0).random((4, 4, 32, 16)) < 0.3
        new, _ = reid.training_step(task, 3, jax.devices()[:2])(state, on(2, train_batch(masks=masks)))
        before = {**begin["params"], "statistics": begin["batch_stats"]}
        for name, part in {**new.params, "statistics": new.batch_stats}.items():
            same = jax.tree.leaves(jax.tree.map(np.array_equal, part, before[name]))
            assert not any(same) if name == "hidden_bands" else all(same), name

    def test_a_part_that_the_network_lacks(self):
        task = changed(SMOKE.first_reid, training={"only": ("head",)})
        with pytest.raises(ValueError, match="no part 'head'; it has backbone, classifier"):
            reid.initial_state(task, 3)


def sharp_scores(features, sharpness):
    """Equations 11 and 12 with the mean weighted anew six times, band by band."""
    scores = []
    for rows in features.astype(np.float64).transpose(1, 0, 2):
        mean = rows.mean(0)
        for _ in range(6):
            mean = np.average(rows, 0, np.exp(sharpness * (cosines_by_hand(rows, mean) - 1)))
        scores.append(cosines_by_hand(rows, mean))
    return np.stack(scores, 1)


def cosines_by_hand(rows, mean):
    return np.array([row @ mean / np.linalg.norm(row) / np.linalg.norm(mean) for row in rows])


@pytest.mark.parametrize("count", [1, 5, 37])
def test_locating_prefers_frames_that_agree(count):
    config = dataclasses.replace(SMOKE.reid, reference_sharpness=10.0)
    model = random_model()
    frames = figures(count, sizes=((32, 16),))
    plain, sharp = (Locator(c, model.reid, len(model.identities)) for c in (SMOKE.reid, config))
    bands = jax.jit(partial(ReidNet(SMOKE.reid, len(model.identities)).apply, method="bands"))
    features = np.asarray(bands(model.reid, to_float(np.stack(frames))))
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
