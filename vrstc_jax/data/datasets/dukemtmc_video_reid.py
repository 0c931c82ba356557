"""DukeMTMC-VideoReID (Wu et al., CVPR 2018, from Ristani et al., ECCVW 2016)."""

import re
from pathlib import Path

from vrstc_jax.data.datasets import base
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import is_number

INSTRUCTIONS = ("DukeMTMC-VideoReID was withdrawn by its owners; those who hold it put its folders train/, "
                "query/ and gallery/ into manual_dir, or into a folder DukeMTMC-VideoReID in it, each with "
                "person/tracklet/frames, as github.com/Yu-Wu/DukeMTMC-VideoReID describes.")
_SPLITS = ("train", "query", "gallery")
# 0001C6F0099X30823.jpg or 0001_C6_F0099_X30823.jpg: person, camera, frame of the tracklet and of the video
_NAME = re.compile(r"(\d+)_?C(\d)_?F(\d+)", re.ASCII)


def read_dukemtmc_video_reid(manual_dir: str | Path, *, check_counts: bool = True) -> base.Splits:
    """Reads the tracklets of DukeMTMC-VideoReID.

    Each folder person/tracklet is a tracklet of that name. The person is the folder's name, such as '0001'; the camera
    is the digit after the C in its pictures' names, "1" to "8". Frames are in the order of their names.

    Args:
      manual_dir: the data set's folder, or its parent.
      check_counts: whether to require the published numbers of tracklets, people and frames.

    Raises:
      InputError: the folder is missing or incomplete, or has pictures with unexpected names.
    """
    root = base.find_root(manual_dir, "DukeMTMC-VideoReID", instructions=INSTRUCTIONS, needed=_SPLITS,
                          names=("DukeMTMC-VideoReID",))
    splits = {split: [_tracklet(root / split, person, number) for person in base.folders_in(root / split)
                      for number in base.folders_in(root / split / person)] for split in _SPLITS}
    if check_counts:
        base.require_counts(root, "DukeMTMC-VideoReID", base.counts_of(splits, {
            "train": {"tracklets": 2196, "people": 702, "frames": 369_656},
            "query": {"tracklets": 702, "people": 702, "frames": 111_848},
            "gallery": {"tracklets": 2636, "people": 1110, "frames": 445_764}}))
    base.require_disjoint_people(root, splits)
    return splits


def _tracklet(directory: Path, person: str, number: str) -> Tracklet:
    folder = directory / person / number
    files = base.pictures_in(folder, "each folder person/tracklet must have some")
    camera = base.one_camera(folder, files, lambda file: _camera(folder / file, person))
    return base.file_tracklet(f"{person}/{number}", folder, files, person=person, camera=camera)


def _camera(path: Path, person: str) -> str:
    """The camera in a picture's name, which must also name the person."""
    # The name is compared with the folder: a copy whose people were mixed up would give wrong identities.
    found = _NAME.match(path.name)
    if not found:
        raise InputError(f"{path}: name pictures as 0001C6F0099X30823.jpg: person, C and camera, F and frame.")
    if not is_number(person) or int(found[1]) != int(person):
        raise InputError(f"{path}: the picture is named for person {found[1]}, but is in the folder {person}; "
                         "unpack the data set again.")
    return found[2]


class DukemtmcVideoReid(base.ReidBuilder):
    """DukeMTMC-VideoReID: 702 people for training and 702 for testing, 408 as distractors, 8 cameras.

    The gallery does not include the queries, neither in the authors' baseline nor in BiCnet-TKS, by the authors of
    VRSTC. Distractors have further identities and match no query.

    Layout: github.com/Yu-Wu/DukeMTMC-VideoReID, README; KaiyangZhou/deep-person-reid,
    torchreid/data/datasets/video/dukemtmcvidreid.py (both forms of names). Counts: that README, and for
    frames the table that published loaders print (369,656, 111,848 and 445,764).
    """

    name = "dukemtmc_video_reid"
    HOMEPAGE = "https://github.com/Yu-Wu/DukeMTMC-VideoReID"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    read = staticmethod(read_dukemtmc_video_reid)


BUILDER = DukemtmcVideoReid
