"""Step 2: scores of every band, and τ."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.made_from import digest
from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.evaluation.locating import LocatingScore, judge_locating
from vrstc_jax.inference.locate import Locator, choose_tau
from vrstc_jax.models.model_file import ReidModel
from vrstc_jax.ops.regions import BANDS
from vrstc_jax.recipes.fit import locate_tracklets
from vrstc_jax.recipes.five_steps.data import SPLITS
from vrstc_jax.report import write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.sharded_map import read_arrays
from vrstc_jax.runtime.storage import as_path

PAPER_TAU = 0.89


@dataclass(frozen=True, eq=False)
class Located:
    """Scores of each split's tracklets, float32 [T, 3] each, and τ."""

    scores: dict[str, list[np.ndarray]] = field(repr=False)
    tau: float

    @property
    def digest(self) -> str:
        """Of scores and τ."""
        return digest([self.tau, {split: [of_tracklet.tolist() for of_tracklet in scores]
                                  for split, scores in self.scores.items()}])


def locate(sets: Mapping[str, TrackletSet], config: configs.Config, network: ReidModel,
           work: str | PathLike) -> None:
    """Writes scores/<split>.npz and locating.json: τ and, where masks are known, how good locating is."""
    work = as_path(work)
    locator = Locator(network.config, network.variables, len(network.identities))
    distributed.run_on_first(lambda: (work / "scores").mkdir(parents=True, exist_ok=True))
    scores = {split: locate_tracklets(work / "scores" / f"{split}.npz", data, locator) for split, data in sets.items()}
    quantile = choose_tau(scores["train"], config.tau_quantile)
    tau, other = (quantile, PAPER_TAU) if config.tau is None else (config.tau, quantile)
    record: dict[str, Any] = {"tau": float(tau), "tau_quantile": config.tau_quantile if config.tau is None else None}
    quality = locating_table(sets, scores, (tau, other))
    if quality:
        record["quality"] = [dataclasses.asdict(row) for row in quality]
    distributed.run_on_first(lambda: write_json(work / "locating.json", record))


def locating_table(sets: Mapping[str, TrackletSet], scores: Mapping[str, Sequence[np.ndarray]],
                   taus: Sequence[float]) -> list[LocatingScore]:
    """How good locating is on the test tracklets, for each τ; empty where no masks are known."""
    known = [(tracklet.masks, s) for split in SPLITS[1:] if split in sets
             for tracklet, s in zip(sets[split].tracklets, scores[split]) if tracklet.masks is not None]
    if not known:
        return []
    masks, values = zip(*known)
    return [judge_locating(values, masks, tau) for tau in taus]


def read_located(work: str | PathLike) -> Located:
    """The scores and τ that `locate` wrote."""
    work = as_path(work)
    remedy = f"remove {work / 'locating.json'}, and run the same command again"
    scores = {split: read_arrays(work / "scores" / f"{split}.npz", remedy=remedy, fits=lambda arrays: all(
        array.ndim == 2 and array.shape[1] == BANDS for array in arrays)) for split in SPLITS}
    record = read_record(work / "locating.json", fits=lambda found: isinstance(found["tau"], int | float))
    return Located(scores, record["tau"])
