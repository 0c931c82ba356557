"""LS-VID (Li et al., ICCV 2019)."""

import os
from collections.abc import Iterator
from pathlib import Path

from vrstc_jax.data.datasets import base
from vrstc_jax.data.images import PICTURE_SUFFIXES
from vrstc_jax.data.inputs.picture_files import natural_key
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import is_number
from vrstc_jax.runtime.paths import require_name

INSTRUCTIONS = ("Ask the authors of LS-VID for it (Li et al., ICCV 2019, https://arxiv.org/abs/1908.10049) "
                "and unpack it, so that list_sequence/, test/data/info_test.mat, tracklet_train/ and "
                "tracklet_test/ lie in manual_dir, or in a folder LS-VID in it.")
_TRAIN, _TEST = "list_sequence/list_seq_train.txt", "list_sequence/list_seq_test.txt"
_QUERIES = "test/data/info_test.mat"


def read_ls_vid(manual_dir: str | Path, *, check_counts: bool = True) -> base.Splits:
    """Reads the tracklets of LS-VID, without those for validation.

    A line of `list_seq_train.txt` or `list_seq_test.txt` has the prefix of a tracklet's files and its identity, such as
    'tracklet_test/0012/0012_003 12'. The camera, "1" to "15", is the third part of the files' names between
    underscores. The variable `query` of `info_test.mat`, of MATLAB's version 7.3 (HDF5), holds the queries' line
    numbers in the test list; the other lines are the gallery. A tracklet's name is the prefix of its files without the
    first folder.

    Args:
      manual_dir: the data set's folder, or its parent.
      check_counts: whether to require the published numbers of tracklets.

    Raises:
      InputError: the folder is missing or incomplete, or its lists do not fit together.
    """
    root = base.find_root(manual_dir, "LS-VID", names=("LS-VID", "LSVID"), instructions=INSTRUCTIONS,
                          needed=(_TRAIN, _TEST, _QUERIES, "tracklet_train", "tracklet_test"))
    listed: dict[Path, list[str]] = {}
    train, test = ([_tracklet(root, listed, *line) for line in _lines(root / path)] for path in (_TRAIN, _TEST))
    query, gallery = base.queries_and_gallery(root / _QUERIES, "query", test)
    splits = {"train": train, "query": query, "gallery": gallery}
    if check_counts:
        base.require_counts(root, "LS-VID", base.counts_of(splits, {
            "train": {"tracklets": 2831}, "query": {"tracklets": 3504}, "gallery": {"tracklets": 7829}}))
    return splits


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """(the line's name in messages, prefix of the files, identity) for each line."""
    for number, line in enumerate(base.read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        prefix, _, person = line.strip().rpartition(" ")
        if len(Path(prefix).parts) < 2 or not is_number(person.removeprefix("-")):
            raise InputError(f"{path}, line {number}: must be the prefix of a tracklet's files and its "
                             f"identity, such as 'tracklet_train/0001/0001_01 1'. Got {line.strip()!r}.")
        require_name(prefix, f"{path}, line {number}")
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
    camera = base.one_camera(where, files, lambda name: _camera(directory / name))
    return base.file_tracklet("/".join(Path(prefix).parts[1:]), directory, files, person=person, camera=camera)


def _camera(path: Path) -> str:
    parts = path.stem.split("_")
    if len(parts) < 4 or not is_number(parts[2]) or not 1 <= int(parts[2]) <= 15:
        raise InputError(f"{path}: the third part of a picture's name between underscores must be the camera, 1 to 15.")
    return str(int(parts[2]))


class LsVid(base.ReidBuilder):
    """LS-VID: 3,772 people, 15 cameras, by day and night; 842 of them for training.

    The split 'gallery' has 7,829 tracklets, without the queries. BiCnet-TKS, by the authors of VRSTC, joins the 3,504
    queries to it as on MARS (`gallery_with_queries`). No source says whether both lists number people together, so
    identities in train and in test are not compared. The tracklets for validation are left out, as in all published
    loaders that were read.

    Layout: github.com/blue-blue272/BiCnet-TKS, data_manager/lsvid.py (its statistics are MARS' by mistake).
    Counts: as other copies of that loader state them, 2,831 + 3,504 + 7,829 tracklets.
    """

    name = "ls_vid"
    HOMEPAGE = "https://arxiv.org/abs/1908.10049"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    read = staticmethod(read_ls_vid)
    queries_in_official_gallery = True


BUILDER = LsVid
