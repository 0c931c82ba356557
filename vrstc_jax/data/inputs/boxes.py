"""Reads boxes of people in a video from MOTChallenge text.

Each line is one box: `frame,id,left,top,width,height[,conf,x,y,z]`, separated by commas or spaces. Frames count
from 1, or as `first_frame` says; left, top, width and height are pixels of the picture, whose upper left corner is
(0, 0). MOTChallenge's own ground truth has other fields at the end, `flag,class,visibility`.
"""

import codecs
import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import is_number
from vrstc_jax.runtime.storage import read_stream

_FIELDS = ("frame", "id", "left", "top", "width", "height", "confidence")
_MOST_FRAMES = 2**31  # far beyond a real frame's number
_MOST_TRACKS = 2**64  # trackers give random or hashed ids of 64 bits
# `float` also accepts digits of other scripts and underscores between digits.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# UTF-32's mark begins with that of UTF-16.
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
          (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_PEDESTRIAN = 1
# Of MOT16, MOT17 and MOT20.
_CLASSES = {1: "pedestrian", 2: "person on vehicle", 3: "car", 4: "bicycle", 5: "motorbike",
            6: "non-motorised vehicle", 7: "static person", 8: "distractor", 9: "occluder",
            10: "occluder on the ground", 11: "full occluder", 12: "reflection", 13: "crowd"}
_OUT_OF_PICTURE = 0.1  # of a box's area; trackers' boxes often leave the picture by less
_ENOUGH = 10  # boxes; of fewer, most may leave the picture by chance


@dataclass(frozen=True, eq=False)
class Boxes:
    """N boxes, sorted by track, then by frame.

    Attributes:
      path: the file they were read from.
      tracks: uint64 [N]; frames: int64 [N], which count from 1 whatever the file's do.
      rectangles: float [N, 4], left, top, width, height in pixels, as in the file.
      lines: int [N], each box's line in the file, from 1, for error messages.
      ignored: (track, frame) of the lines that were left out.
      other_classes: how many of these are left out for their class.
      first_frame: the file's number of the video's first frame.
      warnings: about the file as a whole, one sentence each.
    """

    path: Path
    tracks: np.ndarray
    frames: np.ndarray
    rectangles: np.ndarray
    lines: np.ndarray
    ignored: frozenset[tuple[int, int]] = frozenset()
    other_classes: int = 0
    first_frame: int = 1
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.tracks)


@dataclass
class _Rows:
    """The lines of a file, one item of each list for each line, and four numbers of `rectangles`."""

    boxes: list[tuple[int, int]] = field(default_factory=list)  # track, frame
    lines: list[int] = field(default_factory=list)
    rectangles: "array[float]" = field(default_factory=lambda: array("d"))
    confidences: list[float] = field(default_factory=list)
    classes: list[int | None] = field(default_factory=list)  # as `_mot_class` gives them


def read_boxes(path: str | Path, *, first_frame: int = 1) -> Boxes:
    """Reads a MOTChallenge text file in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark.

    Empty lines and lines that begin with '#' are skipped. Left out, with a warning that counts them, are lines with a
    confidence of exactly 0, which marks them as ignored in MOTChallenge's ground truth, and, in a file with its
    classes, those of other classes than 1, pedestrian. Other confidences and fields are not used.

    Args:
      first_frame: the number that the file gives to the video's first frame.

    Raises:
      InputError: no such file; no boxes; boxes that are fractions of the picture; and, with file, line and value: too
        few fields, fields that are not numbers, a frame below `first_frame`, an id that is not a track number, a box
        of no area, a box that is listed twice.
    """
    path = Path(path)
    rows = _Rows()
    # Not splitlines: it also splits at form feeds, and line numbers would differ from an editor's.
    for line, content in enumerate(re.split("\r\n|\r|\n", _read_text(path)), start=1):
        content = content.strip()
        if content and not content.startswith("#"):
            _add_line(rows, f"{path}:{line}", line, content, first_frame)
    kept, others, left_out = _leave_out(rows)
    if not len(kept):
        but = f" but {len(rows.lines)} that are left out ({left_out})" if left_out else ""
        raise InputError(f"{path}: holds no box{but}; a line is frame,id,left,top,width,height.")
    _require_distinct(path, rows, kept, first_frame)
    rectangles = np.frombuffer(rows.rectangles).reshape(-1, 4)[kept]
    lines = np.array(rows.lines, np.int64)[kept]
    _require_pixels(path, rectangles, lines)
    tracks = np.array([track for track, _ in rows.boxes], np.uint64)[kept]
    frames = np.array([frame for _, frame in rows.boxes], np.int64)[kept]
    order = np.lexsort((frames, tracks))
    ignored = set(range(len(rows.lines))) - set(kept.tolist())
    warnings = (f"{path}: {len(ignored)} of {len(rows.lines)} rows are left out: {left_out}.",) if ignored else ()
    return Boxes(path, tracks[order], frames[order], rectangles[order], lines[order],
                 frozenset(rows.boxes[row] for row in ignored), others, first_frame, warnings)


def picture_warnings(boxes: Boxes, picture_size: tuple[int, int]) -> list[str]:
    """A warning if most boxes leave a picture of this height and width, with a guess at the reason."""
    height, width = picture_size
    first, size = boxes.rectangles[:, :2], boxes.rectangles[:, 2:]
    inside = (np.minimum(first + size, (width, height)) - np.maximum(first, 0)).clip(0).prod(axis=1)
    out = inside < (1 - _OUT_OF_PICTURE) * size.prod(axis=1)
    if out.mean() <= 0.5:
        return []
    found = f"{boxes.path}: {out.sum()} of {len(boxes)} boxes run out of the picture ({width}x{height})"
    # As corners, boxes of a tracker may leave the picture by a little too.
    as_corners = (size > first).all(axis=1) & (size <= 1.05 * np.array((width, height))).all(axis=1)
    if as_corners.mean() >= 0.9:
        return [f"{found}, and would fit as left, top, right, bottom (x1, y1, x2, y2); if they are that, give width "
                "= x2 - x1 and height = y2 - y1 instead."]
    if len(boxes) < _ENOUGH:
        return []
    right, bottom = (first + size).max(axis=0)
    return [f"{found}; they reach to {right:g}x{bottom:g}. If they are of a copy of another size, scale them to this "
            "picture's."]


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


def _read_text(path: Path) -> str:
    try:
        data = read_stream(path)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read ({error}); give a text file of boxes in MOTChallenge form.") from None
    except OSError as error:
        what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise InputError(f"{path}: {what}; give a text file of boxes in MOTChallenge form.") from None
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", "utf-8"))
    return data[len(mark):].decode(encoding, errors="replace")


def _add_line(rows: _Rows, where: str, line: int, content: str, first_frame: int) -> None:
    # Some trackers end a line with a comma, and some separate by spaces.
    fields = [each.strip() for each in (content.rstrip(",").split(",") if "," in content else content.split())]
    if len(fields) < 6:
        raise InputError(f"{where}: {len(fields)} fields in {content[:60]!r}; give frame,id,left,top,width,height.")
    frame, track, left, top, width, height, *confidence = (_number(where, name, text)
                                                           for name, text in zip(_FIELDS, fields))
    from_zero = "" if first_frame == 0 else "; for a file whose frames count from 0, give --first-frame 0"
    number = _whole(where, "frame", fields[0], frame, (first_frame, _MOST_FRAMES),
                    f"frames count from {first_frame}{from_zero if frame == 0 else ''}")
    untracked = "; -1 marks a detection without a track, so give a tracker's output" if track == -1 else ""
    identity = _whole(where, "id", fields[1], track, (0, _MOST_TRACKS),
                      f"an id is the number of a track, from 0 to 2^64 - 1{untracked}")
    if width <= 0 or height <= 0:
        raise InputError(f"{where}: a box {width:g} wide and {height:g} high has no area; correct it or take it out.")
    rows.boxes.append((identity, number - first_frame + 1))
    rows.lines.append(line)
    rows.rectangles.extend((left, top, width, height))
    rows.confidences.append(confidence[0] if confidence else 1.0)
    rows.classes.append(_mot_class(rows.confidences[-1], fields[7:]))


def _number(where: str, name: str, text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {name} is {text[:40]!r}, which is not a number; give one.")
    return value


def _whole(where: str, name: str, text: str, value: float, limits: tuple[int, int], why: str) -> int:
    """The whole number in `text`, exactly; `value` is the nearest float."""
    if is_number(text) and len(text) <= 20:
        exact = int(text)
    else:
        # Some tools write every field as a float, such as 3.0; beyond 2^53 two numbers could become one.
        exact = int(value) if value == int(value) and value < 2**53 else -1
    if not limits[0] <= exact < limits[1]:
        shown = text if is_number(text) and len(text) <= 40 else f"{value:g}"
        raise InputError(f"{where}: {name} {shown} is not a whole number from {limits[0]}; {why}.")
    return exact


def _leave_out(rows: _Rows) -> tuple[np.ndarray, int, str]:
    """The indices of the rows to keep, int [K], how many are of other classes, and what is left out ('': nothing)."""
    rejected = np.array(rows.confidences) == 0
    count = 0
    reasons = [f"{rejected.sum():,} with confidence 0"] if rejected.any() else []
    # One row that cannot be of MOTChallenge's ground truth shows a file of another kind.
    if None not in rows.classes:
        classes = np.array(rows.classes, np.int64)
        others = ~rejected & (classes > 0) & (classes != _PEDESTRIAN)
        count = int(others.sum())
        if count:
            counts = Counter(classes[others].tolist())
            listed = ", ".join(f"{n:,} of {number} {_CLASSES[number]}" for number, n in sorted(counts.items()))
            reasons.append(f"{count:,} of MOTChallenge's classes other than 1 pedestrian ({listed})")
        rejected = rejected | others
    return np.flatnonzero(~rejected), count, " and ".join(reasons)


def _mot_class(flag: float, tail: list[str]) -> int | None:
    """The class of a row of MOTChallenge's ground truth, -1 for unknown; None for a row that is of another file.

    Most other files have a position in the world in place of class and visibility, or -1.

    Args:
      tail: the fields after the flag.
    """
    values = [float(text) if _NUMBER.fullmatch(text) else math.nan for text in tail]
    kind, visibility, more = (*values, -1.0, -1.0, -1.0)[:3]
    fits = flag in (0, 1) and (kind == -1 or kind in _CLASSES) and (visibility == -1 or 0 <= visibility <= 1)
    return int(kind) if fits and more == -1 and len(values) <= 3 else None


def _require_distinct(path: Path, rows: _Rows, kept: np.ndarray, first_frame: int) -> None:
    line_of: dict[tuple[int, int], int] = {}
    for row in kept:
        track, frame = box = rows.boxes[row]
        if box in line_of:
            raise InputError(f"{path}:{rows.lines[row]}: track {track} already has a box in frame "
                             f"{frame + first_frame - 1}, on line {line_of[box]}; keep one of them.")
        line_of[box] = rows.lines[row]


def _require_pixels(path: Path, rectangles: np.ndarray, lines: np.ndarray) -> None:
    """Refuses boxes that are fractions of the picture: none is larger than a pixel."""
    # Fractions of a box that leaves the picture may lie a little beyond 0 and 1.
    if (rectangles[:, 2:] <= 1).all() and (abs(rectangles[:, :2] - 0.5) <= 1.5).all():
        left, top, width, height = rectangles[0]
        raise InputError(f"{path}: all {len(rectangles)} boxes lie within 0 to 1 (line {lines[0]}: {left:g}, {top:g}, "
                         f"{width:g}, {height:g}), so they seem to be fractions of the picture; give pixels: multiply "
                         "left and width by the picture's width, top and height by its height.")
