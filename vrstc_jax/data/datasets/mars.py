"""MARS (Zheng et al., ECCV 2016)."""

import os
from pathlib import Path

from vrstc_jax.data.datasets import base
from vrstc_jax.data.datasets.matlab import read_mat
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import is_number

INSTRUCTIONS = ("Get MARS from its authors (http://www.liangzheng.com.cn/Project/project_mars.html) and its "
                "info folder from github.com/liangzheng06/MARS-evaluation, and put bbox_train/, bbox_test/ "
                "and info/ beside each other into manual_dir, or into a folder MARS in it.")
_INFO = ("train_name.txt", "test_name.txt", "tracks_train_info.mat", "tracks_test_info.mat", "query_IDX.mat")


def read_mars(manual_dir: str | Path, *, check_counts: bool = True) -> base.Splits:
    """Reads the tracklets of MARS.

    A tracklet is a row of `track_train_info` or `track_test_info`: its first and last picture in the list of names, its
    identity and its camera. `query_IDX` holds the queries' row numbers among the test rows; the other test rows are the
    gallery. The person is the identity as a number, "-1" for junk and "0" for distractors; the camera is "1" to "6". A
    tracklet's name is its pictures' folder, its camera and its row, such as '0001/c1/00012'.

    Args:
      manual_dir: the data set's folder, or its parent.
      check_counts: whether to require the published numbers of tracklets, people and pictures.

    Raises:
      InputError: the folder is missing or incomplete, or its lists do not fit together.
    """
    root = base.find_root(manual_dir, "MARS", names=("MARS", "mars", "Mars"), instructions=INSTRUCTIONS,
                          needed=("bbox_train", "bbox_test", *(f"info/{name}" for name in _INFO)))
    train_names, test_names = (_lines(root / "info" / name) for name in _INFO[:2])
    train = _tracklets(root, "bbox_train", train_names, "tracks_train_info.mat", "track_train_info")
    test = _tracklets(root, "bbox_test", test_names, "tracks_test_info.mat", "track_test_info")
    query, gallery = base.queries_and_gallery(root / "info/query_IDX.mat", "query_IDX", test)
    splits = {"train": train, "query": query, "gallery": gallery}
    if check_counts:
        junk = sum(tracklet.person == "-1" for tracklet in gallery)
        base.require_counts(root, "MARS", [
            *base.counts_of(splits, {"train": {"tracklets": 8298, "people": 625},
                                     "query": {"tracklets": 1980, "people": 626},
                                     "gallery": {"tracklets": 10_200, "people": 620}}),
            ("junk tracklets in gallery", junk, 870),
            ("names in train_name.txt", len(train_names), 509_914),
            ("names in test_name.txt", len(test_names), 681_089)])
    base.require_disjoint_people(root, splits)
    return splits


def _lines(path: Path) -> list[str]:
    names = base.read_text(path).split()
    for number, name in enumerate(names, start=1):
        if "/" in name:
            raise InputError(f"{path}: name {number}, {name!r}, must be that of a file without a folder; unpack the "
                             "info folder again.")
    return names


def _tracklets(root: Path, home: str, names: list[str], table: str, variable: str) -> list[Tracklet]:
    """The tracklets of a table's rows, which number pictures in `names`; these are in the folder `home`."""
    path = root / "info" / table
    rows = read_mat(path, variable, columns=4).tolist()
    # Each folder is listed once; a look-up for each of a million pictures is slow on network disks.
    existing: dict[str, set[str]] = {}
    tracklets = []
    for row, (first, last, person, camera) in enumerate(rows, start=1):
        where = f"{path}: row {row} ({first}, {last}, {person}, {camera})"
        if not 1 <= first <= last <= len(names):
            raise InputError(f"{where}: must be a first and a last picture, from 1 to the {len(names)} that "
                             "the list of names has, and not empty.")
        if not 1 <= camera <= 6 or person < -1:
            raise InputError(f"{where}: cameras are 1 to 6, and identities -1 and up; unpack the info folder again.")
        files = names[first - 1:last]
        # A name is four characters of identity ('00-1' for junk), C and the camera, T, F: 0001C1T0002F003.jpg
        folder = files[0][:4]
        # Catches a list and a table of different versions, which would otherwise give wrong identities silently.
        if any(name[:6] != f"{folder}C{camera}" for name in files) or _number(folder) != person:
            raise InputError(f"{where}: its pictures must be all of that person and camera; they go from "
                             f"{files[0]} to {files[-1]}.")
        directory = root / home / folder
        if folder not in existing:
            existing[folder] = set(os.listdir(directory)) if directory.is_dir() else set()
        missing = [name for name in files if name not in existing[folder]]
        if missing:
            raise InputError(f"{directory / missing[0]}: missing, as are {len(missing) - 1} more pictures of "
                             f"row {row} in {path}; unpack {home} again.")
        tracklets.append(base.file_tracklet(f"{folder}/c{camera}/{row:05d}", directory, files,
                                            person=str(person), camera=str(camera)))
    return tracklets


def _number(folder: str) -> int | None:
    """The identity in a folder's name, such as '0012' or '00-1'."""
    digits = folder.lstrip("0") or "0"
    return int(digits) if is_number(digits.removeprefix("-")) else None


class Mars(base.ReidBuilder):
    """MARS: 1,261 people, 6 cameras, tracked automatically, so with junk and distractors.

    Publications use one of two galleries, which give different numbers. The authors' evaluation
    (github.com/liangzheng06/MARS-evaluation, test_mars.m) ranks all test tracklets, queries included. So do AP3D,
    TCLNet and BiCnet-TKS, the last two by the authors of VRSTC (github.com/blue-blue272), whose code for VRSTC itself
    is not public. These count 11,310 entries, because they leave out the 870 of junk, which changes no number.
    torchreid's gallery has no queries: 9,330 entries, and 140 queries have no match left. The split 'gallery' here has
    junk and no queries, 10,200 tracklets; `gallery_with_queries` gives the official one.

    Layout and counts: KaiyangZhou/deep-person-reid, torchreid/data/datasets/video/mars.py; the numbers of
    pictures from test_mars.m; those of people from deep-person-reid's issue 59 (622 labels in the gallery,
    −1 and 0 among them).
    """

    name = "mars"
    HOMEPAGE = "http://www.liangzheng.com.cn/Project/project_mars.html"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    read = staticmethod(read_mars)
    queries_in_official_gallery = True


BUILDER = Mars
