"""iLIDS-VID (Wang et al., ECCV 2014)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vrstc_jax.data.datasets import base
from vrstc_jax.data.datasets.matlab import read_mat
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.runtime.errors import InputError

SPLITS = 10
INSTRUCTIONS = ("Get iLIDS-VID.tar from its authors (http://www.eecs.qmul.ac.uk/~xiatian/"
                "downloads_qmul_iLIDS-VID_ReID_dataset.html) and unpack it, so that i-LIDS-VID/ and "
                "'train-test people splits'/ lie in manual_dir, or in a folder iLIDS-VID in it.")
_CAMERAS = ("cam1", "cam2")
_PICTURES, _LISTS = "i-LIDS-VID/sequences", "train-test people splits/train_test_splits_ilidsvid.mat"


def read_ilids_vid(manual_dir: str | Path, *, split: int = 1, check_counts: bool = True) -> base.Splits:
    """Reads the tracklets of one of the 10 splits of iLIDS-VID.

    Row `split` of `ls_set` orders the people, numbered from 1 in the order of their folders' names: the first half is
    for testing, the second for training. Queries are from camera 1, the gallery is from camera 2. The person is the
    folder's name, such as 'person001'; the camera is 'cam1' or 'cam2'.

    Args:
      manual_dir: the data set's folder, or its parent.
      split: 1 to 10.
      check_counts: whether to require the published numbers of people and splits.

    Raises:
      InputError: the folder is missing or incomplete, or its lists do not fit together.
      ValueError: no such split.
    """
    if not 1 <= split <= SPLITS:
        raise ValueError(f"split must be 1 to {SPLITS}. Got {split}.")
    root = base.find_root(manual_dir, "iLIDS-VID", names=("iLIDS-VID", "ilids-vid"), instructions=INSTRUCTIONS,
                          needed=(*(f"{_PICTURES}/{camera}" for camera in _CAMERAS), _LISTS))
    first, second = (base.folders_in(root / _PICTURES / camera) for camera in _CAMERAS)
    if first != second:
        raise InputError(f"{root / _PICTURES}: cam1 and cam2 must have the same people; only one of them has "
                         f"{base.first_few(set(first) ^ set(second))}.")
    names = sorted(first)  # The authors' numbers follow MATLAB's order: by character, not natural.
    order = _order(root / _LISTS, split, len(names), check_counts)
    half = len(names) // 2
    # Only who is in a half matters, so tracklets keep the order of their names.
    test, train = ([names[i] for i in sorted(part)] for part in (order[:half], order[half:]))
    splits = {"train": [_tracklet(root, name, camera) for name in train for camera in _CAMERAS],
              "query": [_tracklet(root, name, "cam1") for name in test],
              "gallery": [_tracklet(root, name, "cam2") for name in test]}
    if check_counts:
        base.require_counts(root, "iLIDS-VID", [("people", len(names), 300)])
    return splits


def _order(path: Path, split: int, count: int, check_counts: bool) -> np.ndarray:
    """The people of a split in their order, int [count], from 0."""
    table = read_mat(path, "ls_set", columns=count) - 1
    if check_counts:
        base.require_counts(path, "list of splits", [("rows", len(table), SPLITS)])
    if split > len(table):
        raise InputError(f"{path}: ls_set has {len(table)} rows, and no split {split}; choose 1 to {len(table)}.")
    if (np.sort(table[split - 1]) != np.arange(count)).any():
        raise InputError(f"{path}: row {split} of ls_set must have each number from 1 to {count} exactly once.")
    return table[split - 1]


def _tracklet(root: Path, person: str, camera: str) -> Tracklet:
    directory = root / _PICTURES / camera / person
    files = base.pictures_in(directory, "unpack the data set again")
    return base.file_tracklet(f"{person}/{camera}", directory, files, person=person, camera=camera)


class IlidsVid(base.ReidBuilder):
    """iLIDS-VID: 300 people, each in two cameras of an airport's arrival hall, tracks drawn by hand.

    It has a config for each of the 10 random halvings, 'split_1' to 'split_10'. Published numbers are the mean over
    the ten.

    Layout and protocol: KaiyangZhou/deep-person-reid, torchreid/data/datasets/video/ilidsvid.py.
    """

    name = "ilids_vid"
    HOMEPAGE = "http://www.eecs.qmul.ac.uk/~xiatian/downloads_qmul_iLIDS-VID_ReID_dataset.html"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=f"split_{split}", description=f"The split {split} of 10.")
                       for split in range(1, SPLITS + 1)]
    read = staticmethod(read_ilids_vid)

    @classmethod
    def config_for(cls, options: Mapping[str, Any]) -> dict[str, str]:
        """The config of the split."""
        return {"config": f"split_{options.get('split', 1)}"}

    def _options(self) -> dict[str, Any]:
        config = self.builder_config
        assert config is not None and config.name is not None  # TFDS takes the first of BUILDER_CONFIGS by default.
        return {**super()._options(), "split": int(config.name.removeprefix("split_"))}


BUILDER = IlidsVid
