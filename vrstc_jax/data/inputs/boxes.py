"""Boxes of people in a video, from MOTChallenge text.

One box a line: `frame,id,left,top,width,height[,conf,x,y,z]`, with commas or spaces between. Frames count
from 1; left, top, width and height are pixels of the picture, whose upper left corner is (0, 0).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vrstc_jax.runtime.errors import InputError

_FIELDS = ("frame", "id", "left", "top", "width", "height", "confidence")
_LARGEST = 2 ** 31


@dataclass(frozen=True, eq=False)
class Boxes:
    """N boxes, sorted by track, then by frame.

    Attributes:
      path: the file they are from.
      tracks, frames: int [N]; frames count from 1.
      rectangles: float [N, 4], left, top, width, height in pixels, as they stand in the file.
      lines: int [N], the line of the file, from 1, for messages.
      ignored: (track, frame) of the lines that the file itself marks as not to be considered.
    """

    path: Path
    tracks: np.ndarray
    frames: np.ndarray
    rectangles: np.ndarray
    lines: np.ndarray
    ignored: frozenset[tuple[int, int]] = frozenset()

    def __len__(self) -> int:
        return len(self.tracks)


def read_boxes(path: str | Path) -> Boxes:
    """The boxes in a MOTChallenge text file.

    Empty lines and lines that begin with '#' are passed over. A confidence of exactly 0 marks a line as not
    to be considered, as in MOTChallenge's ground truth; other confidences, and what stands behind them, are
    not looked at.

    Raises:
      InputError: no such file; no boxes; and, with file, line and value: too few fields, fields that are
        not numbers, a frame below 1, an id that is no track's number, a box of no area, one listed twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a text file of boxes in MOTChallenge form.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); "
                         "give a text file of boxes in MOTChallenge form.") from None
    rows, ignored, seen = [], set(), {}
    for line, content in enumerate(text.split("\n"), start=1):
        content = content.strip()
        if not content or content.startswith("#"):
            continue
        frame, track, left, top, width, height, confidence = _parse_line(f"{path}:{line}", content)
        if (track, frame) in seen:
            raise InputError(f"{path}:{line}: track {track} already has a box in frame {frame}, on line "
                             f"{seen[track, frame]}; keep one of them.")
        seen[track, frame] = line
        if confidence == 0:
            ignored.add((track, frame))
        else:
            rows.append((track, frame, line, left, top, width, height))
    if not rows:
        marked = f" that is to be considered ({len(ignored)} have confidence 0)" if ignored else ""
        raise InputError(f"{path}: holds no box{marked}; a line is frame,id,left,top,width,height.")
    table = np.array(sorted(rows), dtype=np.float64)
    tracks, frames, lines = table[:, :3].astype(np.int64).T
    return Boxes(path, tracks, frames, table[:, 3:], lines, frozenset(ignored))


def clip_box(rectangle: Sequence[float], picture_size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The whole pixels that a box covers within the picture: left, top, width, height; None if none.

    Args:
      rectangle: left, top, width, height in pixels.
      picture_size: height and width.
    """
    left, top, width, height = rectangle
    edges = []
    for start, length, limit in ((left, width, picture_size[1]), (top, height, picture_size[0])):
        first = math.floor(min(max(start, 0), limit))
        last = math.ceil(min(max(start + length, 0), limit))
        if last <= first:
            return None
        edges.append((first, last - first))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def _parse_line(place: str, content: str) -> tuple:
    fields = content.rstrip(",").split(",") if "," in content else content.split()
    if len(fields) < 6:
        raise InputError(f"{place}: {len(fields)} fields in {content[:60]!r}; "
                         "a box needs frame,id,left,top,width,height.")
    values = [_number(place, name, field.strip()) for name, field in zip(_FIELDS, fields)]
    frame, track, left, top, width, height = values[:6]
    for name, value, least in (("frame", frame, 1), ("id", track, 0)):
        if value != int(value) or not least <= value < _LARGEST:
            why = "frames count from 1" if name == "frame" else "an id is the number of a track, from 0"
            raise InputError(f"{place}: {name} {value:g} is not a whole number from {least}; {why}.")
    if width <= 0 or height <= 0:
        raise InputError(f"{place}: a box {width:g} wide and {height:g} high has no area; "
                         "correct it or take it out.")
    confidence = values[6] if len(values) > 6 else 1.0
    return int(frame), int(track), left, top, width, height, confidence


def _number(place: str, name: str, field: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{place}: {name} is {field[:40]!r}, which is not a number.")
    return value
