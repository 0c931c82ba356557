"""Small trees of pictures in the official layouts of MARS and iLIDS-VID."""

import os

import numpy as np
from PIL import Image
from scipy.io import savemat

HEIGHT, WIDTH = 12, 6


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def put(path, seed=0):
    """A picture file of noise that depends on its name, so that no two are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture([seed, *os.fsencode(path.name)])).save(path)
    return path


# Rows of MARS' tables as (first, last, person, camera), and the pictures that they number, from 1.
MARS_TRAIN = [(1, 3, 1, 1), (4, 5, 1, 2), (6, 7, 3, 6)]
MARS_TEST = [(1, 2, -1, 1), (3, 4, 0, 2), (5, 6, 2, 1), (7, 8, 2, 1), (9, 9, 2, 3), (10, 11, 4, 5)]
MARS_TRACKS = {"train": {"0001C1T0001": 3, "0001C2T0001": 2, "0003C6T0001": 2},
               "test": {"00-1C1T0001": 2, "0000C2T0001": 2, "0002C1T0001": 2, "0002C1T0002": 2, "0002C3T0001": 1,
                        "0004C5T0001": 2}}


def mars(root, *, train=MARS_TRAIN, test=MARS_TEST, queries=(3, 6)):
    for home, tracks in MARS_TRACKS.items():
        files = [f"{track}F{frame + 1:03d}" for track, count in tracks.items() for frame in range(count)]
        for name in files:
            put(root / f"bbox_{home}" / name[:4] / f"{name}.jpg")
        (root / "info").mkdir(exist_ok=True)
        (root / f"info/{home}_name.txt").write_text("".join(f"{name}.jpg\n" for name in files))
    savemat(root / "info/tracks_train_info.mat", {"track_train_info": np.array(train, np.int32)})
    savemat(root / "info/tracks_test_info.mat", {"track_test_info": np.array(test, np.float64)})
    savemat(root / "info/query_IDX.mat", {"query_IDX": np.array([queries], np.uint16)})
    return root


ILIDS_PEOPLE = ("person001", "person002", "person005", "person010", "person013", "person015")
ILIDS_ROWS = [np.random.default_rng(k).permutation(6) + 1 for k in range(9)] + [[6, 1, 3, 2, 4, 5]]


def ilids(root, people=ILIDS_PEOPLE, rows=ILIDS_ROWS):
    for camera in (1, 2):
        for person in people:
            for frame in range(2 + camera):
                name = f"cam{camera}_{person}_{frame + 9:05d}.png"
                put(root / f"i-LIDS-VID/sequences/cam{camera}" / person / name)
    lists = root / "train-test people splits"
    lists.mkdir()
    savemat(lists / "train_test_splits_ilidsvid.mat", {"ls_set": np.array(rows)})
    return root
