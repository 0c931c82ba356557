"""The results of `benchmark_attention` as a table, as ratios and as a plot.

A row is a dict of one form and part: 'form', 'part', 'left_out' (why it was not timed, or None), 'milliseconds',
'temporary_bytes' (None: unknown) and, where it was compared, 'difference'.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from tools.attention_forms import BLOCKED, BOUND, COMPILED, EAGER, FORMS, LITERAL, PARTS, WHOLE, Case
from vrstc_jax.runtime.text_tables import text_table

Row = dict[str, Any]
RATIOS = ((WHOLE, BOUND), (BLOCKED, BOUND), (BLOCKED, WHOLE), (EAGER, WHOLE), (COMPILED, WHOLE), (LITERAL, WHOLE))
"""(form, other): the form's time is given as a multiple of the other's."""


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line for each form."""
    return text_table(*cells(rows), markdown=True)


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """(header, a line for each form) of the table."""
    lines = []
    for form in FORMS:
        line, differences = [form], []
        for part in PARTS:
            row = _find(rows, form, part)
            if row["left_out"]:
                line += [row["left_out"], "", ""]
            else:
                times = row["milliseconds"] / _find(rows, BOUND, part)["milliseconds"]
                needed = row["temporary_bytes"]
                line += [_short(row["milliseconds"]), f"{times:.2f}",
                         "unknown" if needed is None else _short(needed / 1e6)]
            if "difference" in row:
                differences.append(row["difference"])
        lines.append([*line, f"{max(differences):.1e}" if differences else ""])
    header = ["", *(cell for part in PARTS for cell in (f"{part}, ms", "× products", "MB")), "difference"]
    return header, lines


def ratios(rows: Sequence[Row]) -> dict[tuple[str, str, str], float]:
    """{(form, other, part): how many times the other's time the form takes}."""
    found = {}
    for form, other in RATIOS:
        for part in PARTS:
            a, b = _find(rows, form, part), _find(rows, other, part)
            if not a["left_out"] and not b["left_out"]:
                found[form, other, part] = a["milliseconds"] / b["milliseconds"]
    return found


def result_of(case: Case, rows: Sequence[Row]) -> dict[str, Any]:
    """A case with its rows and ratios, as the JSON files have it."""
    return {"case": str(case), **case._asdict(), "block_size": case.block_size, "rows": rows,
            "ratios": [{"form": form, "to": other, "part": part, "times": value}
                       for (form, other, part), value in ratios(rows).items()]}


def draw(results: Sequence[dict[str, Any]], title: str) -> bytes:
    """The plot, PNG: times and temporary memory of each form in each of the cases ({'case', 'rows'})."""
    from matplotlib.figure import Figure

    panels = [(part, f"{part}, ms", "milliseconds", 1) for part in PARTS]
    panels += [(part, f"{part}, temporary MB", "temporary_bytes", 1e-6) for part in PARTS]
    figure = Figure((14, 1.5 + 1.5 * len(results)), layout="constrained")
    figure.suptitle(title, fontsize=10)
    all_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, (part, label, key, unit) in zip(all_axes, panels):
        for i, form in enumerate(FORMS):
            colour = "black" if form == BOUND else f"C{i}"
            heights = np.arange(len(results)) + (i - (len(FORMS) - 1) / 2) / (len(FORMS) + 1)
            found = [(y, _find(result["rows"], form, part)) for y, result in zip(heights, results)]
            points = [(row[key] * unit, y) for y, row in found if not row["left_out"] and row[key] is not None]
            axes.plot(*(np.array(points).T if points else ([], [])), "o", color=colour, label=form)
            for x, y in points:
                axes.annotate(_short(x), (x, y), (6, 0), textcoords="offset points", fontsize=7, va="center")
            for y, row in found:
                if row["left_out"]:
                    axes.annotate(row["left_out"], (0.02, y), xycoords=("axes fraction", "data"), fontsize=7,
                                  va="center", color=colour)
        # Times of the forms differ by orders of magnitude.
        axes.set(xscale="log", title=label, yticks=range(len(results)), ylim=(len(results) - 0.5, -0.5),
                 yticklabels=[result["case"].replace(", ", "\n") for result in results])
        for between in np.arange(1, len(results)) - 0.5:
            axes.axhline(between, color="lightgrey", lw=0.8)
        axes.margins(x=0.2)
        axes.tick_params("y", length=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*all_axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=len(FORMS),
                  frameon=False)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return written.getvalue()


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _find(rows: Sequence[Row], form: str, part: str) -> Row:
    return next(row for row in rows if row["form"] == form and row["part"] == part)
