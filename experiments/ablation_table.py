"""The ablation's table: means over seeds, spreads, and the share of the gap that a row wins back."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vrstc_jax.data.images import replace_file

_PAPERS_DISCARDING = "rank-1 84.4 with all frames, 84.8 at τ 0.88, 84.9 at 0.89, 84.2 at 0.91, 83.6 at 0.93"


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (of the sample; 0 for one seed) over seeds."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value a seed."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


@dataclass(frozen=True)
class Row:
    """A row of the table; shares in [0, 1].

    Attributes:
      rank1, mean_ap: over seeds.
      share: of the gap between the framing rows of `framed_by`, in mAP: the mean gain over the mean gap, so
        that a seed with hardly a gap does not outweigh the others, and the deviation of the seeds' own shares.
        None for those rows themselves, or where a framing row is not there.
      tau: by which frames were discarded, over seeds; None for other rows.
      paper: the paper's MARS figures, (rank-1, mAP) in %, or None.
      seeds: how many there are.
    """

    name: str
    rank1: Spread
    mean_ap: Spread
    share: Spread | None
    framed_by: str | None
    paper: tuple[float, float] | None
    seeds: int
    tau: Spread | None = None

    def as_dict(self) -> dict:
        """For JSON."""
        return dataclasses.asdict(self)


def rows_over_seeds(results: Sequence[Mapping[str, Mapping]], paper: Mapping[str, tuple[float, float]]) -> list[Row]:
    """Rows from {row: {'rank1', 'map', 'framed_by', 'tau'}} of each seed, in the order of the first seed's."""
    rows = []
    for name, first in results[0].items():
        mine = [result for result in results if name in result]
        framed_by = first["framed_by"]
        taus = [tau for result in mine if (tau := result[name].get("tau")) is not None]
        rows.append(Row(name, Spread.of([r[name]["rank1"] for r in mine]), Spread.of([r[name]["map"] for r in mine]),
                        _share(mine, name, framed_by), framed_by, paper.get(name), len(mine),
                        Spread.of(taus) if taus else None))
    return rows


def ceiling_of(name: str) -> str:
    """The row of the same network with nothing in the way."""
    return f"{name}, nothing hidden"


def _share(results, name, framed_by):
    framed = [result for result in results if framed_by and {framed_by, ceiling_of(framed_by)} <= set(result)]
    gains = np.array([result[name]["map"] - result[framed_by]["map"] for result in framed])
    gaps = np.array([result[ceiling_of(framed_by)]["map"] - result[framed_by]["map"] for result in framed])
    if not framed or gaps.mean() <= 0:
        return None
    there = gaps > 0
    return Spread(float(gains.mean() / gaps.mean()), Spread.of(gains[there] / gaps[there]).deviation)


def format_table(rows: Sequence[Row]) -> str:
    """Markdown: means ± standard deviations in %, the share won back, τ, and the paper's figures for MARS."""
    def percent(spread, digits=1):
        if spread is None:
            return ""
        return f"{100 * spread.mean:.{digits}f} ± {100 * spread.deviation:.{digits}f}"

    cells = [["", "rank-1, %", "mAP, %", "of the gap, %", "τ", "paper, MARS: rank-1 (mAP)"]]
    for row in rows:
        theirs = "" if row.paper is None else f"{row.paper[0]:.1f} ({row.paper[1]:.1f})"
        cells.append([row.name, percent(row.rank1), percent(row.mean_ap), percent(row.share, 0),
                      "" if row.tau is None else f"{row.tau.mean:.3f}", theirs])
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    seeds = max(row.seeds for row in rows)
    notes = [f"The paper discards by τ with the baseline, MARS: {_PAPERS_DISCARDING}.", ""] if any(
        row.tau is not None for row in rows) else []
    return "\n".join([f"{seeds} seed{'s' if seeds > 1 else ''}; mean ± standard deviation", "", *lines, "", *notes])


def write_plot(path, rows: Sequence[Row]) -> None:
    """mAP of all rows as bars with their spread."""
    from matplotlib.figure import Figure

    figure = Figure((8, 0.28 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))[::-1]
    colours = ["#8a8a8a" if "nothing hidden" in row.name else "#c9673a" if row.framed_by == "NL" else "#4a7fb5"
               for row in rows]
    axes.barh(places, [100 * row.mean_ap.mean for row in rows], color=colours,
              xerr=[100 * row.mean_ap.deviation for row in rows], error_kw={"elinewidth": 1})
    axes.set_yticks(places, [row.name for row in rows], fontsize=8)
    axes.set_xlabel("mAP, %")
    low = min(100 * (row.mean_ap.mean - row.mean_ap.deviation) for row in rows)
    axes.set_xlim(left=max(0.0, low - 5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=120)
    replace_file(Path(path), written.getvalue())
