"""One process of a run that `kill_tally` kills: two trainings of size `smoke`, then locating and completing.

    python -m tools.killed_job '{"directory": "out", "steps": 12, "heartbeat": 20}'

leaves result.json (digests of the networks and their optimisers), metrics, scores.npz and completed/ in the directory.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames, reid_batches, stcnet_batches
from vrstc_jax.data.tracklet_set import read_set, write_set
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.data.walkers import WalkerConfig, make_tracklets, people
from vrstc_jax.inference.locate import Locator, choose_tau
from vrstc_jax.models.model_file import Model
from vrstc_jax.ops.pictures import thumbnail
from vrstc_jax.recipes import five_steps
from vrstc_jax.recipes.fit import locate_tracklets
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.storage import replace_file
from vrstc_jax.training import loop, reid, stcnet

PEOPLE = 12  # whose tracklets in two cameras are completed
EVERY = 3  # steps from checkpoint to checkpoint
_TRAINING_PEOPLE = 4
_LOOK = WalkerConfig(height=40, width=20, frames=8)


def main(directory: Path, *, steps: int, heartbeat: int) -> None:
    """Trains, writes result.json, locates and completes."""
    distributed.initialize(heartbeat=heartbeat)
    states = train(directory, steps=steps)
    digests = {name: hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state))).hexdigest()
               for name, state in states.items()}
    if distributed.is_first():
        replace_file(directory / "result.json", json.dumps(digests).encode())
    complete(directory, states)


def train(directory: Path, *, steps: int, networks: tuple[str, ...] = ("reid", "stcnet"),
          checkpoint_every: int = EVERY, log_every: int = 2, watch: Callable[[str, Any, dict], None] | None = None,
          parallel: configs.Parallel = "pmap", **options: Any) -> dict[str, Any]:
    """Trains networks of size `smoke` on made-up walkers, in all processes of the run.

    Args:
      watch: (network, state, metrics), called after each step.
      parallel: as `Config.parallel`.
      options: of `loop.TrainingRun`.

    Returns:
      The last states, by network.
    """
    config, data = dataclasses.replace(configs.get("smoke"), parallel=parallel), _walkers_in_memory()
    frames = [TrainingFrames(_LOOK.frames * k, np.arange(_LOOK.frames), k) for k in range(_TRAINING_PEOPLE)]
    no_guider = dataclasses.replace(config.losses, identity=0.0)
    first, task = config.first_reid, dataclasses.replace(config.stcnet_task, losses=no_guider)
    tasks = {"reid": first, "stcnet": task}
    steppers = {"reid": reid.training_step(first, _TRAINING_PEOPLE),
                "stcnet": stcnet.training_step(task, _TRAINING_PEOPLE)}
    starts = {"reid": lambda: reid.initial_state(first, _TRAINING_PEOPLE), "stcnet": lambda: stcnet.initial_state(task)}
    batches: dict[str, Callable] = {"reid": reid_batches, "stcnet": stcnet_batches}
    states = {}
    for network in networks:
        def step(state: Any, batch: dict, network: str = network) -> tuple[Any, dict]:
            state, metrics = (steppers["reid"](state, batch) if network == "reid"
                              else steppers["stcnet"](state, None, batch))
            if watch:
                watch(network, state, metrics)
            return state, metrics

        run = loop.TrainingRun(network, steps=steps, directory=directory / network, task=tasks[network],
                               intervals=loop.Intervals(log=log_every, checkpoint=checkpoint_every), **options)
        states[network] = loop.train(run, starts[network](), step, lambda start, network=network: batches[network](
            data, frames, tasks[network], start=start))
    return states


def _walkers(kind: str, count: int, cameras: int) -> list[Tracklet]:
    return make_tracklets(people(kind, count), cameras=cameras, config=_LOOK)


def _walkers_in_memory() -> Any:
    """Training frames with the methods of a stored set that batches use."""
    frames = [frame for tracklet in _walkers("train", _TRAINING_PEOPLE, 1) for frame in tracklet.frames]

    class InMemory:
        frame = staticmethod(frames.__getitem__)
        thumbnail = staticmethod([thumbnail(frame) for frame in frames].__getitem__)

    return InMemory


def complete(directory: Path, states: dict[str, Any]) -> None:
    """Locates in a data set of made-up walkers and completes it, with the networks that `train` returned: data/,
    scores.npz and completed/."""
    def write() -> None:
        if not (directory / "data").exists():
            write_set(directory / "data", _walkers("test", PEOPLE, 2))

    distributed.run_on_first(write)
    config, data = configs.get("smoke"), read_set(directory / "data")
    identities = tuple(map(str, range(_TRAINING_PEOPLE)))
    guider = jax.device_get(states["reid"].result)
    scores = locate_tracklets(directory / "scores.npz", data, Locator(config.reid, guider, len(identities)))
    state = states["stcnet"]
    model = Model(config, jax.device_get(state.result), jax.device_get(state.params["discriminators"]), guider,
                  identities, choose_tau(scores, 0.2))
    if not distributed.run_on_first((directory / "completed").exists):
        five_steps.complete_sets({"train": data}, model, five_steps.Located({"train": scores}, model.tau), directory)


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    run_as_command(lambda: main(Path(options.pop("directory")), **options))
