"""Writes the crops of a video to disk while the video is decoded.

A spool is a folder with one file for each track, `<track>.rgb`, the raw bytes of its crops one after the other, and
`index.json`. Memory use does not grow with the video's length, and a track can be read in any order afterwards.
The index is written last and marks the spool as complete. A later call reuses the spool while the video's size and
time of change and the boxes are the same.
"""

import json
import shutil
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from vrstc_jax.data.inputs.boxes import Boxes, clip_box
from vrstc_jax.data.inputs.picture_sequence import FrameReader, open_frames, picture_sizes
from vrstc_jax.data.made_from import digest
from vrstc_jax.data.tracklets import LazySequence
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import is_number
from vrstc_jax.runtime.records import read_bytes
from vrstc_jax.runtime.storage import remove, replace_file, require_writable_directory, temporary_room

_VERSION = 2
_SHOWN = 10  # frame numbers in a warning


class _TemporaryFolder:
    """A folder that is removed when this object is garbage-collected, or when the process ends."""

    def __init__(self) -> None:
        with temporary_room():
            self.path = Path(tempfile.mkdtemp(prefix="vrstc-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class Spool:
    """The crops of a video on disk.

    Attributes:
      path: the folder.
      crops: for each track's name, int [T, 5]: frame number from 1, left, top, width, height in pixels.
      track_warnings: irregularities of each track, by name; `warnings`: of the video.
      picture_size: height and width in pixels.
      frame_rate: frames per second.
      frames_read: how many frames could be decoded.
      last_number: the number of the last frame; more than `frames_read` where frames are lost.
      breaks_off: whether the video ends before its declared end.
    """

    path: Path
    crops: dict[str, np.ndarray]
    track_warnings: dict[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    picture_size: tuple[int, int]
    frame_rate: Fraction
    frames_read: int
    last_number: int
    breaks_off: bool
    _folder: _TemporaryFolder | None = None

    def frames(self, name: str) -> LazySequence:
        """The crops of a track, uint8 [H_t, W_t, 3] each, RGB."""
        height, width = self.crops[name][:, [4, 3]].T
        ends = np.cumsum(3 * height * width)
        extents = np.stack([ends - 3 * height * width, height, width], axis=1).tolist()
        # The sequence keeps a reference to the temporary folder, so that it is not removed before the last read.
        return LazySequence.over(extents, partial(_read_crop, self.path / f"{name}.rgb", self._folder))


def open_spool(path: str | Path | None, video: str | Path, boxes: Boxes) -> Spool:
    """Opens the spool at `path`; decodes the video into it first, unless it is complete and from these files.

    Boxes are clipped to the picture; those wholly outside are left out with a warning.

    Args:
      path: a folder, created if missing; None: a temporary one, removed with the last sequence that reads it.

    Raises:
      InputError: the video does not decode; a box lies beyond the last frame of a whole video; no box
        touches a picture; the folder cannot be written.
    """
    temporary = _TemporaryFolder() if path is None else None
    folder = temporary.path if temporary else Path(path or ".")
    of_video = _identity(Path(video))
    # By their content: they may come through a pipe, which has neither size nor time.
    of_boxes = digest([boxes.tracks.tolist(), boxes.frames.tolist(), boxes.rectangles.tolist()])
    key = {"version": _VERSION, "video": of_video, "boxes": of_boxes}
    keys = [key]
    # As version 1 had it, which knew neither of the options.
    if boxes.path.is_file() and boxes.first_frame == 1 and not boxes.other_classes:
        keys.append({"version": 1, "video": of_video, "boxes": _identity(boxes.path)})
    index = _load_index(folder, keys) or _fill(folder, key, Path(video), boxes)
    tracks = index["tracks"]
    height, width = index["picture_size"]
    last_number = index.get("last_number", index["frames_read"])  # earlier versions lost no frame before the last
    return Spool(
        folder, crops={name: np.array(entry["crops"], np.int64) for name, entry in tracks.items()},
        track_warnings={name: tuple(entry["warnings"]) for name, entry in tracks.items()},
        warnings=tuple(index["warnings"]), picture_size=(height, width), frame_rate=Fraction(index["frame_rate"]),
        frames_read=index["frames_read"], last_number=last_number, breaks_off=index["broken"], _folder=temporary)


def _read_crop(path: Path, _: _TemporaryFolder | None, extent: tuple[int, int, int]) -> np.ndarray:
    """Reads a crop, uint8 [H, W, 3], from (offset in bytes, height, width)."""
    offset, height, width = extent
    try:
        pixels = np.fromfile(path, np.uint8, count=3 * height * width, offset=offset)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); start again.") from None
    if pixels.size != 3 * height * width:
        raise InputError(f"{path}: has been cut short; remove its folder and start again.")
    return pixels.reshape(height, width, 3)


def _identity(path: Path) -> list:
    """Path, size and modification time of a file, or of the pictures in a folder."""
    if path.is_dir():
        return [str(path.resolve()), [list(picture) for picture in picture_sizes(path)], None]
    # Not a hash of the content: it would read the whole video at each start.
    if not path.is_file():
        return [str(path), None, None]
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _load_index(spool: Path, keys: list[dict]) -> dict | None:
    """The index of a spool that is complete and has one of the keys, or None."""
    try:
        index = json.loads(read_bytes(spool / "index.json"))
        if index["key"] not in keys:
            return None
        height, width = index["picture_size"]
        numbers = (height, width, index["frames_read"], index["broken"])
        if not (all(isinstance(number, int) for number in numbers) and Fraction(index["frame_rate"]) > 0
                and all(isinstance(warning, str) for warning in index["warnings"])):
            return None
        # A run killed while it refilled the folder may have left shorter files beside an older index.
        for name, entry in index["tracks"].items():
            crops = np.array(entry["crops"], np.int64)
            if (spool / f"{name}.rgb").stat().st_size != 3 * (crops[:, 3] * crops[:, 4]).sum():
                return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, ArithmeticError):
        return None
    return index


def _fill(spool: Path, key: dict, path: Path, boxes: Boxes) -> dict:
    """Decodes the video into the spool and returns its index; removes the spool's files on an error."""
    with open_frames(path) as video:  # Opened first: a file that is not a video leaves no folder behind.
        require_writable_directory(spool)
        _clear(spool)
        try:
            crops, outside = _write_crops(video, boxes, spool)
            index = _make_index(key, video, boxes, crops, outside, _check_end(video, boxes))
            replace_file(spool / "index.json", json.dumps(index).encode())
        # On an interruption too: an unfinished spool is useless and may be large.
        except BaseException as error:
            _clear(spool)
            if not isinstance(error, OSError):
                raise
            raise InputError(f"{spool}: the crops of {path} cannot be written here ({error.strerror}); "
                             "make room or give another folder.") from None
    return index


def _clear(spool: Path) -> None:
    """Removes the files of an earlier or unfinished spool, and no other files: the folder is the user's."""
    # The index first: a spool without one is incomplete, whatever else is left of it.
    remove(spool / "index.json")
    for file in spool.glob("*.rgb"):
        if is_number(file.stem):
            remove(file)


def _write_crops(video: FrameReader, boxes: Boxes, spool: Path) -> tuple[dict[int, list], dict[int, list]]:
    """Writes all crops; returns by track [frame, left, top, width, height], and the frames of boxes outside."""
    rows_of_frame = defaultdict(list)
    for row, frame in enumerate(boxes.frames):
        rows_of_frame[int(frame)].append(row)
    crops, outside = defaultdict(list), defaultdict(list)
    for number, frame in video:
        rows = rows_of_frame.get(number)
        if not rows:
            continue
        picture = video.rgb(frame)
        for row in rows:
            track = int(boxes.tracks[row])
            box = clip_box(boxes.rectangles[row], video.picture_size)
            if box is None:
                outside[track].append(number)
                continue
            left, top, width, height = box
            # Opened for each crop: a crowded video has more tracks at once than a process may have open files.
            with open(spool / f"{track}.rgb", "ab") as file:
                file.write(picture[top:top + height, left:left + width].tobytes())
            crops[track].append([number, left, top, width, height])
    return crops, outside


def _check_end(video: FrameReader, boxes: Boxes) -> list[str]:
    """Warnings about lost frames and the end of the video; an InputError for boxes beyond the end of a whole one."""
    beyond, lost = boxes.frames > video.last_number, np.isin(boxes.frames, video.lost)
    last = video.last_number
    if video.broken is not None:
        # Of a broken video the declared count decides; a transport stream declares none, so any frame may have existed.
        last = max(last, video.declared) if video.declared else None
    wrong = boxes.frames > last if last else np.zeros(len(boxes), bool)
    if wrong.any():
        row = np.flatnonzero(wrong)[np.argmin(boxes.lines[wrong])]
        before = boxes.first_frame - 1  # the numbers as the file has them
        raise InputError(f"{boxes.path}:{boxes.lines[row]}: frame {boxes.frames[row] + before} is beyond the last "
                         f"frame of {video.path}, {(last or 0) + before}; are these the boxes of this video?")
    warnings = list(video.notes)
    left = set(boxes.tracks[~beyond & ~lost].tolist())
    gone = sorted(set(boxes.tracks.tolist()) - left)
    whole = f", among them all of tracks {', '.join(map(str, gone))}" if gone else ""
    if video.lost:
        does, is_, it = ("does", "is", "it") if len(video.lost) == 1 else ("do", "are", "them")
        among = "" if beyond.any() else whole
        warnings.append(f"{video.path}: {_list_frames(video.lost)} {does} not decode or {is_} missing, and {is_} left "
                        f"out with {_count(lost.sum(), 'box')}{among}; the frames after {it} keep their numbers.")
    if video.broken is not None:
        lie, are = ("lies", "is") if beyond.sum() == 1 else ("lie", "are")
        more = f"; {_count(beyond.sum(), 'box')} {lie} beyond and {are} left out{whole}" if beyond.any() else ""
        warnings.append(f"{video.broken[:-1]}{more}.")
    return warnings


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 'es'}"


def _list_frames(frames: Sequence[int]) -> str:
    """The frames in words; a person who stays outside gives thousands, too many for a message."""
    listed = f"frame{'s' if len(frames) > 1 else ''} {', '.join(map(str, frames[:_SHOWN]))}"
    return listed + (f" and {len(frames) - _SHOWN} more" if len(frames) > _SHOWN else "")


def _make_index(key: dict, video: FrameReader, boxes: Boxes, crops: dict[int, list], outside: dict[int, list],
                warnings: list[str]) -> dict:
    height, width = video.picture_size
    if not crops:
        raise InputError(f"{boxes.path}: none of its {len(boxes)} boxes touches a picture of {video.path} "
                         f"({width}x{height}, {video.frames_read} frames read); are they of this video?")
    tracks = {}
    for track in sorted(set(crops) | set(outside)):
        frames = outside.get(track, [])
        listed = _list_frames(frames)
        if track in crops:
            about = [f"The box lies outside the picture in {listed}; left out there."] if frames else []
            tracks[str(track)] = {"crops": crops[track], "warnings": about}
        else:
            warnings.append(f"Track {track}: its box lies outside the picture in {listed}, everywhere; "
                            "the track is left out.")
    return {"key": key, "picture_size": [height, width], "frame_rate": str(video.frame_rate),
            "frames_read": video.frames_read, "last_number": video.last_number,
            "broken": video.broken is not None, "warnings": warnings, "tracks": tracks}
