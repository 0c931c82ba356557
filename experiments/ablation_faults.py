"""Where completion falls short of the truth and of discarding in the ablation, by what there was to complete from.

    python -m experiments.ablation_faults out-ablation

For each seed in the ablation's results.json with the rows `+ ID guider (STCnet)` and `truth where located`, the mAP of

    STCnet        its own network, on what STCnet painted
    truth         the same network, on the truth in the same places
    NL discards   the row `NL, discarding …` that is best over these seeds, where they all have such a row
    b. completed  `baseline on STCnet's data`, likewise
    b. discards   the best of `baseline, discarding …`, likewise

Queries are told apart by their own tracklet and those to be found, the worst of these: whether it has two unoccluded
frames or more; whether, if so, locating leaves it fewer (what it takes for hidden is neither compared nor completed
from); or whether it has fewer, so that what is hidden is seen in hardly any frame, or in none.

Below stand the differences over all seeds, with the range of 95 % of 10,000 resamplings: the queries of each seed are
drawn anew with replacement, the same for both sides. How much another training of the networks would change is not in
it, so the range is narrower than chance.

What discarding can lose at all is told last: the mAP of `baseline, nothing hidden`, where that row stands, from all
frames of every tracklet and from a few of them, taken at random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments.ablation import TRUTH, folder_of, frames_kept
from experiments.ablation_table import BASELINE_COMPLETED, STCNET, ceiling_of, read_results
from vrstc_jax.inference.plan import Plan, visible_frames
from vrstc_jax.models.model_file import load_reid
from vrstc_jax.recipes import five_steps
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.storage import as_path
from vrstc_jax.runtime.text_tables import text_table

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
    """{seed: {'all', 'enough', 'lost', 'few': Part}} and {(one, other): how far one is ahead}, printed."""
    work = as_path(arguments.workdir)
    seeds = read_results(work / "results.json")["seeds"]
    results = {work / f"seed{seed}": seeds[seed] for seed in sorted(seeds, key=int)
               if {STCNET, TRUTH} <= set(seeds[seed])}
    if not results:
        raise InputError(f"{work}: no seed has both rows, '{STCNET}' and '{TRUTH}'; experiments.ablation makes them "
                         f"(--rows '{STCNET}' '{TRUTH}').")
    shared = [name for name in next(iter(results.values())) if all(name in rows for rows in results.values())]
    best = {network: row for network in DISCARDING
            if (row := best_discarding([{name: rows[name] for name in shared} for rows in results.values()], network))}
    precisions, parts = [], {}
    for seed, rows in results.items():
        compared, least = average_precisions(seed, {network: rows[row]["tau"] for network, row in best.items()},
                                             completed=BASELINE_COMPLETED in shared)
        precisions.append(compared)
        parts[seed.name] = parts_of(compared, *least)
    names = {"all": "all", "enough": f"{ENOUGH} frames or more", "lost": f"{ENOUGH} or more, not found", "few": "fewer"}
    columns = list(precisions[0])
    rows = [(seed, names[name], part.queries, *(f"{100 * part.mean_ap[column]:.1f}" for column in columns))
            for seed, of_seed in parts.items() for name, part in of_seed.items()]
    print(text_table(("mAP, %", "unoccluded", "queries", *columns), rows), flush=True)
    apart = {(one, other): difference([each[one] for each in precisions], [each[other] for each in precisions])
             for one, other in _COMPARED if {one, other} <= set(columns)}
    for network, row in best.items():
        print(f"{DISCARDING[network]}: {row}")
    for (one, other), found in apart.items():
        print(f"{one} - {other}: {100 * found.mean:+.1f} points, 95 % of resamplings {100 * found.low:+.1f} to "
              f"{100 * found.high:+.1f}", flush=True)
    if _CLEAR in shared:
        each = [from_few_frames(seed) for seed in results]
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


def average_precisions(seed: Path, taus: Mapping[str, float], *, completed: bool = True):
    """Of one seed's directory.

    Args:
      taus: {network: to discard by}.
      completed: whether the baseline on STCnet's data is among what is compared.

    Returns:
      {what is compared: [Q]}, NaN for queries without a match; and two arrays [Q], how many unoccluded frames the
      tracklets of a query have at least, and how many of them locating leaves.
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
    for network, tau in taus.items():
        compared[DISCARDING[network]] = found(network, raw, keep=frames_kept(located, tau))
    query, gallery = five_steps.tracklets_to_rank(raw)
    counts = [unoccluded_frames(tracklet.masks, scores, located.tau) for split in ("query", "gallery")
              for tracklet, scores in zip(raw[split].tracklets, located.scores[split])]
    least = [np.min([own, *(count for other, count in zip(gallery, counts[len(query):])
                            if other.person == tracklet.person and other.camera != tracklet.camera)], axis=0)
             for tracklet, own in zip(query, counts)]
    return compared, tuple(np.transpose(least))


def best_discarding(results: Sequence[Mapping[str, Mapping]], network: str) -> str | None:
    """The row by which a network discards best over seeds that have the same rows; None where there is none.

    Args:
      results: of each seed {row: {'map', 'framed_by', 'tau'}}.
    """
    rows = [name for name, row in results[0].items() if row.get("tau") is not None and row["framed_by"] == network]
    return max(rows, key=lambda name: sum(result[name]["map"] for result in results), default=None)


def unoccluded_frames(masks, scores: np.ndarray, tau: float) -> tuple[int, int]:
    """How many frames nothing hides, and in how many of them all bands score τ or more."""
    free = Plan.from_masks(masks).visible
    return int(free.sum()), int((free & visible_frames(scores, tau)).sum())


def parts_of(compared: Mapping[str, np.ndarray], there: np.ndarray, found: np.ndarray) -> dict[str, Part]:
    """From average precisions [Q] (NaN: no match), and how many unoccluded frames there are and are found."""
    counted = ~np.isnan(next(iter(compared.values())))
    places = {"all": counted, "enough": counted & (found >= ENOUGH),
              "lost": counted & (there >= ENOUGH) & (found < ENOUGH), "few": counted & (there < ENOUGH)}
    return {name: Part(int(of.sum()), {column: float(values[of].mean()) for column, values in compared.items()})
            for name, of in places.items() if of.any()}


def difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], *, seed: int = 0) -> Difference:
    """How far one is ahead of the other, from the average precisions of each seed [Q], NaN: no match."""
    random = np.random.default_rng(seed)
    apart = [(one - other)[~np.isnan(one)] for one, other in zip(ours, theirs)]
    drawn = np.mean([random.choice(values, (_RESAMPLINGS, len(values))).mean(1) for values in apart], axis=0)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Difference(float(np.mean([values.mean() for values in apart])), float(low), float(high))


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
