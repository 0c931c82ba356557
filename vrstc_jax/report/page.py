"""The page: its sections, tables and key figures."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from vrstc_jax.report import charts, images, writing
from vrstc_jax.report.charts import Curve
from vrstc_jax.report.images import AttentionPicture, Strip
from vrstc_jax.report.style import STYLE


@dataclass(frozen=True)
class Table:
    """A table: floats are shown with four digits, everything else as it prints."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def write_report(path: str | os.PathLike, *, title: str, summary: str, figures: Mapping[str, str],
                 command: str, config: Mapping, strips: Sequence[Strip] = (),
                 attention: Sequence[AttentionPicture] = (), curves: Sequence[Curve] = (),
                 judge: Mapping[str, Mapping] | None = None, tables: Sequence[Table] = (),
                 warnings: Sequence[str] = ()) -> None:
    """Writes the report; whatever is empty is left out.

    Args:
      path: the HTML file; written to a temporary name beside it and renamed.
      title, summary: a line and a paragraph of plain text. All text is escaped.
      figures: the key figures at the top, label -> value as it should read.
      command, config: what made this; shown folded at the end.
      judge: what `ScoreTable.as_dict` gives, or several of these by name, such as 'true masks'.
      warnings: one sentence each.

    Raises:
      InputError: the file cannot be written.
    """
    sections = [
        _section("Completions", "".join(map(images.strip, strips)),
                 "What the masks hide is outlined in the input. Visible pixels are never changed."),
        _section("Where attention looked", _wrap("div", "".join(map(images.attention, attention)), "gallery"),
                 "For the patch framed on the left, every position of the neighbours by its weight: the "
                 "brighter, the more the filling takes from there. The frame marks the largest weight; below "
                 "are that weight, and how many times it is what each would get if all got the same."),
        _section("Training", _wrap("div", charts.panels(curves), "panels"),
                 "By training step. Long curves are averaged over neighbouring steps."),
        _section("Scores", _judge(judge or {}),
                 "Over the hidden pixels alone, at each crop's own resolution, averaged over frames. L1 is "
                 "on a scale where white is 1. The best of each column is in bold."),
        *(_section(table.caption, _table(table.columns, table.rows)) for table in tables),
        _section("Warnings", _list(warnings), anchor="warnings"),
        _section("How this was made", _details("Command", command) + _details(
            "Configuration", json.dumps(writing.plain(config), indent=2, ensure_ascii=False))),
    ]
    writing.write_text(path, (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body><main>\n{_header(title, summary, figures, len(warnings))}\n"
        + "\n".join(filter(None, sections)) + "\n</main></body></html>\n"))


# Pieces of the page. Each gives '' if there is nothing to show, and a section without a body is left out.

def _wrap(tag: str, body: str, css: str = "") -> str:
    style = f' class="{css}"' if css else ""
    return f"<{tag}{style}>{body}</{tag}>" if body else ""


def _header(title: str, summary: str, figures: Mapping[str, str], warnings: int) -> str:
    count = f"{warnings} warning{'s' if warnings > 1 else ''}"
    notice = f'<p class="notice"><a href="#warnings">{count}</a></p>' if warnings else ""
    pairs = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(str(value))}</dd></div>"
                    for label, value in figures.items())
    return (f'<header><h1>{escape(title)}</h1><p class="summary">{escape(summary)}</p>{notice}'
            f'{_wrap("dl", pairs, "figures")}</header>')


def _section(heading: str, body: str, note: str = "", anchor: str = "") -> str:
    if not body:
        return ""
    identity = f' id="{anchor}"' if anchor else ""
    return f"<section{identity}><h2>{escape(heading)}</h2>{_wrap('p', escape(note), 'note')}{body}</section>"


def _list(items: Sequence[str]) -> str:
    return _wrap("ul", "".join(f"<li>{escape(item)}</li>" for item in items), "warnings")


def _details(heading: str, text: str) -> str:
    return f"<details><summary>{escape(heading)}</summary><pre>{escape(text)}</pre></details>"


def _cell(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.4f}" if math.isfinite(value) else "–"
    return "–" if value is None else escape(str(value))


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]],
           best: Mapping[int, str] | None = None) -> str:
    """`best` gives for a column the text to set in bold. The first column names the row."""
    def cell(index, value):
        text = _cell(value)
        return f"<td><b>{text}</b></td>" if best and text == best.get(index) else f"<td>{text}</td>"

    head = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
    body = "".join(f"<tr><th>{_cell(row[0])}</th>{''.join(cell(i, v) for i, v in enumerate(row[1:], 1))}</tr>"
                   for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _judge(judge: Mapping[str, Mapping]) -> str:
    named = {"": judge} if "overall" in judge else judge
    return "".join(_wrap("h3", escape(name)) + _scores(scores)
                   for name, scores in named.items() if scores["overall"])


def _scores(scores: Mapping) -> str:
    overall, near = scores["overall"], scores.get("by_distance", {})
    rows = [[method, f"{s['l1']:.4f}", f"{s['psnr']:.2f}", f"{s['ssim']:.4f}", s["frames"]]
            for method, s in overall.items()]
    _, l1, psnr, ssim, _ = zip(*rows)
    best = {1: min(l1, key=float), 2: max(psnr, key=float), 3: max(ssim, key=float)}
    table = _table(["", "L1", "PSNR, dB", "SSIM", "frames"], rows, best)
    tables, curves = _scores_by_distance(near, list(overall)) if near else ("", "")
    return f'<div class="scores"><div>{table}{tables}</div>{curves}</div>'


def _scores_by_distance(near: Mapping, methods: Sequence[str]) -> tuple[str, str]:
    """A table and, where there are several distances, a chart."""
    found = [[f"{near[d][m]['psnr']:.2f}" if m in near[d] else None for d in near] for m in methods]
    best = {i: max(filter(None, column), key=float) for i, column in enumerate(zip(*found), 1)}
    rows = [[method, *row] for method, row in zip(methods, found)]
    rows.append(["frames", *(max(s["frames"] for s in near[d].values()) for d in near)])
    table = _table(["", *("none" if d is None else str(d) for d in near)], rows, best)
    note = '<p class="note">PSNR in dB, by distance in frames to the nearest usable frame</p>'
    known = {m: [d for d in near if d is not None and m in near[d]] for m in methods}
    lines = [Curve(m, known[m], [near[d][m]["psnr"] for d in known[m]]) for m in methods]
    several = len({d for distances in known.values() for d in distances}) > 1
    return note + table, charts.chart("PSNR, dB, by distance", lines, marks=True) if several else ""
