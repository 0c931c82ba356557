"""The trainings: the first re-ID network (step 1), STCnet (step 3) and the final re-ID networks (step 5)."""

import dataclasses
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames
from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.models.model_file import Model, ReidModel, load_reid, save_reid
from vrstc_jax.recipes.fit import clean_frames, identities_of
from vrstc_jax.recipes.five_steps.locating import Located
from vrstc_jax.recipes.five_steps.options import Options
from vrstc_jax.runtime.workdir import Workdir
from vrstc_jax.training.metrics_log import curves
from vrstc_jax.training.reid import train_reid
from vrstc_jax.training.stcnet import train_stcnet


def first_network(train: TrackletSet, task: configs.ReidTask, directory: str | PathLike, *,
                  start_from: dict[str, Any] | None = None, command: str = "",
                  name: str = "re-ID network") -> ReidModel:
    """The re-ID network of step 1, or of step 5, trained on all frames.

    Args:
      directory: of checkpoints and metrics.
      start_from: variables of `ReidNet` to begin with; None: random weights.
      name: for the progress bar and the model's curves.
    """
    identities, seen = all_frames(train)
    variables = train_reid(train, seen, task, len(identities), directory, start_from=start_from, name=name)
    return ReidModel(task.network, variables, identities, {
        "command": command, "tracklets": len(train.tracklets), "steps": task.training.steps,
        "curves": {name: curves(directory)}})


def all_frames(train: TrackletSet) -> tuple[tuple[str, ...], list[TrainingFrames]]:
    """(identities, the frames of each tracklet that re-ID training uses: all)."""
    identities, labels = identities_of(train.tracklets)
    return identities, [TrainingFrames(first, np.arange(len(tracklet)), label)
                        for tracklet, first, label in zip(train.tracklets, train.first, labels)]


def generators(train: TrackletSet, config: configs.Config, network: ReidModel, found: Located,
               directory: str | PathLike, *, options: Options = Options(), command: str = "") -> Model:
    """Step 3: STCnet, from the training frames that nothing hides."""
    _, labels = identities_of(train.tracklets)
    given = options.hidden == "given"
    clean = [clean_frames(tracklet if given else dataclasses.replace(tracklet, masks=None), scores, found.tau)
             for tracklet, scores in zip(train.tracklets, found.scores["train"])]
    visible = [TrainingFrames(first, np.flatnonzero(ok), label)
               for ok, first, label in zip(clean, train.first, labels)]
    trained = train_stcnet(train, visible, config.stcnet_task, network.variables, len(network.identities), directory)
    return Model(config=config, generators=trained[0], discriminators=trained[1], reid=network.variables,
                 identities=network.identities, tau=found.tau, provenance={
                     "command": command, "tracklets": len(train.tracklets),
                     "frames": int(sum(map(len, train.tracklets))),
                     "unoccluded_frames": int(sum(ok.sum() for ok in clean)),
                     "reid_steps": config.reid_training.steps, "stcnet_steps": config.stcnet_training.steps,
                     "curves": network.provenance["curves"] | {"STCnet": curves(directory)}})


def final_network(train: TrackletSet, config: configs.Config, first: ReidModel, directory: Path, *,
                  start_from: dict[str, Any] | None = None, command: str = "",
                  name: str = "final network") -> ReidModel:
    """Step 5's network, trained and kept in `directory`.safetensors."""
    begin = backbone_of(first.variables) if config.final_from_first else start_from
    return Workdir(directory.parent).get_or_make(f"{directory.name}.safetensors", lambda: first_network(
        train, config.final_reid, directory, start_from=begin, command=command, name=name),
        save=save_reid, load=load_reid)


def backbone_of(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The backbone's variables, from which another network can begin training.

    The classifier is left out: with one that already tells the training people apart, the loss is small from the
    start and the backbone learns little.
    """
    return {collection: {"backbone": tree["backbone"]} for collection, tree in variables.items()}
