"""Sets of tracklets on disk: what is written comes back, in splits, whole or not at all."""

import json
import logging
import os
import subprocess
import sys
import weakref
from pathlib import Path

import absl.logging
import numpy as np
import pytest
import tensorflow_datasets as tfds
from damage import DAMAGES
from dataset_trees import picture, put
from people import figure, figures, masks_at, tracklet
from refusals import refused
from tensorflow_datasets.core.utils import tqdm_utils

from vrstc_jax.data.images import encode_png, read_image
from vrstc_jax.data.tracklet_set import Builder, prepare_set, read_set, set_splits, write_set
from vrstc_jax.data.tracklet_set.reader import quiet_tfds
from vrstc_jax.data.tracklets import EncodedFrames, LazySequence, Tracklet
from vrstc_jax.runtime.errors import InputError


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Three tracklets of ragged sizes, one with masks, one of a single frame, and the set made of them."""
    masked = figures(6, sizes=((50, 25),), seed=1)
    given = (
        Tracklet(name="0002/c2/t1", frames=figures(9, sizes=((40, 20), (33, 17), (5, 3))), person="0002", camera="c2",
                 frame_names=tuple(f"f{i}" for i in (1, 2, 3, 10, 11, 12, 20, 21, 100))),
        tracklet(masked, masks_at(masked, (1, 4)), name="10", person="10"),
        tracklet(figures(1, seed=2), name="9"))
    directory = tmp_path_factory.mktemp("set") / "deep" / "tracklets"
    reported = []
    write_set(directory, given, progress=reported.append)
    assert reported == [9, 6, 1]
    return given, directory


class TestSetOnDisk:
    def test_comes_back_as_it_was(self, stored):
        given, directory = stored
        back = read_set(directory)
        assert back.first == (0, 9, 15) and len(back.source) == 16
        for before, after in zip(given, back.tracklets, strict=True):
            for field in ("name", "frame_names", "person", "camera"):
                assert getattr(after, field) == getattr(before, field)
            assert (before.masks is None) == (after.masks is None)
            for ours, kept in ((before.frames, after.frames), (before.masks or (), after.masks or ())):
                for a, b in zip(ours, kept, strict=True):
                    np.testing.assert_array_equal(a, b, strict=True)

    def test_any_frame_is_read_by_itself(self, stored):
        given, directory = stored
        back = read_set(directory)
        np.testing.assert_array_equal(back.frame(14), given[1].frames[5])
        np.testing.assert_array_equal(back.mask(13), given[1].masks[4])
        np.testing.assert_array_equal(back.tracklets[0].frames[-1], given[0].frames[8])

    def test_of_the_host_programs_log_only_tfds_part_is_silent(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, logger="absl"):
            write_set(tmp_path / "set", [tracklet(figures(1))], progress=lambda _: absl.logging.info("not of TFDS"))
            read_set(tmp_path / "set")
        assert caplog.messages == ["not of TFDS"]

    def test_tfds_is_silent_until_the_outermost_exit(self, stored, caplog, capsys):
        with caplog.at_level(logging.INFO, logger="absl"), quiet_tfds():
            read_set(stored[1])  # which enters and leaves it twice, one within the other
            tfds.builder_from_directory(str(stored[1])).as_data_source(split="train")
            list(tqdm_utils.tqdm(range(1), desc="a bar"))
        assert not caplog.messages and not capsys.readouterr().err
        with caplog.at_level(logging.INFO, logger="absl"):
            tfds.builder_from_directory(str(stored[1]))
            list(tqdm_utils.tqdm(range(1), desc="a bar"))
        assert caplog.messages and "a bar" in capsys.readouterr().err

    def test_it_is_a_data_set_of_tfds(self, stored):
        builder = tfds.builder_from_directory(str(stored[1]))
        assert builder.info.splits["train"].num_examples == 16
        rows = builder.as_data_source(split="train")
        np.testing.assert_array_equal(rows[2]["image"], stored[0][0].frames[2])
        assert rows[2]["tracklet"].decode() == "0002/c2/t1" and rows[2]["frame"].decode() == "f3"

    def test_what_an_interruption_left_is_replaced(self, tmp_path):
        unfinished = tmp_path / "set.unfinished" / "tracklet_set" / "1.0.0.incompleteX"
        unfinished.mkdir(parents=True)
        (unfinished / "junk").write_text("x")
        write_set(tmp_path / "set", [tracklet(figures(3))])
        write_set(tmp_path / "set", [tracklet(figures(2))])  # and so is a set that exists
        assert len(read_set(tmp_path / "set").tracklets[0]) == 2
        assert os.listdir(tmp_path) == ["set"]

    @pytest.mark.parametrize("make", [
        lambda path: path.write_text("mine"), lambda path: path.symlink_to("elsewhere"),
        lambda path: (path.mkdir(), (path / "mine.txt").write_text("mine"))])
    def test_what_no_killed_process_left_is_not_removed(self, tmp_path, make):
        make(tmp_path / "set.unfinished")
        with refused(tmp_path / "set.unfinished", "is not from this command"):
            write_set(tmp_path / "set", [tracklet(figures(2))])
        assert os.path.lexists(tmp_path / "set.unfinished") and not (tmp_path / "set").exists()

    def test_what_a_killed_process_left_is_removed(self, tmp_path):
        """With the files that TFDS keeps for itself, and the lock."""
        code = ("import os, sys\nfrom people import figures, tracklet\n"
                "from vrstc_jax.data.tracklet_set import write_set\n"
                "write_set(sys.argv[1], [tracklet(figures(3))], progress=lambda _: os.kill(os.getpid(), 9))")
        top = Path(__file__).resolve().parents[2]
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "set"], env=os.environ | {
            "TMPDIR": str(tmp_path), "PYTHONPATH": f"{top}:{top / 'tests/support'}"})
        assert done.returncode == -9 and sorted(os.listdir(tmp_path)) == [".set.lock", "set.unfinished"]
        write_set(tmp_path / "set", [tracklet(figures(2))])
        assert os.listdir(tmp_path) == ["set"]

    @pytest.mark.parametrize("target", ["set", "nowhere", "old"])
    def test_a_link_is_replaced_and_what_it_leads_to_is_kept(self, tmp_path, target):
        write_set(tmp_path / "old", [tracklet(figures(3))])
        (tmp_path / "set").symlink_to(target)
        write_set(tmp_path / "set", [tracklet(figures(2))])
        assert [len(read_set(tmp_path / name).tracklets[0]) for name in ("old", "set")] == [3, 2]
        assert sorted(os.listdir(tmp_path)) == ["old", "set"] and not (tmp_path / "set").is_symlink()

    def test_a_file_that_is_a_link_to_itself(self, tmp_path):
        write_set(tmp_path / "set", [tracklet(figures(2))])
        features = tmp_path / "set/features.json"
        DAMAGES["a link to itself"](features)
        with refused(features, "is no file"):
            read_set(tmp_path / "set")

    def test_no_temporary_folder_is_left(self, tmp_path, monkeypatch):
        def fails(_):
            raise OSError(28, "No space left on device")

        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
        write_set(tmp_path / "set", [tracklet(figures(2))])
        read_set(tmp_path / "set")
        with refused("set: the disk is full; make room, or give another path"):
            write_set(tmp_path / "set", [Tracklet(name="t", frames=LazySequence(2, fails), frame_names=("1", "2"))])
        assert not os.listdir(tmp_path / "temporary") and len(read_set(tmp_path / "set").source) == 2
        assert sorted(os.listdir(tmp_path)) == ["set", "temporary"]

    def test_frames_are_written_as_they_are_read(self, tmp_path):
        """A tracklet is not held in memory for it."""
        alive, most = set(), 0

        def read(index):
            nonlocal most
            frame = figure(index)
            alive.add(index)
            weakref.finalize(frame, alive.discard, index)
            most = max(most, len(alive))
            return frame

        write_set(tmp_path / "set", [tracklet(LazySequence(60, read))])
        assert most <= 3

    @pytest.mark.parametrize("old, new", [('"name": "1"', '"name": "../1"'), ('"name": "1"', '"name": "/1"'),
                                          ('"000001"', '"../1"'), ('"000001"', '".."')])
    def test_names_that_lead_out_of_a_folder(self, tmp_path, old, new):
        """Results are written by them."""
        write_set(tmp_path, [tracklet(figures(2))])
        index = tmp_path / "tracklets.json"
        assert old in index.read_text()
        index.write_text(index.read_text().replace(old, new))
        with refused(tmp_path, repr(new.split('"')[-2])):
            read_set(tmp_path)

    def test_nothing_to_write_or_to_read(self, tmp_path):
        with refused("no frame"):
            write_set(tmp_path / "set", [])
        assert not (tmp_path / "set").exists()
        with refused(tmp_path):
            read_set(tmp_path)

    def test_tensorflow_is_not_needed(self, stored, tmp_path):
        """Nor imported where it is there; and the package's own import brings neither TFDS nor Orbax."""
        program = f"""
import sys
import vrstc_jax
heavy = ("tensorflow", "tensorflow_datasets", "orbax", "orbax.checkpoint", "cv2")
assert not set(heavy) & set(sys.modules)
from vrstc_jax.data.tracklet_set import read_set, write_set
opened = read_set({str(stored[1])!r})
write_set({str(tmp_path / "again")!r}, opened.tracklets)
assert read_set({str(tmp_path / "again")!r}).frame(3).shape == opened.frame(3).shape
assert "tensorflow" not in sys.modules
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr


class TestSplitsOfASet:
    def test_they_come_back(self, tmp_path):
        given = {"train": [tracklet(figures(3), name="a", person="1", camera="c1"),
                           tracklet(figures(1, seed=1), name="b")],
                 "gallery": (tracklet(figures(2, seed=2), name=name) for name in ("a", "b", "c")), "query": []}
        write_set(tmp_path / "set", given)
        back = {split: read_set(tmp_path / "set", split).tracklets for split in set_splits(tmp_path / "set")}
        assert [(split, [(t.name, t.person, t.camera, len(t)) for t in found]) for split, found in back.items()] == [
            ("train", [("a", "1", "c1", 3), ("b", None, None, 1)]),
            ("gallery", [(name, None, None, 2) for name in ("a", "b", "c")]), ("query", [])]
        train, gallery = read_set(tmp_path / "set"), read_set(tmp_path / "set", "gallery")
        assert train.tracklets[1].person is None and gallery.first == (0, 2, 4)
        np.testing.assert_array_equal(train.tracklets[1].frames[0], figures(1, seed=1)[0])
        np.testing.assert_array_equal(gallery.frame(5), figures(2, seed=2)[1])
        assert len(read_set(tmp_path / "set", "query").source) == 0
        with refused(tmp_path / "set", "'test'", "train, gallery, query"):
            read_set(tmp_path / "set", "test")
        assert tfds.builder_from_directory(str(tmp_path / "set")).info.splits["gallery"].num_examples == 6

    @pytest.mark.parametrize("given, error, message", [
        ({"train": [("a", 1)], "query": [("a", 1), ("a", 1)]}, InputError, "query.*called a"),
        ({"train": [], "query": [("a", 0)]}, InputError, "no frame"), ({"all": [("a", 1)]}, ValueError, "'all'")])
    def test_what_is_no_set(self, tmp_path, given, error, message):
        with pytest.raises(error, match=message):
            write_set(tmp_path / "set", {split: [tracklet(figures(count), name=name) for name, count in tracklets]
                                         for split, tracklets in given.items()})
        assert os.listdir(tmp_path) == []

    def test_a_set_of_the_first_version(self, tmp_path):
        """Without an index, tracklets are found in the records."""
        given = [tracklet(figures(2), name="a", person="1"),
                 tracklet(figures(3, seed=1), [np.eye(6) > 0] * 3, name="b")]
        write_set(tmp_path / "set", given)
        (tmp_path / "set/tracklets.json").unlink()
        assert set_splits(tmp_path / "set") == ("train",)
        back = read_set(tmp_path / "set")
        assert [(t.name, t.person, t.frame_names, t.masks is None) for t in back.tracklets] == [
            ("a", "1", ("000000", "000001"), True), ("b", None, ("000000", "000001", "000002"), False)]

    def test_a_damaged_index(self, tmp_path):
        write_set(tmp_path / "set", [tracklet(figures(2))])
        index = tmp_path / "set/tracklets.json"
        rows = json.loads(index.read_text())
        rows["train"][0]["frames"].append("2")
        for text, parts in ((json.dumps(rows), ("2 frames", "3 in")), ('{"train": [{"na', (index, "damaged"))):
            index.write_text(text)
            with refused(*parts):
                read_set(tmp_path / "set")

    def test_shards(self, tmp_path):
        """A split is several files, none with more frames than asked unless a tracklet has; it reads as one."""
        given = [tracklet(figures(n, seed=k), name=str(k)) for k, n in enumerate((3, 2, 4, 7, 1))]
        prepare_set(tmp_path / "set", Builder, tracklets={"train": given}, shard_frames=5)
        assert len(list((tmp_path / "set").glob("*.array_record*"))) == 4
        back = read_set(tmp_path / "set")
        assert [len(t) for t in back.tracklets] == [3, 2, 4, 7, 1]
        for k, t in enumerate(back.tracklets):
            np.testing.assert_array_equal(t.frames[-1], figures(len(t), seed=k)[-1])

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

        write_set(tmp_path / "set", [tracklet(EncodedFrames(50, picture, encoded))])
        assert len(read_set(tmp_path / "set").source) == 50 and most <= 3

    def test_a_copy_of_a_set_keeps_the_bytes(self, tmp_path):
        jpeg = put(tmp_path / "a.jpg").read_bytes()
        kept = EncodedFrames(1, lambda i: read_image(tmp_path / "a.jpg"), lambda i: jpeg)
        write_set(tmp_path / "one", [tracklet(kept)])
        first = read_set(tmp_path / "one")
        write_set(tmp_path / "two", {"gallery": first.tracklets})
        second = read_set(tmp_path / "two", "gallery")
        assert second.source[0]["image"] == first.source[0]["image"] == jpeg
        np.testing.assert_array_equal(second.frame(0), read_image(tmp_path / "a.jpg"))
