"""Reads boxes of people in a video from MOTChallenge text.

Each line is one box: `frame,id,left,top,width,height[,conf,x,y,z]`, separated by commas or spaces. Frames count
from 1; left, top, width and height are pixels of the picture, whose upper left corner is (0, 0).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vrstc_jax.runtime.errors import InputError

_FIELDS = ("frame", "id", "left", "top", "width", "height", "confidence")
_LARGEST = 2**31  # Far beyond real frame and track numbers; keeps them exact as float64 and int64.


@dataclass(frozen=True, eq=False)
class Boxes:
    """N boxes, sorted by track, then by frame.

    Attributes:
      path: the file they were read from.
      tracks, frames: int [N]; frames count from 1.
      rectangles: float [N, 4], left, top, width, height in pixels, as in the file.
      lines: int [N], each box's line in the file, from 1, for error messages.
      ignored: (track, frame) of the lines with confidence 0.
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
    """Reads a MOTChallenge text file.

    Empty lines and lines that begin with '#' are skipped. A confidence of exactly 0 marks a line as ignored, as in
    MOTChallenge's ground truth; other confidences, and the fields after them, are not used.

    Raises:
      InputError: no such file; no boxes; and, with file, line and value: too few fields, fields that are
        not numbers, a frame below 1, an id that is not a track number, a box of no area, a box that is listed twice.
    """
    path = Path(path)
    try:
        # -sig: editors on Windows begin a file with a byte-order mark.
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise InputError(f"{path}: {what}; give a text file of boxes in MOTChallenge form.") from None
    rows: list[tuple[float, ...]] = []
    ignored: set[tuple[int, int]] = set()
    line_of: dict[tuple[int, int], int] = {}
    # Not splitlines: it also splits at form feeds, and line numbers would differ from an editor's.
    for line, content in enumerate(text.split("\n"), start=1):
        content = content.strip()
        if not content or content.startswith("#"):
            continue
        frame, track, *rectangle, confidence = _parse_line(f"{path}:{line}", content)
        box = int(track), int(frame)
        if box in line_of:
            raise InputError(f"{path}:{line}: track {box[0]} already has a box in frame {box[1]}, on line "
                             f"{line_of[box]}; keep one of them.")
        line_of[box] = line
        if confidence == 0:
            ignored.add(box)
        else:
            rows.append((*box, line, *rectangle))
    if not rows:
        but = f" but {len(ignored)} with confidence 0, which are ignored" if ignored else ""
        raise InputError(f"{path}: holds no box{but}; a line is frame,id,left,top,width,height.")
    # float64 holds track, frame and line numbers exactly (`_LARGEST`).
    table = np.array(sorted(rows), dtype=np.float64)
    tracks, frames, lines = table[:, :3].astype(np.int64).T
    return Boxes(path, tracks, frames, table[:, 3:], lines, frozenset(ignored))


def clip_box(rectangle: Sequence[float] | np.ndarray,
             picture_size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Clips a box to the whole pixels of the picture that it touches.

    Args:
      rectangle: left, top, width, height in pixels.
      picture_size: height and width.

    Returns:
      left, top, width, height in whole pixels, or None for a box that lies outside.
    """
    left, top, width, height = rectangle
    size = picture_size[::-1]
    # Rounded outwards: no pixel of the person may be lost to a tracker's fractions.
    first = np.floor(np.clip((left, top), 0, size)).astype(int)
    last = np.ceil(np.clip((left + width, top + height), 0, size)).astype(int)
    if (last <= first).any():
        return None
    return int(first[0]), int(first[1]), int(last[0] - first[0]), int(last[1] - first[1])


def _parse_line(where: str, content: str) -> tuple[float, ...]:
    """frame, id, left, top, width, height, confidence (1 if absent)."""
    # Some trackers end a line with a comma, and some separate by spaces.
    fields = content.rstrip(",").split(",") if "," in content else content.split()
    if len(fields) < 6:
        raise InputError(f"{where}: {len(fields)} fields in {content[:60]!r}; give frame,id,left,top,width,height.")
    values = [_number(where, name, field.strip()) for name, field in zip(_FIELDS, fields)]
    frame, track, left, top, width, height = values[:6]
    for name, value, least in (("frame", frame, 1), ("id", track, 0)):
        # Numbers such as 3.0 are accepted: some tools write every field as a float.
        if value != int(value) or not least <= value < _LARGEST:
            why = "frames count from 1" if name == "frame" else "an id is the number of a track, from 0"
            raise InputError(f"{where}: {name} {value:g} is not a whole number from {least}; {why}.")
    if width <= 0 or height <= 0:
        raise InputError(f"{where}: a box {width:g} wide and {height:g} high has no area; correct it or take it out.")
    return frame, track, left, top, width, height, values[6] if len(values) > 6 else 1.0


def _number(where: str, name: str, field: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {name} is {field[:40]!r}, which is not a number; give one.")
    return value
