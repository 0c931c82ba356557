"""Strips of frames, and where attention looked, as the page's template takes them."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

_TALLEST = 320  # pixels; twice the height at which pictures are shown, which is what dense screens use


@dataclass(frozen=True, eq=False)
class Strip:
    """Some frames of a tracklet as columns of pictures: each row shows all of them in one form, such as completed.

    Attributes:
      rows: name ('input', 'mask', 'completion', 'truth' …) -> for every frame a picture, uint8 [H, W, 3], or a mask,
        bool [H, W]; None leaves a gap. Sizes may differ from frame to frame, not from row to row. If there are rows
        'input' and 'mask', what the mask hides is outlined in the input.
      frame_names: one for every frame, shown above it.

    Raises:
      ValueError: a row has more or fewer pictures than there are names.
    """

    caption: str
    rows: Mapping[str, Sequence[np.ndarray | None]]
    frame_names: Sequence[str]

    def __post_init__(self) -> None:
        for name, row in self.rows.items():
            if len(row) != len(self.frame_names):
                raise ValueError(f"strip {self.caption!r}: row {name!r} must have one picture for each of "
                                 f"{len(self.frame_names)} frame names. Got {len(row)}.")


@dataclass(frozen=True, eq=False)
class AttentionPicture:
    """Where the attention of one patch of a frame went in its neighbours.

    Attributes:
      position: the patch's centre, (y, x), each in 0..1 of the frame.
      patch: its (height, width), likewise.
      neighbours: pictures; any number, of any size.
      weights: for each neighbour float [h, w] ≥ 0, the softmax's weight at every position of its map.
      names: labels of the first neighbours; any further one is labelled by its number, such as 'neighbour 3'.
    """

    caption: str
    frame: np.ndarray
    position: tuple[float, float]
    patch: tuple[float, float]
    neighbours: Sequence[np.ndarray]
    weights: Sequence[np.ndarray]
    names: Sequence[str] = ("previous", "next")


@dataclass(frozen=True)
class Picture:
    """A picture of the page: data addresses of PNGs, and the SVG path `outline` in the picture's pixels.

    Attributes:
      heat: a picture with transparency that is laid over it.
      share: what is written below it.
    """

    label: str
    png: str
    height: int
    width: int
    outline: str = ""
    heat: str = ""
    share: str = ""


def strip(shown: Strip) -> dict[str, Any]:
    """The strip, its pictures encoded; 'aspects' is the sum over the frames, by which the page chooses a height."""
    masks = shown.rows.get("mask", [None] * len(shown.frame_names))
    rows = {name: [None if picture is None else
                   _picture(picture, f"{name}, frame {frame}", _outline(mask) if name == "input" else "")
                   for picture, frame, mask in zip(row, shown.frame_names, masks)]
            for name, row in shown.rows.items()}
    widest = [max((p.width / p.height for p in column if p), default=0.5) for column in zip(*rows.values())]
    return {"caption": shown.caption, "frame_names": shown.frame_names, "rows": rows, "aspects": f"{sum(widest):.3f}"}


def attention(shown: AttentionPicture) -> dict[str, Any]:
    """The frame with its patch outlined, and its neighbours with the weights over them, encoded.

    Raises:
      ValueError: there are not as many maps of weights as neighbours.
    """
    count = len(shown.neighbours)
    names = [*shown.names, *(f"neighbour {i + 1}" for i in range(len(shown.names), count))]
    patch = _picture(shown.frame, "patch", _box(shown.frame, *shown.position, *shown.patch))
    return {"caption": shown.caption, "pictures": [patch, *(
        _attended(neighbour, np.asarray(weights, np.float64), shown.patch, name)
        for neighbour, weights, name in zip(shown.neighbours, shown.weights, names[:count], strict=True))]}


def _attended(neighbour: np.ndarray, weights: np.ndarray, patch: tuple[float, float], name: str) -> Picture:
    """The neighbour, the weights over it, and an outline of the patch's size around the largest."""
    peak, total = weights.max(), weights.sum()
    strength = np.sqrt(weights / peak) if peak > 0 else weights  # the root shows more than the peak alone
    colours = cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    alpha = (255 * (0.35 + 0.5 * strength)).astype(np.uint8)[..., None]
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    box = _box(neighbour, (row + 0.5) / weights.shape[0], (column + 0.5) / weights.shape[1], *patch)
    return _picture(neighbour, name, box, heat=_png(np.concatenate([colours, alpha], axis=-1)),
                    share=f"{peak / total:.1%}, {peak / total * weights.size:.0f}×" if total > 0 else "no weight")


def _picture(picture: np.ndarray, label: str, outline: str, **parts: str) -> Picture:
    return Picture(label, _png(picture), picture.shape[0], picture.shape[1], outline, **parts)


def _png(picture: np.ndarray) -> str:
    """A data address of a uint8 [H, W, 3 or 4] picture or a bool [H, W] mask."""
    picture = np.asarray(picture)  # Arrays of JAX are pictures too.
    image = Image.fromarray(picture.astype(np.uint8) * 255 if picture.dtype == bool else picture)
    image.thumbnail((image.width, _TALLEST), Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _outline(mask: np.ndarray | None) -> str:
    """A path along the edges of the mask's pixels; '' where nothing is hidden."""
    if mask is None:
        return ""
    padded = np.pad(mask.astype(np.int8), 1)
    across, down = (np.diff(padded, axis=axis) != 0 for axis in (0, 1))
    return "".join([f"M{start} {row}H{stop}" for row, line in enumerate(across[:, 1:-1]) for start, stop in runs(line)]
                   + [f"M{column} {start}V{stop}" for column, line in enumerate(down[1:-1].T)
                      for start, stop in runs(line)])


def runs(line: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of each run of trues in bool [N]."""
    ends = np.flatnonzero(np.diff(np.pad(line.astype(np.int8), 1)))
    return list(zip(ends[::2].tolist(), ends[1::2].tolist()))


def _box(picture: np.ndarray, y: float, x: float, height: float, width: float) -> str:
    """A path around the rectangle whose centre is (y, x); all in 0..1 of the picture."""
    rows, columns = picture.shape[:2]
    top, bottom, left, right = ((y - height / 2) * rows, (y + height / 2) * rows,
                                (x - width / 2) * columns, (x + width / 2) * columns)
    return f"M{left:.2f} {top:.2f}H{right:.2f}V{bottom:.2f}H{left:.2f}Z"
