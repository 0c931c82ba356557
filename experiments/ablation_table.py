"""The ablation's table: means over seeds, spreads, and the share of the gap that a row wins back.

    python -m experiments.ablation_table A/results.json B/results.json --output DIR

makes one table of the results that `experiments.ablation` left on several machines, each with other seeds.
docs/ablation.md has the table to expect of size `small`. Results of size `smoke` try it out.
"""

import dataclasses
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from vrstc_jax.recipes import five_steps
from vrstc_jax.report import write_json
from vrstc_jax.report.writing import write_text
from vrstc_jax.runtime import lock
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.records import parse_json, read_bytes
from vrstc_jax.runtime.storage import as_path, replace_file
from vrstc_jax.runtime.text_tables import text_table

Results = Mapping[str, Mapping[str, Any]]
"""{row: {'rank1', 'map', …, 'framed_by', 'tau'}} of one seed."""

STCNET = "+ ID guider (STCnet)"
# The paper's MARS figures, rank-1 (mAP).
PAPER = {"baseline": (84.4, 77.2), "NL": (86.1, 79.9), "Spa": (87.0, 81.0), "Spa+AE": (87.0, 80.8),
         "Spa+TAE": (87.3, 81.0), "Spa+Tem": (87.8, 81.6), "+ local D": (87.9, 81.7), "+ global D": (87.9, 81.9),
         STCNET: (88.5, 82.3)}
BASELINE_COMPLETED = "baseline on STCnet's data"
_PAPERS_DISCARDING = "rank-1 84.4 with all frames, 84.8 at τ 0.88, 84.9 at 0.89, 84.2 at 0.91, 83.6 at 0.93"


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (0 for one seed) over seeds."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """From one value a seed."""
        values = list(values)
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


@dataclass(frozen=True)
class Row:
    """A row of the table; shares in [0, 1].

    Attributes:
      rank1, mean_ap: over seeds.
      share: of the gap between the framing rows of `framed_by`, in mAP: the mean gain over the mean gap, so
        that a seed with a small gap does not outweigh the others, and the deviation of the seeds' shares.
        None for the framing rows, or if one of them is missing.
      framed_by: the network of the framing rows.
      paper: the paper's MARS figures, (rank-1, mAP) in %, or None.
      seeds: the number of seeds with this row.
      tau: the τ by which frames were discarded, over seeds; None for other rows.
    """

    name: str
    rank1: Spread
    mean_ap: Spread
    share: Spread | None
    framed_by: str | None
    paper: tuple[float, float] | None
    seeds: int
    tau: Spread | None = None

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        return dataclasses.asdict(self)


def rows_over_seeds(results: Sequence[Results], paper: Mapping[str, tuple[float, float]]) -> list[Row]:
    """The rows that any seed has, in the order of the seed with most rows, then as they come."""
    rows, longest = [], max(results, key=len, default={})
    framed = {name: row["framed_by"] for result in (longest, *results) for name, row in result.items()}
    for name, framed_by in framed.items():
        mine = [result for result in results if name in result]
        taus = [tau for result in mine if (tau := result[name].get("tau")) is not None]
        rows.append(Row(name, Spread.of(r[name]["rank1"] for r in mine), Spread.of(r[name]["map"] for r in mine),
                        _share(mine, name, framed_by), framed_by, paper.get(name), len(mine),
                        Spread.of(taus) if taus else None))
    return rows


def ceiling_of(name: str) -> str:
    """The name of a network's row with nothing hidden."""
    return f"{name}, nothing hidden"


def _share(results: Sequence[Results], name: str, framed_by: str | None) -> Spread | None:
    framed = [result for result in results if framed_by and {framed_by, ceiling_of(framed_by)} <= set(result)]
    if not framed or not framed_by:
        return None
    gains = np.array([result[name]["map"] - result[framed_by]["map"] for result in framed])
    gaps = np.array([result[ceiling_of(framed_by)]["map"] - result[framed_by]["map"] for result in framed])
    if gaps.mean() <= 0:
        return None
    positive = gaps > 0  # a seed without a gap has no share
    return Spread(float(gains.mean() / gaps.mean()), Spread.of(gains[positive] / gaps[positive]).deviation)


def format_table(rows: Sequence[Row]) -> str:
    """Markdown: means ± standard deviations in %, the share won back, τ, and the paper's figures for MARS."""
    def percent(spread: Spread | None, digits: int = 1) -> str:
        return "" if spread is None else f"{100 * spread.mean:.{digits}f} ± {100 * spread.deviation:.{digits}f}"

    seeds = max(row.seeds for row in rows)
    cells = [[_label(row, seeds), percent(row.rank1), percent(row.mean_ap), percent(row.share, 0),
              "" if row.tau is None else f"{row.tau.mean:.3f}",
              "" if row.paper is None else f"{row.paper[0]:.1f} ({row.paper[1]:.1f})"] for row in rows]
    table = text_table(["", "rank-1, %", "mAP, %", "of the gap, %", "τ", "paper, MARS: rank-1 (mAP)"], cells,
                       markdown=True)
    notes = [f"The paper discards by τ with the baseline, MARS: {_PAPERS_DISCARDING}.", ""] if any(
        row.tau is not None for row in rows) else []
    return "\n".join([f"{seeds} seed{'s' if seeds > 1 else ''}; mean ± standard deviation", "", table, "", *notes])


def _label(row: Row, seeds: int) -> str:
    return row.name if row.seeds == seeds else f"{row.name} ({row.seeds} of the seeds)"


def write_plot(path: Path, rows: Sequence[Row]) -> None:
    """Draws the rows' mAP as bars with their spread, as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure((8, 0.28 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    heights = np.arange(len(rows))[::-1]
    kinds = {"nothing hidden": "#8a8a8a", "completed, or discarding, with NL": "#c9673a", "others": "#4a7fb5"}
    kind = ["nothing hidden" if "nothing hidden" in row.name else "completed, or discarding, with NL"
            if row.framed_by == "NL" else "others" for row in rows]
    figure.legend(handles=[Patch(color=kinds[each], label=each) for each in kinds if each in kind],
                  loc="outside upper right", ncols=len(kinds), fontsize=8, frameon=False)
    axes.barh(heights, [100 * row.mean_ap.mean for row in rows], color=[kinds[each] for each in kind],
              xerr=[100 * row.mean_ap.deviation for row in rows], error_kw={"elinewidth": 1})
    seeds = max(row.seeds for row in rows)
    axes.set_yticks(heights, [_label(row, seeds) for row in rows], fontsize=8)
    axes.set_xlabel("mAP, %")
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=120)
    replace_file(path, written.getvalue())


def format_claims(results: Sequence[Results]) -> str:
    """By how much mAP STCnet leads each of its rivals, and the baseline on STCnet's data the baseline discarding.

    Each comparison is over the seeds that have both rows. Rivals without a row are left out.

    The best τ is chosen on the test people that are ranked, which favours discarding; the τ of the other seeds is not.
    """
    lines = []

    def discards(network: str) -> Callable[[str, Mapping], bool]:
        return lambda name, row: row.get("tau") is not None and row["framed_by"] == network

    rivals = (("NL on the data as they are", STCNET, lambda name, row: name == "NL"),
              ("discarding at the best τ with the baseline, as the paper does", STCNET, discards("baseline")),
              ("discarding at the best τ with NL", STCNET, discards("NL")),
              ("discarding at the best τ with the baseline", BASELINE_COMPLETED, discards("baseline")),
              ("the best other pooling or pair scorer", STCNET, lambda name, row: not (
                  row["framed_by"] or name in ("NL", "baseline") or name.endswith(ceiling_of("")))))
    for what, ours, is_one in rivals:
        names = dict.fromkeys(name for result in results for name, row in result.items() if is_one(name, row))
        shared = {name: [k for k, result in enumerate(results) if {name, ours} <= set(result)] for name in names}
        # Seeds differ in their people: compare only rows that have the same seeds, those of most seeds.
        seeds = max(shared.values(), key=len, default=[])
        most = len(seeds)
        if not most:
            continue
        own = np.array([100 * results[k][ours]["map"] for k in seeds])
        theirs = {name: np.array([100 * results[k][name]["map"] for k in seeds])
                  for name in names if shared[name] == seeds}
        name = max(theirs, key=lambda name: theirs[name].mean())
        mine = "STCnet" if ours == STCNET else f"The {ours}"
        line = (f"{mine} ({own.mean():.1f}) and {what} ({name}, {theirs[name].mean():.1f}; "
                f"{most} seed{'s' if most > 1 else ''}): {_ahead(own - theirs[name])}")
        if most > 1:
            line += f" (by seed {', '.join(f'{apart:+.1f}' for apart in own - theirs[name])})"
        if most > 1 and "τ" in what:
            # Choosing τ on the ranked people favours discarding; the choice on the other seeds does not.
            elsewhere = _chosen_elsewhere(np.array(list(theirs.values())))
            line += f"; with the τ that is best on the other seeds ({elsewhere.mean():.1f}): {_ahead(own - elsewhere)}"
        lines.append(line)
    share = _share([result for result in results if STCNET in result], STCNET, "NL")
    if share is not None:
        enough = "at least" if share.mean >= 0.5 else "LESS than"
        lines.append(f"STCnet wins back {share.mean:.1%} of NL's gap, {enough} half")
    return "\n".join(f"- {line}" for line in lines)


def _ahead(apart: np.ndarray) -> str:
    points = f"{abs(apart.mean()):.1f} points"
    return "level" if points == "0.0 points" else f"{points} {'ahead' if apart.mean() > 0 else 'NOT ahead, behind'}"


def _chosen_elsewhere(candidates: np.ndarray) -> np.ndarray:
    """[candidates, seeds] to [seeds]: each seed's value of the candidate with the best mean over the other seeds."""
    others = candidates.sum(1, keepdims=True) - candidates
    return candidates[others.argmax(0), np.arange(candidates.shape[1])]


def read_results(path: str | Path) -> dict[str, Any]:
    """{'of': settings, 'seeds': {seed: {row: {'rank1', 'map', …}}}}, as `experiments.ablation` wrote it.

    Raises:
      InputError: there is no such file, or it holds something else.
    """
    path = as_path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; experiments.ablation leaves one in its work directory.")
    try:
        results: dict[str, Any] = parse_json(read_bytes(path).decode())
        rows = [row for seed, rows in results["seeds"].items() for row in rows.values() if int(seed) >= 0]
        good = bool(rows) and isinstance(results["of"], dict) and all(
            "framed_by" in row and isinstance(row["rank1"] + row["map"], int | float) for row in rows)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        good, results = False, {}
    if not good:
        raise InputError(f"{path}: is not a results.json of experiments.ablation, or is damaged.")
    return results


def show_table(seeds: Mapping[str, Results], directory: Path) -> list[Row]:
    """Prints the table of these seeds and writes table.md, table.json and plot.png."""
    results = [seeds[seed] for seed in sorted(seeds, key=int)]
    rows = rows_over_seeds(results, PAPER)
    write_json(directory / "table.json", {"seeds": len(results), "rows": [row.as_dict() for row in rows]})
    text = "\n".join(part for part in (format_table(rows), format_claims(results)) if part)
    write_text(directory / "table.md", text + "\n")
    print(text, flush=True)
    write_plot(directory / "plot.png", rows)
    return rows


@dataclass(frozen=True)
class Arguments:
    """The results to join."""

    results: tyro.conf.Positional[tuple[Path, ...]]
    """results.json of one work directory or several, each with other seeds."""
    output: Path
    """Folder for the joined results.json, table.md, table.json and plot.png."""


def main(arguments: Arguments) -> list[Row]:
    """Joins several results.json in one table; returns its rows."""
    if not arguments.results:
        raise InputError("Give one results.json or more.")
    output = as_path(arguments.output) / "results.json"
    first, seeds = read_results(arguments.results[0]), {}
    for path in arguments.results:
        found = read_results(path)
        if as_path(path).resolve() == output.resolve():
            raise InputError(f"{path}: would be replaced by the results of all; give another --output.")
        if apart := five_steps.differing(found["of"], first["of"]):
            raise InputError(f"{path}: was made with other data or settings ('{apart[0]}') than "
                             f"{arguments.results[0]}; give results of the same settings.")
        if twice := seeds.keys() & found["seeds"].keys():
            raise InputError(f"{path}: seed {min(twice, key=int)} is in another file, too; give each once "
                             "(--first-seed).")
        seeds |= found["seeds"]
    lock.take(output.parent)
    write_json(output, {"of": first["of"], "seeds": seeds})
    return show_table(seeds, output.parent)


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
