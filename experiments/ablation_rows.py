"""The rows of the ablation, in the order of computation: Table 1 of the paper, and the methods it argues against."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.ablation_seed import Seed, Sets
from experiments.ablation_table import BASELINE_COMPLETED, STCNET, ceiling_of
from experiments.settings import Changes
from vrstc_jax.evaluation.retrieval import Evaluation

# Changes of the config for each completion of Table 1.
_PLAIN = {"adversarial": 0.0, "identity": 0.0}
COMPLETIONS: dict[str, Changes] = {
    "Spa": {"stcnet": {"temporal_form": "none"}, "losses": _PLAIN},
    "Spa+AE": {"stcnet": {"temporal_form": "autoencoder"}, "losses": _PLAIN},
    "Spa+TAE": {"stcnet": {"temporal_form": "concatenation"}, "losses": _PLAIN},
    "Spa+Tem, plain attention": {"stcnet": {"learned_scale": False, "transport": False}, "losses": _PLAIN},
    "Spa+Tem": {"losses": _PLAIN},
    "+ local D": {"losses": {"identity": 0.0, "global_discriminator": False}},
    "+ global D": {"losses": {"identity": 0.0}},
    STCNET: {}}
POOLINGS = {"maximum": "maximum", "temporal attention": "temporal_attention",
            "diverse attention": "diverse_attention", "ASTPN, one sequence": "astpn_one_sequence"}
PAIRS = "ASTPN, pairs"
TRUE_MASKS, TRUE_BANDS, TRUTH = "STCnet, true masks", "STCnet, true bands", "truth where located"
QUANTILES = (0.05, 0.1, 0.15, 0.2, 0.3)

_BASELINE = {"non_local": ()}
# The networks before completion: {row: changes of `Config.final`}.
_NETWORKS: dict[str, Mapping[str, Any]] = {"baseline": _BASELINE, "NL": {}}


@dataclass(frozen=True)
class RowRecipe:
    """How a row is computed.

    Attributes:
      make: (seed, the row's directory) to the evaluation.
      framed_by: the network whose gap between raw data and nothing hidden the row narrows; None for that network.
      needs: a row whose network or completed data it uses.
      quantile: the share of the training bands by whose τ it discards frames.
    """

    name: str
    make: Callable[[Seed, Path], Evaluation]
    framed_by: str | None = None
    needs: str | None = None
    quantile: float | None = None


def rows_of(quantiles: Sequence[float] = QUANTILES) -> list[RowRecipe]:
    """All rows; `quantiles`: shares of the training bands to discard frames by."""
    rows = [row for name, final in _NETWORKS.items()
            for row in _framing(name, lambda seed, work, sets, final=final: seed.ranked(work, sets, final))]
    rows += [RowRecipe(name, lambda seed, work, changes=changes: seed.completed(work, changes), "NL")
             for name, changes in COMPLETIONS.items()]
    by_stcnet: dict[str, tuple[str, Mapping[str, Any], Callable[[Seed, Path], Sets]]] = {
        BASELINE_COMPLETED: ("baseline", _BASELINE, lambda seed, work: seed.completed_of(STCNET)),
        TRUE_MASKS: ("NL", {}, lambda seed, work: seed.by_true_masks(work, STCNET)),
        TRUE_BANDS: ("NL", {}, lambda seed, work: seed.by_true_bands(work, STCNET))}
    rows += [RowRecipe(name, lambda seed, work, final=final, sets=sets: seed.ranked(work, sets(seed, work), final),
                       framed_by, needs=STCNET) for name, (framed_by, final, sets) in by_stcnet.items()]
    rows.append(RowRecipe(TRUTH, lambda seed, work: seed.ranked(work, seed.truth_where_located(work)), "NL"))
    rows += [RowRecipe(discarding(network, quantile), lambda seed, work, network=network, quantile=quantile:
                       seed.discarding(work, network, quantile), network, needs=network, quantile=quantile)
             for network in _NETWORKS for quantile in quantiles]
    rows += [row for name, pooling in POOLINGS.items() for row in _framing(
        name, lambda seed, work, sets, pooling=pooling: seed.ranked(work, sets, _BASELINE | {"pooling": pooling}))]
    return rows + _framing(PAIRS, lambda seed, work, sets: seed.pairs(work, sets))


def _framing(name: str, make: Callable[[Seed, Path, Sets], Evaluation]) -> list[RowRecipe]:
    """The two rows of a network: on the raw data, and with nothing hidden."""
    return [RowRecipe(name, lambda seed, work: make(seed, work, seed.raw)),
            RowRecipe(ceiling_of(name), lambda seed, work: make(seed, work, seed.truth))]


def discarding(network: str, quantile: float) -> str:
    """The name of the row of a network that discards frames."""
    return f"{network}, discarding {100 * quantile:g}% of bands"


def with_needed(names: Collection[str], rows: Sequence[RowRecipe]) -> set[str]:
    """The names, and those of the rows that these use."""
    return {*names, *(row.needs for row in rows if row.name in names and row.needs)}
