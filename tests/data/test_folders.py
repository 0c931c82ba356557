"""Folders of pictures give the tracklets that were put into them, and bad input is refused in one line."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from footage import HEIGHT, WIDTH, assert_same, mask, noise, refuses, smooth
from PIL import Image
from refusals import refused

from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.inputs.sources import open_source


class TestFolders:
    def fill(self, top, names):
        for seed, name in enumerate(names):
            write_png(top / name, noise(seed, 20 + seed % 3, 10))

    @pytest.mark.parametrize("folders, pattern, name, person, camera", [
        ("7/c1/t3", None, "7/c1/t3", "7", "c1"),
        ("7/t3", None, "7/t3", "7", None),
        ("t3", None, "t3", None, None),
        ("", None, "top", None, None),
        ("7", "person/frame", "7", "7", None),
        ("c1/7", "camera/person/frame", "c1/7", "7", "c1"),
    ])
    def test_levels(self, tmp_path, folders, pattern, name, person, camera):
        self.fill(tmp_path / "top" / folders, [f"f{i}.png" for i in range(3)])
        source = open_source(tmp_path / "top", pattern=pattern)
        assert source.kind == "folder" and source.frame_rate is None
        (tracklet,) = source.tracklets
        assert (tracklet.name, tracklet.person, tracklet.camera) == (name, person, camera)
        assert tracklet.masks is None and tracklet.frame_names == ("f0", "f1", "f2")
        assert_same(tracklet.frames, [noise(index, 20 + index, 10) for index in range(3)])

    def test_natural_order_of_tracklets_and_frames(self, tmp_path):
        self.fill(tmp_path, [f"t{t}/frame{f}.png" for t in (10, 9, 1) for f in (10, 2, 1, 100)])
        (tmp_path / "t1/notes.txt").write_text("no picture")
        (tmp_path / ".hidden").mkdir()
        write_png(tmp_path / ".hidden/deep/x.png", noise(0))
        tracklets = open_source(tmp_path).tracklets
        assert [t.name for t in tracklets] == ["t1", "t9", "t10"]
        assert tracklets[0].frame_names == ("frame1", "frame2", "frame10", "frame100")

    def test_frames_are_read_when_asked_for_and_can_be_sent_to_workers(self, tmp_path):
        self.fill(tmp_path, ["t/1.png", "t/2.png"])
        frames = pickle.loads(pickle.dumps(open_source(tmp_path).tracklets[0].frames))
        write_png(tmp_path / "t/2.png", noise(77))
        np.testing.assert_array_equal(frames[1], noise(77))
        (tmp_path / "t/2.png").unlink()
        with refused("2.png: no such file"):
            frames[1]

    def test_trees_that_do_not_fit(self, tmp_path):
        self.fill(tmp_path / "a", ["7/t1/1.png"])
        refuses("7/t1/1.png", "person/tracklet/frame", path=tmp_path / "a", pattern="tracklet/frame")
        self.fill(tmp_path / "a", ["8/1.png"])
        refuses("8/1.png", "7/t1/1.png", path=tmp_path / "a")
        self.fill(tmp_path / "deep", ["1/2/3/4/5.png"])
        refuses("1/2/3/4/5.png", path=tmp_path / "deep")
        for pattern in ("person", "person/person/frame", "frame/person", "name/frame", ""):
            refuses(repr(pattern), path=tmp_path / "a", pattern=pattern)

    def test_what_is_no_folder_of_pictures(self, tmp_path):
        (tmp_path / "empty").mkdir()
        refuses("nowhere", path=tmp_path / "nowhere")
        refuses("empty", "no pictures", path=tmp_path / "empty")
        refuses("empty", "boxes.txt", path=tmp_path / "empty", boxes="boxes.txt")
        self.fill(tmp_path, ["t/1.png"])
        Image.fromarray(noise(0)).save(tmp_path / "t/1.jpg")
        refuses("1.png", "1.jpg", path=tmp_path, pattern="tracklet/frame")

    def test_a_corrupt_picture_is_found_before_work_begins(self, tmp_path):
        self.fill(tmp_path, ["t/1.png", "t/2.png"])
        Image.fromarray(noise(0)).save(tmp_path / "t/3.jpg")  # noise, so that its data is longer than its header
        assert len(open_source(tmp_path).tracklets[0]) == 3
        whole = (tmp_path / "t/3.jpg").read_bytes()
        for damaged in (whole[:len(whole) // 2], b"not a picture"):
            (tmp_path / "t/3.jpg").write_bytes(damaged)
            refuses("t/3.jpg", path=tmp_path)

    def test_masks_and_truth_below_or_beside(self, tmp_path):
        frames, masks = tmp_path / "top", tmp_path / "top/masks"
        for index in range(3):
            write_png(masks / f"7/c1/t/{index}.png", noise(index)[:, :, 0] > 90)
            write_png(tmp_path / f"truth/7/c1/t/{index}.png", noise(index + 50))
            (frames / "7/c1/t").mkdir(parents=True, exist_ok=True)
            Image.fromarray(smooth(index)).save(frames / f"7/c1/t/{index}.jpg")
        (tracklet,) = open_source(frames, masks=masks, truth=tmp_path / "truth").tracklets
        assert_same(tracklet.masks, [noise(index)[:, :, 0] > 90 for index in range(3)])
        assert_same(tracklet.truth, [noise(index + 50) for index in range(3)])

    def test_masks_of_a_wrong_kind_are_refused_at_once(self, tmp_path):
        for index, value in enumerate((0, 255, 0, 1)):  # the last in the last tracklet
            write_png(tmp_path / f"top/{index // 2}/{index}.png", noise(index))
            (tmp_path / f"masks/{index // 2}").mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.full((HEIGHT, WIDTH), value, np.uint8))
            picture.save(tmp_path / f"masks/{index // 2}/{index}.png")
        refuses("masks/1/3.png", "white (255)", path=tmp_path / "top", masks=tmp_path / "masks")

    def test_masks_missing_too_many_or_of_another_size(self, tmp_path):
        self.fill(tmp_path / "top", ["t/1.png", "t/2.png"])
        given = {"path": tmp_path / "top", "masks": tmp_path / "masks"}
        refuses("masks", "no such folder", **given)
        mask(tmp_path / "masks/t/1.png", 10, 20)
        refuses("masks/t/2.png", "1 mask", "2 frames", **given)
        mask(tmp_path / "masks/t/2.png", 10, 20)
        refuses("masks/t/2.png", "10x20", "10x21", **given)
        mask(tmp_path / "masks/t/2.png", 10, 21)
        assert len(open_source(**given).tracklets[0].masks) == 2
        mask(tmp_path / "masks/t/3.png", 10, 21)
        refuses("masks/t/3.png", "3 mask", "2 frames", **given)

    MARS = ["0001C1T0001F001", "0001C1T0001F002", "0001C1T0002F001", "0001C2T0001F001"]

    def test_names_of_mars(self, tmp_path):
        top = tmp_path / "bbox_test"
        self.fill(top, [*(f"0001/{name}.png" for name in self.MARS), "0003/0003C6T0001F001.png",
                        "0003/0003C6T0001F1000.png", "0003/0003C6T0001F999.png",
                        *(f"{who}/{who}C1T000{k}F00{f}.png" for who in ("00-1", "0000")
                          for k in (1, 2) for f in (1, 2))])
        source = open_source(top)
        assert sorted((t.name, t.person, t.camera, len(t)) for t in source.tracklets) == [
            ("00-1/c1/t0001", "-1", "1", 2), ("00-1/c1/t0002", "-1", "1", 2), ("0000/c1/t0001", "0", "1", 2),
            ("0000/c1/t0002", "0", "1", 2), ("0001/c1/t0001", "1", "1", 2), ("0001/c1/t0002", "1", "1", 1),
            ("0001/c2/t0001", "1", "2", 1), ("0003/c6/t0001", "3", "6", 3)]
        note, = source.notes
        assert "MARS" in note and "8 tracklets (people: 2; cameras: 3; tracklets of junk: 2; tracklets of distr" in note
        assert source.warnings == ()
        last = next(t for t in source.tracklets if t.person == "3")
        assert last.frame_names == ("0003C6T0001F001", "0003C6T0001F999", "0003C6T0001F1000")
        for tracklet in source.tracklets:
            assert_same(tracklet.frames, [read_image(top / tracklet.name[:4] / f"{name}.png")
                                          for name in tracklet.frame_names])

    def test_names_of_market_1501_and_dukemtmc_reid(self, tmp_path):
        self.fill(tmp_path / "market", [
            "0002_c1s1_000451_03.png", "0002_c1s1_000476_01.png", "0002_c1s2_000451_03.png", "0007_c3s1_000451_01.png",
            "-1_c1s1_000401_03.png", "-1_c1s1_000401_04.png", "0000_c1s1_000151_01.png", "0000_c1s1_000376_01.png"])
        (tmp_path / "market/Thumbs.db").write_bytes(b"x")
        source = open_source(tmp_path / "market")
        # No two pictures of junk or of distractors show one person.
        assert sorted((t.name, t.person, t.camera, len(t)) for t in source.tracklets) == [
            ("-1/c1/s1/000401_03", "-1", "1", 1), ("-1/c1/s1/000401_04", "-1", "1", 1),
            ("0000/c1/s1/000151_01", "0", "1", 1), ("0000/c1/s1/000376_01", "0", "1", 1),
            ("0002/c1/s1", "2", "1", 2), ("0002/c1/s2", "2", "1", 1), ("0007/c3/s1", "7", "3", 1)]
        assert "Market-1501" in source.notes[0] and "people: 2; cameras: 2" in source.notes[0]
        self.fill(tmp_path / "duke", ["0001_c2_f0046182.png", "0001_c2_f0046302.png", "0001_c5_f0051341.png"])
        source = open_source(tmp_path / "duke")
        assert [(t.name, t.person, t.camera, len(t)) for t in source.tracklets] == [
            ("0001/c2", "1", "2", 2), ("0001/c5", "1", "5", 1)]
        assert "DukeMTMC-reID" in source.notes[0]

    def test_masks_of_pictures_told_apart_by_name(self, tmp_path):
        self.fill(tmp_path / "top", [f"0001/{name}.png" for name in self.MARS])
        for i, name in enumerate(self.MARS):
            write_png(tmp_path / f"masks/0001/{name}.png", noise(i, 20 + i % 3, 10)[:, :, 0] > 90)
        for tracklet in open_source(tmp_path / "top", masks=tmp_path / "masks").tracklets:
            assert_same(tracklet.masks, [frame[:, :, 0] > 90 for frame in tracklet.frames])

    def test_folders_of_one_tracklet_each_keep_their_names(self, tmp_path):
        self.fill(tmp_path, [f"{k}/{name}.png" for k, name in enumerate(self.MARS[1:])])
        source = open_source(tmp_path)
        assert [(t.name, t.person) for t in source.tracklets] == [("0", None), ("1", None), ("2", None)]
        assert source.notes == source.warnings == ()

    def test_a_pattern_decides_and_is_warned_of(self, tmp_path):
        self.fill(tmp_path / "0001", [f"{name}F00{f}.png" for name in ("0001C1T0001", "0001C2T0001") for f in (1, 2)])
        source = open_source(tmp_path, pattern="person/frame")
        assert [(t.name, len(t)) for t in source.tracklets] == [("0001", 4)] and source.notes == ()
        warning, = source.warnings
        assert "0001: the names of its 4 pictures" in warning and "leave --pattern out" in warning and "MARS" in warning

    @pytest.mark.parametrize("names, ways", [
        ("anna_1 anna_2 ben_1 ben_2", "2 ways (anna_…, ben_…)"), ("a1 a2 a3 b1 b2 b3 c1", "3 ways (a…, b…, c…)"),
        ("cam1_person001_1 cam1_person001_2 cam1_person002_1 cam1_person002_2", "(cam1_person001_…, cam1_person002_…)"),
        ("0001C1T0001F001 0001C1T0001F002 0002C1T0001F001 0002C1T0001F002 extra", "2 ways"),
        ("p1-1 p1-2 p2-1 p2-2 p3-1 p3-2 p4-1 p4-2", "4 ways (p1-…, p2-…, p3-…, …)"),
        ("frame1 frame2 frame3 frame10", None), ("1 2 10 20", None), ("IMG_2041 IMG_2042 DSC_1", None),
        ("20240131_115959 20240131_120000 20240201_000000 20240201_000001", None),
        ("2024-01-31_11-59-59.120 2024-01-31_11-59-59.160 2024-01-31_12-00-00.000 2024-01-31_12-00-00.040", None),
        ("f0001_0.97 f0002_0.88 f0003_0.97 f0004_0.9", None), ("a b c d", None), ("² 1²3 ٣ ٣2", None),
        ("0001C6F0099X30823 0001C6F0100X30824 0001C6F0101X30825", None)])
    def test_names_of_several_sequences_are_warned_of(self, tmp_path, names, ways):
        self.fill(tmp_path / "t", [f"{name}.png" for name in names.split()])
        source = open_source(tmp_path)
        assert [t.name for t in source.tracklets] == ["t"]
        assert len(source.warnings) == (ways is not None)
        assert all(f"{tmp_path / 't'}: " in each and ways in each and "folder" in each for each in source.warnings)

    def test_names_with_digits_that_are_none(self, tmp_path):
        names = ["²", "1²3", "٣", "٣2", "10", "9", "x٣", "x²"]
        self.fill(tmp_path, [f"{folder}/{name}.png" for folder in ("²", "٣", "2") for name in names])
        tracklets = open_source(tmp_path).tracklets
        assert {t.name for t in tracklets} == {"²", "٣", "2"}
        assert tracklets[0].frame_names.index("9") + 1 == tracklets[0].frame_names.index("10")

    def test_names_that_are_not_utf8(self, tmp_path):
        for name in (b"caf\xe9/1.png", b"t/\xff.png"):
            top = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name.partition(b".")[0].replace(b"/", b"_"))))
            self.fill(top, [os.fsdecode(name)])
            refuses("is not UTF-8; rename it", "\\udc", path=top)
