"""The report: one HTML file that holds all it shows, and `metrics.json` beside it.

Everything comes in as plain data: pictures uint8 [H, W, 3] (RGB), masks bool [H, W], numbers, text. The
page needs no network and no script; pictures are PNG inside it, at their own resolution unless they are
taller than `_TALLEST`, charts are SVG, and both follow the reader's light or dark setting. The same input
gives the same file, byte for byte.
"""

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np

from vrstc_jax.errors import InputError

_TALLEST = 320  # pixels; twice the height at which pictures are shown, which is what dense screens use
_SHOWN_HEIGHT = 152


@dataclass(frozen=True)
class Strip:
    """Some frames of a tracklet, side by side; under each other what `rows` names.

    Attributes:
      rows: name ('input', 'mask', 'completion', 'truth' …) -> one picture or mask for every frame; None
        leaves a gap. Sizes may differ from frame to frame, not from row to row. If there are rows 'input'
        and 'mask', what the mask hides is outlined in the input.
      frame_names: one for every frame, shown above it.
    """

    caption: str
    rows: Mapping[str, Sequence[np.ndarray | None]]
    frame_names: Sequence[str]

    def __post_init__(self):
        for name, row in self.rows.items():
            if len(row) != len(self.frame_names):
                raise ValueError(f"strip {self.caption!r}: row {name!r} must have one picture for each of "
                                 f"{len(self.frame_names)} frame names. Got {len(row)}.")


@dataclass(frozen=True)
class AttentionPicture:
    """Where the attention of one patch of a frame went in its neighbours.

    Attributes:
      position: the patch's centre, (y, x), each in 0..1 of the frame.
      patch: its (height, width), likewise.
      neighbours: pictures; any number, of any size.
      weights: for each neighbour float [h, w] ≥ 0, the softmax's weight at every position of its map.
      names: what to call the neighbours; 'previous' and 'next' unless said otherwise.
    """

    caption: str
    frame: np.ndarray
    position: tuple[float, float]
    patch: tuple[float, float]
    neighbours: Sequence[np.ndarray]
    weights: Sequence[np.ndarray]
    names: Sequence[str] = ("previous", "next")


@dataclass(frozen=True)
class Curve:
    """One line of a chart; curves of the same `panel` share one. Values that are not finite are left out."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    panel: str = "loss"


@dataclass(frozen=True)
class Table:
    """A table: floats are shown with four digits, everything else as it prints."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def write_report(path: str | os.PathLike, *, title: str, summary: str, figures: Mapping[str, str], command: str,
                 config: Mapping, strips: Sequence[Strip] = (), attention: Sequence[AttentionPicture] = (),
                 curves: Sequence[Curve] = (), judge: Mapping[str, Mapping] | None = None,
                 tables: Sequence[Table] = (), warnings: Sequence[str] = ()) -> None:
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
        _section("Completions", "".join(map(_strip, strips)),
                 "What the masks hide is outlined in the input. Visible pixels are never changed."),
        _section("Where attention looked", _attention_gallery(attention),
                 "For the patch framed on the left, the neighbours' positions by their weight: the brighter, the "
                 "more of the filling comes from there. The cross marks the largest weight; below it that weight, "
                 "and how many times an even spread's it is."),
        _section("Training", _curve_panels(curves)),
        _section("Scores", _judge(judge or {}),
                 "Over the hidden pixels alone, at each crop's own resolution, averaged over frames. L1 is on a "
                 "scale where white is 1. The best of each column is in bold."),
        *(_section(table.caption, _table(table.columns, table.rows)) for table in tables),
        _section("Warnings", _list(warnings), anchor="warnings"),
        _section("How this was made", _details("Command", command)
                 + _details("Configuration", json.dumps(_plain(config), indent=2, ensure_ascii=False))),
    ]
    count = f"{len(warnings)} warning{'s' if len(warnings) > 1 else ''}"
    notice = f'<p class="notice"><a href="#warnings">{count}</a></p>' if warnings else ""
    figures_html = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(str(value))}</dd></div>"
                           for label, value in figures.items())
    page = (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<style>{_STYLE}</style></head>\n<body><main>\n<header><h1>{escape(title)}</h1>"
            f'<p class="summary">{escape(summary)}</p>{notice}'
            f'{_wrap("dl", figures_html, "figures")}</header>\n' + "\n".join(filter(None, sections))
            + "\n</main></body></html>\n")
    _write_text(path, page)


def write_json(path: str | os.PathLike, values: Mapping) -> None:
    """Writes JSON to a temporary name and renames it. NumPy's scalars and arrays and dataclass-like mappings
    become plain; what is not finite becomes null, since JSON has no word for it.

    Raises:
      InputError: the file cannot be written.
    """
    _write_text(path, json.dumps(_plain(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _write_text(path: str | os.PathLike, text: str) -> None:
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror}); name a folder that exists and that "
                         "you may write to.") from None


def _plain(value):
    if isinstance(value, Mapping):
        return {("none" if key is None else str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


# Pieces of the page. Each gives '' if there is nothing to show, and a section without a body is left out.

def _wrap(tag: str, body: str, css: str = "") -> str:
    return f'<{tag} class="{css}">{body}</{tag}>' if body else ""


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


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], best: Mapping[int, float] | None = None) -> str:
    """`best` gives for a column the value to set in bold. The first column names the row."""
    def cell(index, value):
        text = _cell(value)
        return f"<td><b>{text}</b></td>" if best and text == best.get(index) else f"<td>{text}</td>"

    head = "".join(f"<th>{escape(str(column))}</th>" for column in columns)
    body = "".join(f"<tr><th>{_cell(row[0])}</th>{''.join(cell(i, v) for i, v in enumerate(row[1:], 1))}</tr>"
                   for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _judge(judge: Mapping[str, Mapping]) -> str:
    named = {"": judge} if "overall" in judge else judge
    return "".join(_wrap("h3", escape(name)) + _scores(scores) for name, scores in named.items())


def _scores(scores: Mapping) -> str:
    overall, near = scores["overall"], scores.get("by_distance", {})
    rows = [[method, f"{s['l1']:.4f}", f"{s['psnr']:.2f}", f"{s['ssim']:.4f}", s["frames"]]
            for method, s in overall.items()]
    best = {1: min((row[1] for row in rows), key=float, default=None),
            2: max((row[2] for row in rows), key=float, default=None),
            3: max((row[3] for row in rows), key=float, default=None)}
    html = _table(["", "L1", "PSNR, dB", "SSIM", "frames"], rows, best)
    if not near:
        return html
    found = [[(f"{near[d][m]['psnr']:.2f}" if m in near[d] else None) for d in near] for m in overall]
    best = {i: max(filter(None, column), key=float) for i, column in enumerate(zip(*found), 1)}
    rows = [[method, *row] for method, row in zip(overall, found)]
    rows.append(["frames", *(max(s["frames"] for s in near[d].values()) for d in near)])
    html += '<p class="note">PSNR in dB, by distance in frames to the nearest usable frame</p>'
    html += _table(["", *("none" if d is None else d for d in near)], rows, best)
    known = [d for d in near if d is not None]
    lines = [Curve(m, [d for d in known if m in near[d]], [near[d][m]["psnr"] for d in known if m in near[d]])
             for m in overall]
    return html + (_chart("PSNR, dB, by distance", lines, marks=True) if len(known) > 1 else "")


# Pictures.

def _png(picture: np.ndarray) -> str:
    """A data address of a uint8 [H, W, 3 or 4] picture or a bool [H, W] mask."""
    picture = np.asarray(picture)
    if picture.dtype == bool:
        picture = picture.astype(np.uint8) * 255
    if picture.shape[0] > _TALLEST:
        width = max(1, round(picture.shape[1] * _TALLEST / picture.shape[0]))
        picture = cv2.resize(picture, (width, _TALLEST), interpolation=cv2.INTER_AREA)
    if picture.ndim == 3:
        picture = np.concatenate([picture[..., 2::-1], picture[..., 3:]], axis=-1)  # OpenCV writes BGR
    _, encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return "data:image/png;base64," + base64.b64encode(encoded).decode("ascii")


def _picture(picture: np.ndarray, overlay: str = "", label: str = "") -> str:
    """An image with drawings over it; tiny pictures keep their pixels' edges when enlarged."""
    height, width = picture.shape[:2]
    css = "pic tiny" if height < _SHOWN_HEIGHT else "pic"
    return (f'<span class="{css}" style="--aspect:{width / height:.4f}">'
            f'<img alt="{escape(label)}" src="{_png(picture)}">{overlay}</span>')


def _drawing(height: float, width: float, paths: str) -> str:
    return (f'<svg viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none" aria-hidden="true">'
            f"{paths}</svg>")


def _two_tone(path: str) -> str:
    """A line seen on any picture: light on dark."""
    return f'<path class="under" d="{path}"/><path class="over" d="{path}"/>'


def _outline(mask: np.ndarray) -> str:
    """The mask's edge, along the edges of its pixels."""
    padded = np.pad(mask.astype(np.int8), 1)
    segments = []
    for row, line in enumerate(np.diff(padded, axis=0)[:, 1:-1] != 0):
        segments += [f"M{start} {row}H{stop}" for start, stop in _runs(line)]
    for column, line in enumerate((np.diff(padded, axis=1)[1:-1] != 0).T):
        segments += [f"M{column} {start}V{stop}" for start, stop in _runs(line)]
    return _drawing(*mask.shape, _two_tone("".join(segments))) if segments else ""


def _runs(line: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of each run of trues."""
    ends = np.flatnonzero(np.diff(np.pad(line.astype(np.int8), 1)))
    return list(zip(ends[::2].tolist(), ends[1::2].tolist()))


def _strip(strip: Strip) -> str:
    masks = strip.rows.get("mask")
    shown = [next((row[t] for row in strip.rows.values() if row[t] is not None), None)
             for t in range(len(strip.frame_names))]
    aspects = [0.5 if p is None else p.shape[1] / p.shape[0] for p in shown]
    cells = '<span class="corner"></span>' + "".join(f'<span class="name">{escape(str(name))}</span>'
                                                     for name in strip.frame_names)
    for name, row in strip.rows.items():
        cells += f'<span class="row">{escape(name)}</span>'
        for t, picture in enumerate(row):
            outlined = name == "input" and masks is not None and masks[t] is not None
            label = f"{name}, frame {strip.frame_names[t]}"
            cells += ("<span></span>" if picture is None else
                      _picture(np.asarray(picture), _outline(masks[t]) if outlined else "", label))
    style = f"--count:{len(aspects)};--aspects:{sum(aspects):.3f}"
    return (f'<figure><figcaption>{escape(strip.caption)}</figcaption><div class="scroll">'
            f'<div class="strip" style="{style}">{cells}</div></div></figure>')


def _attention_gallery(pictures: Sequence[AttentionPicture]) -> str:
    return _wrap("div", "".join(map(_attention_picture, pictures)), "gallery")


def _attention_picture(picture: AttentionPicture) -> str:
    height, width = picture.frame.shape[:2]
    (y, x), (h, w) = picture.position, picture.patch
    top, bottom, left, right = ((y - h / 2) * height, (y + h / 2) * height,
                                (x - w / 2) * width, (x + w / 2) * width)
    frame = _drawing(height, width, _two_tone(f"M{left:.2f} {top:.2f}H{right:.2f}V{bottom:.2f}H{left:.2f}Z"))
    cells = f'<div>{_picture(picture.frame, frame, "the patch")}<small>patch</small></div>'
    for i, (neighbour, weights) in enumerate(zip(picture.neighbours, picture.weights, strict=True)):
        name = picture.names[i] if i < len(picture.names) else f"neighbour {i + 1}"
        cells += _attended(neighbour, np.asarray(weights, np.float64), name)
    return (f'<figure><figcaption>{escape(picture.caption)}</figcaption>'
            f'<div class="attention">{cells}</div></figure>')


def _attended(neighbour: np.ndarray, weights: np.ndarray, name: str) -> str:
    """The neighbour, dimmed, with the weights over it, and a cross at the largest."""
    peak, total = weights.max(), weights.sum()
    strength = np.sqrt(weights / peak) if peak > 0 else weights  # the root shows more than the peak alone
    colours = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    alpha = (255 * (0.35 + 0.5 * strength)).astype(np.uint8)[..., None]
    heat = f'<img class="heat" alt="" src="{_png(np.concatenate([colours, alpha], axis=-1))}">'
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    height, width = neighbour.shape[:2]
    py, px = (row + 0.5) * height / weights.shape[0], (column + 0.5) * width / weights.shape[1]
    arm = height / 30
    cross = _two_tone(f"M{px - arm:.2f} {py - arm:.2f}L{px + arm:.2f} {py + arm:.2f}"
                      f"M{px - arm:.2f} {py + arm:.2f}L{px + arm:.2f} {py - arm:.2f}")
    share = f"{peak / total:.1%}, {peak / total * weights.size:.0f}×" if total > 0 else "no weight"
    return (f'<div>{_picture(neighbour, heat + _drawing(height, width, cross), name)}'
            f"<small>{escape(name)}</small><small>{share}</small></div>")


# Charts.

_CHART = (360, 220)  # the drawing's own units; it scales with the page
_MARGINS = (46, 12, 12, 26)  # left, right, top, bottom
_MOST_POINTS = 200


def _curve_panels(curves: Sequence[Curve]) -> str:
    panels: dict[str, list[Curve]] = {}
    for curve in curves:
        panels.setdefault(curve.panel, []).append(curve)
    return _wrap("div", "".join(_chart(name, lines) for name, lines in panels.items()), "panels")


def _chart(title: str, curves: Sequence[Curve], *, marks: bool = False) -> str:
    """Lines over steps. The value axis is logarithmic where values are positive and span a factor of 30."""
    lines = [(curve.name, *_thinned(curve)) for curve in curves]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return ""
    steps, values = (np.concatenate([line[i] for line in lines]) for i in (1, 2))
    logarithmic = values.min() > 0 and values.max() > 30 * values.min()
    scale = np.log10 if logarithmic else np.asarray
    low, high = _padded(scale(values).min(), scale(values).max())
    first, last = (steps.min(), steps.max()) if np.ptp(steps) else (steps.min() - 1, steps.max() + 1)
    width, height = _CHART
    left, right, top, bottom = _MARGINS

    def at(step, value):
        return (left + (step - first) / (last - first) * (width - left - right),
                height - bottom - (scale(value) - low) / (high - low) * (height - top - bottom))

    drawn = []
    for tick in _log_ticks(low, high) if logarithmic else _ticks(low, high):
        _, y = at(first, tick)
        drawn.append(f'<path class="grid" d="M{left} {y:.1f}H{width - right}"/>'
                     f'<text x="{left - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_number(tick)}</text>')
    for tick in _ticks(first, last, whole=True):
        x = at(tick, values[0])[0]
        drawn.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{_number(tick)}</text>')
    for index, (name, line_steps, line_values) in enumerate(lines):
        points = [at(s, v) for s, v in zip(line_steps, line_values)]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{escape(name)}, {_number(s)}: {v:.4g}'
                       "</title></circle>" for (x, y), s, v in zip(points, line_steps, line_values)
                       ) if marks or len(points) == 1 else ""
        drawn.append(f'<g class="line c{index % 6}"><path d="{path}"/>{dots}</g>')
    legend = "".join(f'<span class="key c{i % 6}">{escape(line[0])}</span>' for i, line in enumerate(lines))
    return (f'<figure class="chart"><figcaption>{escape(title)}{", log scale" if logarithmic else ""}</figcaption>'
            f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'
            f'<div class="legend">{legend}</div></figure>')


def _thinned(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """The curve's finite points; of long ones, averages of neighbours."""
    steps, values = np.asarray(curve.steps, np.float64), np.asarray(curve.values, np.float64)
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(steps) <= _MOST_POINTS:
        return steps, values
    groups = zip(np.array_split(steps, _MOST_POINTS), np.array_split(values, _MOST_POINTS))
    return tuple(np.array([(s.mean(), v.mean()) for s, v in groups]).T)


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round numbers inside [low, high], three to seven of them where the numbers allow it."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * factor for factor in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    step = max(step, 1.0) if whole else step
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten inside [10**low, 10**high], with 2 and 5 between them where there are few."""
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    every = [f * 10.0 ** p for p in range(math.floor(low), math.ceil(high) + 1) for f in factors]
    return [tick for tick in every if low <= math.log10(tick) <= high]


def _number(value: float) -> str:
    if value and abs(value) >= 10_000:
        return f"{value / 1000:g}k" if abs(value) < 1e6 else f"{value / 1e6:g}M"
    return f"{value:.6g}"


_STYLE = """
:root { --paper: #fdfdfc; --ink: #1d1f24; --soft: #62666f; --rule: #dcdde0; --tint: #f3f3f1; --warn: #9a4a00;
  --c0: #2f6db3; --c1: #d1762b; --c2: #3a8f5c; --c3: #a8478f; --c4: #7a7566; --c5: #b53d3d; color-scheme: light; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #16181c; --ink: #e6e6e3; --soft: #9a9ea8; --rule: #34373d; --tint: #1f2227; --warn: #f0a75e;
    --c0: #6ea8ea; --c1: #f0a15c; --c2: #6cc492; --c3: #dc8ac6; --c4: #b5af9d; --c5: #ef8080; color-scheme: dark; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; letter-spacing: -.015em; margin: 0 0 .6rem; }
h2 { font-size: 1.25rem; margin: 0 0 .5rem; padding-top: 1.1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
h1, h2, h3, figcaption { text-wrap: balance; }
section { margin-top: 2.6rem; }
.summary { max-width: 44rem; font-size: 1.06rem; margin: 0; }
.note, figcaption, small { color: var(--soft); font-size: .875rem; }
.note { max-width: 44rem; margin: 0 0 .9rem; }
.notice { margin: .8rem 0 0; }
.notice a { color: var(--warn); font-weight: 600; }
.figures { display: flex; flex-wrap: wrap; gap: 1.1rem 2.6rem; margin: 1.7rem 0 0; }
.figures div { display: flex; flex-direction: column-reverse; }
.figures dt { color: var(--soft); font-size: .875rem; }
.figures dd { margin: 0; font-size: 1.7rem; line-height: 1.2; font-weight: 600; letter-spacing: -.01em;
  font-variant-numeric: tabular-nums; }
figure { margin: 0 0 1.7rem; }
figcaption { margin-bottom: .45rem; }
.scroll { overflow-x: auto; }
section { container-type: inline-size; }
.strip { --label: 5.4rem; --gap: 4px; display: grid; width: max-content; gap: var(--gap); align-items: center;
  grid-template-columns: var(--label) repeat(var(--count), auto);
  --room: calc(100cqw - var(--label) - var(--gap) * var(--count));
  --height: clamp(104px, calc(var(--room) / var(--aspects)), 152px); }
.name { font-size: .7rem; color: var(--soft); text-align: center; font-variant-numeric: tabular-nums; }
.row, .corner { position: sticky; left: 0; z-index: 1; background: var(--paper); align-self: stretch; display: flex;
  align-items: center; font-size: .8125rem; color: var(--soft); }
.pic { position: relative; display: block; height: var(--height); width: calc(var(--height) * var(--aspect));
  justify-self: center; }
.pic img, .pic svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.pic svg { overflow: visible; }
.tiny img, .heat { image-rendering: pixelated; }
.pic path { fill: none; vector-effect: non-scaling-stroke; }
.under { stroke: #000; stroke-width: 3px; stroke-opacity: .55; }
.over { stroke: #ffe14d; stroke-width: 1.5px; }
.gallery { display: flex; flex-wrap: wrap; gap: 0 2.4rem; }
.gallery figure { max-width: 100%; }
.attention { --height: 200px; display: flex; flex-wrap: wrap; gap: .5rem; }
.attention small { display: block; text-align: center; font-size: .75rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1rem 2rem; }
.chart { max-width: 30rem; margin: 1rem 0; break-inside: avoid; }
.chart svg { display: block; width: 100%; height: auto; }
.chart text { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--rule); }
.line path { fill: none; stroke: currentColor; stroke-width: 1.75; stroke-linejoin: round; }
.line circle { fill: currentColor; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding-left: .5rem; }
.key { font-size: .8125rem; }
.key::before { content: ""; display: inline-block; width: 1em; border-top: 3px solid; margin-right: .4em;
  vertical-align: .25em; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem; }
th, td { padding: .32rem .95rem .32rem 0; text-align: right; font-weight: 400; white-space: nowrap; }
th:first-child { text-align: left; }
thead th { color: var(--soft); font-size: .875rem; border-bottom: 1px solid var(--rule); }
td b { font-weight: 700; }
.scroll + .note { margin: 1.1rem 0 .3rem; }
.warnings { padding-left: 1.1rem; margin: 0; }
.warnings li { margin: .25rem 0; }
details { margin: .4rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre { background: var(--tint); padding: .8rem 1rem; border-radius: 6px; overflow-x: auto; white-space: pre-wrap;
  overflow-wrap: anywhere; font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (max-width: 40rem) {
  .strip { --label: 4.6rem; } .row { font-size: .72rem; } .figures { gap: .9rem 1.8rem; }
  .figures dd { font-size: 1.35rem; } .attention { --height: 160px; } }
@media print {
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; } .scroll { overflow: visible; }
  .strip { --height: min(110px, calc(var(--room) / var(--aspects))); } figure, table, li { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; } .row, .corner { position: static; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""
