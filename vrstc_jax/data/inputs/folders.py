"""Reads tracklets from folders of frames.

A pattern of level names describes how the folders are nested, such as 'person/camera/tracklet/frame' or
'tracklet/frame': the last level is the picture files, those above are folders. Each folder of pictures is a tracklet,
named by its path below the top folder. Frames are in natural order (frame2 before frame10). Opening reads only headers
and checksums; indexing a tracklet reads a frame.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from vrstc_jax.data.images import check_picture, read_image
from vrstc_jax.data.inputs.companions import MASKS, TRUTH, CompanionKind, companions_of_frames
from vrstc_jax.data.inputs.picture_files import find_pictures, natural_path_key
from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.runtime.errors import InputError

_LEVELS = ("person", "camera", "tracklet", "frame")
_PATTERN_OF_DEPTH = {1: "frame", 2: "tracklet/frame", 3: "person/tracklet/frame", 4: "person/camera/tracklet/frame"}


def read_folder(directory: str | Path, *, pattern: str | None = None, masks: str | Path | None = None,
                truth: str | Path | None = None) -> list[Tracklet]:
    """Reads the tracklets in a folder of pictures.

    Args:
      directory: the top folder. Hidden files, and files that are not pictures, are skipped.
      pattern: level names out of person, camera, tracklet and frame, joined by '/', ending in frame.
        'frame' alone makes the folder one tracklet of its name. None: derived from the depth of the pictures
        (1: frame, 2: tracklet/frame, 3: person/tracklet/frame, 4: all).
      masks: a folder with a mask for every frame, of the same relative name (.png, or any picture) and
        size, white = hidden.
      truth: a folder with the picture without the occluder for every frame, in the same layout.

    Returns:
      One tracklet for each folder of pictures, in natural order.

    Raises:
      InputError: no such folder; no pictures; an invalid pattern, or one that the tree does not fit;
        pictures at different depths; two frames of one name; a damaged picture; masks or truth that are
        missing, too many, or of another size than their frames.
    """
    directory = Path(directory)
    pictures = find_pictures(directory, skip={Path(other).resolve() for other in (masks, truth) if other is not None})
    levels = _levels(directory, pattern, pictures)
    by_folder: dict[PurePosixPath, dict[PurePosixPath, Path]] = defaultdict(dict)
    for key in sorted(pictures, key=natural_path_key):
        by_folder[key.parent][key] = pictures[key]

    # A damaged picture must fail here, and not hours later in the middle of the work.
    sizes = {key: check_picture(path) for key, path in pictures.items()}

    def companions(top: str | Path | None, kind: CompanionKind) -> Mapping[PurePosixPath, LazySequence | None]:
        if top is None:
            return dict.fromkeys(by_folder)
        found = companions_of_frames(Path(top), kind, directory, pictures, sizes)
        return {folder: LazySequence.over([found[key] for key in files], kind.read)
                for folder, files in by_folder.items()}

    masks_of, truth_of = companions(masks, MASKS), companions(truth, TRUTH)
    tracklets = []
    for folder, files in by_folder.items():
        names = dict(zip(levels, folder.parts))
        tracklets.append(Tracklet(
            # The root of a file system has no name.
            name=str(folder) if folder.parts else (directory.resolve().name or "tracklet"),
            frames=LazySequence.over(list(files.values()), read_image), frame_names=tuple(key.name for key in files),
            person=names.get("person"), camera=names.get("camera"), masks=masks_of[folder], truth=truth_of[folder]))
    return tracklets


def _levels(directory: Path, pattern: str | None, pictures: dict[PurePosixPath, Path]) -> list[str]:
    """The level names of the pattern, checked against the depths of the pictures, or derived from them."""
    # One picture of each depth, for the messages: the first in natural order, the same on every machine.
    by_depth: dict[int, Path] = {}
    for key in sorted(pictures, key=natural_path_key):
        by_depth.setdefault(len(key.parts), pictures[key])
    for depth, path in by_depth.items():
        if depth not in _PATTERN_OF_DEPTH:
            raise InputError(f"{path}: lies {depth} levels below {directory}, and "
                             f"{_PATTERN_OF_DEPTH[4]} is the deepest; give a folder nearer to it.")
    if pattern is not None:
        levels = _parse_pattern(pattern)
        for depth, path in by_depth.items():
            if depth != len(levels):
                raise InputError(f"{path}: does not fit the pattern {pattern} below {directory}; "
                                 f"{_PATTERN_OF_DEPTH[depth]} would fit it.")
        return levels
    if len(by_depth) > 1:
        (first, path), (second, other) = list(by_depth.items())[:2]
        raise InputError(f"{other}: is {second} deep below {directory}, {path} {first} deep; give all one depth.")
    return _PATTERN_OF_DEPTH[next(iter(by_depth))].split("/")


def _parse_pattern(pattern: str) -> list[str]:
    levels = pattern.strip("/").split("/")
    if levels[-1] != "frame" or len(set(levels)) < len(levels) or not set(levels) <= set(_LEVELS):
        raise InputError(f"pattern {pattern!r}: must be some of {', '.join(_LEVELS)}, each at most once, joined by "
                         f"'/' and ending in frame, such as {_PATTERN_OF_DEPTH[4]}.")
    return levels
