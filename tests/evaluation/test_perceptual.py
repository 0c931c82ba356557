"""The perceptual distance against NumPy, and what it sees."""

import dataclasses

import cv2
import jax
import numpy as np
import pytest
from locating import TINY, random_parameters
from people import random_model

from vrstc_jax.evaluation.perceptual import PerceptualDistance, perceptual_distance_of
from vrstc_jax.models.locating.stages import Stages


@pytest.fixture(scope="module")
def stages():
    return random_parameters()["stages"]


def test_it_is_one_minus_the_cosine_over_the_hole(stages):
    rng = np.random.default_rng(0)
    size = TINY.height, TINY.width
    pictures = rng.integers(0, 256, (3, *size, 3), dtype=np.uint8)
    mask = np.zeros(size, bool)
    mask[:16] = True  # whole cells of all stages, but for the blur at the edge of the hole
    found = PerceptualDistance(TINY, stages)(list(pictures[1:]), pictures[0], mask)
    wanted = []
    for maps in Stages(TINY).apply({"params": stages}, pictures):
        maps = np.asarray(maps, np.float64)
        maps /= np.linalg.norm(maps, axis=-1, keepdims=True) + 1e-6
        weights = np.asarray(jax.image.resize(mask.astype(np.float32), maps.shape[1:3], "linear"))
        unlike = 1 - (maps[1:] * maps[0]).sum(-1)
        wanted.append((unlike * weights).sum((1, 2)) / weights.sum())
    np.testing.assert_allclose(found, np.mean(wanted, 0), rtol=1e-3)


def test_the_truth_is_at_no_distance_and_blur_is_seen(stages):
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 256, (40, 20, 3), dtype=np.uint8)
    blurred, more = (cv2.GaussianBlur(truth, (0, 0), sigma) for sigma in (0.7, 3))
    same, little, much = PerceptualDistance(TINY, stages)([truth, blurred, more], truth, np.ones((40, 20), bool))
    assert abs(same) < 1e-5 < 1e-4 < little < much


def test_a_model_brings_its_stages_or_there_is_none(stages):
    model = random_model()
    assert perceptual_distance_of(model) is None
    located = dataclasses.replace(model, config=dataclasses.replace(model.config, locating=TINY),
                                  locator={"stages": stages})
    assert perceptual_distance_of(located) is not None
