"""Any folder of person/camera/tracklet/frame, with a file that says what is for training and for testing.

The file is text. Each line has a split and a path below the folder: a person, a person's camera, or a single
tracklet. It takes all that lies there; where several lines take a tracklet, the longest path counts. Empty
lines, and what follows a #, are passed over.

    train    0001
    train    0002
    gallery  0003
    query    0003/c1      # all of person 3's tracklets in camera c1
    gallery  0003/c1/t2   # but this one
    out      0004         # belongs to no split

Splits are train, query and gallery, and out for what is to be left out: a tracklet that no line takes is an
error. A person called -1 is junk, for every query: nobody in particular. A person must not be both in train
and in query or gallery.
"""

from pathlib import Path, PurePosixPath

from vrstc_jax.data.datasets.base import (
    ReidBuilder,
    Splits,
    file_tracklet,
    folders_in,
    natural,
    require_disjoint_people,
    shown,
)
from vrstc_jax.data.inputs.picture_files import picture_files
from vrstc_jax.runtime.errors import InputError

SPLITS, OUT = ("train", "query", "gallery"), "out"
SPLIT_FILE = "splits.txt"
INSTRUCTIONS = ("Give as manual_dir a folder of pictures in person/camera/tracklet/frame, and beside its "
                f"people the file {SPLIT_FILE} (or another as split_file), with lines such as 'train 0001', "
                "'query 0002/c1'.")


def read_folder_with_splits(manual_dir, *, split_file=None, check_counts: bool = True) -> Splits:
    """The tracklets of a folder, in natural order, by the splits that a file gives them.

    Each folder person/camera/tracklet of pictures is a tracklet, called so. Hidden files, and files that are
    no pictures, are passed over.

    Args:
      split_file: where the file is; `splits.txt` in the folder where it is not given.
      check_counts: nothing is known, so nothing is checked.

    Raises:
      InputError: no such folder or file; a line that is none, takes nothing, or that another contradicts; a
        tracklet that no line takes, or without pictures; somebody in train and in query or gallery.
    """
    del check_counts
    top = Path(manual_dir)
    if not top.is_dir():
        raise InputError(f"{top}: no such folder. {INSTRUCTIONS}")
    split_file = Path(split_file) if split_file is not None else top / SPLIT_FILE
    if not split_file.is_file():
        raise InputError(f"{split_file}: no such file; {top} has {shown(folders_in(top))}. {INSTRUCTIONS}")
    lines = _lines(split_file)
    splits = {split: [] for split in SPLITS}
    used, unnamed = set(), []
    for path in _tracklet_folders(top):
        levels = [path, *path.parents]
        used.update(level for level in levels if level in lines)
        split = next((lines[level][0] for level in levels if level in lines), None)
        if split is None:
            unnamed.append(str(path))
        elif split != OUT:
            splits[split].append(_tracklet(top, path))
    for path, (_, where) in lines.items():
        if path not in used:
            raise InputError(f"{where}: there is no tracklet {path} in {top}, and none below it; "
                             f"the people there are {shown(folders_in(top))}.")
    if unnamed:
        raise InputError(f"{split_file}: gives no split to {len(unnamed)} tracklets: {shown(unnamed)}; add "
                         "them, or leave them out with a line such as "
                         f"'{OUT} {PurePosixPath(sorted(unnamed)[0]).parts[0]}'.")
    require_disjoint_people(split_file, splits)
    return splits


def _lines(split_file) -> dict[PurePosixPath, tuple[str, str]]:
    """(split, where) by path."""
    lines = {}
    for number, text in enumerate(split_file.read_text(errors="replace").splitlines(), start=1):
        words = text.partition("#")[0].split(maxsplit=1)
        if not words:
            continue
        where = f"{split_file}, line {number}"
        if len(words) < 2 or words[0] not in (*SPLITS, OUT):
            raise InputError(f"{where}: must be one of {', '.join((*SPLITS, OUT))}, and a person, "
                             f"person/camera or person/camera/tracklet. Got {text.strip()!r}.")
        path = PurePosixPath(words[1].strip())
        if path.is_absolute() or ".." in path.parts or not 1 <= len(path.parts) <= 3:
            raise InputError(f"{where}: the path must be a person, person/camera or person/camera/tracklet. "
                             f"Got {str(path)!r}.")
        if path in lines:
            raise InputError(f"{where}: {path} is already in {lines[path][1].rpartition(', ')[2]}; "
                             "give it once.")
        lines[path] = words[0], where
    return lines


def _tracklet_folders(top):
    for person in folders_in(top):
        for camera in folders_in(top / person):
            for number in folders_in(top / person / camera):
                yield PurePosixPath(person, camera, number)


def _tracklet(top, path):
    files = sorted((file.name for file in picture_files(top / path).values()), key=natural)
    if not files:
        inside = folders_in(top / path)
        raise InputError(f"{top / path}: no pictures" + (f", but {shown(inside)}" if inside else "")
                         + "; pictures must lie in person/camera/tracklet/frame.")
    return file_tracklet(str(path), top / path, files, person=path.parts[0], camera=path.parts[1])


class Folder(ReidBuilder):
    """A folder of person/camera/tracklet/frame, with a split file (see the module `folder`)."""

    name = "folder"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    read = staticmethod(read_folder_with_splits)

    def __init__(self, *, split_file=None, **kwargs):
        self._split_file = split_file
        super().__init__(**kwargs)

    def _options(self):
        return {"split_file": self._split_file}
