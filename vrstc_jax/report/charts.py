"""Line charts as SVG, drawn by matplotlib."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 200
_COLOURS = ("#2f6db3", "#d1762b", "#3a8f5c", "#a8478f", "#b8323e", "#7a7566")
_SOFT, _RULE = "#62666f", "#dcdde0"
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "vrstc",  # Without a salt the ids inside the SVG are random.
    "svg.fonttype": "none",  # Text stays text, in the reader's fonts, instead of outlines.
    "text.parse_math": False,  # A name with dollar signs is a name and no formula.
    "text.color": _SOFT, "xtick.labelcolor": _SOFT, "ytick.labelcolor": _SOFT, "font.size": 9,
    "axes.edgecolor": _RULE, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": _RULE,
    "xtick.color": _RULE, "ytick.left": False, "ytick.minor.left": False, "lines.linewidth": 1.5}


@dataclass(frozen=True)
class Curve:
    """One line of a chart; curves of the same `panel` share one. Values that are not finite are left out."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    panel: str = "loss"


class Chart(NamedTuple):
    """A drawn chart: its caption as text, and the element <svg>."""

    caption: str
    svg: Markup


def panels(curves: Sequence[Curve]) -> list[Chart]:
    """One chart per panel, in the order of each panel's first curve."""
    names = dict.fromkeys(curve.panel for curve in curves)
    return list(filter(None, (chart(name, [curve for curve in curves if curve.panel == name]) for name in names)))


def chart(title: str, curves: Sequence[Curve], *, marks: bool = False) -> Chart | None:
    """Draws lines over steps, with a legend; None if there is no finite value.

    The value axis is logarithmic where values are positive and the largest is over 30 times the smallest. Equal
    input gives equal text.

    Args:
      marks: whether to draw a dot on every point; a curve of one point has one anyway.
    """
    lines = [(curve.name, *_thinned(curve)) for curve in curves]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return None
    # Imported here, since most reports of `vrstc complete` have no chart, and matplotlib takes half a second.
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # without pyplot, whose state is the host program's

    written = io.StringIO()
    with rc_context(_SETTINGS):
        figure = Figure((5, 3.2), layout="constrained")
        axes = figure.subplots()
        drawn = [axes.plot(steps, values, color=_COLOURS[i % len(_COLOURS)], markersize=4,
                           marker="o" if marks or len(steps) == 1 else None)[0]
                 for i, (_, steps, values) in enumerate(lines)]
        caption = title + (", log scale" if _scale(axes, np.concatenate([values for *_, values in lines])) else "")
        figure.legend(drawn, [name for name, *_ in lines], loc="outside lower left", ncols=3, frameon=False)
        figure.savefig(written, format="svg", transparent=True,
                       metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = written.getvalue()
    svg = svg[svg.index("<svg "):]  # without the XML and document type declarations, which HTML does not take inside
    # Every chart numbers its parts (axes_1); ids are to be unique in a page. Those that are used are hashes.
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    # Screen readers then announce one picture by its title.
    return Chart(caption, Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)))


def _scale(axes: "Axes", values: np.ndarray) -> bool:
    """Sets both axes' scales and ticks; returns whether the value axis is logarithmic."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.10g}")
    span = values.max() / values.min() if values.min() > 0 else 0
    if span > 30:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 300 else (1,)))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:.10g}")
    return bool(span > 30)


def _thinned(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """The curve's finite points (steps, values), float64 [N]; of a long curve, averages of neighbours."""
    steps, values = np.asarray(curve.steps, np.float64), np.asarray(curve.values, np.float64)
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(steps) > _MOST_POINTS:
        steps, values = (np.array([part.mean() for part in np.array_split(axis, _MOST_POINTS)])
                         for axis in (steps, values))
    return steps, values
