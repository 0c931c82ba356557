"""One seed of the ablation: the data, step 1 and step 2 that its rows share, and the methods that compute a row."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.settings import Changes, changed, masks_of
from vrstc_jax import config as configs
from vrstc_jax.data.batches import reid_batches
from vrstc_jax.data.tracklet_set import TrackletSet, is_complete, write_set
from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.data.walkers import WalkerProtocol, unoccluded, walker_splits
from vrstc_jax.evaluation import retrieval
from vrstc_jax.inference.locate import choose_tau
from vrstc_jax.inference.pair_distances import pair_distances
from vrstc_jax.inference.plan import Plan, visible_frames
from vrstc_jax.models.model_file import Model, ReidModel, load_model, load_reid, save_model, save_reid
from vrstc_jax.ops.regions import hidden_share
from vrstc_jax.recipes import five_steps
from vrstc_jax.report import write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.storage import require_writable_directory
from vrstc_jax.runtime.workdir import Workdir
from vrstc_jax.training import loop, pair_scorer

Sets = Mapping[str, TrackletSet]
_FEATURES = "features.npz"  # of a row, until its result is written


def folder_of(row: str) -> str:
    """The name of a row's directory."""
    return "".join(c if c.isalnum() else "_" for c in row)


def frames_kept(located: five_steps.Located, tau: float) -> list[np.ndarray]:
    """The frames without a hidden band, bool [T], of each query and then of each gallery tracklet."""
    return [visible_frames(scores, tau) for split in ("query", "gallery") for scores in located.scores[split]]


def true_scores(masks: Iterable[np.ndarray]) -> np.ndarray:
    """Scores float32 [T, 3] of a locating head without errors: 1 for a free band, 0 if half of it is hidden, −1 if
    all of it is."""
    return np.array([1 - 2 * hidden_share(mask) for mask in masks], np.float32)


class Seed:
    """What all rows of one seed share, in WORK/seed<i>.

    Args:
      work: the seed's directory.
      config: with the seed and the numbers of training steps.
      protocol: the walkers.
      start: reads the variables that step 1 begins with (`starting_weights.beginning`).

    Attributes:
      raw, truth: the data by split, and the same without occluders.
      first: the re-ID network of step 1.
      located: the scores and τ of step 2.
    """

    def __init__(self, work: Path, config: configs.Config, protocol: WalkerProtocol,
                 start: Callable[[], dict] | None = None):
        self.work, self.config = work, config
        # Sets are written to disk, so that a resumed seed need not draw them again.
        self.raw = _stored(work, "data", lambda: walker_splits(protocol))
        self.truth = _stored(work, "truth", lambda: {
            split: [unoccluded(tracklet) for tracklet in tracklets]
            for split, tracklets in walker_splits(protocol).items()})
        self.first = Workdir(work).get_or_make("reid.safetensors", lambda: five_steps.first_network(
            self.raw["train"], config.first_reid, work / "reid", start_from=start() if start else None),
            save=save_reid, load=load_reid)
        self.located = Workdir(work).get_or_make(
            "locating.json", lambda: five_steps.locate(self.raw, config, self.first, work),
            load=lambda path: five_steps.read_located(path.parent))

    def row(self, name: str, make: Callable[["Seed", Path], retrieval.Evaluation]) -> dict[str, Any]:
        """A row's figures from its result.json; if that is missing, `make` is called with the row's directory."""
        work = self.result_of(name).parent

        def figures() -> dict[str, Any]:
            distributed.print_on_first(f"{self.work.name}: {name}")
            distributed.run_on_first(lambda: require_writable_directory(work))
            return make(self, work).figures()

        def save(path: Path, found: dict[str, Any]) -> None:
            # Features only spare an interrupted evaluation; they are large, and the figures replace them.
            (work / _FEATURES).unlink(missing_ok=True)
            write_json(path, found)

        return Workdir(work).get_or_make("result.json", figures, save=save,
                                         load=read_record)

    def result_of(self, row: str) -> Path:
        """The file of a row's figures."""
        return self.work / "rows" / folder_of(row) / "result.json"

    def tau(self, quantile: float) -> float:
        """The τ below which this share of the training bands scores."""
        return choose_tau(self.located.scores["train"], quantile)

    def ranked(self, work: Path, sets: Sets, final: Mapping[str, Any] | None = None) -> retrieval.Evaluation:
        """A final network with these fields of `Config.final` changed, trained on one set and evaluated on it."""
        config = changed(self.config, {"final": final or {}})
        model = five_steps.final_network(sets["train"], config, self.first, work / "final",
                                         name=f"{self.work.name}, {work.name}")
        return five_steps.evaluate(model, sets, path=work / _FEATURES)

    def discarding(self, work: Path, row: str, quantile: float) -> retrieval.Evaluation:
        """The network of another row, evaluated without the frames that have a hidden band."""
        return five_steps.evaluate(load_reid(self.work / "rows" / folder_of(row) / "final.safetensors"), self.raw,
                                   keep=frames_kept(self.located, self.tau(quantile)), path=work / _FEATURES)

    def completed(self, work: Path, changes: Changes) -> retrieval.Evaluation:
        """STCnet with these changes, trained; the data completed by it; and a final network on them."""
        config = changed(self.config, changes)
        model = Workdir(work).get_or_make("model.safetensors", lambda: five_steps.generators(
            self.raw["train"], config, self.first, self.located, work / "stcnet"), save=save_model, load=load_model)
        return self.ranked(work, self._completed_by(model, work))

    def completed_of(self, row: str) -> Sets:
        """The completed data of another row."""
        return five_steps.read_splits(self.work / "rows" / folder_of(row) / "completed")

    def by_true_masks(self, work: Path, row: str) -> Sets:
        """The data completed by another row's generators, with the true masks: only the loss by completion remains."""
        return self._completed_by(self._model_of(row), work, options=five_steps.Options(hidden="given"))

    def by_true_bands(self, work: Path, row: str) -> Sets:
        """The same with the bands that a head without errors would locate: no loss by locating remains."""
        # A function, as the scores need every mask of the data, which a finished set does not.
        return self._completed_by(self._model_of(row), work, lambda: five_steps.Located({
            split: [true_scores(masks_of(tracklet)) for tracklet in data.tracklets]
            for split, data in self.raw.items()}, self.located.tau))

    def truth_where_located(self, work: Path) -> Sets:
        """The data with the truth in the located bands: only the loss by locating remains."""
        return _stored(work, "completed", lambda: {
            split: [_filled(tracklet, true, Plan.from_scores(scores, self.located.tau)) for tracklet, true, scores
                    in zip(self.raw[split].tracklets, self.truth[split].tracklets, self.located.scores[split])]
            for split in self.raw})

    def pairs(self, work: Path, sets: Sets) -> retrieval.Evaluation:
        """ASTPN's pair scorer, trained on one set and evaluated on it."""
        task = changed(self.config, {"final": {"non_local": ()},
                                     "final_training": {"clips_per_identity": 2}}).final_reid

        def trained() -> ReidModel:
            train = sets["train"]
            identities, seen = five_steps.all_frames(train)
            # Both clips of a pair must be on one device.
            devices = distributed.batch_devices(task.training.batch // 2)
            run = loop.TrainingRun(f"{self.work.name}, {work.name}", steps=task.training.steps,
                                   directory=work / "final", devices=devices, task=task)
            start = pair_scorer.initial_state(task, len(identities),
                                              start_from=five_steps.backbone_of(self.first.variables))
            state = loop.train(run, start, pair_scorer.training_step(task, len(identities), devices),
                               lambda start: reid_batches(train, seen, task, start=start))
            return ReidModel(task.network, jax.device_get(state.result), identities, network="PairScorer")

        model = Workdir(work).get_or_make("final.safetensors", trained, save=save_reid, load=load_reid)
        query, gallery = five_steps.tracklets_to_rank(sets)
        return retrieval.judge_distances(pair_distances(model, query, gallery), query, gallery)

    def _model_of(self, row: str) -> Model:
        return load_model(self.work / "rows" / folder_of(row) / "model.safetensors")

    def _completed_by(self, model: Model, work: Path, located: Callable[[], five_steps.Located] | None = None,
                      options: five_steps.Options = five_steps.Options()) -> Sets:
        return Workdir(work).get_or_make("completed", lambda: five_steps.complete_sets(
            self.raw, model, located() if located else self.located, work, options=options),
            load=five_steps.read_splits, exists=is_complete)


def _stored(work: Path, name: str, sets: Callable[[], Mapping[str, Sequence[Tracklet]]]) -> Sets:
    """The stored set of a name, which process 0 writes if it is missing."""
    return Workdir(work).get_or_write(name, lambda path: write_set(path, sets()), load=five_steps.read_splits,
                                      exists=is_complete)


def _filled(tracklet: Tracklet, true: Tracklet, plan: Plan) -> Tracklet:
    """The tracklet with the truth's pixels in the plan's masks."""
    def frame(index: int) -> np.ndarray:
        seen = tracklet.frames[index]
        mask = plan.mask(index, seen)
        # As completion does, leave a frame that is hidden entirely.
        return seen if mask.all() else np.where(mask[..., None], true.frames[index], seen)

    return dataclasses.replace(tracklet, frames=LazySequence(len(tracklet), frame), masks=None)
