"""Masks of people that users have from a segmentation tool: of what is seen of each (modal), and of the whole (amodal).

For a video four forms are read; the frames and the people's numbers are those of the boxes:

* a folder of PNGs for each track, as of the masks of hidden parts: `<track>/<frame, 6 digits>.png`, of the crop;
* a folder of MOTS pictures, `<frame>.png` of 16 bits, whose values are 1000 · class + number, 0 for nobody and 10000
  for what is ignored;
* MOTS text, `frame id class height width RLE` in each line;
* COCO's run-length encodings in JSON, a list of objects, or `annotations` in an object, each with `segmentation`
  {size, counts}, `image_id` (the frame) and `track_id`.

A person's number in MOTS is 1000 · class + number too; where the boxes have no such track, the number alone is meant.
Who has no mask in a frame is not seen there.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vrstc_jax.data.images import check_picture
from vrstc_jax.data.inputs.boxes import Boxes
from vrstc_jax.data.inputs.companions import CompanionKind, companions_of_crops
from vrstc_jax.data.inputs.masks import MASK_SUFFIXES, mask_reader, mask_size
from vrstc_jax.data.inputs.picture_files import picture_files
from vrstc_jax.data.inputs.spool import Spool
from vrstc_jax.data.made_from import file_content
from vrstc_jax.data.tracklets import LazySequence
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import is_number
from vrstc_jax.runtime.storage import describe_error

VISIBLE, WHOLE = (CompanionKind(name, MASK_SUFFIXES, mask_reader, mask_size) for name in (
    "visible-person mask", "whole-person mask"))
_PER_CLASS = 1000
_IGNORED = 10_000
_PEDESTRIAN = 2  # of MOTS
_LINE = re.compile(r"(\d{1,10}) (\d{1,20}) (\d{1,4}) (\d{1,6}) (\d{1,6}) (\S+)", re.ASCII)


@dataclass(frozen=True)
class PeopleMasks:
    """Where masks of people are, if anywhere.

    Attributes:
      visible: of what is seen of each person.
      whole: of the whole person, hidden parts too.
    """

    visible: Path | None = None
    whole: Path | None = None


@dataclass(frozen=True)
class _Encoded:
    """A mask of a picture as COCO encodes it."""

    height: int
    width: int
    counts: bytes


_Masks = dict[tuple[int, int], _Encoded | Path]  # by frame from 1, and track


def masks_of_people(path: Path, kind: CompanionKind, boxes: Boxes, spool: Spool) -> dict[str, LazySequence]:
    """Reads the masks of each track's crops, bool [H_t, W_t], true where the person is.

    Raises:
      InputError: the path is of none of the forms; a mask is damaged or has another size than the picture; a track has
        no mask at all; or a library is needed and not there.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give the {kind.name}s.")
    if path.is_dir():
        pictures = picture_files(path, kind.suffixes)
        if not pictures:
            return companions_of_crops(path, kind, boxes, spool)
        found = _pictures(path, pictures, boxes, spool)
    else:
        found = _text(path, boxes) if path.suffix.lower() == ".txt" else _json(path, boxes)
    read = partial(_crop, path, spool.picture_size)
    made = {}
    for name, table in spool.crops.items():
        items = [(found.get((frame, int(name))), int(name), *box) for frame, *box in table.tolist()]
        if all(item[0] is None for item in items):
            raise InputError(f"{path}: has no {kind.name} of track {name} in any of its {len(items)} frames; take its "
                             "boxes out, or give masks of everybody.")
        made[name] = LazySequence.over(items, read, form="people")
    return made


def people_content(path: Path) -> list:
    """What changes when the masks do: a file's digest, or those of all files in a folder."""
    if not path.is_dir():
        return [file_content(path)]
    return [[str(file.relative_to(path)), file_content(file)] for file in sorted(path.rglob("*")) if file.is_file()]


def _pictures(folder: Path, pictures: Mapping[str, Path], boxes: Boxes, spool: Spool) -> _Masks:
    """The pictures of MOTS, each for all tracks."""
    found: _Masks = {}
    for stem, file in pictures.items():
        frame = int(stem) + 1 - boxes.first_frame if is_number(stem) else 0
        if frame < 1:
            raise InputError(f"{file}: its name is no number of a frame; MOTS pictures are <frame>.png.")
        if check_picture(file) != spool.picture_size:
            raise InputError(f"{file}: has another size than the video's picture, {spool.picture_size[1]}x"
                             f"{spool.picture_size[0]}.")
        for track in map(int, spool.crops):
            found[frame, track] = file
    return found


def _text(path: Path, boxes: Boxes) -> _Masks:
    found: _Masks = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({describe_error(error)}).") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None:
            raise InputError(f"{path}:{number}: is no line of MOTS, 'frame id class height width RLE'. Got "
                             f"{line[:60]!r}.")
        frame, track, _, height, width = (int(part) for part in parts.groups()[:5])
        if track == _IGNORED:
            continue
        key = frame + 1 - boxes.first_frame, _known(track, boxes)
        if key in found:
            raise InputError(f"{path}:{number}: track {key[1]} has two masks in frame {frame}; leave one out.")
        found[key] = _Encoded(height, width, parts[6].encode())
    return found


def _json(path: Path, boxes: Boxes) -> _Masks:
    found: _Masks = {}
    try:
        read: Any = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({describe_error(error)}); masks of people are COCO's in .json, MOTS' in "
                         ".txt, or pictures in a folder.") from None
    annotations = read.get("annotations") if isinstance(read, dict) else read
    if not isinstance(annotations, list):
        raise InputError(f"{path}: has no list of annotations, as COCO's files have.")
    for number, each in enumerate(annotations, start=1):
        try:
            frame, track = _whole_number(each["image_id"]), _whole_number(each["track_id"])
            height, width = map(_whole_number, each["segmentation"]["size"])
            counts = each["segmentation"]["counts"]
            encoded = _Encoded(height, width, counts.encode() if isinstance(counts, str) else _compressed(
                counts, height, width))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: annotation {number} has no image_id, track_id and segmentation with size and "
                             f"counts as COCO's have ({describe_error(error)}).") from None
        key = frame + 1 - boxes.first_frame, _known(track, boxes)
        if key in found:
            raise InputError(f"{path}: annotation {number}: track {key[1]} has two masks in frame {frame}; leave one "
                             "out.")
        found[key] = encoded
    return found


def _whole_number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no number")
    return value


def _known(track: int, boxes: Boxes) -> int:
    """A track's number as the boxes have it."""
    return track if (boxes.tracks == track).any() else track % _PER_CLASS


def _compressed(counts: list, height: int, width: int) -> bytes:
    """COCO's compressed counts of a list of counts."""
    mask = _coco().frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return mask["counts"]


def _coco() -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise InputError("to read run-length encodings pycocotools is needed: pip install 'vrstc_jax[masks]'; or give "
                         "the masks as pictures.") from None
    return mask


def _crop(path: Path, size: tuple[int, int], item: tuple) -> np.ndarray:
    """A person's mask in a crop; item: (encoded or file or None, track, left, top, width, height)."""
    encoded, track, left, top, width, height = item
    if encoded is None:
        return np.zeros((height, width), bool)
    mask = _of_picture(encoded, track) if isinstance(encoded, Path) else _decoded(path, encoded, size)
    return mask[top:top + height, left:left + width].copy()


def _decoded(path: Path, encoded: _Encoded, size: tuple[int, int]) -> np.ndarray:
    if (encoded.height, encoded.width) != size:
        raise InputError(f"{path}: has a mask of {encoded.width}x{encoded.height}, and the video's picture has "
                         f"{size[1]}x{size[0]}.")
    try:
        runs = _runs(encoded.counts)
        if min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
            raise ValueError(f"its runs have {sum(runs)} pixels of {size[0] * size[1]}")
        return _coco().decode({"size": list(size), "counts": encoded.counts}).astype(bool)
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(f"{path}: has a damaged run-length encoding ({describe_error(error)}).") from None


def _runs(counts: bytes) -> list[int]:
    """The lengths of the runs of compressed counts, of which pycocotools checks only that they are not too long.

    Each is written in groups of five bits, the lowest first, as its difference to the run two before it.
    """
    runs, value, shift = [], 0, 0
    for byte in counts:
        group = byte - 48
        if not 0 <= group < 64 or shift > 60:
            raise ValueError("it has a letter that is of no such encoding")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return runs


def _of_picture(file: Path, track: int) -> np.ndarray:
    values = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 2 or values.dtype != np.uint16:
        raise InputError(f"{file}: is no MOTS picture, of one channel with 16 bits.")
    return (values == track) | (values == _PEDESTRIAN * _PER_CLASS + track) & (track < _PER_CLASS)
