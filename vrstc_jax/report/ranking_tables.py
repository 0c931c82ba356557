"""Tables of ranking results, for reports and as plain text."""

from collections.abc import Mapping, Sequence

from vrstc_jax.evaluation.retrieval import RANKS
from vrstc_jax.report.page import Table

_HEADER = ["", *(f"rank-{k}" for k in RANKS), "mAP"]


def table(figures: Mapping[str, Mapping]) -> Table:
    """For reports: a row for each evaluation's `figures`, in %."""
    rows = [[name, *(f"{100 * row[f'rank{k}']:.1f}" for k in RANKS), f"{100 * row['map']:.1f}"]
            for name, row in figures.items()]
    return Table("Who is it: ranks and mean average precision, %", _HEADER, rows)


def format_figures(figures: Mapping[str, Mapping]) -> str:
    """The same as plain text, with what was left out."""
    shown = table(figures)
    lines = aligned(shown.columns, shown.rows)
    left_out = {row["left_out"] for row in figures.values()} - {0}
    notes = [f"{max(left_out)} queries have no match in the gallery and are left out"] if left_out else []
    return "\n".join([shown.caption, *lines, *notes])


def aligned(columns: Sequence[str], rows: Sequence[Sequence]) -> list[str]:
    """A table as lines of plain text, the first column to the left and the others to the right."""
    cells = [list(map(str, row)) for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]).rstrip()
            for row in cells]


def format_spreads(spreads: Mapping[str, Mapping[str, Mapping]], count: int) -> str:
    """What `over_splits` gives, of `count` splits, as plain text."""
    rows = [[name, *(f"{100 * each['mean']:.1f} ± {100 * each['deviation']:.1f}" for each in row.values())]
            for name, row in spreads.items()]
    return "\n".join([f"Who is it: mean ± standard deviation over {count} splits, %", *aligned(_HEADER, rows)])
