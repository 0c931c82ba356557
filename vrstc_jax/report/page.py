"""The page: what a report holds, laid out by the template beside this module."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from vrstc_jax.evaluation.quality import distance_rows, overall_rows
from vrstc_jax.report import charts, images, writing
from vrstc_jax.report.charts import Curve
from vrstc_jax.report.images import AttentionPicture, Strip

_MISSING = "–"


@dataclass(frozen=True)
class Table:
    """A table: floats are shown with four digits, everything else as it prints."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, eq=False)
class Report:
    """What a report shows; what is empty is left out. All text is plain text.

    Attributes:
      title, summary: a line and a paragraph.
      figures: the key figures at the top, label -> value as it should read.
      command, config: what made this; shown folded at the end.
      judge: what `ScoreTable.as_dict` gives, or several of these by name, such as 'true masks'.
      warnings: one sentence each.
    """

    title: str
    summary: str
    figures: Mapping[str, str]
    command: str
    config: Mapping
    strips: Sequence[Strip] = ()
    attention: Sequence[AttentionPicture] = ()
    curves: Sequence[Curve] = ()
    judge: Mapping[str, Mapping] | None = None
    tables: Sequence[Table] = ()
    warnings: Sequence[str] = ()


def write_report(path: str | Path, page: Report) -> None:
    """Writes the report as one HTML file, whole or not at all.

    Raises:
      InputError: the file cannot be written.
    """
    environment = jinja2.Environment(loader=jinja2.PackageLoader("vrstc_jax.report"), autoescape=True,
                                     undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["cell"] = _cell
    judge = page.judge or {}
    named = {"": judge} if "overall" in judge else judge
    writing.write_text(path, environment.get_template("report.html").render(
        page=page, strips=[images.strip(each) for each in page.strips],
        attention=[images.attention(each) for each in page.attention], charts=charts.panels(page.curves),
        scores=[_scores(name, scores) for name, scores in named.items() if scores["overall"]],
        origin={"Command": page.command,
                "Configuration": json.dumps(writing.plain(page.config), indent=2, ensure_ascii=False)}))


def _cell(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.4f}" if math.isfinite(value) else _MISSING
    return _MISSING if value is None else str(value)


def _scores(name: str, scores: Mapping[str, Mapping]) -> dict[str, Any]:
    """The tables of one setting, the best cell of each column, and, for several distances, a chart."""
    columns, rows = overall_rows(scores["overall"])
    best = {i: choose([row[i] for row in rows], key=float) for i, choose in ((1, min), (2, max), (3, max))}
    result = {"name": name, "overall": Table("", columns, rows), "best_overall": best, "near": None, "chart": None}
    near = scores.get("by_distance")
    if near:
        columns, rows = distance_rows(near, list(scores["overall"]), missing=_MISSING)
        methods = rows[:-1]  # The last row counts frames.
        result["near"] = Table("", ["", *columns[1:]], rows)
        result["best_near"] = {i: max((row[i] for row in methods if row[i] != _MISSING), key=float)
                               for i in range(1, len(columns))}
        known = {row[0]: [d for d in near if d is not None and row[0] in near[d]] for row in methods}
        if len(set().union(*known.values())) > 1:
            lines = [Curve(m, known[m], [near[d][m]["psnr"] for d in known[m]]) for m in known]
            result["chart"] = charts.chart("PSNR, dB, by distance", lines, marks=True)
    return result
