"""Sizes, choices, the parts that trainers take, and records of earlier versions."""

import dataclasses
import json
from typing import get_args

import pytest

from vrstc_jax import config as configs
from vrstc_jax.runtime.errors import InputError

SMOKE = configs.get("smoke")
RENAMED = {"paper": "full", "paper_literal": "as_published", "mars_paper": "as_published_mars"}


def test_every_size_has_a_name_that_commands_know():
    assert set(get_args(configs.SizeName)) == {*configs.SIZES, *RENAMED}
    assert all(configs.get(name).name == name for name in configs.SIZES)
    assert set(configs.GENERATOR_FORMS) == set(get_args(configs.TemporalForm))
    with pytest.raises(InputError, match="no size 'large'; choose one of full, as_published, .*smoke"):
        configs.get("large")


@pytest.mark.parametrize("old, new", RENAMED.items())
def test_earlier_names_of_sizes_stay_valid(old, new):
    assert configs.get(old) == configs.get(new)
    written = configs.to_dict(configs.get(new)) | {"name": old}
    assert configs.from_dict(json.loads(json.dumps(written))) == configs.get(new)
    assert configs.with_defaults(written) == configs.to_dict(configs.get(new))


def test_as_published_differs_by_what_the_paper_prints():
    full, published = configs.get("full"), configs.get("as_published")
    assert (full.stcnet.softmax_scale, published.stcnet.softmax_scale) == (10.0, 1.0)
    same = dataclasses.replace(published, name="full", masks=full.masks,
                               stcnet=dataclasses.replace(published.stcnet, softmax_scale=10.0))
    assert same == full and published.masks.kind == "bands"
    assert (full.losses.adversarial, full.losses.identity) == (0.001, 0.1)
    assert (full.stcnet_training.learning_rate, full.reid_training.learning_rate) == (1e-4, 3e-4)
    assert (full.reid_training.weight_decay, full.tau, full.reid.clip) == (5e-4, 0.89, 4)


@pytest.mark.parametrize("part, field", [
    (SMOKE, "compute"), (SMOKE.stcnet, "temporal_form"), (SMOKE.discriminators, "local_input"),
    (SMOKE.losses, "reconstruction"), (SMOKE.reid, "stride_on"), (SMOKE.reid, "pooling"),
    (SMOKE.final_training, "schedule"), (SMOKE.masks, "kind")])
def test_choices_are_checked_when_they_are_made(part, field):
    with pytest.raises(InputError, match=rf"^{type(part).__name__}\.{field} is 'odd'; choose one of .*, ") as raised:
        dataclasses.replace(part, **{field: "odd"})
    assert getattr(part, field) in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(InputError, match="is 'odd'"):
        configs.from_dict(configs.to_dict(part) | {field: "odd"}, type(part))


def test_records_of_earlier_versions_lack_later_fields():
    written = configs.to_dict(SMOKE)
    del written["compute"], written["reid"]["locating_masks"]
    assert configs.from_dict(json.loads(json.dumps(written))) == SMOKE
    assert configs.with_defaults(written) == configs.to_dict(SMOKE)
    with pytest.raises(InputError, match="config.reid has no field 'colour'; it was written by another version"):
        configs.from_dict(configs.to_dict(SMOKE) | {"reid": {"colour": 1}})
    with pytest.raises(InputError, match="config is not complete: .*'steps'"):
        configs.from_dict({}, configs.Training)


def test_each_trainer_has_its_part():
    config = dataclasses.replace(SMOKE, seed=4, compute="bfloat16")
    first, final, stcnet = config.first_reid, config.final_reid, config.stcnet_task
    assert (first.network, first.training) == (config.reid, config.reid_training)
    assert (final.network, final.training) == (config.final, config.final_training)
    assert first.losses == final.losses == config.reid_losses
    assert (stcnet.stcnet, stcnet.guider, stcnet.training) == (config.stcnet, config.reid, config.stcnet_training)
    assert {first.compute, final.compute, stcnet.compute} == {"bfloat16"}
    assert first.seed == final.seed != stcnet.seed == 4
    # What a part does not depend on may change beside its checkpoints.
    assert dataclasses.replace(config, tau=0.5, final=config.reid, masks=configs.Masks()).first_reid == first
    assert dataclasses.replace(config, tau=0.5, final_training=config.reid_training).stcnet_task == stcnet
