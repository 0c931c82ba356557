"""Any folder of person/camera/tracklet/frame, with a text file that assigns tracklets to splits.

Each line of the file has a split and a path below the folder: a person, a person's camera, or a single tracklet. It
assigns all tracklets below that path; where several lines match a tracklet, the longest path counts. Empty lines, and
the rest of a line after a #, are skipped.

    train    0001
    train    0002
    gallery  0003
    query    0003/c1      # all of person 3's tracklets in camera c1
    gallery  0003/c1/t2   # but this one
    out      0004         # belongs to no split

Splits are train, query and gallery, and 'out' for tracklets to be left out; a tracklet that no line matches is an
error. The person -1 is junk, which ranking ignores. A person must not be both in train and in query or gallery.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from vrstc_jax.data.datasets import base
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime.errors import InputError

_SPLITS, _OUT = ("train", "query", "gallery"), "out"
_SPLIT_FILE = "splits.txt"
INSTRUCTIONS = ("Give as manual_dir a folder of pictures in person/camera/tracklet/frame, and beside its "
                f"people the file {_SPLIT_FILE} (or another as split_file), with lines such as 'train 0001', "
                "'query 0002/c1'.")


def read_folder_with_splits(manual_dir: str | Path, *, split_file: str | Path | None = None,
                            check_counts: bool = True) -> base.Splits:
    """Reads the tracklets of a folder, in natural order, by the splits that a file assigns.

    Each folder person/camera/tracklet of pictures is a tracklet of that name. Hidden files, and files that are
    not pictures, are skipped.

    Args:
      manual_dir: the folder.
      split_file: path of the file; None: `splits.txt` in the folder.
      check_counts: no effect; a folder has no published counts.

    Raises:
      InputError: no such folder or file; a line that is malformed, matches no tracklet, or repeats a path; a
        tracklet that no line matches, or without pictures; a person in train and in query or gallery.
    """
    del check_counts  # taken because `build` gives it to every reader
    top = Path(manual_dir)
    if not top.is_dir():
        raise InputError(f"{top}: no such folder. {INSTRUCTIONS}")
    split_file = Path(split_file) if split_file is not None else top / _SPLIT_FILE
    if not split_file.is_file():
        found = base.first_few(base.folders_in(top))
        raise InputError(f"{split_file}: no such file; {top} has {found}. {INSTRUCTIONS}")
    lines = _lines(split_file)
    splits = {split: [] for split in _SPLITS}
    used: set[PurePosixPath] = set()
    unassigned = []
    for path in (PurePosixPath(person, camera, number) for person in base.folders_in(top)
                 for camera in base.folders_in(top / person) for number in base.folders_in(top / person / camera)):
        matches = [level for level in (path, *path.parents) if level in lines]  # the longest path first
        used.update(matches)
        if not matches:
            unassigned.append(str(path))
        elif lines[matches[0]][0] != _OUT:
            splits[lines[matches[0]][0]].append(_tracklet(top, path))
    # A line without a tracklet is most likely a misspelt path.
    for path, (_, where) in lines.items():
        if path not in used:
            raise InputError(f"{where}: there is no tracklet {path} in {top}, and none below it; "
                             f"the people there are {base.first_few(base.folders_in(top))}.")
    if unassigned:
        person = sorted(unassigned)[0].partition("/")[0]
        raise InputError(f"{split_file}: gives no split to {len(unassigned)} tracklets: {base.first_few(unassigned)}; "
                         f"add them, or leave them out with a line such as '{_OUT} {person}'.")
    base.require_disjoint_people(split_file, splits)
    return splits


def _lines(split_file: Path) -> dict[PurePosixPath, tuple[str, str]]:
    """By path, (split, the line's name in messages)."""
    lines: dict[PurePosixPath, tuple[str, str]] = {}
    for number, text in enumerate(base.read_text(split_file).splitlines(), start=1):
        words = text.partition("#")[0].split(maxsplit=1)
        if not words:
            continue
        where = f"{split_file}, line {number}"
        if len(words) < 2 or words[0] not in (*_SPLITS, _OUT):
            raise InputError(f"{where}: must be one of {', '.join((*_SPLITS, _OUT))}, and a person, "
                             f"person/camera or person/camera/tracklet. Got {text.strip()!r}.")
        path = PurePosixPath(words[1].strip())
        if path.is_absolute() or ".." in path.parts or not 1 <= len(path.parts) <= 3:
            raise InputError(f"{where}: the path must be a person, person/camera or person/camera/tracklet. "
                             f"Got {str(path)!r}.")
        if path in lines:
            raise InputError(f"{where}: {path} is already in {lines[path][1].rpartition(', ')[2]}; keep one of them.")
        lines[path] = words[0], where
    return lines


def _tracklet(top: Path, path: PurePosixPath) -> Tracklet:
    files = base.pictures_in(top / path, "pictures must lie in person/camera/tracklet/frame")
    return base.file_tracklet(str(path), top / path, files, person=path.parts[0], camera=path.parts[1])


class Folder(base.ReidBuilder):
    """A folder of person/camera/tracklet/frame, with a split file (see the module `folder`)."""

    name = "folder"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    read = staticmethod(read_folder_with_splits)

    def __init__(self, *, split_file: str | Path | None = None, **kwargs: Any):
        self._split_file = split_file
        super().__init__(**kwargs)

    def _options(self) -> dict[str, Any]:
        return {"split_file": self._split_file}


BUILDER = Folder
