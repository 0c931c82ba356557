"""A model whose results are not finite is refused; it never means that nothing is hidden."""

import dataclasses

import jax
import numpy as np
import pytest
from people import random_model, random_reid, tracklet
from refusals import refused

from vrstc_jax.inference import features
from vrstc_jax.inference.complete import complete_tracklet
from vrstc_jax.inference.locate import Locator
from vrstc_jax.inference.plan import Plan, hidden_bands, visible_frames

pytestmark = pytest.mark.usefixtures("quick_compilation")
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 40, 20, 3), np.uint8)


def giving(value):
    """A jitted function's stand-in: features of 4 channels for 3 bands, and log weights."""
    return lambda variables, frames: (np.full((len(frames), 3, 4), value, np.float32), np.zeros((len(frames), 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_locating(value):
    """1e30 is finite, and its square is not."""
    model = random_model()
    locator = Locator(model.config.reid, model.reid, 3)
    locator._compared = giving(value)
    with refused("locates gives values that are not finite"):
        locator.scores(FRAMES)


def test_completing():
    model = random_model()
    masks = np.zeros(FRAMES.shape[:3], bool)
    masks[2, :10] = True
    complete_tracklet(model, FRAMES, masks)
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), model.generators)
    for hiding in (masks, masks | True & (np.arange(40) < 10)[None, :, None]):  # with visible frames, and without
        with refused("The generators give pixels that are not finite"):
            complete_tracklet(dataclasses.replace(model, generators=broken), FRAMES, hiding)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features(monkeypatch, value):
    monkeypatch.setattr(features, "_compiled", lambda *_: lambda _, clips, valid: np.full((len(clips), 4), value))
    with refused("features that are not finite"):
        features.tracklet_features(random_reid(), [tracklet(list(FRAMES))])


@pytest.mark.parametrize("scores, tau", [([[0.5, np.nan, 0.5]], 0.2), ([[0.5, 0.5, 0.5]], np.nan)])
def test_scores_that_are_not_numbers(scores, tau):
    for decide in (hidden_bands, visible_frames, Plan.from_scores):
        with refused("not numbers"):
            decide(np.array(scores), tau)
