"""The five steps with trainings left out: random variables that follow from all that a training is given."""

import dataclasses
import hashlib
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from people import SMOKE, random_model, random_reid

from vrstc_jax.data.walkers import WalkerProtocol
from vrstc_jax.recipes.five_steps import networks

_TWO_STAGES = dataclasses.replace(SMOKE.reid, blocks=(1, 1))
CONFIG = dataclasses.replace(
    SMOKE, tau_quantile=0.15, final=dataclasses.replace(_TWO_STAGES, non_local=(0, 1)),
    reid=dataclasses.replace(_TWO_STAGES, locating_loss=1.0, locating_width=6))  # as in small
PROTOCOL = WalkerProtocol(train_people=3, test_people=2, distractors=1, frames=4, height=32, width=16)


@pytest.fixture(scope="module")
def compiled_once():
    """Caches small compilations too: what a run compiled, the next ones read."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    yield
    jax.config.update(name, before)


class StandIns:
    """In place of `training.train_reid` and `training.train_stcnet`; `calls` has what they were asked for."""

    def __init__(self):
        self.calls = []

    def reid(self, data, seen, task, identities, directory, *, start_from=None, name):
        self.calls.append(SimpleNamespace(name=name, task=task, seen=seen, start_from=start_from))
        seed = _seed(data, seen, task, identities, start_from)
        return random_reid(task.network, identities=tuple(map(str, range(identities))), seed=seed).variables

    def stcnet(self, data, chosen, task, guider, identities, directory):
        self.calls.append(SimpleNamespace(name="STCnet", task=task, seen=chosen))
        config = dataclasses.replace(CONFIG, stcnet=task.stcnet, discriminators=task.discriminators, reid=task.guider)
        model = random_model(config, seed=_seed(data, chosen, task, identities, guider))
        return model.generators, model.discriminators

    def names(self):
        return [call.name for call in self.calls]


def _seed(data, chosen, task, identities, variables):
    """A number that changes with every frame, label, setting and weight."""
    digest = hashlib.sha256(repr((task, identities)).encode())
    for each in chosen:
        digest.update(repr((each.label, [int(i) for i in each.frames])).encode())
        for i in each.frames:
            digest.update(data.frame(each.first + int(i)).tobytes())
    for leaf in jax.tree.leaves(variables):
        digest.update(np.asarray(leaf).tobytes())
    return int.from_bytes(digest.digest()[:4], "little")


@pytest.fixture
def trained(monkeypatch):
    return patched(monkeypatch)


def patched(monkeypatch):
    stand_ins = StandIns()
    monkeypatch.setattr(networks, "train_reid", stand_ins.reid)
    monkeypatch.setattr(networks, "train_stcnet", stand_ins.stcnet)
    return stand_ins
