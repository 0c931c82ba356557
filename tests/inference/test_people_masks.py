"""What is repainted where masks of people are known."""

import dataclasses

import numpy as np
import pytest
from locating import TINY, random_parameters
from people import SMOKE, figures, random_model, tracklet

from vrstc_jax.inference.completer import Completer

pytestmark = pytest.mark.usefixtures("quick_compilation")


def box(rows, columns, size=(64, 32)):
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    return mask


WHOLE, SEEN = box(slice(10, 60), slice(8, 24)), box(slice(10, 30), slice(8, 24))


def completer():
    model = random_model()
    config = dataclasses.replace(SMOKE, locating=dataclasses.replace(TINY, cost=0.05, least=0.0, least_beside=0.0))
    return Completer(dataclasses.replace(model, config=config, locator=random_parameters()))


def test_the_difference_is_hidden_with_a_margin_and_nothing_that_is_seen():
    one = dataclasses.replace(tracklet(figures(2, ((64, 32),))), modal=[SEEN, WHOLE], amodal=[WHOLE, WHOLE])
    plan = completer().plan(one)
    mask = plan.mask(0, one.frames[0])
    assert mask[30:60, 8:24].all() and not mask[SEEN].any() and mask[40, 7] and mask[40, 24] and not mask[40, 5]
    assert plan.visible.tolist() == [False, True]


def test_what_is_seen_is_never_repainted_and_what_touches_nobody_neither():
    frames = figures(3, ((64, 32),))
    plain = completer().plan(tracklet(frames))
    assert not plain.visible.any(), "the rule hides much"
    seen = dataclasses.replace(tracklet(frames), modal=[SEEN] * 3)
    plan = completer().plan(seen)
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(plan.mask(index, frame), plain.mask(index, frame) & ~SEEN)
    nobody = dataclasses.replace(tracklet(frames), amodal=[np.zeros((64, 32), bool)] * 3)
    assert completer().plan(nobody).visible.all()
