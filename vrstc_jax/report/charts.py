"""Line charts as SVG, in the page's own colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_WIDTH, _HEIGHT = 360, 220  # the drawing's own units; it scales with the page
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 26  # margins
_MOST_POINTS = 200
_COLOURS = 6  # that the style gives


@dataclass(frozen=True)
class Curve:
    """One line of a chart; curves of the same `panel` share one. Values that are not finite are left out."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    panel: str = "loss"


def panels(curves: Sequence[Curve]) -> str:
    """One chart for each panel, in the order in which they first come."""
    grouped: dict[str, list[Curve]] = {}
    for curve in curves:
        grouped.setdefault(curve.panel, []).append(curve)
    return "".join(chart(name, lines) for name, lines in grouped.items())


def chart(title: str, curves: Sequence[Curve], *, marks: bool = False) -> str:
    """Lines over steps, as a figure with its legend; '' if there is no finite value.

    The value axis is logarithmic where values are positive and the largest is over 30 times the smallest.
    `marks` puts a dot on every point, which tells its value when pointed at.
    """
    lines = [(curve.name, *_thinned(curve)) for curve in curves]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return ""
    axes = _Axes(*(np.concatenate([line[i] for line in lines]) for i in (1, 2)))
    drawn, legend = axes.draw(), ""
    for i, line in enumerate(lines):
        drawn += f'<g class="line c{i % _COLOURS}">{_line(axes, *line, marks=marks)}</g>'
        legend += f'<span class="key c{i % _COLOURS}">{escape(line[0])}</span>'
    caption = escape(title) + (", log scale" if axes.logarithmic else "")
    return (f'<figure class="chart"><figcaption>{caption}</figcaption>'
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{drawn}</svg>'
            f'<div class="legend">{legend}</div></figure>')


class _Axes:
    """Where steps and values lie in the drawing."""

    def __init__(self, steps: np.ndarray, values: np.ndarray):
        self.logarithmic = bool(values.min() > 0 and values.max() > 30 * values.min())
        self._scale = np.log10 if self.logarithmic else np.asarray
        low, high = self._scale(values).min(), self._scale(values).max()
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        self._low, self._high = low - margin, high + margin
        self._first, self._last = steps.min(), steps.max()
        if self._first == self._last:
            self._first, self._last = self._first - 1, self._last + 1

    def x(self, step: float) -> float:
        return _LEFT + (step - self._first) / (self._last - self._first) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (self._scale(value) - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def draw(self) -> str:
        values = (_log_ticks if self.logarithmic else _ticks)(self._low, self._high)
        steps = _ticks(self._first, self._last, whole=True)
        return "".join(
            [f'<path class="grid" d="M{_LEFT} {self.y(tick):.1f}H{_WIDTH - _RIGHT}"/>'
             f'<text x="{_LEFT - 6}" y="{self.y(tick) + 3.5:.1f}" text-anchor="end">{label}</text>'
             for tick, label in zip(values, _labels(values))]
            + [f'<text x="{self.x(tick):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{label}</text>'
               for tick, label in zip(steps, _labels(steps))])


def _line(axes: _Axes, name: str, steps: np.ndarray, values: np.ndarray, *, marks: bool) -> str:
    points = [(axes.x(step), axes.y(value)) for step, value in zip(steps, values)]
    path = '<path d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + '"/>'
    if not marks and len(points) > 1:
        return path
    return path + "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3">'
                          f"<title>{escape(name)}, {step:g}: {value:.4g}</title></circle>"
                          for (x, y), step, value in zip(points, steps, values))


def _thinned(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """The curve's finite points; of long ones, averages of neighbours."""
    steps, values = np.asarray(curve.steps, np.float64), np.asarray(curve.values, np.float64)
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(steps) <= _MOST_POINTS:
        return steps, values
    groups = zip(np.array_split(steps, _MOST_POINTS), np.array_split(values, _MOST_POINTS))
    return tuple(np.array([(s.mean(), v.mean()) for s, v in groups]).T)


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


def _labels(ticks: Sequence[float]) -> list[str]:
    """The numbers of one axis, all in the same unit."""
    largest = max(map(abs, ticks), default=0)
    unit, suffix = next(((u, s) for u, s in ((1e6, "M"), (1e3, "k")) if largest >= 10 * u), (1, ""))
    return [f"{tick / unit:.6g}{suffix}" if tick else "0" for tick in ticks]
