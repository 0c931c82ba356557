"""The demonstration: training, completion, judgement and report on made-up walkers."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.images import write_png
from vrstc_jax.data.inputs.sources import Source
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.data.walkers import WalkerConfig, make_tracklets, people, unoccluded
from vrstc_jax.evaluation import retrieval
from vrstc_jax.inference.completer import Completer
from vrstc_jax.inference.results_folder import ResultsFolder
from vrstc_jax.models.model_file import ReidModel, default_model_path, load_model, save_model
from vrstc_jax.recipes.complete import complete_source, model_identity
from vrstc_jax.recipes.fit import fit
from vrstc_jax.recipes.judge import judge
from vrstc_jax.report import Table, ranking_pictures, ranking_tables
from vrstc_jax.report.figures import completion_rows, stacked
from vrstc_jax.runtime import lock
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import printable

_CAMERAS = 2
_FIRST, _SHOWN = 3, 8  # tracklets in the first picture, and frames of each


@dataclass(frozen=True)
class Amount:
    """The size of a demonstration: people to train on and to judge on, their frames, training steps."""

    people: int
    test_people: int
    frames: int
    reid_steps: int
    stcnet_steps: int


AMOUNTS = {"small": Amount(people=100, test_people=16, frames=16, reid_steps=300, stcnet_steps=1600),
           "smoke": Amount(people=6, test_people=3, frames=8, reid_steps=4, stcnet_steps=4)}


def demo(output: str | PathLike, *, config: configs.Config, command: str = "") -> str:
    """Trains on walkers, completes and judges walkers of people that no training saw, and reports.

    Writes into `output`: first.png, report.html, metrics.json, ranked.png, model.safetensors, completed/
    (crops, masks, scores) and work/ (checkpoints, metrics). Called again, it resumes where it stopped.

    first.png shows completions by the default model, before anything is trained here.

    Returns:
      The table and the path of the report, as text.

    Raises:
      InputError: `output` cannot be written, or holds a demonstration of another size or seed.
    """
    with lock.releasing():
        return _demo(Path(output), config, command)


def _demo(output: Path, config: configs.Config, command: str) -> str:
    lock.take(output)
    amount = AMOUNTS[config.name]
    config = dataclasses.replace(
        config, reid_training=dataclasses.replace(config.reid_training, steps=amount.reid_steps),
        stcnet_training=dataclasses.replace(config.stcnet_training, steps=amount.stcnet_steps))
    train = _walkers(config, people("train", amount.people))
    test = test_walkers(config)

    _first_picture(output / "first.png", test)
    path = output / "model.safetensors"
    if not path.exists():
        # Training sees only what a user's footage has; masks and truth are for judging.
        seen = [dataclasses.replace(tracklet, masks=None, truth=None, silhouettes=None) for tracklet in train]
        save_model(path, fit(seen, output / "work", config=config, command=command,
                             inputs={"walkers": dataclasses.asdict(amount)}))
    model = load_model(path)
    if model.config != config:
        raise InputError(f"{path}: belongs to a demonstration of another size or seed; remove {output}, or choose "
                         "another output.")
    completer = Completer(model)
    judgement = judge(completer, test)
    located = [dataclasses.replace(tracklet, masks=None) for tracklet in test]
    folder = ResultsFolder(output / "completed", {
        "walkers": dataclasses.asdict(amount), "seed": config.seed} | model_identity(model))
    metrics = complete_source(
        completer, Source(located, "folder", folder.path), folder, command=command, title="VRSTC on made-up walkers",
        judgement=judgement, summary=output,
        conclude=lambda: _ranked(completer, test, [folder.completed(t) for t in located], output))
    folder.finish()
    return (f"{judgement.format()}\n\n{ranking_tables.format_figures(metrics['ranking'])}\n\n"
            f"open {printable(output / 'report.html')}")


def _first_picture(path: Path, tracklets: Sequence[Tracklet]) -> None:
    """Writes some tracklets as the default model locates and completes them; nothing where there is no such model."""
    if path.exists() or not default_model_path().is_file():
        return
    completer, groups = Completer(load_model()), []
    for tracklet in tracklets:
        assert tracklet.masks is not None  # walkers have them
        hidden = [mask.mean() > 0.1 for mask in tracklet.masks]
        if 2 <= sum(hidden) <= len(hidden) / 2 and len(groups) < _FIRST:
            first = max(0, min(int(np.argmax(hidden)) - 2, len(hidden) - _SHOWN))
            done = list(completer.stream(dataclasses.replace(tracklet, masks=None)))
            groups.append(completion_rows(tracklet, done[first:first + _SHOWN]))
    if groups:
        write_png(path, stacked(groups))
        print(f"a first picture, by the default model and what it locates: {printable(path)} (rows: seen, hidden, "
              "completed, the truth). Now learning from nothing.", flush=True)


def _ranked(completer: Completer, test: Sequence[Tracklet], completed: Sequence[Tracklet],
            output: Path) -> tuple[dict[str, Any], list[Table]]:
    """Ranks before and after completion, the first camera's tracklets as queries; (metrics, tables), and ranked.png.

    The re-ID network is the one that locates and guides; `experiments.vrstc` trains the paper's final one.
    """
    model = completer.model
    network = ReidModel(model.config.reid, model.reid, model.identities)
    given = [dataclasses.replace(tracklet, frames=[done.frame for done in completer.stream(tracklet)])
             for tracklet in test]
    rivals = {"before completion": test, "after completion": completed, "after completion, true masks": given,
              "nothing hidden": [unoccluded(tracklet) for tracklet in test]}
    evaluations = {name: retrieval.evaluate(network, *_by_camera(tracklets)) for name, tracklets in rivals.items()}
    write_png(output / "ranked.png", ranking_pictures.ranked_picture(
        evaluations["before completion"], evaluations["after completion"], _by_camera(test),
        _by_camera(completed)))
    figures = {name: evaluation.figures() for name, evaluation in evaluations.items()}
    return {"ranking": figures}, [ranking_tables.table(figures)]


def _by_camera(tracklets: Sequence[Tracklet]) -> tuple[list[Tracklet], list[Tracklet]]:
    """(queries, gallery)."""
    first = tracklets[0].camera
    return [t for t in tracklets if t.camera == first], [t for t in tracklets if t.camera != first]


def test_walkers(config: configs.Config) -> list[Tracklet]:
    """The walkers that a demonstration with `config` judges on, with masks and truth."""
    return _walkers(config, people("test", AMOUNTS[config.name].test_people))


def _walkers(config: configs.Config, who: Sequence[int]) -> list[Tracklet]:
    look = WalkerConfig(height=config.stcnet.height, width=config.stcnet.width,
                        frames=AMOUNTS[config.name].frames)
    return make_tracklets(who, cameras=_CAMERAS, seed=config.seed, config=look)
