"""Strips of frames, and where attention looked, as pieces of the page."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

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


def strip(strip: Strip) -> str:
    """The strip as a figure."""
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


def attention(picture: AttentionPicture) -> str:
    """The frame with its patch, and its neighbours with the weights, as a figure."""
    cells = f'<div>{_picture(picture.frame, _box(picture.frame, *picture.position, *picture.patch), "patch")}'
    cells += "<small>patch</small></div>"
    for i, (neighbour, weights) in enumerate(zip(picture.neighbours, picture.weights, strict=True)):
        name = picture.names[i] if i < len(picture.names) else f"neighbour {i + 1}"
        cells += _attended(neighbour, np.asarray(weights, np.float64), picture.patch, name)
    return (f"<figure><figcaption>{escape(picture.caption)}</figcaption>"
            f'<div class="attention">{cells}</div></figure>')


def _attended(neighbour: np.ndarray, weights: np.ndarray, patch: tuple[float, float], name: str) -> str:
    """The neighbour, dimmed, the weights over it, and a frame of the patch's size around the largest."""
    peak, total = weights.max(), weights.sum()
    strength = np.sqrt(weights / peak) if peak > 0 else weights  # the root shows more than the peak alone
    colours = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    alpha = (255 * (0.35 + 0.5 * strength)).astype(np.uint8)[..., None]
    heat = f'<img class="heat" alt="" src="{_png(np.concatenate([colours, alpha], axis=-1))}">'
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    box = _box(neighbour, (row + 0.5) / weights.shape[0], (column + 0.5) / weights.shape[1], *patch)
    share = f"{peak / total:.1%}, {peak / total * weights.size:.0f}×" if total > 0 else "no weight"
    return (f"<div>{_picture(neighbour, heat + box, name)}"
            f"<small>{escape(name)}</small><small>{share}</small></div>")


def _box(picture: np.ndarray, y: float, x: float, height: float, width: float) -> str:
    """A rectangle around (y, x), all in 0..1 of the picture."""
    rows, columns = picture.shape[:2]
    top, bottom, left, right = ((y - height / 2) * rows, (y + height / 2) * rows,
                                (x - width / 2) * columns, (x + width / 2) * columns)
    return _drawing(rows, columns, _two_tone(f"M{left:.2f} {top:.2f}H{right:.2f}V{bottom:.2f}H{left:.2f}Z"))
