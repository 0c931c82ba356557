"""Fitting a model to tracklets: DESIGN's steps 1 to 3 (re-ID network, locating, STCnet), resumable.

Everything on the way stands in a work directory; each step is skipped when its result stands, so the same
call goes on where it was interrupted and ends with the same model.
"""

import dataclasses
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames
from vrstc_jax.data.held_out import HeldOut, hold_out_runs
from vrstc_jax.data.tracklet_set import TrackletSet, is_complete, read_set, write_set
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.inference.locate import Locator, choose_tau
from vrstc_jax.inference.plan import Plan, visible_frames
from vrstc_jax.models.model_file import Model
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.sharded_map import by_shards, progress
from vrstc_jax.runtime.storage import as_path, replace_file, require_writable_directory
from vrstc_jax.training.loop import Intervals
from vrstc_jax.training.metrics_log import curves
from vrstc_jax.training.reid import train_reid
from vrstc_jax.training.stcnet import train_stcnet

# What fits into 10 minutes on two cores.
_GOING_ON = {"reid": {"steps": 100, "learning_rate": 5e-4}, "stcnet": {"steps": 1500, "learning_rate": 5e-4}}
# Where the network has a head for locating, its classifier alone learns: masks may have taught the head, which know
# more than bands hidden on purpose.
_CLASSIFIER = {"steps": 200, "learning_rate": 2e-3, "only": ("classifier",)}
def fit(tracklets: Sequence[Tracklet], work, *, config: configs.Config, start_from: Model | None = None,
        hold_out: int = 0, command: str = "", inputs: dict | None = None, log_every: int = 20,
        checkpoint_every: int = 200) -> Model:
    """Trains the re-ID network, locates, and trains STCnet on the frames that nothing hides.

    Args:
      tracklets: with `person` as identity; where that is None, each tracklet is an identity of its own.
      work: directory of the set, checkpoints and metrics; made here, and gone on from.
      start_from: a model whose networks training goes on with, of the config's shapes (`starting_from`).
      hold_out: length of the runs of unoccluded frames to keep from training, for judging; 0: none.
      command: what the user typed, for the record.
      inputs: what identifies the input beyond its tracklets' names and lengths, for the record.

    Returns:
      The model; it is not yet saved.

    Raises:
      InputError: there is nothing to learn from, or `work` holds another fit.
      TrainingDiverged: a loss was not finite.
    """
    work = as_path(work)
    began = {} if start_from is None else {"started_from": [start_from.digest, start_from.tau]}

    def take():
        require_writable_directory(work)
        _claim(work, tracklets, config, hold_out, (inputs or {}) | began)

    distributed.run_on_first(take)
    data = _stored(work / "tracklets", tracklets)
    identities, labels = identities_of(data.tracklets)
    candidates = hold_out_runs([len(tracklet) for tracklet in data.tracklets], hold_out)

    seen = [TrainingFrames(first, candidates.without(k, np.arange(len(tracklet))), label)
            for k, (tracklet, first, label) in enumerate(zip(data.tracklets, data.first, labels))]
    intervals = Intervals(log=log_every, checkpoint=checkpoint_every)
    guider = train_reid(data, seen, config.first_reid, len(identities), work / "reid", intervals=intervals,
                        start_from=start_from and start_from.reid)

    locator = Locator(config.reid, guider, len(identities))
    scores = locate_tracklets(work / "scores.npz", data, locator)
    tau = config.tau if config.tau is not None else choose_tau(scores, config.tau_quantile)
    clean = [clean_frames(tracklet, s, tau) for tracklet, s in zip(data.tracklets, scores)]
    held_out = HeldOut(tuple(tuple(run for run in runs if clean[k][slice(*run)].all())
                             for k, runs in enumerate(candidates.runs)))
    usable = [TrainingFrames(first, held_out.without(k, np.flatnonzero(clean[k])), label)
              for k, (first, label) in enumerate(zip(data.first, labels))]

    generators, discriminators = train_stcnet(
        data, usable, config.stcnet_task, guider, len(identities), work / "stcnet", intervals=intervals,
        start_from=start_from and (start_from.generators, start_from.discriminators))
    return Model(
        config=config, generators=generators, discriminators=discriminators, reid=guider, identities=identities,
        tau=float(tau),
        provenance={
            "command": command, "inputs": inputs or {},
            "started_from": start_from and start_from.digest, "tracklets": len(data.tracklets),
            "frames": sum(map(len, data.tracklets)), "unoccluded_frames": int(sum(c.sum() for c in clean)),
            "reid_steps": config.reid_training.steps, "stcnet_steps": config.stcnet_training.steps,
            "held_out": {tracklet.name: [list(tracklet.frame_names[slice(*run)]) for run in runs]
                         for tracklet, runs in zip(data.tracklets, held_out.runs) if runs},
            "curves": {"re-ID network": curves(work / "reid"), "STCnet": curves(work / "stcnet")},
        })


def starting_from(model: Model, config: configs.Config) -> configs.Config:
    """A config for training that goes on with a model: its networks, its τ, fewer and smaller steps.

    Raises:
      InputError: the config's networks are of other shapes.
    """
    ours = model.config
    # How many frames it completes from says nothing of its layers.
    stcnet = dataclasses.replace(config.stcnet, frames_per_side=ours.stcnet.frames_per_side)
    if (ours.stcnet, ours.discriminators) != (stcnet, config.discriminators):
        raise InputError(f"Training cannot go on with a model of size {ours.name}: the networks of {config.name} have "
                         "other shapes. Fit from nothing (--fresh), or choose the model's size.")
    return dataclasses.replace(
        config, stcnet=stcnet,
        reid=dataclasses.replace(ours.reid, locating_masks=False, locating_loss=config.reid.locating_loss),
        tau=model.tau,
        reid_training=dataclasses.replace(config.reid_training, **(
            _CLASSIFIER if ours.reid.locating_width else _GOING_ON["reid"])),
        stcnet_training=dataclasses.replace(config.stcnet_training, **_GOING_ON["stcnet"]))


def identities_of(tracklets: Sequence[Tracklet]) -> tuple[tuple[str, ...], list[int]]:
    """(identities, each tracklet's place among them); where nobody is named, a tracklet is an identity."""
    names = [tracklet.person or tracklet.name for tracklet in tracklets]
    identities = tuple(sorted(set(names)))
    place = {name: i for i, name in enumerate(identities)}
    return identities, [place[name] for name in names]


def _claim(work, tracklets, config, hold_out, inputs):
    """Takes the work directory for this fit, or finds it taken by the same one."""
    mine = {"config": configs.to_dict(config), "hold_out": hold_out, "inputs": inputs,
            "tracklets": [[t.name, len(t)] for t in tracklets]}
    mine = json.loads(json.dumps(mine))
    record = work / "fit.json"
    if record.exists():
        theirs = json.loads(record.read_text())
        with suppress(InputError):  # of a later version: it stays as it is, and differs
            theirs["config"] = json.loads(json.dumps(configs.with_defaults(theirs["config"])))
        if theirs != mine:
            raise InputError(f"{work}: holds the work of a fit with other input or settings; "
                             "remove it, or choose another output.")
    else:
        replace_file(record, json.dumps(mine, indent=1).encode())


def _stored(directory, tracklets) -> TrackletSet:
    def store():
        if not is_complete(directory):
            with tqdm(total=sum(map(len, tracklets)), desc="storing frames", unit="frame",
                      dynamic_ncols=True) as bar:
                write_set(directory, tracklets, progress=bar.update)

    distributed.run_on_first(store)
    return read_set(directory)


def locate_tracklets(path: Path, data: TrackletSet, locator: Locator) -> list[np.ndarray]:
    """DESIGN's step 2: the scores [T, 3] of each tracklet, which stand in `path` afterwards; each process locates in
    its part of the tracklets."""
    lengths = [len(tracklet) for tracklet in data.tracklets]
    with progress("locating", lengths) as bar:
        def scores(places):
            found = []
            for place in places:
                found.append(locator.scores(data.tracklets[place].frames))
                bar.update()
            return found

        return by_shards(path, lengths, scores)


def clean_frames(tracklet: Tracklet, scores: np.ndarray, tau: float) -> np.ndarray:
    """Which frames nothing hides, bool [T]: by the tracklet's masks where it has them, else by scores [T, 3]."""
    if tracklet.masks is not None:
        return Plan.from_masks(tracklet.masks).visible
    return visible_frames(scores, tau)


