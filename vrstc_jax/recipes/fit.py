"""Fitting a model to tracklets: re-ID network, locating, STCnet (sections 3.1 to 3.3), resumable.

Every result is kept in a work directory. Each step is skipped when its result exists and each training goes on from
its last checkpoint, so the same call ends with the same model after an interruption.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames
from vrstc_jax.data.held_out import HeldOut, hold_out_runs
from vrstc_jax.data.made_from import differing, listed
from vrstc_jax.data.tracklet_set import TrackletSet, is_complete, read_set, write_set
from vrstc_jax.data.tracklets import Tracklet, about_tracklet
from vrstc_jax.inference.locate import Locator, choose_tau
from vrstc_jax.inference.pixel_locator import PixelLocator, located
from vrstc_jax.inference.plan import Plan, visible_frames
from vrstc_jax.models.model_file import Model
from vrstc_jax.ops.regions import BANDS
from vrstc_jax.runtime import distributed, lock
from vrstc_jax.runtime.errors import InputError, warn
from vrstc_jax.runtime.notices import print_warnings
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.sharded_map import by_shards, progress
from vrstc_jax.runtime.storage import as_path
from vrstc_jax.runtime.workdir import Workdir
from vrstc_jax.training.loop import Intervals
from vrstc_jax.training.metrics_log import curves
from vrstc_jax.training.reid import train_reid
from vrstc_jax.training.stcnet import train_stcnet

# For training that continues a model: as many steps as fit into 10 minutes on two cores.
_GOING_ON = {"reid": {"steps": 100, "learning_rate": 5e-4}, "stcnet": {"steps": 1500, "learning_rate": 5e-4}}
_BAND_TAU = 1 / 3  # of models that locate pixel by pixel: a band a third of which is covered has this score
# For a re-ID network with a locating head: train the classifier alone. The head learned from masks of more shapes than
# the bands that are hidden here.
_CLASSIFIER = {"steps": 200, "learning_rate": 2e-3, "only": ("classifier",)}


def fit(tracklets: Sequence[Tracklet] | TrackletSet, work: str | os.PathLike, *, config: configs.Config,
        start_from: Model | None = None, hold_out: int = 0, command: str = "",
        inputs: Mapping[str, Any] | None = None, intervals: Intervals = Intervals()) -> Model:
    """Trains the re-ID network, locates, and trains STCnet on the frames that nothing hides.

    Args:
      tracklets: with `person` as identity; where that is None, each tracklet is an identity. A sequence is stored in
        `work`; a set, such as `TrackletsInPlace`, is trained from as it is.
      work: directory of the stored set, checkpoints and metrics; created, or continued from.
      start_from: a model whose networks training goes on with, of the config's shapes (`starting_from`).
      hold_out: length of the runs of unoccluded frames to keep from training, for judging; 0: none.
      command: what the user typed, for the record.
      inputs: what identifies the input beyond its tracklets' names and lengths, for the record.
      intervals: how often metrics and checkpoints are written, in steps.

    Returns:
      The model; it is not yet saved.

    Raises:
      InputError: there is nothing to learn from, or `work` holds another fit.
      TrainingDiverged: a loss was not finite.
    """
    with lock.releasing():
        return _fit(tracklets, as_path(work), config, start_from, hold_out, command, dict(inputs or {}), intervals)


def _fit(tracklets: Sequence[Tracklet] | TrackletSet, work: Path, config: configs.Config, start_from: Model | None,
         hold_out: int, command: str, inputs: dict[str, Any], intervals: Intervals) -> Model:
    """`fit`, with what it locks to be released."""
    began = {} if start_from is None else {"started_from": [start_from.digest, start_from.tau]}
    listed = tracklets.tracklets if isinstance(tracklets, TrackletSet) else tracklets
    distributed.run_on_first(lambda: claim(work, listed, config, hold_out=hold_out, inputs=inputs | began))
    data = _stored(Workdir(work), tracklets)
    identities, labels = identities_of(data.tracklets)
    candidates = hold_out_runs([len(tracklet) for tracklet in data.tracklets], hold_out)

    seen = [TrainingFrames(first, candidates.without(k, np.arange(len(tracklet))), label)
            for k, (tracklet, first, label) in enumerate(zip(data.tracklets, data.first, labels))]
    guider = train_reid(data, seen, config.first_reid, len(identities), work / "reid", intervals=intervals,
                        start_from=start_from and start_from.reid)

    pixels = None if start_from is None or config.locating is None else start_from.locator
    if pixels is None:
        scores = locate_tracklets(work / "scores.npz", data, Locator(config.reid, guider, len(identities)))
        tau = config.tau if config.tau is not None else choose_tau(scores, config.tau_quantile)
        clean = [visible_frames(each, tau) for each in scores]
    else:
        tau = config.tau if config.tau is not None else _BAND_TAU
        clean = locate_visible(work / "visible.npz", data, PixelLocator(config.locating or configs.Locating(), pixels))
    clean = _by_masks(data.tracklets, clean)
    # A candidate with a hidden frame has no truth to be judged by; its frames are trained on.
    held_out = HeldOut(tuple(tuple(run for run in runs if clean[k][slice(*run)].all())
                             for k, runs in enumerate(candidates.runs)))
    visible = [TrainingFrames(first, held_out.without(k, np.flatnonzero(clean[k])), label)
               for k, (first, label) in enumerate(zip(data.first, labels))]

    generators, discriminators = train_stcnet(
        data, visible, config.stcnet_task, guider, len(identities), work / "stcnet", intervals=intervals,
        start_from=start_from and (start_from.generators, start_from.discriminators))
    return Model(
        config=config if pixels is not None else dataclasses.replace(config, locating=None),
        generators=generators, discriminators=discriminators, reid=guider, identities=identities,
        tau=float(tau), locator=pixels,
        provenance={
            "command": command, "inputs": inputs,
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
    # The number of frames to complete from changes no layer's shape.
    stcnet = dataclasses.replace(config.stcnet, frames_per_side=ours.stcnet.frames_per_side)
    if (ours.stcnet, ours.discriminators) != (stcnet, config.discriminators):
        raise InputError(f"Training cannot go on with a model of size {ours.name}: the networks of {config.name} have "
                         "other shapes. Fit from nothing (--fresh), or choose the model's size.")
    return dataclasses.replace(
        config, stcnet=stcnet, locating=ours.locating, repairing=ours.repairing,
        reid=dataclasses.replace(ours.reid, locating_masks=False, locating_loss=config.reid.locating_loss),
        tau=model.tau,
        reid_training=dataclasses.replace(config.reid_training, **(
            _CLASSIFIER if ours.reid.locating_width else _GOING_ON["reid"])),
        stcnet_training=dataclasses.replace(config.stcnet_training, **_GOING_ON["stcnet"]))


def identities_of(tracklets: Sequence[Tracklet]) -> tuple[tuple[str, ...], list[int]]:
    """(identities, each tracklet's index among them); a tracklet without a person is an identity by its name."""
    names = [tracklet.person or tracklet.name for tracklet in tracklets]
    identities = tuple(sorted(set(names)))
    index = {name: i for i, name in enumerate(identities)}
    return identities, [index[name] for name in names]


def claim(work: str | os.PathLike, tracklets: Sequence[Tracklet], config: configs.Config, *, hold_out: int = 0,
          inputs: Mapping[str, Any] | None = None) -> None:
    """Records a fit in its work directory, or checks that it is the same as the one recorded there.

    One process calls it (see `distributed.run_on_first`).

    Raises:
      InputError: the directory is another fit's, or its frames or masks changed since; or it cannot be written.
    """
    folder = Workdir(as_path(work), "fit.json", "the work of a fit with other input or settings")
    made_from = {tracklet.name: tracklet.made_from for tracklet in tracklets}
    # How holes are filled later changes nothing of the training, and works of earlier versions go on.
    config = dataclasses.replace(config, repairing=None)
    identity = {"config": configs.to_dict(config), "hold_out": hold_out, "inputs": inputs or {},
                "tracklets": [[t.name, len(t)] for t in tracklets], "made_from": made_from}
    lock.take(folder.path)
    require_unchanged(folder, made_from)
    # shared: the crops of a video are in the directory before it is claimed.
    folder.claim(identity, shared=True, complete=lambda record: {"made_from": made_from} | _complete_record(record))


def require_unchanged(folder: Workdir, made_from: Mapping[str, str | None]) -> None:
    """Checks that a directory's tracklets are made from what its record says (`Tracklet.made_from` by name).

    A record of an earlier version does not say; then a warning is printed.

    Raises:
      InputError: some changed, came or went.
    """
    path = folder.path / folder.record
    if not path.exists():
        return
    # Without the record, what is left would be taken for results of this fit.
    before = read_record(path, remedy=f"remove {folder.path}, or choose another directory").get("made_from")
    if before is None:
        if any(made_from.values()):
            warn(f"{folder.path}: is of an earlier version, which did not record what it was made from; changes of the "
                 "input since then cannot be seen.")
    elif apart := differing(before, made_from):
        raise InputError(f"{folder.path}: was begun with other frames or masks; {len(apart)} of {len(made_from)} "
                         f"tracklets changed since {listed(apart)}; remove it, or choose another directory.")


def _complete_record(record: dict) -> dict:
    """Fills in the fields that the config of an earlier version's record lacks."""
    with suppress(InputError):  # a later version's record stays as it is, so that it differs
        return record | {"config": configs.with_defaults(record["config"])}
    return record


def _stored(folder: Workdir, tracklets: Sequence[Tracklet] | TrackletSet) -> TrackletSet:
    """The set to train from."""
    if isinstance(tracklets, TrackletSet):
        # Earlier versions stored every input; a work directory that has such a set goes on with it.
        stored = distributed.run_on_first(lambda: is_complete(folder.path / "tracklets"))
        return read_set(folder.path / "tracklets") if stored else tracklets

    def store(path: Path) -> None:
        with tqdm(total=sum(map(len, tracklets)), desc="storing frames", unit="frame", dynamic_ncols=True) as bar:
            write_set(path, tracklets, progress=bar.update)

    return folder.get_or_write("tracklets", store, load=read_set, exists=is_complete)


def locate_tracklets(path: Path, data: TrackletSet, locator: Locator) -> list[np.ndarray]:
    """The scores float32 [T, 3] of each tracklet (equations 11, 12), kept in the file `path`.

    Every process calls it, and locates in its share of the tracklets.
    """
    lengths = [len(tracklet) for tracklet in data.tracklets]
    with progress("locating", lengths) as bar:
        def scores(indices: range) -> list[np.ndarray]:
            found = []
            for index in indices:
                found.append(locator.scores(data.tracklets[index].frames))
                bar.update()
            return found

        return by_shards(path, lengths, scores, fits=lambda array, length: array.shape == (length, BANDS))


def locate_visible(path: Path, data: TrackletSet, locator: PixelLocator) -> list[np.ndarray]:
    """Which frames of each tracklet nothing hides, bool [T], located pixel by pixel and kept in the file `path`.

    Every process calls it, as `locate_tracklets`.
    """
    lengths = [len(tracklet) for tracklet in data.tracklets]
    with progress("locating", lengths) as bar:
        def visible(indices: range) -> list[np.ndarray]:
            found = []
            for index in indices:
                tracklet = data.tracklets[index]
                found.append(~located(locator, tracklet.frames, tracklet.nearer).touched)
                bar.update()
            return found

        return by_shards(path, lengths, visible, fits=lambda array, length: array.shape == (length,))


def _by_masks(tracklets: Sequence[Tracklet], visible: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Which frames nothing hides: by the masks of tracklets that have them, of which it warns, else as located."""
    plans = [None if tracklet.masks is None else Plan.from_masks(tracklet.masks) for tracklet in tracklets]
    print_warnings(about_tracklet(tracklet.name, warning)
                   for tracklet, plan in zip(tracklets, plans) if plan for warning in plan.warnings)
    return [found if plan is None else plan.visible for plan, found in zip(plans, visible)]


def clean_frames(tracklet: Tracklet, scores: np.ndarray, tau: float) -> np.ndarray:
    """Which frames nothing hides, bool [T]: by the tracklet's masks where it has them, else by scores [T, 3]."""
    return _plan(tracklet, scores, tau).visible


def _plan(tracklet: Tracklet, scores: np.ndarray, tau: float) -> Plan:
    return Plan.from_scores(scores, tau) if tracklet.masks is None else Plan.from_masks(tracklet.masks)
