"""Reads tracklets from folders of frames.

A pattern of level names describes how the folders are nested, such as 'person/camera/tracklet/frame' or
'tracklet/frame': the last level is the picture files, those above are folders. Each folder of pictures is a tracklet,
named by its path below the top folder, unless its pictures' names, as those of MARS and Market-1501 are, say that there
are several in it (`reid_names`). Frames are in natural order (frame2 before frame10). Opening reads only headers and
checksums; indexing a tracklet reads a frame.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vrstc_jax.data.images import check_picture, read_image
from vrstc_jax.data.inputs.companions import MASKS, TRUTH, CompanionKind, companions_of_frames
from vrstc_jax.data.inputs.picture_files import find_pictures, natural_path_key
from vrstc_jax.data.inputs.reid_names import DISTRACTORS, JUNK, origins, several_sequences
from vrstc_jax.data.made_from import digest, files_content
from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.paths import resolved

_LEVELS = ("person", "camera", "tracklet", "frame")
_PATTERN_OF_DEPTH = {1: "frame", 2: "tracklet/frame", 3: "person/tracklet/frame", 4: "person/camera/tracklet/frame"}


@dataclass(frozen=True, eq=False)
class FolderContents:
    """What is in a folder of pictures.

    Attributes:
      tracklets: in natural order.
      notes: how names of a known form were understood, one sentence each.
      warnings: of names that are those of several sequences, one sentence each.
    """

    tracklets: list[Tracklet]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Group:
    """The pictures of one tracklet: its name, their keys, and what their names say."""

    name: str
    keys: list[PurePosixPath]
    person: str | None
    camera: str | None


def read_folder(directory: str | Path, *, pattern: str | None = None, masks: str | Path | None = None,
                truth: str | Path | None = None) -> list[Tracklet]:
    """The tracklets of `open_folder`, which has the same arguments."""
    return open_folder(directory, pattern=pattern, masks=masks, truth=truth).tracklets


def open_folder(directory: str | Path, *, pattern: str | None = None, masks: str | Path | None = None,
                truth: str | Path | None = None) -> FolderContents:
    """Reads the tracklets in a folder of pictures.

    Args:
      directory: the top folder. Hidden files, and files that are not pictures, are skipped.
      pattern: level names out of person, camera, tracklet and frame, joined by '/', ending in frame.
        'frame' alone makes the folder one tracklet of its name. None: derived from the depth of the pictures
        (1: frame, 2: tracklet/frame, 3: person/tracklet/frame, 4: all); folders that have several tracklets by the
        names of their pictures are then taken apart.
      masks: a folder with a mask for every frame, of the same relative name (.png, or any picture) and
        size, white = hidden.
      truth: a folder with the picture without the occluder for every frame, in the same layout.

    Returns:
      One tracklet for each folder of pictures, or several where names tell them apart.

    Raises:
      InputError: no such folder; no pictures; an invalid pattern, or one that the tree does not fit;
        pictures at different depths; two frames of one name; a damaged picture; masks or truth that are
        missing, too many, or of another size than their frames.
    """
    directory = Path(directory)
    pictures = find_pictures(directory, skip={resolved(Path(other)) for other in (masks, truth) if other is not None})
    levels = _levels(directory, pattern, pictures)
    by_folder: dict[PurePosixPath, dict[PurePosixPath, Path]] = defaultdict(dict)
    for key in sorted(pictures, key=natural_path_key):
        by_folder[key.parent][key] = pictures[key]

    # A damaged picture must fail here, and not hours later in the middle of the work.
    sizes = {key: check_picture(path) for key, path in pictures.items()}

    groups, notes = _by_names(directory, by_folder) if pattern is None else ([], ())
    if not groups:
        groups = [_whole_folder(directory, folder, list(files), levels) for folder, files in by_folder.items()]
    warnings = filter(None, (several_sequences(pictures[group.keys[0]].parent, [key.name for key in group.keys])
                             for group in groups))

    def companions(top: str | Path | None, kind: CompanionKind) -> list[LazySequence | None]:
        if top is None:
            return [None] * len(groups)
        found = companions_of_frames(Path(top), kind, directory, pictures, sizes)
        read, form = kind.reader(list(found.values()))
        return [LazySequence.over([found[key] for key in group.keys], read, form=form) for group in groups]

    tracklets = [
        Tracklet(name=group.name, frames=LazySequence.over([pictures[key] for key in group.keys], read_image),
                 frame_names=tuple(key.name for key in group.keys), person=group.person, camera=group.camera,
                 masks=mask, truth=true, made_from=digest([files_content(pictures[key] for key in group.keys),
                                                           mask and [mask.form, *files_content(mask.items)]]))
        for group, mask, true in zip(groups, companions(masks, MASKS), companions(truth, TRUTH))]
    return FolderContents(tracklets, notes, tuple(warnings))


def _whole_folder(directory: Path, folder: PurePosixPath, keys: list[PurePosixPath], levels: list[str]) -> _Group:
    """A folder as one tracklet."""
    names = dict(zip(levels, folder.parts))
    # The root of a file system has no name.
    name = str(folder) if folder.parts else (directory.resolve().name or "tracklet")
    return _Group(name, keys, names.get("person"), names.get("camera"))


def _by_names(directory: Path, by_folder: Mapping[PurePosixPath, Mapping[PurePosixPath, Path]],
              ) -> tuple[list[_Group], tuple[str, ...]]:
    """Takes folders apart by the names of their pictures, and says so; nothing if no folder has several tracklets."""
    groups: dict[str, _Group] = {}
    notes: dict[str, list[_Group]] = defaultdict(list)
    several = False
    for folder, files in by_folder.items():
        known = origins(key.name for key in files)
        if known is None:
            whole = _whole_folder(directory, folder, list(files), _PATTERN_OF_DEPTH[len(folder.parts) + 1].split("/"))
            groups[whole.name] = whole
            continue
        title, found = known
        several = several or len(set(found)) > 1
        for key, origin in zip(files, found):
            # MARS has a folder for each person, which is then the name's first part already.
            top = folder.parent if folder.name == origin.folder.partition("/")[0] else folder
            name = str(top / origin.folder)
            if name not in groups:
                groups[name] = _Group(name, [], origin.person, origin.camera)
                notes[title].append(groups[name])
            groups[name].keys.append(key)
    if not several:
        return [], ()
    return list(groups.values()), tuple(_note(directory, title, members) for title, members in notes.items())


def _note(directory: Path, title: str, groups: list[_Group]) -> str:
    people = {group.person for group in groups} - {JUNK, DISTRACTORS}
    cameras = {group.camera for group in groups}
    note = (f"{directory}: the pictures are named as in {title}, and are taken apart by name: {len(groups):,} "
            f"tracklets (people: {len(people):,}; cameras: {len(cameras)}")
    for person, what in ((JUNK, "junk"), (DISTRACTORS, "distractors")):
        if count := sum(group.person == person for group in groups):
            note += f"; tracklets of {what}: {count:,}"
    return note + ")"


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
