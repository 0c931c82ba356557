"""The state of a training, and the tree that checkpoints have held since the first version."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from random_training import SMOKE, reid_state, stcnet_state

from vrstc_jax import config as configs
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.training.checkpoint_files import digests_of
from vrstc_jax.training.checkpoints import Checkpoints


def numbered(state):
    """The same with another number in each array."""
    leaves, tree = jax.tree.flatten(state)
    return jax.tree.unflatten(tree, [np.full_like(leaf, i + 1) for i, leaf in enumerate(leaves)])


def assert_same(got, wanted):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, got, wanted)


def averaged(average):
    return dataclasses.replace(SMOKE, stcnet_training=dataclasses.replace(SMOKE.stcnet_training, average=average))


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_stcnet_is_saved_with_an_optimiser_for_each_network(average):
    state = numbered(stcnet_state(averaged(average)))
    saved = state.saved()
    assert set(saved) == {"step", "generators", "discriminators", "generators_adam", "discriminators_adam", "mean"}
    assert saved["discriminators"] is state.params["discriminators"] and (saved["mean"] is None) == (not average)
    _, (count, first, second), _ = saved["discriminators_adam"]
    moments = state.adam[1]
    assert_same((first, second), (moments.mu["discriminators"], moments.nu["discriminators"]))
    assert count == moments.count
    assert_same(stcnet_state(averaged(average)).restored(saved), state)


def test_a_single_network_is_saved_as_it_is():
    state = numbered(reid_state(SMOKE))
    assert set(state.saved()) == {"step", "params", "batch_stats", "adam"}
    assert state.saved()["adam"] is state.adam
    assert_same(reid_state(SMOKE).restored(state.saved()), state)
    state = state.replace(mean=state.current)
    assert set(state.saved()) == {"step", "params", "batch_stats", "adam", "mean"}
    assert_same(reid_state(SMOKE).replace(mean={}).restored(state.saved()), state)


CASES = {"reid": (SMOKE.first_reid, reid_state), "stcnet": (SMOKE.stcnet_task, stcnet_state)}


@pytest.mark.parametrize("name", CASES)
def test_checkpoints_with_a_whole_config_restore(tmp_path, name):
    """As version 0.1 wrote them, and with an earlier name of the size; of another config they are refused."""
    task, fresh = CASES[name]
    state = numbered(fresh(SMOKE))
    with Checkpoints(tmp_path, task=task) as checkpoints:
        checkpoints.save(3, state)

    def write(config):
        file = tmp_path / "3/about/metadata"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"config": config}))
        (tmp_path / "3/digests.json").write_text(json.dumps(digests_of(type(checkpoints.directory)(tmp_path / "3"))))

    whole = configs.to_dict(SMOKE)
    for other in (whole, whole | {"tau": 0.1, "final": configs.to_dict(configs.Reid())}):
        write(other)
        with Checkpoints(tmp_path, task=task) as checkpoints:
            restored, step = checkpoints.restore(fresh(SMOKE))
        assert step == 3
        assert_same(restored, state)
    write(whole | {part: whole[part] | {"learning_rate": 0.5} for part in ("stcnet_training", "reid_training")})
    with Checkpoints(tmp_path, task=task) as checkpoints, pytest.raises(InputError, match="of another config"):
        checkpoints.restore(fresh(SMOKE))
