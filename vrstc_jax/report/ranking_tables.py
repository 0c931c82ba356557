"""Tables of ranking results, for reports and as plain text."""

from collections.abc import Mapping

from vrstc_jax.evaluation.retrieval import RANKS
from vrstc_jax.report.page import Table
from vrstc_jax.runtime.text_tables import text_table

_HEADER = ["", *(f"rank-{k}" for k in RANKS), "mAP"]


def table(figures: Mapping[str, Mapping]) -> Table:
    """For reports: a row for each evaluation's `figures`, in %."""
    rows = [[name, *(f"{100 * row[f'rank{k}']:.1f}" for k in RANKS), f"{100 * row['map']:.1f}"]
            for name, row in figures.items()]
    return Table("Who is it: ranks and mean average precision, %", _HEADER, rows)


def format_figures(figures: Mapping[str, Mapping]) -> str:
    """The same as plain text, with the number of queries that were left out."""
    shown = table(figures)
    left_out = max((row["left_out"] for row in figures.values()), default=0)
    notes = [f"{left_out} queries have no match in the gallery and are left out"] if left_out else []
    return "\n".join([shown.caption, text_table(shown.columns, shown.rows), *notes])


def format_spreads(spreads: Mapping[str, Mapping[str, Mapping]], count: int) -> str:
    """What `over_splits` gives, of `count` splits, as plain text."""
    rows = [[name, *(f"{100 * each['mean']:.1f} ± {100 * each['deviation']:.1f}" for each in row.values())]
            for name, row in spreads.items()]
    return f"Who is it: mean ± standard deviation over {count} splits, %\n{text_table(_HEADER, rows)}"
