"""The public data sets, on small trees made here in the official layouts, and the errors for wrong trees.

Expected splits are written out by hand, from the tables that the trees are made of.
"""

import json
import os
import pickle

import h5py
import numpy as np
import pytest
import tensorflow_datasets as tfds
from dataset_trees import (
    HEIGHT,
    ILIDS_PEOPLE,
    ILIDS_ROWS,
    MARS_TEST,
    MARS_TRAIN,
    WIDTH,
    ilids,
    mars,
    picture,
    put,
)
from PIL import Image
from refusals import refused
from scipy.io import savemat

from vrstc_jax.data import datasets
from vrstc_jax.data.datasets import (
    build,
    gallery_with_queries,
    names,
    read_dukemtmc_video_reid,
    read_folder_with_splits,
    read_ilids_vid,
    read_ls_vid,
    read_mars,
)
from vrstc_jax.data.images import encode_png, read_image
from vrstc_jax.data.tracklet_set import Builder, prepare_set, read_set, set_splits, write_set
from vrstc_jax.data.tracklets import EncodedFrames, LazySequence, Tracklet
from vrstc_jax.evaluation import rank


def all_splits(directory):
    return {split: read_set(directory, split).tracklets for split in set_splits(directory)}


def facts(splits):
    """{split: [(name, person, camera, frames)]}."""
    return {split: [(t.name, t.person, t.camera, len(t)) for t in tracklets] for split, tracklets in splits.items()}


def frames(count, seed=0):
    return [picture([seed, i]) for i in range(count)]


def tracklet(name, pictures, **known):
    return Tracklet(name=name, frames=pictures, frame_names=tuple(map(str, range(len(pictures)))), **known)


class TestSplitsOfASet:
    def test_they_come_back(self, tmp_path):
        given = {"train": [tracklet("a", frames(3), person="1", camera="c1"), tracklet("b", frames(1, 1))],
                 "gallery": (tracklet(name, frames(2, 2)) for name in ("a", "b", "c")), "query": []}
        write_set(tmp_path / "set", given)
        assert set_splits(tmp_path / "set") == ("train", "gallery", "query")
        train, gallery = read_set(tmp_path / "set"), read_set(tmp_path / "set", "gallery")
        assert [(t.name, t.person, t.camera, len(t)) for t in train.tracklets] == [("a", "1", "c1", 3),
                                                                                 ("b", None, None, 1)]
        assert [t.name for t in gallery.tracklets] == ["a", "b", "c"] and gallery.first == (0, 2, 4)
        np.testing.assert_array_equal(train.tracklets[1].frames[0], frames(1, 1)[0])
        np.testing.assert_array_equal(gallery.frame(5), frames(2, 2)[1])
        empty = read_set(tmp_path / "set", "query")
        assert empty.tracklets == () and len(empty.source) == 0
        with refused(tmp_path / "set", "'test'", "train, gallery, query"):
            read_set(tmp_path / "set", "test")
        assert tfds.builder_from_directory(str(tmp_path / "set")).info.splits["gallery"].num_examples == 6

    def test_one_name_for_two(self, tmp_path):
        with refused("query", "called a"):
            write_set(tmp_path / "set", {"train": [tracklet("a", frames(1))],
                                         "query": [tracklet("a", frames(1)), tracklet("a", frames(1))]})
        assert os.listdir(tmp_path) == []

    def test_nothing_in_any(self, tmp_path):
        with refused("no frame"):
            write_set(tmp_path / "set", {"train": [], "query": [tracklet("a", [])]})
        with pytest.raises(ValueError, match="'all'"):
            write_set(tmp_path / "set", {"all": [tracklet("a", frames(1))]})

    def test_a_set_of_the_first_version(self, tmp_path):
        """Without an index, tracklets are found in the records."""
        given = [tracklet("a", frames(2), person="1"), tracklet("b", frames(3, 1), masks=[np.eye(6) > 0] * 3)]
        write_set(tmp_path / "set", given)
        (tmp_path / "set/tracklets.json").unlink()
        assert set_splits(tmp_path / "set") == ("train",)
        back = read_set(tmp_path / "set")
        assert [(t.name, t.person, t.frame_names, t.masks is None) for t in back.tracklets] == [
            ("a", "1", ("0", "1"), True), ("b", None, ("0", "1", "2"), False)]

    def test_a_damaged_index(self, tmp_path):
        write_set(tmp_path / "set", [tracklet("a", frames(2))])
        index = tmp_path / "set/tracklets.json"
        rows = json.loads(index.read_text())
        rows["train"][0]["frames"].append("2")
        index.write_text(json.dumps(rows))
        with refused("2 frames", "3 in"):
            read_set(tmp_path / "set")
        index.write_text(index.read_text()[:20])
        with refused(index, "damaged"):
            read_set(tmp_path / "set")

    def test_shards(self, tmp_path):
        """A split is several files, none with more frames than asked unless a tracklet has; it reads as one."""
        given = [tracklet(str(k), frames(n, k)) for k, n in enumerate((3, 2, 4, 7, 1))]
        prepare_set(tmp_path / "set", Builder, tracklets={"train": given}, shard_frames=5)
        assert len(list((tmp_path / "set").glob("*.array_record*"))) == 4
        back = read_set(tmp_path / "set")
        assert [len(t) for t in back.tracklets] == [3, 2, 4, 7, 1]
        for k, t in enumerate(back.tracklets):
            np.testing.assert_array_equal(t.frames[-1], frames(len(t), k)[-1])

    def test_encoded_pictures_are_not_kept_in_memory(self, tmp_path):
        """Neither pictures nor their bytes wait for the end of a shard."""
        alive = most = 0

        class Watched(bytes):
            def __del__(self):
                nonlocal alive
                alive -= 1

        def encoded(index):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return Watched(encode_png(picture(index)))

        write_set(tmp_path / "set", [tracklet("a", EncodedFrames(50, picture, encoded))])
        assert len(read_set(tmp_path / "set").source) == 50 and most <= 3

    def test_a_copy_of_a_set_keeps_the_bytes(self, tmp_path):
        jpeg = put(tmp_path / "a.jpg").read_bytes()
        kept = EncodedFrames(1, lambda i: read_image(tmp_path / "a.jpg"), lambda i: jpeg)
        write_set(tmp_path / "one", [tracklet("a", kept)])
        first = read_set(tmp_path / "one")
        write_set(tmp_path / "two", {"gallery": first.tracklets})
        second = read_set(tmp_path / "two", "gallery")
        assert second.source[0]["image"] == first.source[0]["image"] == jpeg
        np.testing.assert_array_equal(second.frame(0), read_image(tmp_path / "a.jpg"))


@pytest.fixture(scope="module")
def mars_set(tmp_path_factory):
    """A tree of MARS in manual_dir/MARS, and the set built of it."""
    top = tmp_path_factory.mktemp("mars")
    mars(top / "manual/MARS")
    progress = []
    build("mars", top / "set", manual_dir=top / "manual", check_counts=False, progress=progress.append)
    assert progress == [3, 2, 2, 2, 2, 2, 2, 2, 1]
    return top


class TestMars:
    def test_who_is_where(self, mars_set):
        assert set_splits(mars_set / "set") == ("train", "query", "gallery")
        splits = all_splits(mars_set / "set")
        assert facts(splits) == {
            "train": [("0001/c1/00001", "1", "1", 3), ("0001/c2/00002", "1", "2", 2),
                      ("0003/c6/00003", "3", "6", 2)],
            "query": [("0002/c1/00003", "2", "1", 2), ("0004/c5/00006", "4", "5", 2)],
            "gallery": [("00-1/c1/00001", "-1", "1", 2), ("0000/c2/00002", "0", "2", 2),
                        ("0002/c1/00004", "2", "1", 2), ("0002/c3/00005", "2", "3", 1)]}
        assert splits["train"][0].frame_names == ("0001C1T0001F001", "0001C1T0001F002", "0001C1T0001F003")

    def test_pictures_are_stored_as_they_are(self, mars_set):
        file = mars_set / "manual/MARS/bbox_test/0002/0002C3T0001F001.jpg"
        gallery = read_set(mars_set / "set", "gallery")
        assert gallery.source[6]["image"] == file.read_bytes()
        np.testing.assert_array_equal(gallery.tracklets[3].frames[0], np.asarray(Image.open(file)))

    def test_both_galleries_by_hand(self, mars_set):
        """Person 2 asks from camera 1: its tracklets from there are junk, as is −1; 4 has no match."""
        query = read_set(mars_set / "set", "query").tracklets
        gallery = read_set(mars_set / "set", "gallery").tracklets
        both = gallery_with_queries(query, gallery)
        assert [t.name for t in both] == [t.name for t in (*query, *gallery)]
        # Nearest to the query of person 2 are junk, the distractor, itself, and then the match.
        near = {"00-1/c1/00001": 0, "0000/c2/00002": 1, "0002/c1/00003": 2, "0002/c1/00004": 3,
                "0002/c3/00005": 4, "0004/c5/00006": 5}
        for entries in (gallery, both):
            distances = np.array([[near[t.name] for t in entries]] * 2, np.float32)
            found = rank(distances, [t.person for t in query], [t.person for t in entries],
                         [t.camera for t in query], [t.camera for t in entries])
            assert found.first_hit.tolist() == [2, 0] and found.left_out == 1 and found.mean_ap == 0.5

    def test_as_a_builder_of_tfds(self, mars_set, tmp_path):
        builder = tfds.builder("mars", data_dir=tmp_path, check_counts=False)
        assert "11,310" in builder.info.description
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=mars_set / "manual/MARS"))
        assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
            "train": 7, "query": 4, "gallery": 7}
        row = tfds.builder("mars", data_dir=tmp_path).as_data_source(split="gallery")[2]
        assert row["person"].decode() == "0" and row["image"].shape == (HEIGHT, WIDTH, 3)

    def test_tfds_without_a_folder(self, tmp_path):
        builder = datasets.Mars(data_dir=tmp_path / "data")
        with refused(tmp_path / "nowhere", "does not exist", "liangzheng.com.cn", "bbox_train/"):
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "nowhere"))

    def test_counts(self, mars_set):
        with refused("is not the whole MARS", "3 tracklets in train, not 8298 (8295 too few)",
                     "2 people in query, not 626", "4 tracklets in gallery, not 10200",
                     "1 junk tracklets in gallery, not 870", "check_counts=False"):
            build("mars", mars_set / "other", manual_dir=mars_set / "manual/MARS")
        assert not (mars_set / "other").exists()

    def test_nothing_there(self, tmp_path):
        with refused(tmp_path / "none", "no such folder", "Get MARS from"):
            read_mars(tmp_path / "none")
        with refused("missing: bbox_train, bbox_test, info/train_name.txt", "found: nothing", "Get MARS"):
            read_mars(tmp_path)

    def test_a_file_is_missing(self, tmp_path):
        (mars(tmp_path) / "info/query_IDX.mat").unlink()
        with refused("missing: info/query_IDX.mat;", "found: bbox_test, bbox_train, info"):
            read_mars(tmp_path, check_counts=False)

    @pytest.mark.parametrize("rows, parts", [
        ({"train": [*MARS_TRAIN, (7, 8, 3, 6)]}, ("tracks_train_info", "row 4 (7, 8, 3, 6)", "1 to the 7")),
        ({"train": [(0, 1, 1, 1)]}, ("row 1 (0, 1, 1, 1)", "1 to the 7")),
        ({"test": [(2, 1, -1, 1)]}, ("tracks_test_info.mat", "row 1 (2, 1, -1, 1)", "not empty")),
        ({"train": [(1, 4, 1, 1)]}, ("row 1", "0001C1T0001F001.jpg", "0001C2T0001F001.jpg")),
        ({"train": [(1, 3, 2, 1)]}, ("row 1 (1, 3, 2, 1)", "all of that person and camera")),
        ({"train": [(1, 3, 1, 7)]}, ("row 1", "cameras are 1 to 6")),
        ({"queries": (3, 7)}, ("query_IDX.mat", "has 7", "6 test tracklets")),
        ({"queries": (0,)}, ("query_IDX.mat", "has 0")),
        ({"queries": (3, 3)}, ("query_IDX has 3 more than once",)),
        ({"train": [(1, 3, 1)]}, ("track_train_info", "4 columns", "[1, 3]")),
        ({"train": [(1.5, 3, 1, 1)]}, None),
    ])
    def test_tables_that_do_not_fit(self, tmp_path, rows, parts):
        mars(tmp_path, **rows)
        if parts is None:
            savemat(tmp_path / "info/tracks_train_info.mat", {"track_train_info": np.array(rows["train"])})
            parts = ("track_train_info", "whole numbers", "float64")
        with refused(*parts):
            read_mars(tmp_path, check_counts=False)

    def test_a_picture_is_missing(self, tmp_path):
        lost = mars(tmp_path) / "bbox_test/0002/0002C1T0002F001.jpg"
        lost.unlink()
        with refused(lost, "missing", "row 4"):
            read_mars(tmp_path, check_counts=False)

    @pytest.mark.parametrize("data", [b"not a picture", b""])
    def test_a_picture_is_none(self, tmp_path, data):
        bad = mars(tmp_path / "MARS") / "bbox_test/0002/0002C1T0002F001.jpg"
        bad.write_bytes(data)
        with refused(bad, "picture"):
            build("mars", tmp_path / "set", manual_dir=tmp_path, check_counts=False)
        assert os.listdir(tmp_path) == ["MARS"]  # nothing half done stays

    def test_a_picture_cut_short(self, tmp_path):
        bad = mars(tmp_path / "MARS") / "bbox_test/0002/0002C1T0002F001.jpg"
        bad.write_bytes(bad.read_bytes()[:-200])
        with refused(bad):
            build("mars", tmp_path / "set", manual_dir=tmp_path, check_counts=False)

    def test_another_variable(self, tmp_path):
        savemat(mars(tmp_path) / "info/query_IDX.mat", {"query": [[1]], "other": [[2]]})
        with refused("query_IDX.mat", "no variable query_IDX", "other, query"):
            read_mars(tmp_path, check_counts=False)

    def test_a_damaged_table(self, tmp_path):
        (mars(tmp_path) / "info/query_IDX.mat").write_bytes(b"0" * 300)
        with refused("query_IDX.mat", "cannot be read as a MATLAB file"):
            read_mars(tmp_path, check_counts=False)

    def test_somebody_in_train_and_test(self, tmp_path):
        mars(tmp_path, test=[*MARS_TEST, (12, 12, 3, 1)])
        put(tmp_path / "bbox_test/0003/0003C1T0001F001.jpg")
        names = tmp_path / "info/test_name.txt"
        names.write_text(names.read_text() + "0003C1T0001F001.jpg\n")
        with refused("1 people are in train", "3"):
            read_mars(tmp_path, check_counts=False)


@pytest.fixture(scope="module")
def ilids_tree(tmp_path_factory):
    return ilids(tmp_path_factory.mktemp("ilids") / "iLIDS-VID")


class TestIlidsVid:
    def test_who_is_where(self, ilids_tree):
        """Split 10 has people 6, 1 and 3 (in the order of folders) first: they are for testing."""
        assert facts(read_ilids_vid(ilids_tree.parent, split=10, check_counts=False)) == {
            "train": [("person002/cam1", "person002", "cam1", 3), ("person002/cam2", "person002", "cam2", 4),
                      ("person010/cam1", "person010", "cam1", 3), ("person010/cam2", "person010", "cam2", 4),
                      ("person013/cam1", "person013", "cam1", 3), ("person013/cam2", "person013", "cam2", 4)],
            "query": [("person001/cam1", "person001", "cam1", 3), ("person005/cam1", "person005", "cam1", 3),
                      ("person015/cam1", "person015", "cam1", 3)],
            "gallery": [("person001/cam2", "person001", "cam2", 4),
                        ("person005/cam2", "person005", "cam2", 4),
                        ("person015/cam2", "person015", "cam2", 4)]}

    @pytest.mark.parametrize("split", range(1, 11))
    def test_halves(self, ilids_tree, split):
        splits = read_ilids_vid(ilids_tree, split=split, check_counts=False)
        train, query, gallery = ([t.person for t in splits[name]] for name in ("train", "query", "gallery"))
        assert query == gallery == [ILIDS_PEOPLE[i] for i in sorted(np.array(ILIDS_ROWS[split - 1][:3]) - 1)]
        assert len(set(train)) == len(query) == 3 and not set(train) & set(query)
        assert set(train) | set(query) == set(ILIDS_PEOPLE)

    def test_a_config_for_each_split(self, ilids_tree, tmp_path):
        build("ilids_vid", tmp_path / "set", manual_dir=ilids_tree, split=10, check_counts=False,
              progress=lambda frames: None)
        info = tfds.builder_from_directory(str(tmp_path / "set")).info
        assert info.config_name == "split_10" and info.name == "ilids_vid"
        query = read_set(tmp_path / "set", "query").tracklets
        assert [t.person for t in query] == ["person001", "person005", "person015"]
        builder = tfds.builder("ilids_vid/split_10", data_dir=tmp_path / "tfds", check_counts=False)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=ilids_tree))
        assert [t.name for t in read_set(builder.data_dir, "query").tracklets] == [t.name for t in query]
        assert len(datasets.IlidsVid.BUILDER_CONFIGS) == 10

    def test_counts(self, ilids_tree, tmp_path):
        with refused("6 people, not 300 (294 too few)"):
            read_ilids_vid(ilids_tree)
        with refused("9 rows, not 10 (1 too few)"):
            read_ilids_vid(ilids(tmp_path, rows=ILIDS_ROWS[:9]))

    def test_trees_that_do_not_fit(self, tmp_path):
        with pytest.raises(ValueError, match="1 to 10. Got 0"):
            read_ilids_vid(tmp_path, split=0)
        with refused("missing: i-LIDS-VID/sequences/cam1,", "cam2, train-test people splits/", "Get iLIDS"):
            read_ilids_vid(tmp_path)
        rows = [*ILIDS_ROWS[:2], [1, 2, 3, 4, 5, 7], [1, 2, 3, 4, 5, 5]]
        tree = ilids(tmp_path / "a", rows=rows)
        for split in (3, 4):
            with refused(f"row {split} of ls_set", "1 to 6"):
                read_ilids_vid(tree, split=split, check_counts=False)
        with refused("4 rows", "no split 5"):
            read_ilids_vid(tree, split=5, check_counts=False)
        put(tree / "i-LIDS-VID/sequences/cam2/person016/a.png")
        with refused("only one of them has person016"):
            read_ilids_vid(tree, check_counts=False)
        put(tree / "i-LIDS-VID/sequences/cam1/person016/a.txt.png").unlink()
        with refused("ls_set", "7 columns", "[4, 6]"):
            read_ilids_vid(tree, check_counts=False)

    def test_a_person_without_pictures(self, tmp_path):
        tree = ilids(tmp_path)
        for path in (tree / "i-LIDS-VID/sequences/cam2/person005").iterdir():
            path.unlink()
        with refused("cam2/person005: no pictures"):
            read_ilids_vid(tree, check_counts=False)


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


class TestDukemtmcVideoReid:
    def test_who_is_where(self, tmp_path):
        duke(tmp_path / "manual/DukeMTMC-VideoReID")
        build("dukemtmc_video_reid", tmp_path / "set", manual_dir=tmp_path / "manual", check_counts=False)
        splits = all_splits(tmp_path / "set")
        assert facts(splits) == {
            "train": [("0001/0001", "0001", "6", 2), ("0001/0002", "0001", "2", 3),
                      ("0003/0003", "0003", "1", 2)],
            "query": [("0002/0010", "0002", "5", 2)],
            "gallery": [("0002/0010", "0002", "5", 2), ("0002/0011", "0002", "8", 1),
                        ("7140/2193", "7140", "2", 1)]}

    def test_counts(self, tmp_path):
        with refused("3 tracklets in train, not 2196 (2193 too few)", "2 people in train, not 702",
                     "7 frames in train, not 369656", "2 people in gallery, not 1110"):
            read_dukemtmc_video_reid(duke(tmp_path))

    def test_trees_that_do_not_fit(self, tmp_path):
        with refused("missing: train, query, gallery", "withdrawn"):
            read_dukemtmc_video_reid(tmp_path)
        for number, (extra, parts) in enumerate({
                "train/0001/0001/0001C7F0003X1.jpg": ("0001/0001", "two cameras", "C7F0003"),
                "train/0001/0001/0002C6F0003X1.jpg": ("person 0002", "is in the folder 0001"),
                "train/0001/0001/photo.jpg": ("photo.jpg", "0001C6F0099X30823.jpg"),
                "train/0002/0009/0002C6F0001X1.jpg": ("1 people are in train and also in query", "0002"),
        }.items()):
            tree = duke(tmp_path / str(number))
            put(tree / extra)
            with refused(*parts):
                read_dukemtmc_video_reid(tree, check_counts=False)
        (tree / "query/0002/0099").mkdir()
        with refused("query/0002/0099: no pictures"):
            read_dukemtmc_video_reid(tree, check_counts=False)


LS_VID_LISTS = {"train": ("tracklet_train/0000/0000_1 0", "tracklet_train/0000/0000_11 0",
                          "tracklet_train/0005/0005_2 5"),
                "test": ("tracklet_test/0001/0001_1 1", "tracklet_test/0001/0001_2 1",
                         "tracklet_test/0002/0002_1 2")}
LS_VID_CAMERAS = {"0000_1": (3, 2), "0000_11": (15, 1), "0005_2": (1, 3), "0001_1": (4, 2), "0001_2": (5, 1),
                  "0002_1": (6, 2)}  # camera and number of frames


def ls_vid(root, queries=((1.0,), (3.0,))):
    (root / "list_sequence").mkdir(parents=True)
    (root / "test/data").mkdir(parents=True)
    for split, lines in LS_VID_LISTS.items():
        (root / f"list_sequence/list_seq_{split}.txt").write_text("\n".join(lines) + "\n")
        for beginning in (line.split()[0] for line in lines):
            camera, count = LS_VID_CAMERAS[beginning.rpartition("/")[2]]
            for frame in range(count):
                put(root / f"{beginning}_{camera}_{frame:04d}.jpg")
    savemat(root / "test/data/info_test.mat", {"query": np.array(queries)})
    return root


class TestLsVid:
    def test_who_is_where(self, tmp_path):
        assert facts(read_ls_vid(ls_vid(tmp_path / "LS-VID").parent, check_counts=False)) == {
            "train": [("0000/0000_1", "0", "3", 2), ("0000/0000_11", "0", "15", 1),
                      ("0005/0005_2", "5", "1", 3)],
            "query": [("0001/0001_1", "1", "4", 2), ("0002/0002_1", "2", "6", 2)],
            "gallery": [("0001/0001_2", "1", "5", 1)]}

    def test_counts(self, tmp_path):
        with refused("3 tracklets in train, not 2831", "2 tracklets in query, not 3504", "not 7829"):
            read_ls_vid(ls_vid(tmp_path))

    def test_a_table_of_version_73(self, tmp_path):
        """The official table is HDF5."""
        mat = ls_vid(tmp_path) / "test/data/info_test.mat"
        with h5py.File(mat, "w", userblock_size=512) as file:
            file["query"] = np.array([[1.0, 3.0]])  # a column in MATLAB
        with open(mat, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")
        query = read_ls_vid(tmp_path, check_counts=False)["query"]
        assert [t.name for t in query] == ["0001/0001_1", "0002/0002_1"]

    def test_trees_that_do_not_fit(self, tmp_path):
        with refused("list_sequence/list_seq_train.txt", "Ask the authors"):
            read_ls_vid(tmp_path)
        with refused("query has 4", "of 3 test tracklets"):
            read_ls_vid(ls_vid(tmp_path / "a", queries=((4,),)), check_counts=False)
        with refused("query has 2 more than once"):
            read_ls_vid(ls_vid(tmp_path / "b", queries=((2,), (2,))), check_counts=False)
        tree = ls_vid(tmp_path / "c")
        put(tree / "tracklet_test/0001/0001_2_6_0001.jpg")
        with refused("list_seq_test.txt, line 2", "two cameras", "0001_2_6_0001.jpg"):
            read_ls_vid(tree, check_counts=False)
        wrong = put(tree / "tracklet_train/0005/0005_2_16_0001.jpg")
        with refused(wrong, "1 to 15"):
            read_ls_vid(tree, check_counts=False)
        wrong.unlink()
        path = tree / "list_sequence/list_seq_train.txt"
        for line, parts in {"tracklet_train/0009/0009_1 9": ("line 4", "no picture", "0009_1*"),
                            "tracklet_train/0000/0000_1": ("line 4", "identity", "0000_1'")}.items():
            path.write_text("\n".join((*LS_VID_LISTS["train"], line)))
            with refused(path, *parts):
                read_ls_vid(tree, check_counts=False)


def folder(root, lines):
    for path, count in {"0001/c1/t1": 2, "0001/c2/t1": 1, "0002/c1/t1": 1, "0003/c1/t1": 1, "0003/c1/t2": 1,
                        "0003/c2/t1": 12, "-1/c1/t9": 1}.items():
        for frame in range(count):
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
        splits = all_splits(tmp_path / "set")
        assert facts(splits) == {
            "train": [("0001/c1/t1", "0001", "c1", 2), ("0001/c2/t1", "0001", "c2", 1),
                      ("0002/c1/t1", "0002", "c1", 1)],
            "query": [("0003/c1/t1", "0003", "c1", 1)],
            "gallery": [("0003/c1/t2", "0003", "c1", 1), ("0003/c2/t1", "0003", "c2", 12),
                        ("-1/c1/t9", "-1", "c1", 1)]}
        assert splits["gallery"][1].frame_names == tuple(f"f{i}" for i in range(1, 13))  # f2 before f10

    def test_left_out_and_elsewhere(self, tmp_path):
        tree = folder(tmp_path / "tree", "")
        (tmp_path / "mine.txt").write_text("train 0001\nout 0002\nout 0003\nout -1/c1\n")
        splits = read_folder_with_splits(tree, split_file=tmp_path / "mine.txt")
        assert [t.name for t in splits["train"]] == ["0001/c1/t1", "0001/c2/t1"]
        assert splits["query"] == splits["gallery"] == []
        builder = tfds.builder("folder", data_dir=tmp_path / "tfds", split_file=str(tmp_path / "mine.txt"))
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=tree))
        assert set_splits(builder.data_dir) == ("train", "query", "gallery")
        assert read_set(builder.data_dir, "gallery").tracklets == ()

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
            read_folder_with_splits(folder(tmp_path, lines))

    def test_trees_that_do_not_fit(self, tmp_path):
        with refused(tmp_path / "splits.txt", "no such file", "manual_dir"):
            read_folder_with_splits(tmp_path)
        tree = folder(tmp_path, SPLIT_LINES)
        put(tree / "0002/c1/t3/deeper/f1.jpg")
        with refused("0002/c1/t3", "no pictures, but deeper", "person/camera/tracklet/frame"):
            read_folder_with_splits(tree)

    def test_pictures_that_cannot_stay_as_they_are(self, tmp_path):
        """Grey, turned, 16-bit and other formats become PNGs of the picture that everything else sees."""
        where = folder(tmp_path / "tree", SPLIT_LINES) / "0002/c1/t1"
        grey = Image.fromarray(picture(5)[..., 0])
        grey.save(where / "f2.jpg")
        Image.fromarray(picture(6)).save(where / "f3.tif")
        turned = Image.Exif()
        turned[0x0112] = 6
        Image.fromarray(picture(7)).save(where / "f4.jpg", exif=turned)
        build("folder", tmp_path / "set", manual_dir=tmp_path / "tree")
        train = read_set(tmp_path / "set")
        files = ("f1.jpg", "f2.jpg", "f3.tif", "f4.jpg")
        for name, stored in zip(files, train.tracklets[2].frames, strict=True):
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
        assert facts(all_splits(tmp_path / "set")) == {"train": [("a", "1", "1", 1)]}

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
        with refused("no frame"):
            build("folder", tmp_path / "set", manual_dir=folder(
                tmp_path / "tree", "out 0001\nout 0002\nout 0003\nout -1"))

    def test_tracklets_can_be_sent_to_workers(self, tmp_path):
        given = read_folder_with_splits(folder(tmp_path, SPLIT_LINES))["train"][0]
        back = pickle.loads(pickle.dumps(given))
        np.testing.assert_array_equal(back.frames[1], given.frames[1])
        assert isinstance(given.frames, LazySequence) and given.frames.encoded(0) == back.frames.encoded(0)
