"""Reads a folder of pictures as a video: the image sequences of MOTChallenge, and others with boxes.

In MOTChallenge's layout the pictures are in SEQUENCE/img1, and SEQUENCE/seqinfo.ini gives their number and frame rate.
"""

import configparser
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from vrstc_jax.data.images import read_image
from vrstc_jax.data.inputs.picture_files import natural_key, picture_files
from vrstc_jax.data.inputs.video import VideoReader
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import is_number
from vrstc_jax.runtime.storage import describe_error

_INFO = "seqinfo.ini"
_PICTURES = "img1"  # where seqinfo.ini names no folder
_ASSUMED_RATE = 25
_LARGEST = {"frameRate": 1000, "seqLength": 10**7}


class PictureSequence:
    """Reads the pictures of a folder in the order of their names; `number, frame` and attributes as `VideoReader`.

    Numbers count from 1. Where seqinfo.ini declares more frames than there are pictures, and the pictures' names are
    numbers up to that count, these are the frames' numbers. A missing or damaged picture costs its frame.

    Raises:
      InputError: no picture directly in the folder; seqinfo.ini cannot be read; while iterating: no picture can be
        read, or two pictures have different sizes.
    """

    def __init__(self, directory: str | Path):
        self.path = Path(directory)
        info = _read_info(self.path)
        folder = self.path if info.beside else self.path / info.folder
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder, but {info.path} names it as that of the pictures.")
        found = picture_files(folder)
        files = [found[stem] for stem in sorted(found, key=natural_key)]
        if not files:
            raise InputError(f"{folder}: holds no picture; boxes go with a video or with a folder of its pictures.")
        self.frame_rate = info.rate or Fraction(_ASSUMED_RATE)
        self.declared = info.length
        self.time_steps, self.time_base = self.frame_rate, 1 / self.frame_rate
        self.time, self.aspect = Fraction(-1), Fraction(1)
        self.picture_size = (0, 0)
        self.frames_read, self.last_number = 0, len(files)
        self.lost: list[int] = []
        self.broken: str | None = None
        self.notes: list[str] = []
        self._files = dict(enumerate(files, start=1))
        if info.rate is None:
            self.notes.append(f"{self.path}: no {_INFO} gives its frame rate; {_ASSUMED_RATE} frames a second are "
                              "assumed.")
        if info.length not in (None, len(files)):
            numbered = {int(path.stem): path for path in files if is_number(path.stem)}
            if len(numbered) == len(files) and min(numbered) >= 1 and max(numbered) <= (info.length or 0):
                self._files, self.last_number = numbered, info.length or 0
            else:
                self.notes.append(f"{info.path}: says {info.length} frames, but {folder} holds {len(files)} pictures; "
                                  "all are used, in the order of their names.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        first = error = None
        for number in range(1, self.last_number + 1):
            try:
                if number not in self._files:
                    raise InputError("missing")
                picture = read_image(self._files[number])
            except InputError as reason:
                error = error or reason
                self.lost.append(number)
                continue
            first = first or self._files[number]
            self.picture_size = self.picture_size if self.frames_read else picture.shape[:2]
            if picture.shape[:2] != self.picture_size:
                height, width = self.picture_size
                raise InputError(f"{self._files[number]}: is {picture.shape[1]}x{picture.shape[0]}, but {first} is "
                                 f"{width}x{height}; the pictures of a video have one size. Boxes do not go with crops "
                                 "of people: leave them out for these.")
            self.frames_read += 1
            self.time = (number - 1) / self.frame_rate
            yield number, picture
        if not self.frames_read and error is not None:
            raise error

    def rgb(self, frame: Any, *, exact: bool = False) -> np.ndarray:
        """The frame's picture, uint8 [H, W, 3], RGB: what the iteration yields, which is exact."""
        del exact
        return frame


FrameReader = VideoReader | PictureSequence


def open_frames(path: str | Path) -> FrameReader:
    """Opens a video file, or a folder of pictures as a video.

    Raises:
      InputError: as `VideoReader` and `PictureSequence`.
    """
    return PictureSequence(path) if Path(path).is_dir() else VideoReader(path)


def is_sequence(directory: str | Path) -> bool:
    """Whether seqinfo.ini marks a folder as a sequence of MOTChallenge, or as the pictures of one."""
    try:
        return _read_info(Path(directory)).path is not None
    except InputError:  # of a damaged seqinfo.ini
        return True


def picture_sizes(directory: Path) -> list[tuple[str, int, int]]:
    """Name, size in bytes and time of change of every picture of a sequence, and of its seqinfo.ini."""
    info = _read_info(directory)
    folder = directory if info.beside else directory / info.folder
    files = [*sorted(picture_files(folder).values())] if folder.is_dir() else []
    files += [info.path] if info.path else []
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


class _Info:
    """What seqinfo.ini says.

    Attributes:
      path: the file; None where there is none.
      beside: whether the folder given is that of the pictures, which the file lies beside.
      folder: name of the folder of the pictures.
      rate: frames a second; None: unknown.
      length: number of frames; None: unknown.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.beside = True
        self.folder = _PICTURES
        self.rate: Fraction | None = None
        self.length: int | None = None


def _read_info(directory: Path) -> _Info:
    """The seqinfo.ini in a folder, or in the folder above if that names this one as the folder of the pictures."""
    for top in (directory, directory.resolve().parent):
        path = top / _INFO
        if not path.is_file():
            continue
        info = _parse(path)
        info.beside = top != directory
        if not info.beside or directory.resolve().name == info.folder:
            return info
    return _Info()


def _parse(path: Path) -> _Info:
    info, parser = _Info(), configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig", errors="replace"))
        values = dict(parser["Sequence"]) if parser.has_section("Sequence") else {}
    except (OSError, configparser.Error) as error:
        raise InputError(f"{path}: cannot be read ({describe_error(error)}); correct it or take it out.") from None
    info.path, info.folder = path, values.get("imdir", _PICTURES).strip("/") or _PICTURES
    if Path(info.folder).name != info.folder or info.folder == "..":
        raise InputError(f"{path}: imDir is {info.folder[:60]!r}, which is not the name of a folder beside it; "
                         "correct it.")
    rate, length = (_positive(path, values, key) for key in ("frameRate", "seqLength"))
    info.rate, info.length = rate, None if length is None else int(length)
    return info


def _positive(path: Path, values: dict[str, str], key: str) -> Fraction | None:
    """A number above 0 and at most `_LARGEST`; None where it is not given."""
    text = values.get(key.lower(), "").strip()
    if not text:
        return None
    try:
        number = Fraction(text) if text.isascii() and len(text) < 20 else Fraction(0)
    except (ValueError, ZeroDivisionError):
        number = Fraction(0)
    whole = key == "frameRate" or number.denominator == 1
    if not 0 < number <= _LARGEST[key] or not whole:
        raise InputError(f"{path}: {key} is {text[:40]!r}; give a number above 0 and at most {_LARGEST[key]:,}.")
    return number.limit_denominator(1001)
