"""The public data sets, on small trees made here in the official layouts, and the errors for wrong trees.

Expected splits are written out by hand, from the tables that the trees are made of.
"""

import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow_datasets as tfds
from damage import DAMAGES
from dataset_trees import HEIGHT, ILIDS_PEOPLE, ILIDS_ROWS, MARS_TEST, MARS_TRAIN, WIDTH, ilids, mars, picture, put
from PIL import Image
from refusals import refused
from scipy.io import savemat

from vrstc_jax.data import datasets
from vrstc_jax.data.datasets import build, gallery_with_queries, names
from vrstc_jax.data.datasets.base import file_tracklet
from vrstc_jax.data.images import read_image
from vrstc_jax.data.tracklet_set import read_set, set_splits
from vrstc_jax.data.tracklets import LazySequence
from vrstc_jax.evaluation import rank
from vrstc_jax.evaluation.retrieval import labels


def facts(directory):
    """{split: ["name person camera frames" of each tracklet]} of a written set."""
    return {split: [f"{t.name} {t.person} {t.camera} {len(t)}" for t in read_set(directory, split).tracklets]
            for split in set_splits(directory)}


def prepare(builder, manual_dir):
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))


def duke(root):
    """Two people to train, one query; a gallery with its match, a same-camera tracklet and a distractor."""
    for tracklet_folder, files in {
            "train/0001/0001": ("0001C6F0001X30823", "0001C6F0002X30835"),
            "train/0001/0002": ("0001C2F0002X1000", "0001C2F0003X1012", "0001C2F0004X1024"),
            "train/0003/0003": ("0003_C1_F0001_X30823", "0003_C1_F0002_X30835"),
            "query/0002/0010": ("0002_C5_F0001_X10", "0002_C5_F0002_X22"),
            "gallery/0002/0010": ("0002_C5_F0001_X90", "0002_C5_F0002_X99"),
            "gallery/0002/0011": ("0002C8F0001X10",),
            "gallery/7140/2193": ("7140_C2_F0044_D200413",)}.items():
        for file in files:
            put(root / tracklet_folder / f"{file}.jpg")
    return root


# By prefix, the camera and the number of frames.
LS_VID = {"train": {"0000/0000_1": (3, 2), "0000/0000_11": (15, 1), "0005/0005_2": (1, 3)},
          "test": {"0001/0001_1": (4, 2), "0001/0001_2": (5, 1), "0002/0002_1": (6, 2)}}


def ls_vid(root, queries=((1.0,), (3.0,)), further=""):
    """`further` is a line more for the list of training."""
    (root / "list_sequence").mkdir(parents=True)
    (root / "test/data").mkdir(parents=True)
    for split, tracklets in LS_VID.items():
        lines = [f"tracklet_{split}/{prefix} {int(prefix[:4])}" for prefix in tracklets]
        (root / f"list_sequence/list_seq_{split}.txt").write_text("\n".join(lines) + "\n")
        for prefix, (camera, count) in tracklets.items():
            for frame in range(count):
                put(root / f"tracklet_{split}/{prefix}_{camera}_{frame:04d}.jpg")
    with open(root / "list_sequence/list_seq_train.txt", "a") as file:
        file.write(further)
    savemat(root / "test/data/info_test.mat", {"query": np.array(queries)})
    return root


# The reader of each data set, and what makes a small tree of it.
SETS = {"mars": (datasets.read_mars, mars), "ilids_vid": (datasets.read_ilids_vid, ilids),
        "dukemtmc_video_reid": (datasets.read_dukemtmc_video_reid, duke), "ls_vid": (datasets.read_ls_vid, ls_vid)}


@pytest.mark.parametrize("name, home, options, expected", [
    ("mars", "MARS", {}, {
        "train": ["0001/c1/00001 1 1 3", "0001/c2/00002 1 2 2", "0003/c6/00003 3 6 2"],
        "query": ["0002/c1/00003 2 1 2", "0004/c5/00006 4 5 2"],
        "gallery": ["00-1/c1/00001 -1 1 2", "0000/c2/00002 0 2 2", "0002/c1/00004 2 1 2", "0002/c3/00005 2 3 1"]}),
    # Split 10 has people 6, 1 and 3 (in the order of folders) first: they are for testing.
    ("ilids_vid", "iLIDS-VID", {"split": 10}, {
        "train": [f"person{n}/cam{camera} person{n} cam{camera} {2 + camera}"
                  for n in ("002", "010", "013") for camera in (1, 2)],
        "query": [f"person{n}/cam1 person{n} cam1 3" for n in ("001", "005", "015")],
        "gallery": [f"person{n}/cam2 person{n} cam2 4" for n in ("001", "005", "015")]}),
    ("dukemtmc_video_reid", "DukeMTMC-VideoReID", {}, {
        "train": ["0001/0001 0001 6 2", "0001/0002 0001 2 3", "0003/0003 0003 1 2"],
        "query": ["0002/0010 0002 5 2"],
        "gallery": ["0002/0010 0002 5 2", "0002/0011 0002 8 1", "7140/2193 7140 2 1"]}),
    ("ls_vid", "LS-VID", {}, {
        "train": ["0000/0000_1 0 3 2", "0000/0000_11 0 15 1", "0005/0005_2 5 1 3"],
        "query": ["0001/0001_1 1 4 2", "0002/0002_1 2 6 2"], "gallery": ["0001/0001_2 1 5 1"]})])
def test_who_is_where(tmp_path, name, home, options, expected):
    SETS[name][1](tmp_path / "manual" / home)
    progress = []
    build(name, tmp_path / "set", manual_dir=tmp_path / "manual", check_counts=False, progress=progress.append,
          **options)
    found = facts(tmp_path / "set")
    assert found == expected and list(found) == ["train", "query", "gallery"]
    assert progress == [int(fact.split()[-1]) for split in expected.values() for fact in split]


@pytest.mark.parametrize("name, parts", [
    ("mars", ("is not the whole MARS", "3 tracklets in train, not 8298 (8295 too few)", "2 people in query, not 626",
              "4 tracklets in gallery, not 10200", "1 junk tracklets in gallery, not 870", "check_counts=False")),
    ("ilids_vid", ("6 people, not 300 (294 too few)",)),
    ("dukemtmc_video_reid", ("3 tracklets in train, not 2196 (2193 too few)", "2 people in train, not 702",
                             "7 frames in train, not 369656", "2 people in gallery, not 1110")),
    ("ls_vid", ("3 tracklets in train, not 2831", "2 tracklets in query, not 3504", "not 7829"))])
def test_counts(tmp_path, name, parts):
    with refused(*parts):
        build(name, tmp_path / "set", manual_dir=SETS[name][1](tmp_path / "tree"))
    assert os.listdir(tmp_path) == ["tree"]


@pytest.mark.parametrize("name, parts", [
    ("mars", ("missing: bbox_train, bbox_test, info/train_name.txt", "found: nothing", "Get MARS")),
    ("ilids_vid", ("missing: i-LIDS-VID/sequences/cam1,", "cam2, train-test people splits/", "Get iLIDS")),
    ("dukemtmc_video_reid", ("missing: train, query, gallery", "withdrawn")),
    ("ls_vid", ("list_sequence/list_seq_train.txt", "Ask the authors"))])
def test_nothing_there(tmp_path, name, parts):
    with refused(tmp_path, *parts):
        SETS[name][0](tmp_path)
    with refused(tmp_path / "none", "no such folder", parts[-1]):
        SETS[name][0](tmp_path / "none")


@pytest.mark.parametrize("name, tables, parts", [
    ("mars", {"train": [*MARS_TRAIN, (7, 8, 3, 6)]}, ("tracks_train_info", "row 4 (7, 8, 3, 6)", "1 to the 7")),
    ("mars", {"train": [(0, 1, 1, 1)]}, ("row 1 (0, 1, 1, 1)", "1 to the 7")),
    ("mars", {"test": [(2, 1, -1, 1)]}, ("tracks_test_info.mat", "row 1 (2, 1, -1, 1)", "not empty")),
    ("mars", {"train": [(1, 4, 1, 1)]}, ("row 1", "0001C1T0001F001.jpg", "0001C2T0001F001.jpg")),
    ("mars", {"train": [(1, 3, 2, 1)]}, ("row 1 (1, 3, 2, 1)", "all of that person and camera")),
    ("mars", {"train": [(1, 3, 1, 7)]}, ("row 1", "cameras are 1 to 6", "unpack the info folder again")),
    ("mars", {"queries": (3, 7)}, ("query_IDX.mat", "has 7", "6 test tracklets")),
    ("mars", {"queries": (0,)}, ("query_IDX.mat", "has 0")),
    ("mars", {"queries": (3, 3)}, ("query_IDX has 3 more than once",)),
    ("mars", {"train": [(1, 3, 1)]}, ("track_train_info", "4 columns", "[1, 3]")),
    ("ilids_vid", {"people": (*ILIDS_PEOPLE, "person016")}, ("ls_set", "7 columns", "[10, 6]")),
    ("ls_vid", {"queries": ((4,),)}, ("query has 4", "of 3 test tracklets")),
    ("ls_vid", {"queries": ((2,), (2,))}, ("query has 2 more than once",)),
    ("ls_vid", {"further": "tracklet_train/0009/0009_1 9"},
     ("list_seq_train.txt, line 4", "no picture", "0009_1*")),
    ("ls_vid", {"further": "tracklet_train/0000/0000_1 1²3"}, ("list_seq_train.txt, line 4", "identity", "1²3'")),
    ("ls_vid", {"further": "tracklet_train/../../../0009_1 9"},
     ("list_seq_train.txt, line 4", "'tracklet_train/../../../0009_1' would lead out of its folder")),
    ("ls_vid", {"further": "/etc/0009_1 9"}, ("list_seq_train.txt, line 4", "would lead out")),
    ("ls_vid", {"further": "tracklet_train/0000/0000_1"}, ("list_seq_train.txt, line 4", "identity", "0000_1'"))])
def test_tables_that_do_not_fit(tmp_path, name, tables, parts):
    read, make = SETS[name]
    with refused(tmp_path, *parts):
        read(make(tmp_path, **tables), check_counts=False)


def emptied(folder):
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.parametrize("name, path, change, parts", [
    ("mars", "info/query_IDX.mat", Path.unlink,
     ("missing: info/query_IDX.mat;", "found: bbox_test, bbox_train, info")),
    ("mars", "info/query_IDX.mat", lambda path: path.write_bytes(b"0" * 300),
     ("query_IDX.mat", "cannot be read as a MATLAB file")),
    ("mars", "info/query_IDX.mat", lambda path: savemat(path, {"query": [[1]], "other": [[2]]}),
     ("query_IDX.mat", "no variable query_IDX", "other, query")),
    ("mars", "info/tracks_train_info.mat", lambda path: savemat(path, {"track_train_info": [[1.5, 3, 1, 1]]}),
     ("track_train_info", "whole numbers", "float64")),
    ("mars", "bbox_test/0002/0002C1T0002F001.jpg", Path.unlink,
     ("bbox_test/0002/0002C1T0002F001.jpg: missing", "row 4")),
    ("mars", "info/train_name.txt", lambda path: path.write_text("0001C1/../../../info/query_IDX.mat\n" * 7),
     ("train_name.txt: name 1, '0001C1/../../../info/query_IDX.mat'", "without a folder")),
    ("ilids_vid", "i-LIDS-VID/sequences/cam2/person016/a.png", put, ("only one of them has person016",)),
    ("ilids_vid", "i-LIDS-VID/sequences/cam2/person005", emptied, ("cam2/person005: no pictures",)),
    ("dukemtmc_video_reid", "train/0001/0001/0001C7F0003X1.jpg", put, ("0001/0001", "two cameras", "C7F0003")),
    ("dukemtmc_video_reid", "train/0001/0001/0002C6F0003X1.jpg", put, ("person 0002", "is in the folder 0001")),
    ("dukemtmc_video_reid", "train/0001/0001/photo.jpg", put, ("photo.jpg", "0001C6F0099X30823.jpg")),
    ("dukemtmc_video_reid", "train/0002/0009/0002C6F0001X1.jpg", put,
     ("1 people are in train and also in query", "0002")),
    ("dukemtmc_video_reid", "query/0002/0099", Path.mkdir, ("query/0002/0099: no pictures",)),
    ("ls_vid", "tracklet_test/0001/0001_2_6_0001.jpg", put,
     ("list_seq_test.txt, line 2", "two cameras", "0001_2_6_0001.jpg")),
    ("ls_vid", "tracklet_train/0005/0005_2_²_0001.jpg", put, ("0005/0005_2_²_0001.jpg", "1 to 15")),
    ("dukemtmc_video_reid", "train/²/0001/0002C6F0003X1.jpg", put, ("person 0002", "is in the folder ²")),
    ("dukemtmc_video_reid", "train/0001/0001/٠٠٠١C6F0003X1.jpg", put, ("0001C6F0099X30823.jpg",)),
    ("dukemtmc_video_reid", "train/0001/0001/0001C6F\udcff.jpg", put, ("0001C6F0099X30823.jpg",)),
    ("ls_vid", "tracklet_train/0005/0005_2_16_0001.jpg", put, ("0005/0005_2_16_0001.jpg", "1 to 15"))])
def test_files_that_do_not_fit(tmp_path, name, path, change, parts):
    read, make = SETS[name]
    change(make(tmp_path) / path)
    with refused(tmp_path, *parts):
        read(tmp_path, check_counts=False)


@pytest.mark.parametrize("name, path", [
    ("mars", "info/train_name.txt"), ("mars", "info/query_IDX.mat"), ("ls_vid", "list_sequence/list_seq_test.txt")])
@pytest.mark.parametrize("damage", ["a folder", "a pipe"])
def test_lists_that_are_no_files(tmp_path, name, path, damage):
    read, make = SETS[name]
    DAMAGES[damage](make(tmp_path) / path)
    with refused(tmp_path / path, "cannot be read"):
        read(tmp_path, check_counts=False)


@pytest.mark.parametrize("damage", ["a pipe", "a folder"])
def test_a_picture_that_is_none(tmp_path, damage):
    """Nobody writes to the pipe."""
    path = ls_vid(tmp_path / "in") / "tracklet_train/0005/0005_2_1_0001.jpg"
    DAMAGES[damage](path)
    with refused(path, "cannot be read"):
        build("ls_vid", tmp_path / "set", manual_dir=tmp_path / "in", check_counts=False, progress=lambda _: None)


def test_names_that_are_not_utf8(tmp_path):
    put(ilids(tmp_path) / "i-LIDS-VID/sequences/cam2/person005/\udcff.png")
    with refused("tracklet person005/cam2: the name \\udcff is not UTF-8; rename it"):
        datasets.read_ilids_vid(tmp_path, check_counts=False)


def test_no_name_leads_out_of_its_folder(tmp_path):
    """Whatever reader it comes from."""
    file = put(tmp_path / "t/1.png")
    for name, files in (("../x", ["1.png"]), ("/x", ["1.png"]), ("x", ["../t/1.png"])):
        with refused("would lead out of its folder"):
            file_tracklet(name, file.parent, files, person="1", camera="1")


@pytest.fixture(scope="module")
def mars_set(tmp_path_factory):
    """A tree of MARS in manual_dir/MARS, and the set built of it."""
    top = tmp_path_factory.mktemp("mars")
    mars(top / "manual/MARS")
    build("mars", top / "set", manual_dir=top / "manual", check_counts=False)
    return top


class TestMars:
    def test_pictures_are_stored_as_they_are(self, mars_set):
        file = mars_set / "manual/MARS/bbox_test/0002/0002C3T0001F001.jpg"
        gallery = read_set(mars_set / "set", "gallery")
        assert gallery.source[6]["image"] == file.read_bytes()
        np.testing.assert_array_equal(gallery.tracklets[3].frames[0], np.asarray(Image.open(file)))
        names = read_set(mars_set / "set").tracklets[0].frame_names
        assert names == ("0001C1T0001F001", "0001C1T0001F002", "0001C1T0001F003")

    def test_both_galleries_by_hand(self, mars_set):
        """Person 2 asks from camera 1: its tracklets from there are junk, as is −1; 4 has no match."""
        query, gallery = (read_set(mars_set / "set", split).tracklets for split in ("query", "gallery"))
        both = gallery_with_queries(query, gallery)
        assert [t.name for t in both] == [t.name for t in (*query, *gallery)]
        # Nearest to the query of person 2 are junk, the distractor, itself, and then the match.
        near = {"00-1/c1/00001": 0, "0000/c2/00002": 1, "0002/c1/00003": 2, "0002/c1/00004": 3,
                "0002/c3/00005": 4, "0004/c5/00006": 5}
        for entries in (gallery, both):
            distances = np.array([[near[t.name] for t in entries]] * 2, np.float32)
            found = rank(distances, *labels(query, entries))
            assert found.first_hit.tolist() == [2, 0] and found.left_out == 1 and found.mean_ap == 0.5

    def test_as_a_builder_of_tfds(self, mars_set, tmp_path):
        builder = tfds.builder("mars", data_dir=tmp_path, check_counts=False)
        assert "11,310" in builder.info.description
        prepare(builder, mars_set / "manual/MARS")
        assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
            "train": 7, "query": 4, "gallery": 7}
        row = tfds.builder("mars", data_dir=tmp_path).as_data_source(split="gallery")[2]
        assert row["person"].decode() == "0" and row["image"].shape == (HEIGHT, WIDTH, 3)

    def test_tfds_without_a_folder(self, tmp_path):
        with refused(tmp_path / "nowhere", "does not exist", "liangzheng.com.cn", "bbox_train/"):
            prepare(datasets.Mars(data_dir=tmp_path / "data"), tmp_path / "nowhere")

    @pytest.mark.parametrize("damage", [lambda data: b"not a picture", lambda data: b"", lambda data: data[:-200]])
    def test_a_picture_that_cannot_be_read(self, tmp_path, damage):
        bad = mars(tmp_path / "MARS") / "bbox_test/0002/0002C1T0002F001.jpg"
        bad.write_bytes(damage(bad.read_bytes()))
        with refused(bad):
            build("mars", tmp_path / "set", manual_dir=tmp_path, check_counts=False)
        assert os.listdir(tmp_path) == ["MARS"]  # nothing half done stays

    def test_somebody_in_train_and_test(self, tmp_path):
        mars(tmp_path, test=[*MARS_TEST, (12, 12, 3, 1)])
        put(tmp_path / "bbox_test/0003/0003C1T0001F001.jpg")
        with open(tmp_path / "info/test_name.txt", "a") as names:
            names.write("0003C1T0001F001.jpg\n")
        with refused("1 people are in train", "3", "give each person to one side only"):
            datasets.read_mars(tmp_path, check_counts=False)


@pytest.fixture(scope="module")
def ilids_tree(tmp_path_factory):
    return ilids(tmp_path_factory.mktemp("ilids") / "iLIDS-VID")


class TestIlidsVid:
    @pytest.mark.parametrize("split", range(1, 11))
    def test_halves(self, ilids_tree, split):
        splits = datasets.read_ilids_vid(ilids_tree, split=split, check_counts=False)
        train, query, gallery = ([t.person for t in splits[name]] for name in ("train", "query", "gallery"))
        tested = [ILIDS_PEOPLE[i - 1] for i in sorted(ILIDS_ROWS[split - 1][:3])]
        assert query == gallery == tested and set(train) == set(ILIDS_PEOPLE) - set(tested)

    def test_a_config_for_each_split(self, ilids_tree, tmp_path):
        build("ilids_vid", tmp_path / "set", manual_dir=ilids_tree, split=10, check_counts=False)
        info = tfds.builder_from_directory(str(tmp_path / "set")).info
        assert info.config_name == "split_10" and info.name == "ilids_vid"
        builder = tfds.builder("ilids_vid/split_10", data_dir=tmp_path / "tfds", check_counts=False)
        prepare(builder, ilids_tree)
        assert facts(builder.data_dir) == facts(tmp_path / "set")
        assert len(datasets.IlidsVid.BUILDER_CONFIGS) == 10

    def test_lists_that_do_not_fit(self, tmp_path):
        rows = [*ILIDS_ROWS[:2], [1, 2, 3, 4, 5, 7], [1, 2, 3, 4, 5, 5], *ILIDS_ROWS[:5]]
        tree = ilids(tmp_path, rows=rows)
        with pytest.raises(ValueError, match="1 to 10. Got 0"):
            datasets.read_ilids_vid(tree, split=0)
        for split, parts in {3: ("row 3 of ls_set", "1 to 6"), 4: ("row 4 of ls_set", "1 to 6"),
                             10: ("9 rows", "no split 10")}.items():
            with refused(*parts):
                datasets.read_ilids_vid(tree, split=split, check_counts=False)
        with refused("9 rows, not 10 (1 too few)"):
            datasets.read_ilids_vid(tree)


def test_ls_vids_table_of_version_73(tmp_path):
    """The official table is HDF5."""
    mat = ls_vid(tmp_path) / "test/data/info_test.mat"
    with h5py.File(mat, "w", userblock_size=512) as file:
        file["query"] = np.array([[1.0, 3.0]])  # a column in MATLAB
    with open(mat, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")
    query = datasets.read_ls_vid(tmp_path, check_counts=False)["query"]
    assert [t.name for t in query] == ["0001/0001_1", "0002/0002_1"]
    whole = mat.read_bytes()
    # Cut short; and without the root group's header, which h5py refuses only when it lists the variables.
    for damaged in (whole[:len(whole) // 2], whole.replace(b"TREE", b"EERT")):
        mat.write_bytes(damaged)
        with refused(mat, "cannot be read as a MATLAB file", "unpack it again"):
            datasets.read_ls_vid(tmp_path, check_counts=False)


def folder(root, lines):
    for path in ("0001/c1/t1", "0001/c2/t1", "0002/c1/t1", "0003/c1/t1", "0003/c1/t2", "0003/c2/t1", "-1/c1/t9"):
        for frame in range({"0001/c1/t1": 2, "0003/c2/t1": 12}.get(path, 1)):
            put(root / path / f"f{frame + 1}.jpg")
    (root / "splits.txt").write_text(lines)
    return root


SPLIT_LINES = """# who is who
train 0001
train\t0002   # tabs and comments are fine
gallery 0003

query 0003/c1
gallery 0003/c1/t2
gallery -1
"""


class TestFolder:
    def test_who_is_where(self, tmp_path):
        tree = folder(tmp_path / "tree", SPLIT_LINES)
        (tree / "0001/.hidden").mkdir()
        build("folder", tmp_path / "set", manual_dir=tree)
        assert facts(tmp_path / "set") == {
            "train": ["0001/c1/t1 0001 c1 2", "0001/c2/t1 0001 c2 1", "0002/c1/t1 0002 c1 1"],
            "query": ["0003/c1/t1 0003 c1 1"],
            "gallery": ["0003/c1/t2 0003 c1 1", "0003/c2/t1 0003 c2 12", "-1/c1/t9 -1 c1 1"]}
        names = read_set(tmp_path / "set", "gallery").tracklets[1].frame_names
        assert names == tuple(f"f{i}" for i in range(1, 13))  # f2 before f10

    def test_left_out_and_elsewhere(self, tmp_path):
        tree = folder(tmp_path / "tree", "")
        (tmp_path / "mine.txt").write_text("train 0001\nout 0002\nout 0003\nout -1/c1\n")
        builder = tfds.builder("folder", data_dir=tmp_path / "tfds", split_file=str(tmp_path / "mine.txt"))
        prepare(builder, tree)
        assert facts(builder.data_dir) == {"train": ["0001/c1/t1 0001 c1 2", "0001/c2/t1 0001 c2 1"], "query": [],
                                           "gallery": []}

    @pytest.mark.parametrize("lines, parts", [
        ("train 0001\ntest 0002", ("splits.txt, line 2", "train, query, gallery, out", "'test 0002'")),
        ("train", ("line 1", "'train'")),
        ("train 0001\n\ntrain 0001", ("line 3", "already in line 1")),
        ("train 0001/c1/t1/f1", ("line 1", "person/camera/tracklet", "0001/c1/t1/f1")),
        ("train ../0001", ("line 1", "../0001")),
        (SPLIT_LINES + "train 0007", ("line 9", "no tracklet 0007", "-1, 0001, 0002, 0003")),
        (SPLIT_LINES + "train 0003/c3", ("line 9", "0003/c3")),
        ("train 0001\ntrain 0002", ("no split to 4 tracklets", "-1/c1/t9, 0003/c1/t1", "out -1")),
        (SPLIT_LINES.replace("gallery 0003\n", "train 0003\n"), ("1 people", "0003")),
    ])
    def test_split_files_that_do_not_fit(self, tmp_path, lines, parts):
        with refused(*parts):
            datasets.read_folder_with_splits(folder(tmp_path, lines))

    def test_trees_that_do_not_fit(self, tmp_path):
        with refused(tmp_path / "splits.txt", "no such file", "manual_dir"):
            datasets.read_folder_with_splits(tmp_path)
        tree = folder(tmp_path, SPLIT_LINES)
        put(tree / "0002/c1/t3/deeper/f1.jpg")
        with refused("0002/c1/t3", "no pictures, but deeper", "person/camera/tracklet/frame"):
            datasets.read_folder_with_splits(tree)

    def test_pictures_that_cannot_stay_as_they_are(self, tmp_path):
        """Grey, turned, 16-bit and other formats become PNGs of the picture that everything else sees."""
        where = folder(tmp_path / "tree", SPLIT_LINES) / "0002/c1/t1"
        Image.fromarray(picture(5)[..., 0]).save(where / "f2.jpg")
        Image.fromarray(picture(6)).save(where / "f3.tif")
        turned = Image.Exif()
        turned[0x0112] = 6
        Image.fromarray(picture(7)).save(where / "f4.jpg", exif=turned)
        build("folder", tmp_path / "set", manual_dir=tmp_path / "tree")
        train = read_set(tmp_path / "set")
        for name, stored in zip(("f1.jpg", "f2.jpg", "f3.tif", "f4.jpg"), train.tracklets[2].frames, strict=True):
            np.testing.assert_array_equal(stored, read_image(where / name))
        assert train.frame(6).shape == (WIDTH, HEIGHT, 3)
        source = tfds.builder_from_directory(str(tmp_path / "set")).as_data_source(split="train")
        np.testing.assert_array_equal(source[4]["image"], read_image(where / "f2.jpg"))


class TestBuild:
    def test_names(self):
        assert names() == ("dukemtmc_video_reid", "folder", "ilids_vid", "ls_vid", "mars")
        with refused("'market'", "ls_vid, mars"):
            build("market", "nowhere")

    def test_one_new_module_adds_a_data_set(self, tmp_path, monkeypatch):
        (tmp_path / "plain_frames.py").write_text("""
from vrstc_jax.data.datasets.base import ReidBuilder, file_tracklet, pictures_in

class PlainFrames(ReidBuilder):
    name = "plain_frames"
    read = staticmethod(lambda folder, **options: {
        "train": [file_tracklet("a", folder, pictures_in(folder), person="1", camera="1")]})
    queries_in_official_gallery = False

BUILDER = PlainFrames
""")
        put(tmp_path / "frames/1.jpg")
        monkeypatch.setattr(datasets, "__path__", [*datasets.__path__, str(tmp_path)])
        assert "plain_frames" in names() and datasets.queries_in_official_gallery("plain_frames") is False
        build("plain_frames", tmp_path / "set", manual_dir=tmp_path / "frames")
        assert facts(tmp_path / "set") == {"train": ["a 1 1 1"]}

    def test_official_galleries(self):
        assert {name for name in names() if datasets.queries_in_official_gallery(name)} == {"ls_vid", "mars"}
        assert datasets.queries_in_official_gallery("folder") is datasets.queries_in_official_gallery("other") is None

    def test_nothing_else_is_replaced(self, tmp_path):
        tree = folder(tmp_path / "tree", SPLIT_LINES)
        with refused(tree, "no data set"):
            build("folder", tree, manual_dir=tree)
        assert (tree / "splits.txt").exists()

    def test_without_a_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
        with refused(tmp_path / "downloads/manual", "Get MARS from"):
            build("mars", tmp_path / "set")

    def test_a_folder_without_frames(self, tmp_path):
        tree = folder(tmp_path / "tree", "out 0001\nout 0002\nout 0003\nout -1")
        with refused("no frame"):
            build("folder", tmp_path / "set", manual_dir=tree)

    def test_tracklets_can_be_sent_to_workers(self, tmp_path):
        given = datasets.read_folder_with_splits(folder(tmp_path, SPLIT_LINES))["train"][0]
        back = pickle.loads(pickle.dumps(given))
        np.testing.assert_array_equal(back.frames[1], given.frames[1])
        assert isinstance(given.frames, LazySequence) and given.frames.encoded(0) == back.frames.encoded(0)
