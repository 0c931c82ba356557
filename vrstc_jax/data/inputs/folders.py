"""Tracklets from folders of frames.

How the folders lie is one pattern of level names, such as 'person/camera/tracklet/frame' or
'tracklet/frame': the last level is the picture files, those above are folders. Each folder of pictures is a
tracklet; its path below the top is the tracklet's name. Frames are in natural order (frame2 before
frame10), and read when they are asked for; only their headers and checksums are read up front.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from vrstc_jax.data.images import PICTURE_SUFFIXES, check_picture, read_image, read_mask
from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.runtime.errors import InputError

LEVELS = ("person", "camera", "tracklet", "frame")
PATTERN_OF_DEPTH = {1: "frame", 2: "tracklet/frame", 3: "person/tracklet/frame",
                    4: "person/camera/tracklet/frame"}
_DEEPEST = 8  # Folders below this are not looked into, which also ends loops of links.


def read_folder(directory: str | Path, *, pattern: str | None = None, masks: str | Path | None = None,
                truth: str | Path | None = None) -> list[Tracklet]:
    """The tracklets in a folder of pictures.

    Args:
      directory: the top folder. Hidden files, and files that are no pictures, are passed over.
      pattern: level names out of person, camera, tracklet and frame, joined by '/', ending in frame.
        'frame' alone: the folder itself is one tracklet, which bears its name. None: found from the depth
        at which the pictures lie (1: frame, 2: tracklet/frame, 3: person/tracklet/frame, 4: all).
      masks: a folder with a mask for every frame, of the same relative name (.png, or any picture) and
        size, white = hidden.
      truth: a folder with the picture without the occluder for every frame, in the same way.

    Returns:
      One tracklet for each folder of pictures, in natural order.

    Raises:
      InputError: no such folder; no pictures; a pattern that is none, or that the tree does not fit;
        pictures at different depths; two frames of one name; a damaged picture; masks or truth that are
        missing, too many, or of another size than their frames.
    """
    directory = Path(directory)
    others = {Path(other).resolve() for other in (masks, truth) if other is not None}
    pictures = _find_pictures(directory, skip=others)
    levels = _levels(directory, pattern, pictures)
    by_folder = defaultdict(dict)
    for key in sorted(pictures, key=_natural_key):
        by_folder[key.parent][key] = pictures[key]

    sizes = {key: check_picture(path) for key, path in pictures.items()}
    mask_files = truth_files = None
    if masks is not None:
        mask_files = _companions(Path(masks), "mask", directory, pictures, sizes)
    if truth is not None:
        truth_files = _companions(Path(truth), "truth", directory, pictures, sizes)

    tracklets = []
    for folder, files in by_folder.items():
        names = dict(zip(levels, folder.parts))
        tracklets.append(Tracklet(
            name=str(folder) if folder.parts else (directory.resolve().name or "tracklet"),
            frames=picture_sequence(list(files.values()), read_image),
            frame_names=tuple(key.name for key in files),
            person=names.get("person"),
            camera=names.get("camera"),
            masks=mask_files and picture_sequence([mask_files[key] for key in files], read_mask),
            truth=truth_files and picture_sequence([truth_files[key] for key in files], read_image)))
    return tracklets


@dataclass(frozen=True)
class _FileReader:
    """Reads the picture at an index; a class and not a closure, so that workers can be sent it."""

    paths: tuple[Path, ...]
    read: Callable[[Path], np.ndarray]

    def __call__(self, index: int) -> np.ndarray:
        return self.read(self.paths[index])


def picture_sequence(paths: list[Path], read: Callable[[Path], np.ndarray]) -> LazySequence:
    """The pictures of these files, each read by `read` (such as `read_image`) when asked for."""
    return LazySequence(len(paths), _FileReader(tuple(paths), read))


def picture_files(directory: Path) -> dict[str, Path]:
    """The pictures that lie directly in a folder, by stem; hidden files and other files are passed over.

    Raises:
      InputError: two pictures of one stem.
    """
    found = {}
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.name.startswith(".") or not entry.name.lower().endswith(PICTURE_SUFFIXES):
            continue
        if not entry.is_file():
            continue
        path = Path(entry.path)
        if path.stem in found:
            raise InputError(f"{path}: {found[path.stem].name} beside it has the same name; "
                             "keep one picture for each frame.")
        found[path.stem] = path
    return found


def _find_pictures(top: Path, *, skip: set[Path] = frozenset()) -> dict[PurePosixPath, Path]:
    """All pictures below `top`, by relative path without the suffix."""
    if not top.is_dir():
        what = "a file, not a folder" if top.exists() else "no such folder"
        raise InputError(f"{top}: {what}; give a folder of pictures.")
    found = {}
    waiting = [PurePosixPath()]
    while waiting:
        folder = waiting.pop()
        try:
            for stem, path in picture_files(top / folder).items():
                found[folder / stem] = path
            inside = [entry.name for entry in os.scandir(top / folder)
                      if not entry.name.startswith(".") and entry.is_dir()]
        except OSError as error:
            raise InputError(f"{top / folder}: cannot be read ({error.strerror}).") from None
        if len(folder.parts) < _DEEPEST:
            waiting += [folder / name for name in inside
                        if not skip or (top / folder / name).resolve() not in skip]
    if not found:
        raise InputError(f"{top}: no pictures in this folder or below it; "
                         f"pictures end in {', '.join(PICTURE_SUFFIXES)}.")
    return found


def _levels(directory: Path, pattern: str | None, pictures: dict[PurePosixPath, Path]) -> list[str]:
    by_depth = {}
    for key in sorted(pictures, key=_natural_key):
        by_depth.setdefault(len(key.parts), pictures[key])
    for depth, path in by_depth.items():
        if depth not in PATTERN_OF_DEPTH:
            raise InputError(f"{path}: lies {depth} levels below {directory}, and "
                             f"{PATTERN_OF_DEPTH[4]} is the deepest; give a folder nearer to it.")
    levels = None if pattern is None else _parse_pattern(pattern)
    if levels is not None:
        for depth, path in by_depth.items():
            if depth != len(levels):
                raise InputError(f"{path}: does not fit the pattern {pattern} below {directory}; "
                                 f"{PATTERN_OF_DEPTH[depth]} would fit it.")
        return levels
    if len(by_depth) > 1:
        (first, path), (second, other) = list(by_depth.items())[:2]
        raise InputError(f"{other}: lies {second} deep below {directory}, {path} lies {first} deep; "
                         "put all pictures at one depth.")
    return PATTERN_OF_DEPTH[next(iter(by_depth))].split("/")


def _parse_pattern(pattern: str) -> list[str]:
    levels = pattern.strip("/").split("/")
    if levels[-1] != "frame" or len(set(levels)) < len(levels) or not set(levels) <= set(LEVELS):
        raise InputError(f"pattern {pattern!r}: must be some of {', '.join(LEVELS)}, each once, joined by "
                         f"'/' and ending in frame, such as {PATTERN_OF_DEPTH[4]}.")
    return levels


def _companions(top: Path, kind: str, directory: Path, pictures: dict[PurePosixPath, Path],
                sizes: dict[PurePosixPath, tuple[int, int]]) -> dict[PurePosixPath, Path]:
    """The picture below `top` for each frame: none missing, none more, each of the frame's size."""
    found = _find_pictures(top, skip={directory.resolve()})
    counts = f"{top} holds {len(found)} {kind} pictures for {len(pictures)} frames"
    for key in sorted(pictures, key=_natural_key):
        if key not in found:
            raise InputError(f"{top / key}.png: missing, the {kind} of {pictures[key]}; {counts}.")
        require_size(found[key], sizes[key], f"{kind} of {pictures[key]}")
    for key in sorted(found, key=_natural_key):
        if key not in pictures:
            raise InputError(f"{found[key]}: a {kind} that belongs to no frame of {directory}; {counts}.")
    return found


def require_size(path: Path, size: tuple[int, int], what: str) -> None:
    """Checks that the picture at `path` has this (height, width). `what` it is goes into the `InputError`."""
    height, width = check_picture(path)
    if (height, width) != size:
        raise InputError(f"{path}: is {width}x{height}, but must be {size[1]}x{size[0]} as the {what}.")


def _natural_key(path: PurePosixPath):
    """Sorts digits by value: frame2 before frame10. Equal values (1, 01) fall back on the text."""
    return [[int(piece) if piece.isdigit() else piece for piece in re.split(r"([0-9]+)", part)]
            for part in path.parts], path.parts
