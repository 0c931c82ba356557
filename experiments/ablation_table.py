"""The ablation's table: means over seeds, spreads, and the share of the gap that a row wins back.

    python -m experiments.ablation_table A/results.json B/results.json --output DIR

makes one of what `experiments.ablation` left on several machines, each with seeds of its own.
"""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from vrstc_jax.data.images import replace_file, require_writable_directory
from vrstc_jax.errors import InputError
from vrstc_jax.process import run_as_command
from vrstc_jax.report import write_json
from vrstc_jax.report.writing import write_text

# The paper's MARS figures, rank-1 (mAP).
PAPER = {"baseline": (84.4, 77.2), "NL": (86.1, 79.9), "Spa": (87.0, 81.0), "Spa+AE": (87.0, 80.8),
         "Spa+TAE": (87.3, 81.0), "Spa+Tem": (87.8, 81.6), "+ local D": (87.9, 81.7), "+ global D": (87.9, 81.9),
         "+ ID guider (STCnet)": (88.5, 82.3)}

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


def format_claims(rows: Sequence[Row]) -> str:
    """Whether STCnet is ahead of what it is compared with, in mAP over the seeds; nothing for rows that are missing."""
    by_name = {row.name: row for row in rows}
    ours = by_name.get("+ ID guider (STCnet)")
    if ours is None:
        return ""
    ceilings = {ceiling_of(name) for name in by_name}
    others = {"NL on the data as they are": [by_name[name] for name in ("NL",) if name in by_name],
              "discarding frames at the best τ": [row for row in rows if row.tau is not None],
              "the best pooling": [row for row in rows if row.framed_by is None and row.name not in {"NL", *ceilings}]}
    lines = []
    for what, candidates in others.items():
        if candidates:
            best = max(candidates, key=lambda row: row.mean_ap.mean)
            ahead = 100 * (ours.mean_ap.mean - best.mean_ap.mean)
            told = "ahead" if ahead > 0 else "NOT ahead, behind"
            lines.append(f"STCnet and {what} ({best.name}, {100 * best.mean_ap.mean:.1f}): "
                         f"{abs(ahead):.1f} points {told}")
    if ours.share is not None:
        enough = "at least" if ours.share.mean >= 0.5 else "LESS than"
        lines.append(f"STCnet wins back {ours.share.mean:.0%} of NL's gap, {enough} half")
    return "\n".join(f"- {line}" for line in lines)


def read_results(path: Path) -> dict:
    """{'of': what was done, 'seeds': {seed: {row: {'rank1', 'map', …}}}}, as `experiments.ablation` leaves it.

    Raises:
      InputError: there is no such file, or it holds something else.
    """
    try:
        results = json.loads(path.read_text())
        assert results["of"] and all(isinstance(rows, dict) and int(seed) >= 0
                                     for seed, rows in results["seeds"].items())
        return results
    except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise InputError(f"{path}: is no results.json of experiments.ablation ({type(error).__name__}).") from None


def show_table(seeds: Mapping[str, Mapping[str, Mapping]], directory: Path) -> list[Row]:
    """Prints the table of some seeds' results and writes table.md, table.json and plot.png."""
    ordered = [seeds[seed] for seed in sorted(seeds, key=int)]
    rows = rows_over_seeds(sorted(ordered, key=len, reverse=True), PAPER)  # the first one's rows are all
    write_json(directory / "table.json", {"seeds": len(ordered), "rows": [row.as_dict() for row in rows]})
    text = "\n".join(part for part in (format_table(rows), format_claims(rows)) if part)
    write_text(directory / "table.md", text + "\n")
    print(text, flush=True)
    write_plot(directory / "plot.png", rows)
    return rows


@dataclass(frozen=True)
class Arguments:
    """Whose results to show."""

    results: tyro.conf.Positional[tuple[Path, ...]]
    """results.json of one work directory or several, each with seeds of its own."""
    output: Path
    """For results.json of all, table.md, table.json and plot.png."""


def main(arguments: Arguments) -> list[Row]:
    """One table of several files."""
    if not arguments.results:
        raise InputError("Give one results.json or more.")
    first, seeds = read_results(arguments.results[0]), {}
    for path in arguments.results:
        found = read_results(path)
        if found["of"] != first["of"]:
            raise InputError(f"{path}: was made with other data or settings than {arguments.results[0]}; one table of "
                             "both would say nothing.")
        if twice := seeds.keys() & found["seeds"].keys():
            raise InputError(f"{path}: seed {min(twice, key=int)} is in another file, too; give each once "
                             "(--first-seed).")
        seeds |= found["seeds"]
    require_writable_directory(arguments.output)
    write_json(arguments.output / "results.json", {"of": first["of"], "seeds": seeds})
    return show_table(seeds, arguments.output)


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
