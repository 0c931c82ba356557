"""Training the network that locates: what learns, where it begins, and that an interruption changes nothing."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from locating import TINY, material, random_parameters

from vrstc_jax import config as configs
from vrstc_jax.training import locating
from vrstc_jax.training.loop import Intervals

pytestmark = pytest.mark.usefixtures("quick_compilation")

NETWORK = dataclasses.replace(TINY, height=128, width=64, passes=1)
TASK = configs.LocatingTask("smoke", NETWORK, configs.Training(
    steps=4, batch=2, learning_rate=1e-2, average=0.9, only=("frame", "clip")), clip=3, compute="float32", seed=0)
EVERY = Intervals(log=1, checkpoint=2)


def stages():
    return {"stages": random_parameters(NETWORK)["stages"]}


def test_whitened_features_have_no_mean_and_unit_deviations():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 6)) + 3
    layer = locating._whitening(features, 4)
    found = features @ layer["kernel"] + layer["bias"]
    # The least of the four directions is damped by a thousandth of the strongest one's variance.
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)
    covariance = np.cov(found, rowvar=False)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-3)
    assert (np.diag(covariance) > 0.8).all() and (np.diag(covariance) < 1.001).all()
    # There are no more directions than features.
    assert not locating._whitening(features, 8)["kernel"][:, 6:].any()


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_same_network(tmp_path):
    whole = locating.train_locating(material(), TASK, stages(), tmp_path / "whole", intervals=EVERY)
    half = dataclasses.replace(TASK, training=dataclasses.replace(TASK.training, steps=2))
    start = locating._with_matching(material(), TASK, stages())
    state = locating.initial_state(half, start)
    np.testing.assert_array_equal(state.params["frame"]["match0"]["kernel"], start["frame"]["match0"]["kernel"])

    stopping = iter(range(10))

    def stop(*_):
        if next(stopping) == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("vrstc_jax.training.metrics_log.MetricsLog.write", stop)
        locating.train_locating(material(), TASK, stages(), tmp_path / "parts", intervals=EVERY)
    again = locating.train_locating(material(), TASK, stages(), tmp_path / "parts", intervals=EVERY)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    measured = json.loads((tmp_path / "whole/metrics.jsonl").read_text().splitlines()[-1])
    assert {"person_cross_entropy", "occluder_cross_entropy", "hidden_cross_entropy"} <= set(measured)
    # The stages stay as they are; the rest has learned.
    for one, other in zip(jax.tree.leaves(stages()["stages"]), jax.tree.leaves(whole["stages"]), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)  # a running mean of equal numbers
    assert any((np.abs(one - other) > 1e-4).any() for one, other in zip(
        jax.tree.leaves(state.params["clip"]), jax.tree.leaves(whole["clip"]), strict=True))


def test_the_loss_is_the_cross_entropy_of_shares():
    rng = np.random.default_rng(0)
    logits, shares = (x.astype(np.float32) for x in (rng.normal(size=(1, 1, 3, 4, 3)), rng.random((1, 1, 3, 4, 3))))
    said = 1 / (1 + np.exp(-logits))
    weights = rng.random((1, 1, 3, 4, 1)).astype(np.float32)
    wanted = -(weights * (shares * np.log(said) + (1 - shares) * np.log(1 - said))).mean((0, 1, 2, 3))
    np.testing.assert_allclose(locating._cross_entropies(logits, shares, weights), wanted, rtol=1e-5)


def test_a_place_counts_by_how_often_it_is_seen():
    occluder = np.zeros((2, 4, 1, 3), np.float32)
    occluder[0, :, 0, 0], occluder[0, :3, 0, 1], occluder[1, 0, 0, 2] = 1, 1, 0.5
    np.testing.assert_allclose(locating.told_apart(occluder)[:, 0, 0], [[0.05, 0.25, 1], [1, 1, 0.875]], rtol=1e-6)
