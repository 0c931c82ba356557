"""Judging a model's completions on held-out runs, or against the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation.judging import HeldOutRuns, Judged, judge_held_out, judge_truth
from vrstc_jax.evaluation.quality import ScoreTable
from vrstc_jax.inference.completer import Completer
from vrstc_jax.models.model_file import ReidModel
from vrstc_jax.report import Strip
from vrstc_jax.report.figures import judged_strips
from vrstc_jax.runtime.errors import InputError


@dataclass(frozen=True, eq=False)
class Judgement:
    """Scores for each setting, such as 'true masks', and strips of judged frames for the report."""

    tables: dict[str, ScoreTable]
    strips: list[Strip]

    def format(self) -> str:
        """The tables as text."""
        if len(self.tables) == 1:
            return next(iter(self.tables.values())).format()
        return "\n\n".join(f"{name}\n{table.format()}" for name, table in self.tables.items())

    def metrics(self) -> dict[str, Any]:
        """For metrics.json: 'judge' maps each method of the first table to its scores."""
        (first, table), *others = self.tables.items()
        values = {"judge": table.overall(), "judge_setting": first, "judge_by_distance": table.by_distance()}
        for name, other in others:
            values["judge_" + name.replace(" ", "_")] = other.overall()
        return values


def judge(completer: Completer, tracklets: Sequence[Tracklet], *, held_out: HeldOutRuns | None = None,
          reid: ReidModel | None = None, seed: int = 0) -> Judgement:
    """Judges against the truth where it is known, else on held-out runs.

    Args:
      held_out: frames that training never saw (`judging.held_out_of`, `judging.held_out_by`).
      reid: a network that compares people; in its features it is told how far completions have come to the true crops.
      seed: of the band that is hidden in each run.

    Raises:
      InputError: nothing is hidden where the truth is known; or neither the truth nor a held-out run is known.
    """
    kept: list[Judged] = []
    if any(tracklet.truth is not None for tracklet in tracklets):
        tables = {}
        for name, located in (("true masks", False), ("located masks", True)):
            with tqdm(total=len(tracklets), desc=f"judging, {name}", unit="tracklet", dynamic_ncols=True,
                      delay=1) as bar:
                tables[name] = judge_truth(completer, tracklets, located=located, reid=reid,
                                           progress=bar.update, keep=None if located else kept)
        if not tables["true masks"].overall():
            raise InputError("Nothing is hidden in any of these tracklets, so there is nothing to judge.")
        return Judgement(tables, judged_strips(kept))
    held_out = held_out or {}
    with tqdm(total=sum(map(len, held_out.values())), desc="judging held-out runs", unit="run", dynamic_ncols=True,
              delay=1) as bar:
        table = judge_held_out(completer, tracklets, held_out, seed=seed, reid=reid, progress=bar.update,
                               keep=kept)
    return Judgement({"held-out runs": table}, judged_strips(kept))
