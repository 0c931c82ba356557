"""Absurd numbers are refused by every command, in one line, before it does anything."""

import dataclasses
import importlib
import math
import pkgutil
import typing

import jax
import numpy as np
import pytest

import experiments
import tools
from vrstc_jax import cli
from vrstc_jax.data.walkers import WalkerConfig, make_tracklets, people
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.flags import LIMITS, require_flags
from vrstc_jax.runtime.lifecycle import run_as_command

NEEDED = {"demo": ["--output", "o"], "fit": ["v.mp4", "--output", "o"], "judge": ["v.mp4"], "walkers": ["o"],
          "rank": ["v.mp4", "--query", "1", "--model", "m"]}
INTEGERS, FLOATS = (-1, 10 ** 40, -10 ** 400), (math.nan, math.inf, -math.inf, 1e300, -1e300)


def argument_classes():
    """(name, class) of what each command parses."""
    yield from ((f"vrstc {name}", command) for name, command in cli.COMMANDS.items())
    for package in (experiments, tools):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.endswith("__main__"):
                for name, kind in vars(importlib.import_module(module.name)).items():
                    verb = module.name == "tools.launch.tpu_vm" and hasattr(kind, "do")
                    if dataclasses.is_dataclass(kind) and (name in ("Arguments", "Options") or verb):
                        yield f"{module.name} {name}", kind


def numeric(hint):
    return {int, float} & {hint, *typing.get_args(hint)}


@pytest.mark.parametrize("name, kind", [pytest.param(*each, id=each[0]) for each in argument_classes()])
def test_every_number_has_a_range(name, kind):
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        kinds = numeric(hints[field.name]) - ({int} if hints[field.name] is bool else set())
        if not kinds or field.name == "split":  # of experiments.vrstc, which is one of ten
            continue
        assert field.name in LIMITS, f"{name}: give {field.name} a range in vrstc_jax.runtime.flags"
        holder = dataclasses.make_dataclass("Holder", [(field.name, object)])
        for value in (None, () if kind is tuple else None):
            require_flags(holder(value))
        for value in (*(INTEGERS if int in kinds else FLOATS), *(FLOATS if float in kinds else ())):
            for given in (value, (value,)):
                with pytest.raises(InputError) as raised:
                    require_flags(holder(given))
                message = str(raised.value)
                assert message.startswith(f"--{field.name.replace('_', '-')} must be ") and len(message) < 120


@pytest.mark.parametrize("line", [
    f"{command} {flag}={value}" for command, flag, values in (
        ("demo", "--seed", INTEGERS), ("fit", "--seed", INTEGERS), ("fit", "--steps", INTEGERS + (0,)),
        ("fit", "--reid-steps", INTEGERS + (0,)), ("fit", "--hold-out", INTEGERS), ("fit", "--tau", FLOATS + (5,)),
        ("fit", "--learning-rate", FLOATS + (0, 1e9)), ("judge", "--hold-out", INTEGERS + (0,)),
        ("judge", "--seed", INTEGERS), ("rank", "--count", INTEGERS + (0,)), ("walkers", "--seed", INTEGERS),
        ("walkers", "--people", INTEGERS + (0,)), ("walkers", "--frames", INTEGERS + (0,))) for value in values])
def test_of_vrstc(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, given = line.split()
    with pytest.raises(SystemExit) as ended:
        cli.main([command, *NEEDED[command], given])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith(f"vrstc: {given.partition('=')[0]} must be ")
    assert said.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("module, given", [
    ("experiments.vrstc", {"seed": -1}), ("experiments.vrstc", {"triplet": math.inf}),
    ("experiments.vrstc", {"label_smoothing": math.nan}), ("experiments.ablation", {"seeds": 10 ** 40}),
    ("experiments.ablation", {"discard": (0.1, math.nan)}), ("experiments.default_model", {"seed": 10 ** 40})])
def test_of_experiments(module, given, capsys, tmp_path):
    module = importlib.import_module(module)
    with pytest.raises(SystemExit) as ended:
        run_as_command(lambda: module.main(module.Arguments(workdir=tmp_path / "work", **given)))
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert said.startswith(f"vrstc: --{next(iter(given)).replace('_', '-')} must be ")
    assert not list(tmp_path.iterdir())


def test_the_largest_seed_is_one():
    seed = int(LIMITS["seed"].most)
    keys = [jax.random.key_data(jax.random.key(number)) for number in (seed, seed + 1)]
    assert (keys[0] != keys[1]).any()
    np.random.default_rng(seed + 1)
    walker, = make_tracklets(people("test", 1), cameras=1, seed=seed, config=WalkerConfig(height=16, width=8, frames=1))
    assert walker.frames[0].shape == (16, 8, 3)
