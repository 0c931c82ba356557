"""Finds the files that accompany frames, one for each: masks, or the truth (the picture without the occluder).

Each function checks that no file is missing, none is left over, and each has the size of its frame: a folder of
another video would otherwise be used without a warning.
"""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from vrstc_jax.data.images import PICTURE_SUFFIXES, check_picture, read_image
from vrstc_jax.data.inputs.boxes import Boxes
from vrstc_jax.data.inputs.masks import MASK_SUFFIXES, mask_reader, mask_size
from vrstc_jax.data.inputs.picture_files import find_pictures, natural_path_key, picture_files
from vrstc_jax.data.inputs.spool import Spool
from vrstc_jax.data.tracklets import LazySequence
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import is_number


@dataclass(frozen=True)
class CompanionKind:
    """A kind of file that accompanies frames.

    Attributes:
      name: the kind's name in messages.
      suffixes: of its files, in small letters.
      reader: the paths of all such files of an input to (path to array [H, W, …], `LazySequence.form`).
      size: path to (height, width); also checks that the file is intact.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: Callable[[Collection[Path]], tuple[Callable[[Path], np.ndarray], str]]
    size: Callable[[Path], tuple[int, int]]


MASKS = CompanionKind("mask", MASK_SUFFIXES, mask_reader, mask_size)
TRUTH = CompanionKind("truth", PICTURE_SUFFIXES, lambda paths: (read_image, ""), check_picture)


def companions_of_frames(top: Path, kind: CompanionKind, directory: Path, pictures: dict[PurePosixPath, Path],
                         sizes: dict[PurePosixPath, tuple[int, int]]) -> dict[PurePosixPath, Path]:
    """Matches the files below `top` with the frames of a folder, by relative path without the suffix.

    Args:
      directory: the folder of the frames.
      pictures: the frames' files; sizes: their (height, width); both by relative path without the suffix.

    Raises:
      InputError: a file is missing, belongs to no frame, or has another size than its frame.
    """
    # Either folder may lie in the other; each search skips the other's files.
    found = find_pictures(top, skip={directory.resolve()}, suffixes=kind.suffixes)
    counts = f"{top} holds {len(found)} {kind.name} pictures for {len(pictures)} frames"
    for key in sorted(pictures, key=natural_path_key):
        if key not in found:
            raise InputError(f"{top / key}.png: missing, the {kind.name} of {pictures[key]}; {counts}.")
        _require_size(found[key], kind, sizes[key], f"of {pictures[key]}")
    for key in sorted(found, key=natural_path_key):
        if key not in pictures:
            raise InputError(f"{found[key]}: a {kind.name} that belongs to no frame of {directory}; {counts}.")
    return found


def companions_of_crops(folder: Path, kind: CompanionKind, boxes: Boxes, spool: Spool) -> dict[str, LazySequence]:
    """Reads the companions of each track's crops, of a video.

    The folder holds either `<track>/<frame, 6 digits>.png` of the size of the (clipped) crop, or
    `<frame, 6 digits>.png` of the size of the video's picture.

    Raises:
      InputError: neither layout or both; a file is missing, belongs to no box or frame, or has another size.
    """
    known = {str(track) for track in boxes.tracks} | {str(track) for track, _ in boxes.ignored}
    # Either layout alone is unambiguous; of both, it would be a guess which one is meant.
    of_pictures = picture_files(folder, kind.suffixes)
    of_tracks = sorted(name for name in os.listdir(folder) if (folder / name).is_dir() and not name.startswith("."))
    if bool(of_pictures) == bool(of_tracks):
        what = "both pictures and folders" if of_pictures else "neither pictures nor folders"
        raise InputError(f"{folder}: holds {what}; {kind.name} pictures are either <track>/<frame, 6 digits>.png "
                         "of the crops' size or <frame, 6 digits>.png of the picture's size.")
    if of_pictures:
        return _cut_from_pictures(folder, of_pictures, kind, spool)
    for name in of_tracks:
        if name not in known:
            raise InputError(f"{folder / name}: {kind.name} pictures of no track in {boxes.path}; take the folder out.")
    files = {name: _of_track(folder / name, kind, boxes, table) for name, table in spool.crops.items()}
    read, form = kind.reader([file for of_track in files.values() for file in of_track])
    return {name: LazySequence.over(of_track, read, form=form) for name, of_track in files.items()}


def _of_track(folder: Path, kind: CompanionKind, boxes: Boxes, crops: np.ndarray) -> list[Path]:
    track = int(folder.name)
    files = picture_files(folder, kind.suffixes) if folder.is_dir() else {}
    listed = set(boxes.frames[boxes.tracks == track].tolist())
    counts = f"{len(files)} {kind.name} pictures for {len(listed)} boxes of track {track}"
    wanted = _files_of_frames(folder, files, crops[:, 0], counts)
    for file, (frame, _, _, width, height) in zip(wanted, crops):
        _require_size(file, kind, (height, width), f"of the crop of track {track} in frame {frame}")
    # A box outside the picture or with confidence 0 has no crop, but a file for it does no harm.
    allowed = {f"{frame:06d}" for frame in listed | {frame for number, frame in boxes.ignored if number == track}}
    for stem, file in files.items():
        if stem not in allowed:
            raise InputError(f"{file}: belongs to no box of track {track} in {boxes.path}; {counts}.")
    return wanted


def _cut_from_pictures(folder: Path, files: dict[str, Path], kind: CompanionKind,
                       spool: Spool) -> dict[str, LazySequence]:
    needed = np.unique(np.concatenate([table[:, 0] for table in spool.crops.values()]))
    counts = f"{len(files)} {kind.name} pictures for {len(needed)} frames with boxes"
    file_of = dict(zip(needed.tolist(), _files_of_frames(folder, files, needed, counts)))
    for frame, file in file_of.items():
        _require_size(file, kind, spool.picture_size, f"of the whole picture {frame}")
    for stem, file in files.items():
        number = int(stem) if is_number(stem) else 0
        # Files for frames without boxes, or for frames after the point where a video breaks off, do no harm.
        beyond = number > spool.last_number and not spool.breaks_off
        if stem != f"{number:06d}" or number < 1 or beyond:
            raise InputError(f"{file}: belongs to no frame of the video ({spool.last_number} frames); {counts}.")
    read, form = kind.reader(list(file_of.values()))
    return {name: LazySequence.over([(file_of[frame], *box) for frame, *box in table.tolist()],
                                    partial(_read_crop, read), form=form)
            for name, table in spool.crops.items()}


def _read_crop(read: Callable[[Path], np.ndarray], item: tuple[Path, int, int, int, int]) -> np.ndarray:
    path, left, top, width, height = item
    # Copied, so that the whole picture is freed.
    return read(path)[top:top + height, left:left + width].copy()


def _files_of_frames(folder: Path, files: dict[str, Path], frames: np.ndarray, counts: str) -> list[Path]:
    for frame in frames:
        if f"{frame:06d}" not in files:
            raise InputError(f"{folder}/{frame:06d}.png: missing; {counts}.")
    return [files[f"{frame:06d}"] for frame in frames]


def _require_size(path: Path, kind: CompanionKind, wanted: tuple[int, int], whose: str) -> None:
    height, width = kind.size(path)
    if (height, width) != wanted:
        raise InputError(f"{path}: is {width}x{height}, must be {wanted[1]}x{wanted[0]} as the {kind.name} {whose}.")
