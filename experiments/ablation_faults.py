"""Where completion falls short of the truth and of discarding in the ablation, by what there was to complete from.

    python -m experiments.ablation_faults out-ablation

For each seed whose rows `+ ID guider (STCnet)` and `truth where located` stand in the ablation's work directory, the
mAP of

    STCnet        its own network, on what STCnet painted
    truth         the same network, on the truth in the same places
    NL discards   the row `NL, discarding …` that is best over these seeds, where such rows stand
    b. completed  `baseline on STCnet's data`, likewise
    b. discards   the best of `baseline, discarding …`, likewise

Queries are told apart by their own tracklet and those to be found: whether each has at least two frames that locating
takes for unoccluded, and that are. Where one has not, what is hidden is seen nowhere, and the truth shows what no
completion can know.

Below stand the differences over all seeds, with the range of 95 % of 10,000 resamplings: the queries of each seed are
drawn anew with replacement, the same for both sides. How much another training of the networks would change is not in
it, so the range is narrower than chance.

What discarding can lose at all is told last: the mAP of `baseline, nothing hidden`, where that row stands, from all
frames of every tracklet and from a few of them, taken at random.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments.ablation import TRUTH, discarding, folder_of, frames_kept
from experiments.ablation_table import BASELINE_COMPLETED, STCNET, ceiling_of
from vrstc_jax import five_steps
from vrstc_jax.data.tracklet_set import stands
from vrstc_jax.errors import InputError
from vrstc_jax.locate import choose_tau
from vrstc_jax.model import load_reid
from vrstc_jax.places import as_path
from vrstc_jax.process import run_as_command
from vrstc_jax.retrieval import aligned

ENOUGH = 2  # unoccluded frames
PAINTED, TRUE, COMPLETED = "STCnet", "truth", "b. completed"
DISCARDING = {"NL": "NL discards", "baseline": "b. discards"}
_COMPARED = ((PAINTED, TRUE), (PAINTED, DISCARDING["NL"]), (PAINTED, DISCARDING["baseline"]),
             (COMPLETED, DISCARDING["baseline"]))
_CLEAR = ceiling_of("baseline")
_RESAMPLINGS = 10_000


@dataclass(frozen=True)
class Arguments:
    """Whose rows."""

    workdir: tyro.conf.Positional[Path]
    """Of experiments.ablation."""


@dataclass(frozen=True)
class Part:
    """Some queries of a seed: how many, and their mAP, in [0, 1], by each of what is compared."""

    queries: int
    mean_ap: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """In mAP, the mean over seeds, and the range of 95 % of the resamplings of the queries."""

    mean: float
    low: float
    high: float


def main(arguments: Arguments) -> tuple[dict[str, dict[str, Part]], dict[tuple[str, str], Difference]]:
    """{seed: {'all', 'enough', 'few': Part}} and {(one, other): how far one is ahead}, printed."""
    work = as_path(arguments.workdir)
    seeds = [seed for seed in sorted(work.glob("seed*")) if _done(seed)]
    if not seeds:
        raise InputError(f"{work}: no seed has both rows, '{STCNET}' and '{TRUTH}'; experiments.ablation makes them "
                         f"(--rows '{STCNET}' '{TRUTH}').")
    shares = json.loads((work / "experiment.json").read_text())["quantiles"]
    results = [_results(seed, shares) for seed in seeds]
    quantiles = {network: quantile for network in DISCARDING
                 if (quantile := best_quantile(results, network, shares)) is not None}
    precisions, parts = [], {}
    for seed in seeds:
        compared, few = average_precisions(seed, quantiles,
                                           completed=all(BASELINE_COMPLETED in result for result in results))
        precisions.append(compared)
        parts[seed.name] = parts_of(compared, few)
    names = {"all": "all", "enough": f"{ENOUGH} frames or more", "few": "fewer"}
    columns = list(precisions[0])
    rows = [(seed, names[name], part.queries, *(f"{100 * part.mean_ap[column]:.1f}" for column in columns))
            for seed, of_seed in parts.items() for name, part in of_seed.items()]
    print("\n".join(aligned(("mAP, %", "unoccluded", "queries", *columns), rows)), flush=True)
    apart = {(one, other): difference([each[one] for each in precisions], [each[other] for each in precisions])
             for one, other in _COMPARED if {one, other} <= set(columns)}
    for network, quantile in quantiles.items():
        print(f"{DISCARDING[network]}: {discarding(network, quantile)}")
    for (one, other), found in apart.items():
        print(f"{one} - {other}: {100 * found.mean:+.1f} points, 95 % of resamplings {100 * found.low:+.1f} to "
              f"{100 * found.high:+.1f}", flush=True)
    if all(_CLEAR in result for result in results):
        each = [from_few_frames(seed) for seed in seeds]
        print(f"{_CLEAR}, mAP from " + ", ".join(
            f"{frames} frame{'s' if frames > 1 else ''}: {100 * np.mean([of_seed[frames] for of_seed in each]):.1f}"
            for frames in each[0]), flush=True)
    return parts, apart


def from_few_frames(seed: Path) -> dict[int, float]:
    """{frames of each tracklet: mAP} where nothing is hidden, by the baseline; 1, 2, 4 and so on, at random."""
    sets = five_steps.read_splits(seed / "truth")
    network = load_reid(seed / "rows" / folder_of(_CLEAR) / "final.safetensors")
    query, gallery = five_steps.tracklets_to_rank(sets)
    lengths = [len(tracklet) for tracklet in (*query, *gallery)]
    random = np.random.default_rng(0)
    orders = [random.permutation(length) for length in lengths]  # fewer frames are some of the more
    found = {}
    for frames in [*(2 ** k for k in range(max(lengths).bit_length()) if 2 ** k < max(lengths)), max(lengths)]:
        keep = [np.isin(np.arange(len(order)), order[:frames]) for order in orders]
        found[frames] = five_steps.evaluate(network, sets, keep=keep).ranking.mean_ap
    return found


def average_precisions(seed: Path, quantiles: Mapping[str, float], *,
                       completed: bool = True) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Of one seed's directory.

    Args:
      quantiles: {network: by which of its rows to discard}.
      completed: whether the baseline on STCnet's data is among what is compared.

    Returns:
      {what is compared: [Q]}, NaN for queries without a match, and bool [Q], which have few frames to go by.
    """
    raw, located = five_steps.read_splits(seed / "data"), five_steps.read_located(seed)
    rows = seed / "rows"

    def found(row, sets, **how):
        network = load_reid(rows / folder_of(row) / "final.safetensors")
        return five_steps.evaluate(network, sets, **how).ranking.average_precision

    painted, truth = (five_steps.read_splits(rows / folder_of(row) / "completed") for row in (STCNET, TRUTH))
    compared = {PAINTED: found(STCNET, painted), TRUE: found(STCNET, truth)}
    if completed:
        compared[COMPLETED] = found(BASELINE_COMPLETED, painted)
    for network, quantile in quantiles.items():
        tau = choose_tau(located.scores["train"], quantile)
        compared[DISCARDING[network]] = found(network, raw, keep=frames_kept(located, tau))
    query, gallery = five_steps.tracklets_to_rank(raw)
    free = [unoccluded_frames(tracklet.masks, scores, located.tau) for split in ("query", "gallery")
            for tracklet, scores in zip(raw[split].tracklets, located.scores[split])]
    least = [min([own, *(count for other, count in zip(gallery, free[len(query):]) if other.person == tracklet.person
                         and other.camera != tracklet.camera)]) for tracklet, own in zip(query, free)]
    return compared, np.array(least) < ENOUGH


def best_quantile(results: Sequence[Mapping[str, Mapping]], network: str,
                  quantiles: Sequence[float]) -> float | None:
    """By which of its rows a network discards best over seeds, of those that all have; None where there is none.

    Args:
      results: of each seed {row: {'map', …}}.
      quantiles: to choose from.
    """
    rows = {quantile: discarding(network, quantile) for quantile in quantiles}
    there = [quantile for quantile, row in rows.items() if all(row in result for result in results)]
    return max(there, key=lambda quantile: sum(result[rows[quantile]]["map"] for result in results), default=None)


def unoccluded_frames(masks, scores: np.ndarray, tau: float) -> int:
    """How many frames nothing hides, of those whose bands all score τ or more."""
    return sum(not mask.any() for mask, free in zip(masks, (scores >= tau).all(1)) if free)


def parts_of(compared: Mapping[str, np.ndarray], few: np.ndarray) -> dict[str, Part]:
    """From average precisions [Q] (NaN: no match) and which queries have few frames to go by."""
    counted = ~np.isnan(next(iter(compared.values())))
    places = {"all": counted, "enough": counted & ~few, "few": counted & few}
    return {name: Part(int(of.sum()), {column: float(values[of].mean()) for column, values in compared.items()})
            for name, of in places.items() if of.any()}


def difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], *, seed: int = 0) -> Difference:
    """How far one is ahead of the other, from the average precisions of each seed [Q], NaN: no match."""
    random = np.random.default_rng(seed)
    apart = [(one - other)[~np.isnan(one)] for one, other in zip(ours, theirs)]
    drawn = np.mean([random.choice(values, (_RESAMPLINGS, len(values))).mean(1) for values in apart], axis=0)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Difference(float(np.mean([values.mean() for values in apart])), float(low), float(high))


def _results(seed, quantiles):
    names = [BASELINE_COMPLETED, _CLEAR,
             *(discarding(network, quantile) for network in DISCARDING for quantile in quantiles)]
    paths = {name: seed / "rows" / folder_of(name) / "result.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def _done(seed):
    return all(stands(seed / "rows" / folder_of(name) / "completed") and
               (seed / "rows" / folder_of(name) / "result.json").exists() for name in (STCNET, TRUTH))


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
