"""LS-VID (Li et al., ICCV 2019)."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vrstc_jax.data.datasets import base
from vrstc_jax.data.datasets.matlab import read_mat
from vrstc_jax.data.images import PICTURE_SUFFIXES
from vrstc_jax.data.inputs.picture_files import natural_key
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime.errors import InputError

INSTRUCTIONS = ("Ask the authors of LS-VID for it (Li et al., ICCV 2019, https://arxiv.org/abs/1908.10049) "
                "and unpack it, so that list_sequence/, test/data/info_test.mat, tracklet_train/ and "
                "tracklet_test/ lie in manual_dir, or in a folder LS-VID in it.")
_TRAIN, _TEST = "list_sequence/list_seq_train.txt", "list_sequence/list_seq_test.txt"
_QUERIES = "test/data/info_test.mat"


def read_ls_vid(manual_dir: str | Path, *, check_counts: bool = True) -> base.Splits:
    """Reads the tracklets of LS-VID, without those for validation.

    A line of `list_seq_train.txt` or `list_seq_test.txt` is the prefix of a tracklet's files and its
    identity, such as 'tracklet_test/0012/0012_003 12'. The camera, "1" to "15", is the third part of the
    files' names between underscores. The variable `query` of `info_test.mat` numbers the queries among the
    lines of the test list; the gallery is the other lines. The file is of MATLAB's version 7.3 (HDF5).
    A tracklet's name is the prefix of its files without the first folder.

    Args:
      manual_dir: the data set's folder, or the one that holds it.
      check_counts: whether the known numbers of tracklets are required.

    Raises:
      InputError: the folder is missing or incomplete, or its lists do not fit together.
    """
    root = base.find_root(manual_dir, "LS-VID", names=("LS-VID", "LSVID"), instructions=INSTRUCTIONS,
                          needed=(_TRAIN, _TEST, _QUERIES, "tracklet_train", "tracklet_test"))
    listed: dict[Path, list[str]] = {}
    train, test = ([_tracklet(root, listed, *line) for line in _lines(root / path)] for path in (_TRAIN, _TEST))
    queries = read_mat(root / _QUERIES, "query") - 1
    wrong = queries[(queries < 0) | (queries >= len(test))]
    if len(wrong):
        raise InputError(f"{root / _QUERIES}: query has {wrong[0] + 1}, but {_TEST} has {len(test)} lines; "
                         "unpack the data set again.")
    if len(set(queries.tolist())) < len(queries):
        raise InputError(f"{root / _QUERIES}: query has a number more than once; unpack the data set again.")
    # The gallery is without the queries here; `gallery_with_queries` joins them.
    others = np.setdiff1d(np.arange(len(test)), queries)
    splits = {"train": train, "query": [test[i] for i in queries], "gallery": [test[i] for i in others]}
    if check_counts:
        base.require_counts(root, "LS-VID", base.counts_of(splits, {
            "train": {"tracklets": 2831}, "query": {"tracklets": 3504}, "gallery": {"tracklets": 7829}}))
    return splits


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """(where, prefix of the files, identity) for each line."""
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        prefix, _, person = line.strip().rpartition(" ")
        if len(Path(prefix).parts) < 2 or not person.removeprefix("-").isdigit():
            raise InputError(f"{path}, line {number}: must be the prefix of a tracklet's files and its "
                             f"identity, such as 'tracklet_train/0001/0001_01 1'. Got {line.strip()!r}.")
        yield f"{path}, line {number}", prefix, person


def _tracklet(root: Path, listed: dict[Path, list[str]], where: str, prefix: str, person: str) -> Tracklet:
    """The tracklet of one line; `listed` caches the pictures of each folder, which many lines share."""
    directory, start = (root / prefix).parent, os.path.basename(prefix)
    if directory not in listed:
        found = os.listdir(directory) if directory.is_dir() else ()
        listed[directory] = sorted((name for name in found if name.lower().endswith(PICTURE_SUFFIXES)), key=natural_key)
    # Published loaders differ: some take 'start_*', some 'start*'. The first keeps tracklet 1 from taking those of 11.
    files = ([name for name in listed[directory] if name.startswith(f"{start}_")]
             or [name for name in listed[directory] if name.startswith(start)])
    if not files:
        raise InputError(f"{where}: there is no picture {directory / start}*; unpack the data set again.")
    cameras = {_camera(directory / name): name for name in files}
    if len(cameras) > 1:
        raise InputError(f"{where}: one tracklet, but from two cameras: {' and '.join(cameras.values())}.")
    return base.file_tracklet("/".join(Path(prefix).parts[1:]), directory, files, person=person,
                         camera=next(iter(cameras)))


def _camera(path: Path) -> str:
    parts = path.stem.split("_")
    if len(parts) < 4 or not parts[2].isdigit() or not 1 <= int(parts[2]) <= 15:
        raise InputError(f"{path}: the third part of a picture's name between underscores must be the camera, 1 to 15.")
    return str(int(parts[2]))


class LsVid(base.ReidBuilder):
    """LS-VID: 3,772 people, 15 cameras, by day and night; 842 of them for training.

    The split 'gallery' is without queries, 7,829 tracklets. BiCnet-TKS, by the authors of VRSTC, joins the
    3,504 queries to it as on MARS (`gallery_with_queries`). Whether both lists number people together is
    nowhere said, so identities in train and in test are not compared. The tracklets for validation are left
    out, as by all loaders seen.

    Layout: github.com/blue-blue272/BiCnet-TKS, data_manager/lsvid.py (its statistics are MARS' by mistake).
    Counts: as other copies of that loader state them, 2,831 + 3,504 + 7,829 tracklets.
    """

    name = "ls_vid"
    HOMEPAGE = "https://arxiv.org/abs/1908.10049"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    read = staticmethod(read_ls_vid)
    queries_in_official_gallery = True


BUILDER = LsVid
