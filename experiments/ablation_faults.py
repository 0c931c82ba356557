"""The ablation's mAP of painting, of the truth and of discarding, by how many unoccluded frames a query has.

    python -m experiments.ablation_faults out-ablation

It evaluates the trained networks of an ablation's work directory again, of any size (`smoke` tries it out); nothing is
trained, and two CPU cores do. The table to expect of size `small` is in docs/ablation.md: STCnet 3.0 points behind the
truth, all of it for queries with fewer than two unoccluded frames.

For each seed in the ablation's results.json with the rows `+ ID guider (STCnet)` and `truth where located`, it prints
the mAP of

    STCnet        its network, on the frames that STCnet completed
    truth         the same network, on the truth in the same bands
    NL discards   the row `NL, discarding …` that is best over these seeds, if they all have such a row
    b. completed  `baseline on STCnet's data`, if they all have it
    b. discards   the best of `baseline, discarding …`, if they all have such a row

Queries are grouped by one tracklet each: of the query's own and the right gallery tracklets, the one with the fewest
unoccluded frames. The groups are: locating finds two such frames or more; there are two or more, but locating calls all
or all but one of them hidden (such frames are neither compared nor completed from); there are fewer than two, so that
hardly any frame shows what is hidden.

Below follow the differences over all seeds, with the range of 95 % of 10,000 resamplings: each draws the queries of
each seed with replacement, the same for both sides. The range does not include the variation between trainings, so the
real uncertainty is larger.

The last line shows the most that discarding can lose: the mAP of `baseline, nothing hidden`, if there is such a row,
from all frames of every tracklet and from a few of them at random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments.ablation_rows import TRUTH
from experiments.ablation_seed import Sets, folder_of, frames_kept
from experiments.ablation_table import BASELINE_COMPLETED, STCNET, Results, ceiling_of, read_results
from experiments.settings import masks_of
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
    """The ablation to look at."""

    workdir: tyro.conf.Positional[Path]
    """Work directory of experiments.ablation."""


@dataclass(frozen=True)
class Part:
    """A group of a seed's queries: its size, and its mAP, in [0, 1], by each of what is compared."""

    queries: int
    mean_ap: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """A difference in mAP: the mean over seeds, and the range of 95 % of the resamplings."""

    mean: float
    low: float
    high: float


def main(arguments: Arguments) -> tuple[dict[str, dict[str, Part]], dict[tuple[str, str], Difference]]:
    """Prints the tables; returns {seed: {'all', 'enough', 'lost', 'few': Part}} and {(one, other): Difference}."""
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
        compared, unoccluded, found = average_precisions(
            seed, {network: rows[row]["tau"] for network, row in best.items()}, completed=BASELINE_COMPLETED in shared)
        precisions.append(compared)
        parts[seed.name] = parts_of(compared, unoccluded, found)
    apart = {(one, other): difference([each[one] for each in precisions], [each[other] for each in precisions])
             for one, other in _COMPARED if {one, other} <= set(precisions[0])}
    _show(parts, best, apart)
    if _CLEAR in shared:
        each = [from_few_frames(seed) for seed in results]
        means = {frames: 100 * np.mean([of_seed[frames] for of_seed in each]) for frames in each[0]}
        print(f"{_CLEAR}, mAP from " + ", ".join(
            f"{frames} frame{'s' if frames > 1 else ''}: {mean:.1f}" for frames, mean in means.items()), flush=True)
    return parts, apart


def _show(parts: Mapping[str, Mapping[str, Part]], best: Mapping[str, str],
          apart: Mapping[tuple[str, str], Difference]) -> None:
    names = {"all": "all", "enough": f"{ENOUGH} frames or more", "lost": f"{ENOUGH} or more, not found", "few": "fewer"}
    columns = list(next(iter(parts.values()))["all"].mean_ap)
    rows = [(seed, names[name], part.queries, *(f"{100 * part.mean_ap[column]:.1f}" for column in columns))
            for seed, of_seed in parts.items() for name, part in of_seed.items()]
    print(text_table(("mAP, %", "unoccluded", "queries", *columns), rows), flush=True)
    for network, row in best.items():
        print(f"{DISCARDING[network]}: {row}")
    for (one, other), found in apart.items():
        print(f"{one} - {other}: {100 * found.mean:+.1f} points, 95 % of resamplings {100 * found.low:+.1f} to "
              f"{100 * found.high:+.1f}", flush=True)


def from_few_frames(seed: Path) -> dict[int, float]:
    """{frames of each tracklet: mAP} with nothing hidden, by the baseline: from 1, 2, 4, … random frames and all."""
    sets = five_steps.read_splits(seed / "truth")
    network = load_reid(seed / "rows" / folder_of(_CLEAR) / "final.safetensors")
    query, gallery = five_steps.tracklets_to_rank(sets)
    lengths = [len(tracklet) for tracklet in (*query, *gallery)]
    random = np.random.default_rng(0)
    orders = [random.permutation(length) for length in lengths]  # a smaller number takes a subset of a larger one
    found = {}
    for frames in [*(2 ** k for k in range(max(lengths).bit_length()) if 2 ** k < max(lengths)), max(lengths)]:
        keep = [np.isin(np.arange(len(order)), order[:frames]) for order in orders]
        found[frames] = five_steps.evaluate(network, sets, keep=keep).ranking.mean_ap
    return found


def average_precisions(seed: Path, taus: Mapping[str, float], *, completed: bool = True,
                       ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The average precisions of one seed's queries, and the unoccluded frames that they have.

    Args:
      seed: the seed's directory.
      taus: {network: τ to discard by}.
      completed: whether to evaluate the baseline on STCnet's data too.

    Returns:
      {what is compared: [Q]}, NaN for queries without a match; and two arrays [Q], the fewest unoccluded frames of a
      query's tracklet and those to be found, and the fewest of them that locating leaves.
    """
    raw, located = five_steps.read_splits(seed / "data"), five_steps.read_located(seed)
    rows = seed / "rows"

    def precision(row: str, sets: Sets, keep: Sequence[np.ndarray | None] | None = None) -> np.ndarray:
        network = load_reid(rows / folder_of(row) / "final.safetensors")
        return five_steps.evaluate(network, sets, keep=keep).ranking.average_precision

    painted, truth = (five_steps.read_splits(rows / folder_of(row) / "completed") for row in (STCNET, TRUTH))
    compared = {PAINTED: precision(STCNET, painted), TRUE: precision(STCNET, truth)}
    if completed:
        compared[COMPLETED] = precision(BASELINE_COMPLETED, painted)
    for network, tau in taus.items():
        compared[DISCARDING[network]] = precision(network, raw, keep=frames_kept(located, tau))
    # The tracklet with the fewest unoccluded frames, the query's or one to be found, limits what completing can do.
    query, gallery = five_steps.tracklets_to_rank(raw)
    counts = [unoccluded_frames(masks_of(tracklet), scores, located.tau) for split in ("query", "gallery")
              for tracklet, scores in zip(raw[split].tracklets, located.scores[split])]
    fewest = [np.min([own, *(count for other, count in zip(gallery, counts[len(query):])
                             if other.person == tracklet.person and other.camera != tracklet.camera)], axis=0)
              for tracklet, own in zip(query, counts)]
    unoccluded, found = np.transpose(fewest)
    return compared, unoccluded, found


def best_discarding(results: Sequence[Results], network: str) -> str | None:
    """The row with the highest mean mAP by which a network discards, over seeds with the same rows; None if there is
    none."""
    rows = [name for name, row in results[0].items() if row.get("tau") is not None and row["framed_by"] == network]
    return max(rows, key=lambda name: sum(result[name]["map"] for result in results), default=None)


def unoccluded_frames(masks: Sequence[np.ndarray], scores: np.ndarray, tau: float) -> tuple[int, int]:
    """(number of frames with an empty mask, number of these in which all bands score τ or more)."""
    free = Plan.from_masks(masks).visible
    return int(free.sum()), int((free & visible_frames(scores, tau)).sum())


def parts_of(compared: Mapping[str, np.ndarray], unoccluded: np.ndarray, found: np.ndarray) -> dict[str, Part]:
    """Groups average precisions [Q] (NaN: no match) by the numbers of unoccluded frames, [Q] each: of all, and of
    those that locating finds."""
    counted = ~np.isnan(next(iter(compared.values())))
    groups = {"all": counted, "enough": counted & (found >= ENOUGH),
              "lost": counted & (unoccluded >= ENOUGH) & (found < ENOUGH), "few": counted & (unoccluded < ENOUGH)}
    return {name: Part(int(group.sum()), {column: float(values[group].mean()) for column, values in compared.items()})
            for name, group in groups.items() if group.any()}


def difference(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], *, seed: int = 0) -> Difference:
    """The difference in mAP of two sides, from the average precisions of each seed, [Q], NaN: no match."""
    random = np.random.default_rng(seed)
    apart = [(one - other)[~np.isnan(one)] for one, other in zip(ours, theirs)]
    drawn = np.mean([random.choice(values, (_RESAMPLINGS, len(values))).mean(1) for values in apart], axis=0)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Difference(float(np.mean([values.mean() for values in apart])), float(low), float(high))


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
