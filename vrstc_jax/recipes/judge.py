"""Judging a model's completions on held-out runs, or against the truth."""

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation.judging import judge_held_out, judge_truth
from vrstc_jax.evaluation.quality import ScoreTable
from vrstc_jax.inference.complete import Completer
from vrstc_jax.report.figures import judged_strips
from vrstc_jax.runtime.errors import InputError


@dataclass(frozen=True, eq=False)
class Judgement:
    """What `judge` found: one table a setting, and strips to look at."""

    tables: dict[str, ScoreTable]
    strips: list

    def format(self) -> str:
        """The tables as text."""
        if len(self.tables) == 1:
            return next(iter(self.tables.values())).format()
        return "\n\n".join(f"{name}\n{table.format()}" for name, table in self.tables.items())

    def metrics(self) -> dict:
        """For metrics.json: 'judge' maps each method of the first table to its scores."""
        (first, table), *others = self.tables.items()
        values = {"judge": table.overall(), "judge_setting": first, "judge_by_distance": table.by_distance()}
        for name, other in others:
            values["judge_" + name.replace(" ", "_")] = other.overall()
        return values


def judge(completer: Completer, tracklets: Sequence[Tracklet], *, seed: int = 0) -> Judgement:
    """Against the truth where it is known, else on the model's held-out runs.

    Raises:
      InputError: neither is there.
    """
    kept = []
    if any(tracklet.truth is not None for tracklet in tracklets):
        tables = {}
        for name, located in (("true masks", False), ("located masks", True)):
            with tqdm(total=len(tracklets), desc=f"judging, {name}", unit="tracklet", dynamic_ncols=True,
                      delay=1) as bar:
                tables[name] = judge_truth(completer, tracklets, located=located, progress=bar.update,
                                           keep=None if located else kept)
        if not tables["true masks"].overall():
            raise InputError("Nothing is hidden in any of these tracklets, so there is nothing to judge.")
        return Judgement(tables, judged_strips(kept))
    runs = sum(map(len, (completer.model.provenance.get("held_out") or {}).values()))
    with tqdm(total=runs, desc="judging held-out runs", unit="run", dynamic_ncols=True, delay=1) as bar:
        table = judge_held_out(completer, tracklets, seed=seed, progress=bar.update, keep=kept)
    return Judgement({"held-out runs": table}, judged_strips(kept))
