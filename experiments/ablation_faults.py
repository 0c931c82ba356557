"""Where completion falls short of the truth in the ablation, by what there was to complete from.

    python -m experiments.ablation_faults out-ablation

For each seed whose rows `+ ID guider (STCnet)` and `truth where located` stand in the ablation's work directory: the
mAP of STCnet's own network on what STCnet painted, and on the truth in the same places. Queries are told apart by
their own tracklet and those to be found: whether each has at least two frames that locating takes for unoccluded, and
that are. Where one has not, what is hidden is seen nowhere, and the truth shows what no completion can know.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments.ablation import TRUTH, folder_of
from experiments.ablation_table import STCNET
from vrstc_jax import five_steps
from vrstc_jax.data.tracklet_set import stands
from vrstc_jax.errors import InputError
from vrstc_jax.model import load_reid
from vrstc_jax.places import as_path
from vrstc_jax.process import run_as_command
from vrstc_jax.retrieval import aligned

ENOUGH = 2  # unoccluded frames


@dataclass(frozen=True)
class Arguments:
    """Whose rows."""

    workdir: tyro.conf.Positional[Path]
    """Of experiments.ablation."""


@dataclass(frozen=True)
class Part:
    """Some queries of a seed: how many, and their mAP by what was painted and by the truth."""

    queries: int
    painted: float
    truth: float


def main(arguments: Arguments) -> dict[str, dict[str, Part]]:
    """{seed: {'all', 'enough', 'few': Part}}, printed as a table."""
    work = as_path(arguments.workdir)
    found = {seed.name: faults(seed) for seed in sorted(work.glob("seed*")) if _done(seed)}
    if not found:
        raise InputError(f"{work}: no seed has both rows, '{STCNET}' and '{TRUTH}'; experiments.ablation makes them "
                         f"(--rows '{STCNET}' '{TRUTH}').")
    names = {"all": "all", "enough": f"{ENOUGH} frames or more", "few": "fewer"}
    rows = [(seed, names[name], part.queries, *(f"{100 * value:.1f}" for value in (part.painted, part.truth)))
            for seed, parts in found.items() for name, part in parts.items()]
    print("\n".join(aligned(("", "unoccluded", "queries", "painted, mAP", "truth, mAP"), rows)), flush=True)
    return found


def faults(seed: Path) -> dict[str, Part]:
    """The parts of one seed's directory."""
    raw, located = five_steps.read_splits(seed / "data"), five_steps.read_located(seed)
    rows = seed / "rows"
    network = load_reid(rows / folder_of(STCNET) / "final.safetensors")
    painted, truth = (five_steps.evaluate(network, five_steps.read_splits(rows / folder_of(name) / "completed"))
                      .ranking.average_precision for name in (STCNET, TRUTH))
    query, gallery = five_steps.tracklets_to_rank(raw)
    free = [unoccluded_frames(tracklet.masks, scores, located.tau) for split in ("query", "gallery")
            for tracklet, scores in zip(raw[split].tracklets, located.scores[split])]
    least = [min([own, *(count for other, count in zip(gallery, free[len(query):]) if other.person == tracklet.person
                         and other.camera != tracklet.camera)]) for tracklet, own in zip(query, free)]
    return parts_of(painted, truth, np.array(least) < ENOUGH)


def unoccluded_frames(masks, scores: np.ndarray, tau: float) -> int:
    """How many frames nothing hides, of those whose bands all score τ or more."""
    return sum(not mask.any() for mask, free in zip(masks, (scores >= tau).all(1)) if free)


def parts_of(painted: np.ndarray, truth: np.ndarray, few: np.ndarray) -> dict[str, Part]:
    """From average precisions [Q] (NaN: no match) and which queries have few frames to go by."""
    counted = ~np.isnan(painted)
    places = {"all": counted, "enough": counted & ~few, "few": counted & few}
    return {name: Part(int(of.sum()), *(float(values[of].mean()) for values in (painted, truth)))
            for name, of in places.items() if of.any()}


def _done(seed):
    return all(stands(seed / "rows" / folder_of(name) / "completed") and
               (seed / "rows" / folder_of(name) / "result.json").exists() for name in (STCNET, TRUTH))


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
