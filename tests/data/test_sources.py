"""Folders and videos give the frames that were put into them, and bad input is refused in one line.

Pictures and videos are made here; videos that must come back exactly are FFV1, which is lossless in its own
colour space, so that crops are compared with what PyAV alone decodes from the same file.
"""

import json
import os
import pickle
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from refusals import refused

from vrstc_jax.data.images import check_picture, decode_image, encode_png, read_image, write_png
from vrstc_jax.data.inputs.boxes import clip_box, read_boxes
from vrstc_jax.data.inputs.folders import read_folder
from vrstc_jax.data.inputs.masks import read_mask
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.runtime.storage import require_writable_directory

SHARED = Path(__file__).resolve().parents[3] / "shared"
VTEST, CASES = SHARED / "data/vtest", SHARED / "cases"
HEIGHT, WIDTH = 48, 64


def noise(seed, height=HEIGHT, width=WIDTH):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(seed, height=HEIGHT, width=WIDTH):
    return cv2.resize(noise(seed, 4, 5), (width, height))


def refuses(*parts, **arguments):
    """Expects that open_source raises an InputError of one line that holds all `parts`."""
    with refused(*parts):
        open_source(**arguments)


def make_video(path, *, frames=20, codec="ffv1", container=None, rate=10):
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(frames):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(smooth(index), format="rgb24")))
        output.mux(stream.encode(None))
    return path


def decoded(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def cut(pictures, tracklet):
    """The crops of a tracklet's boxes from the pictures of a video."""
    return [pictures[frame - 1][top:top + height, left:left + width]
            for frame, left, top, width, height in tracklet.boxes.astype(int)]


def assert_same(first, second):
    """That two sequences have as many frames, and the same ones."""
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def mask(path, width, height):
    write_png(path, np.ones((height, width), bool))


def write_boxes(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def clip(tmp_path):
    """A whole video of 20 frames and boxes of two tracks."""
    rows = [f"{frame},{track},{5 * track},{track + frame % 3},{10 + frame % 4},20,1,-1,-1,-1"
            for frame in range(1, 21) for track in (2, 10) if track == 2 or frame > 15]
    return {"path": make_video(tmp_path / "clip.avi"), "boxes": write_boxes(tmp_path / "boxes.txt", *rows)}


class TestImages:
    def test_png_comes_back_exactly_and_cv2_agrees(self, tmp_path):
        picture = noise(0)
        write_png(tmp_path / "a/b/c.png", picture)
        np.testing.assert_array_equal(read_image(tmp_path / "a/b/c.png"), picture)
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a/b/c.png"))[:, :, ::-1], picture)
        np.testing.assert_array_equal(decode_image(encode_png(picture)), picture)
        assert os.listdir(tmp_path / "a/b") == ["c.png"]

    def test_masks_are_white_where_hidden(self, tmp_path):
        mask = np.random.default_rng(0).random((9, 7)) > 0.5
        write_png(tmp_path / "m.png", mask)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "m.png")), np.where(mask, 255, 0))
        for mode in ("1", "L", "RGB", "RGBA", "P"):
            Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert(mode).save(tmp_path / "n.png")
            np.testing.assert_array_equal(read_mask(tmp_path / "n.png"), mask, err_msg=mode)
        Image.fromarray(np.array([[127, 128]], np.uint8)).save(tmp_path / "n.png")
        assert read_mask(tmp_path / "n.png").tolist() == [[False, True]]

    def test_masks_without_white_are_not_taken_for_nothing_hidden(self, tmp_path):
        for values in ([0, 1], [1, 1], [0, 127]):
            Image.fromarray(np.array([values], np.uint8)).save(tmp_path / "n.png")
            with refused("n.png: a mask is white (255)", f"value is {max(values)}."):
                read_mask(tmp_path / "n.png")
        Image.fromarray(np.zeros((1, 2), np.uint8)).save(tmp_path / "n.png")
        assert not read_mask(tmp_path / "n.png").any()

    def test_masks_painted_on_a_transparent_ground(self, tmp_path):
        mask = np.random.default_rng(0).random((9, 7)) > 0.5
        for colour in ((0, 0, 0), (255, 255, 255), (200, 30, 40), (127, 127, 127)):
            picture = np.dstack([np.full((9, 7, 3), colour, np.uint8), np.where(mask, 255, 0).astype(np.uint8)])
            for mode in ("RGBA", "LA", "PA"):
                Image.fromarray(picture, "RGBA").convert(mode if mode != "PA" else "P").save(tmp_path / "n.png")
                np.testing.assert_array_equal(read_mask(tmp_path / "n.png"), mask, err_msg=f"{mode} {colour}")
            picture[..., 3] = 0
            Image.fromarray(picture, "RGBA").save(tmp_path / "n.png")
            assert not read_mask(tmp_path / "n.png").any()
        # A colour that stands for transparent, in a picture without the channel.
        Image.fromarray(np.where(mask, 0, 255).astype(np.uint8)).save(tmp_path / "n.png", transparency=255)
        np.testing.assert_array_equal(read_mask(tmp_path / "n.png"), mask)
        # The channel alone, opaque everywhere, changes nothing.
        grey = np.where(mask, 255, 0).astype(np.uint8)
        Image.fromarray(np.dstack([grey] * 3 + [np.full_like(grey, 255)]), "RGBA").save(tmp_path / "n.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "n.png"), mask)

    def test_masks_with_transparency_that_could_mean_either(self, tmp_path):
        rows = np.array([[[0, 255], [255, 255], [0, 0]]], np.uint8)
        Image.fromarray(rows, "LA").save(tmp_path / "n.png")
        with refused("n.png: a mask is either white on black, or painted", "black, white and transparent"):
            read_mask(tmp_path / "n.png")
        Image.fromarray(np.array([[[0, 100], [0, 0]]], np.uint8), "LA").save(tmp_path / "n.png")
        with refused("n.png", "highest opacity is 100."):
            read_mask(tmp_path / "n.png")

    def test_masks_of_an_input_have_one_form(self, tmp_path):
        """Opaque everywhere, where others are painted: everything is hidden, whatever the colour."""
        partly, opaque = np.zeros((9, 7, 4), np.uint8), np.zeros((9, 7, 4), np.uint8)
        partly[2:5, :, 3], opaque[..., 3] = 255, 255
        top, masks = tmp_path / "top/t", tmp_path / "masks/t"
        for folder, pictures in ((top, [partly[..., :3]] * 3), (masks, [opaque, partly, opaque * 0])):
            folder.mkdir(parents=True)
            for number, picture in enumerate(pictures):
                Image.fromarray(picture).save(folder / f"{number}.png")
        shares = lambda: [mask.mean().round(2) for mask in read_folder(top.parent, masks=masks.parent)[0].masks]
        assert shares() == [1.0, 0.33, 0.0]
        made_from = read_folder(top.parent, masks=masks.parent)[0].made_from
        opaque[:4, :, :3] = 255
        Image.fromarray(opaque).save(masks / "0.png")
        with refused("masks/t/0.png", "black, white and transparent"):
            shares()
        for number in (1, 2):
            Image.fromarray(opaque).save(masks / f"{number}.png")
        assert shares() == [0.44] * 3 and read_folder(top.parent, masks=masks.parent)[0].made_from != made_from
        Image.fromarray(partly).save(masks / "1.png")
        Image.fromarray(partly[..., 3]).save(masks / "2.png")
        refuses("masks/t/2.png", "without transparency", "1.png", path=top.parent, masks=masks.parent)
        assert [mask.any() for mask in read_folder(top.parent, truth=masks.parent)[0].truth] == [True, False, True]

    def test_masks_of_a_videos_pictures_have_one_form(self, tmp_path):
        path, masks = make_video(tmp_path / "v.avi"), tmp_path / "masks"
        masks.mkdir()
        (tmp_path / "b.txt").write_text("1,7,0,0,20,10\n2,7,0,0,20,10\n")
        for number, rows in ((1, HEIGHT), (2, 5)):
            picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
            picture[:rows, :, 3] = 255
            Image.fromarray(picture).save(masks / f"{number:06d}.png")
        tracklet, = open_source(path, boxes=tmp_path / "b.txt", masks=masks).tracklets
        assert [mask.mean() for mask in tracklet.masks] == [1.0, 0.5]

    def test_sixteen_bits_are_scaled_and_jpegs_turned_upright(self, tmp_path):
        Image.fromarray(np.array([[0, 256, 65535]], np.uint16)).save(tmp_path / "deep.png")
        assert read_image(tmp_path / "deep.png")[0, :, 1].tolist() == [0, 1, 255]
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(smooth(0, 30, 50)).save(tmp_path / "turned.jpg", exif=exif)
        assert read_image(tmp_path / "turned.jpg").shape == (50, 30, 3)
        assert check_picture(tmp_path / "turned.jpg") == (50, 30)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
    def test_pictures_cut_short_or_damaged_are_refused(self, tmp_path, suffix):
        path = tmp_path / f"picture.{suffix}"
        Image.fromarray(smooth(0, 200, 300)).save(path)
        assert check_picture(path) == (200, 300)
        whole = path.read_bytes()
        damaged = [whole[:int(len(whole) * share)] for share in (0.0, 0.1, 0.6, 0.98)]
        if suffix == "png":  # One byte is wrong: the other formats have no checksum.
            middle = len(whole) // 2
            damaged.append(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1:])
        for data in damaged:
            path.write_bytes(data)
            for read in (check_picture, read_image):
                with refused(path):
                    read(path)

    def test_paths_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        require_writable_directory(tmp_path / "new/deeper")
        assert os.listdir(tmp_path / "new/deeper") == []
        # /proc is a file system that refuses even root.
        for bad in (tmp_path / "file", tmp_path / "file/below", *(["/proc/vrstc"] if os.path.isdir("/proc") else [])):
            with refused(bad):
                require_writable_directory(bad)
        with refused(tmp_path / "file/p.png"):
            write_png(tmp_path / "file/p.png", noise(0))

    def test_an_interrupted_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        write_png(tmp_path / "p.png", noise(0))
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with refused("No space left"):
            write_png(tmp_path / "p.png", noise(1))
        np.testing.assert_array_equal(read_image(tmp_path / "p.png"), noise(0))
        assert os.listdir(tmp_path) == ["p.png"]


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


class TestBoxes:
    def test_mot_text(self, tmp_path):
        path = write_boxes(tmp_path / "b.txt", "# frame, id, ...", "", "2,7,1.5,2,3,4,0.9,-1,-1,-1",
                           "1 7 1 2 3 4", "1,3,1,2,3,4,-1", "5, 3, -1, -2, 3, 4, 0", "1.0,5,1,2,3,4,")
        boxes = read_boxes(path)
        assert list(zip(boxes.tracks, boxes.frames, boxes.lines)) == [(3, 1, 5), (5, 1, 7), (7, 1, 4), (7, 2, 3)]
        assert boxes.rectangles[-1].tolist() == [1.5, 2, 3, 4]
        assert boxes.ignored == {(3, 5)}

    @pytest.mark.parametrize("line, value", [
        ("1,2,x,4,5,6", "'x'"), ("1,2,,4,5,6", "''"), ("1,2,nan,4,5,6", "'nan'"), ("1,2,3,4,inf,6", "'inf'"),
        ("1,2,3,4,5", "5 fields"), ("1.5,2,3,4,5,6", "1.5"), ("1,2.5,3,4,5,6", "2.5"), ("0,2,3,4,5,6", "frame 0"),
        ("1,-1,3,4,5,6", "id -1"), ("1,2,3,4,0,6", "0 wide"), ("1,2,3,4,5,-6", "-6 high"), ("1,1,9,9,9,9", "line 1"),
        ("1e300,1,2,3,4,5", "1e+300"), ("\x00\x01\x02", "fields"),
        ("1,²,3,4,5,6", "'²'"), ("1,1²3,3,4,5,6", "'1²3'"), ("٣,2,3,4,5,6", "'٣'"), ("1,1_0,3,4,5,6", "'1_0'"),
        ("1,2,3,４,5,6", "'４'"), ("1,0x10,3,4,5,6", "'0x10'"), ("1,1e999,3,4,5,6", "'1e999'"),
        (f"1,{'9' * 5000},3,4,5,6", "'999"), ("1,1e-99999999999999999999,3,4,x,6", "'x'"),
        ("1,-1,3,4,5,6", "without a track"), ("1,18446744073709551615.0,3,4,5,6", "1.84467e+19")])
    def test_lines_that_are_no_boxes(self, tmp_path, line, value):
        path = write_boxes(tmp_path / "b.txt", "1,1,2,3,4,5", line)
        with refused(f"{path}:2: ", value):
            read_boxes(path)

    def test_ids_up_to_two_to_the_64(self, tmp_path):
        ids = [0, 2**53 + 1, 2**63, 2**64 - 1]
        boxes = read_boxes(write_boxes(tmp_path / "b.txt", *(f"1,{number},2,3,40,50" for number in ids)))
        assert boxes.tracks.tolist() == ids
        with refused("b.txt:1: id 18446744073709551616", "2^64"):
            read_boxes(write_boxes(tmp_path / "b.txt", f"1,{2**64},2,3,40,50"))

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_encodings_and_line_ends(self, tmp_path, encoding, end):
        mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
        text = end.join(["# rows", "1,7,2,3,40,50", "", "2,7,2,3,40,50"])
        (tmp_path / "b.txt").write_bytes(mark + text.encode(encoding))
        boxes = read_boxes(tmp_path / "b.txt")
        assert list(zip(boxes.tracks, boxes.frames, boxes.lines)) == [(7, 1, 2), (7, 2, 4)]

    def test_frames_that_count_from_another_number(self, tmp_path):
        path = write_boxes(tmp_path / "b.txt", "0,7,2,3,40,50", "1,7,2,3,40,50")
        with refused("b.txt:1: frame 0", "--first-frame 0"):
            read_boxes(path)
        assert read_boxes(path, first_frame=0).frames.tolist() == [1, 2]
        with refused("b.txt:1: frame 0", "from 100"):
            read_boxes(path, first_frame=100)

    def test_rows_that_motchallenge_leaves_out_are_counted(self, tmp_path):
        rows = ["1,7,2,3,40,50,1,1,0.9", "2,7,2,3,40,50,0,1,0.5", "2,7,2,3,40,50,1,1,1", "1,9,2,3,40,50,1,3,1",
                "2,9,2,3,40,50,1,3,0.25", "1,8,2,3,40,50,0,8,-1", "3,7,2,3,40,50,1,-1,-1"]
        boxes = read_boxes(write_boxes(tmp_path / "b.txt", *rows))
        assert list(zip(boxes.tracks, boxes.frames)) == [(7, 1), (7, 2), (7, 3)]
        assert boxes.ignored == {(7, 2), (9, 1), (9, 2), (8, 1)} and boxes.other_classes == 2
        warning, = boxes.warnings
        assert "4 of 7 rows are left out: 2 with confidence 0 and 2 of" in warning and "2 of 3 car" in warning
        with refused("holds no box but 2 that are left out (2 of MOTChallenge"):
            read_boxes(write_boxes(tmp_path / "b.txt", *rows[3:5]))

    @pytest.mark.parametrize("row", ["0.9,3,1", "1,0,1", "1,3.5,1", "1,3,4", "1,3,1,7", "1,3,0.5,-1,-1", "1,x",
                                     "1,-1,-1,-1"])
    def test_other_files_have_no_classes(self, tmp_path, row):
        """One row shows that the fields after the confidence are something else."""
        boxes = read_boxes(write_boxes(tmp_path / "b.txt", "1,7,2,3,40,50,1,2,0.9", f"2,7,2,3,40,50,{row}"))
        assert len(boxes) == (1 if row == "1,-1,-1,-1" else 2)

    def test_fractions_of_the_picture_are_refused(self, tmp_path):
        rows = ["1,7,-0.01,0.2,0.3,0.9", "2,7,0.5,0.1,0.51,0.8"]
        with refused("b.txt: all 2 boxes lie within 0 to 1", "-0.01", "multiply"):
            read_boxes(write_boxes(tmp_path / "b.txt", *rows))
        assert len(read_boxes(write_boxes(tmp_path / "b.txt", *rows, "3,7,1,2,30,40"))) == 3

    def test_no_boxes(self, tmp_path):
        for line in ("", "# nothing", "1,1,2,3,4,5,0"):
            with refused("b.txt: holds no box"):
                read_boxes(write_boxes(tmp_path / "b.txt", line))
        for missing in (tmp_path / "none.txt", tmp_path):
            with refused(missing):
                read_boxes(missing)

    def test_clipping_covers_what_the_box_touches(self):
        rng = np.random.default_rng(0)
        for left, top, width, height in rng.uniform(-30, 90, (200, 4)) + [0, 0, 30.5, 30.5]:
            touched = [(y, x) for y in range(HEIGHT) for x in range(WIDTH)
                       if left < x + 1 and x < left + width and top < y + 1 and y < top + height]
            box = clip_box((left, top, width, height), (HEIGHT, WIDTH))
            if touched:
                (y0, x0), (y1, x1) = np.min(touched, 0), np.max(touched, 0)
            assert box == ((x0, y0, x1 - x0 + 1, y1 - y0 + 1) if touched else None)


class TestVideo:
    def test_crops_are_the_pictures_pixels(self, clip):
        pictures = decoded(clip["path"])
        source = open_source(**clip)
        assert source.kind == "video"
        assert source.picture_size == (HEIGHT, WIDTH) and source.frame_rate == Fraction(10)
        assert source.warnings == () and source.frames_read == 20
        assert [(t.name, t.person, t.camera, len(t)) for t in source.tracklets] == [
            ("2", "2", None, 20), ("10", "10", None, 5)]
        assert source.tracklets[1].frame_names == ("000016", "000017", "000018", "000019", "000020")
        for tracklet in source.tracklets:
            np.testing.assert_array_equal(tracklet.boxes[:, 3], 10 + tracklet.boxes[:, 0] % 4)
            assert_same(tracklet.frames, cut(pictures, tracklet))

    def test_boxes_partly_and_wholly_outside(self, clip, tmp_path):
        boxes = write_boxes(tmp_path / "b.txt", "1,1,-5,-5,10,10", "2,1,200,5,10,10", "3,1,60,40,100,100",
                            "1,4,-50,-50,10,10", "2,4,-50,-50,10,10")
        source = open_source(clip["path"], boxes=boxes)
        (tracklet,) = source.tracklets
        assert tracklet.boxes.tolist() == [[1, 0, 0, 5, 5], [3, 60, 40, 4, 8]]
        assert [frame.shape for frame in tracklet.frames] == [(5, 5, 3), (8, 4, 3)]
        assert "frame 2" in tracklet.warnings[0] and len(tracklet.warnings) == 1
        assert "Track 4" in source.warnings[0] and len(source.warnings) == 1
        refuses("b.txt", path=clip["path"], boxes=write_boxes(tmp_path / "b.txt", "1,1,900,9,5,5"))

    @pytest.mark.parametrize("change, guess", [
        (lambda left, top, width, height: (left, top, left + width, top + height), "x1, y1, x2, y2"),
        (lambda *box: [1.5 * side for side in box], "another size")])
    def test_boxes_that_run_out_of_the_picture(self, clip, tmp_path, change, guess):
        boxes = [(30 + frame % 3, 20, 15, 25) for frame in range(20)]
        for one, expected in ((lambda *box: box, []), (change, [guess])):
            rows = [",".join(map(str, (frame, 1, *one(*box)))) for frame, box in enumerate(boxes, 1)]
            warnings = open_source(clip["path"], boxes=write_boxes(tmp_path / "b.txt", *rows)).warnings
            assert len(warnings) == len(expected)
            for warning, part in zip(warnings, expected):
                assert "20 of 20 boxes run out of the picture (64x48)" in warning and part in warning

    def test_the_first_frame_decides_which_pictures_are_cut(self, clip, tmp_path):
        rows = [line.split(",") for line in clip["boxes"].read_text().split()]
        shifted = write_boxes(tmp_path / "b.txt", *(",".join([str(int(row[0]) - 1), *row[1:]]) for row in rows))
        refuses("b.txt:1: frame 0", "--first-frame 0", path=clip["path"], boxes=shifted)
        spool = {"path": clip["path"], "spool": tmp_path / "spool"}
        for one, other in zip(open_source(clip["path"], boxes=clip["boxes"]).tracklets,
                              open_source(**spool, boxes=shifted, first_frame=0).tracklets):
            assert one.frame_names == other.frame_names
            assert_same(one.frames, other.frames)
        # The same boxes with another first frame are not served from the spool of the earlier ones.
        refuses(f"{clip['boxes']}:", "frame 20 is beyond", ", 19;", **spool, boxes=clip["boxes"], first_frame=0)
        refuses("--first-frame 0", "--boxes", path=tmp_path, first_frame=0)
        refuses("--first-frame -1", **clip, first_frame=-1)

    def test_rows_left_out_are_warned_of(self, clip):
        clip["boxes"].write_text(clip["boxes"].read_text() + "1,99,2,3,40,30,0,-1,-1,-1\n")
        source = open_source(**clip)
        assert len(source.tracklets) == 2
        assert source.warnings == (f"{clip['boxes']}: 1 of 26 rows are left out: 1 with confidence 0.",)

    def test_the_spool_is_used_again_until_its_files_change(self, clip, tmp_path):
        spool = tmp_path / "spool"
        first = [f.copy() for f in open_source(**clip, spool=spool).tracklets[0].frames]
        stamp = (spool / "2.rgb").stat().st_mtime_ns
        again = open_source(**clip, spool=spool)
        assert (spool / "2.rgb").stat().st_mtime_ns == stamp
        assert_same(first, pickle.loads(pickle.dumps(again.tracklets[0].frames)))

        (spool / "2.rgb").write_bytes(b"cut")  # As a killed run leaves it, with the index of an older one.
        assert_same(first, open_source(**clip, spool=spool).tracklets[0].frames)
        (spool / "index.json").unlink()
        (spool / "other.rgb").write_text("somebody else's")
        assert_same(first, open_source(**clip, spool=spool).tracklets[0].frames)
        write_boxes(clip["boxes"], "1,3,0,0,9,9")
        assert [t.name for t in open_source(**clip, spool=spool).tracklets] == ["3"]
        assert sorted(os.listdir(spool)) == ["3.rgb", "index.json", "other.rgb"]

    def test_a_spool_of_boxes_that_came_through_a_pipe(self, clip, tmp_path):
        """They are known by what they are: a pipe has neither size nor time."""
        spool = tmp_path / "spool"

        def opened(left):
            pipe = tmp_path / "pipe"
            pipe.unlink(missing_ok=True)
            os.mkfifo(pipe)
            writer = threading.Thread(target=pipe.write_text, args=(f"1,2,{left},4,10,20\n",))
            writer.start()
            tracklet, = open_source(clip["path"], boxes=pipe, spool=spool).tracklets
            writer.join()
            return tracklet, (spool / "2.rgb").stat().st_mtime_ns

        (first, time), (same, again), (other, later) = opened(3), opened(3), opened(4)
        assert first.made_from == same.made_from != other.made_from and time == again != later
        assert other.boxes.tolist() == [[1, 4, 4, 10, 20]]
        assert_same(other.frames, [decoded(clip["path"])[0][4:24, 4:14]])

    def test_a_spool_of_an_earlier_version(self, clip, tmp_path):
        """Its index names the files of video and boxes; while these are the same, it is used."""
        spool = tmp_path / "spool"
        open_source(**clip, spool=spool)
        stamp, index = (spool / "2.rgb").stat().st_mtime_ns, json.loads((spool / "index.json").read_text())
        status = clip["boxes"].stat()
        index["key"] = {"version": 1, "video": index["key"]["video"],
                        "boxes": [str(clip["boxes"].resolve()), status.st_size, status.st_mtime_ns]}
        for changes in (False, True):
            (spool / "index.json").write_text(json.dumps(index))
            if changes:
                os.utime(clip["boxes"])
            open_source(**clip, spool=spool)
            assert ((spool / "2.rgb").stat().st_mtime_ns != stamp) == changes

    def test_what_a_tracklet_is_made_from(self, clip, tmp_path):
        """It changes with the video, the boxes of its track and the masks of its frames, and with nothing else."""
        masks = tmp_path / "masks"
        for number in range(1, 21):
            mask(masks / f"{number:06d}.png", WIDTH, HEIGHT)

        def made_from():
            return {t.name: t.made_from for t in open_source(**clip, masks=masks).tracklets}

        before = made_from()
        assert None not in before.values() and made_from() == before
        with open(clip["boxes"], "a") as file:
            file.write("1,10,3,3,10,20\n")
        after = made_from()
        assert after["2"] == before["2"] and after["10"] != before["10"]
        write_png(masks / "000002.png", np.zeros((HEIGHT, WIDTH), bool))  # track 10 is not in that frame
        masked = made_from()
        assert masked["2"] != after["2"] and masked["10"] == after["10"]
        os.utime(clip["path"])
        assert not set(made_from().values()) & set(masked.values())

    def test_a_temporary_spool_goes_with_its_tracklets(self, clip, tmp_path, monkeypatch):
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
        frames = open_source(**clip).tracklets[0].frames
        assert frames[3].shape == (20, 10, 3) and os.listdir(tmp_path / "temporary")
        del frames
        assert not os.listdir(tmp_path / "temporary")

    def test_what_is_no_video(self, clip, tmp_path):
        refuses("nowhere.avi", path=tmp_path / "nowhere.avi", boxes=clip["boxes"])
        for data in (b"", b"text\n" * 100, np.random.default_rng(0).bytes(5000)):
            (tmp_path / "junk.avi").write_bytes(data)
            refuses("junk.avi", path=tmp_path / "junk.avi", boxes=clip["boxes"], spool=tmp_path / "spool")
        assert not (tmp_path / "spool").exists()
        refuses("clip.avi", "--boxes", path=clip["path"])
        refuses("clip.avi", "'frame'", path=clip["path"], pattern="frame")
        refuses("file", path=clip["path"], boxes=clip["boxes"], spool=clip["boxes"] / "file")

    @pytest.mark.parametrize("share, first, second", [(1, 22, 21), (1, 21, 22), (0.5, 21, 22)])
    def test_boxes_beyond_the_last_frame(self, clip, tmp_path, share, first, second):
        """Half of the video still declares 20 frames."""
        data = clip["path"].read_bytes()
        clip["path"].write_bytes(data[:int(len(data) * share)])
        boxes = write_boxes(tmp_path / "b.txt", "1,1,0,0,9,9", f"{first},1,0,0,9,9", f"{second},1,0,0,9,9")
        refuses(f"{boxes}:2: frame {first}", "20", path=clip["path"], boxes=boxes, spool=tmp_path / "spool")
        assert not list((tmp_path / "spool").iterdir())

    @pytest.mark.parametrize("name, codec, container", [
        ("v.avi", "ffv1", None), ("v.avi", "mpeg4", None), ("v.mkv", "mpeg4", None),
        ("v.ts", "mpeg2video", None), ("v.mp4", "mpeg4", {"movflags": "faststart"})])
    def test_a_video_that_breaks_off(self, tmp_path, name, codec, container):
        path = make_video(tmp_path / name, frames=60, codec=codec, container=container, rate=25)
        pictures = decoded(path)
        boxes = write_boxes(tmp_path / "b.txt", *(f"{f},1,0,0,64,48" for f in range(1, 61)), "60,2,0,0,9,9")
        assert open_source(path, boxes=boxes).warnings == ()
        data = path.read_bytes()
        path.write_bytes(data[:int(len(data) * 0.6)])
        source = open_source(path, boxes=boxes)
        read = source.frames_read
        assert 10 < read < 50
        (warning,) = source.warnings
        assert f"{read} frames of" in warning and "track" in warning and f"{61 - read} boxes" in warning
        assert "60" in warning or name == "v.ts"  # A transport stream does not say how long it should be.
        (tracklet,) = source.tracklets
        assert len(tracklet) == read
        assert_same(tracklet.frames, pictures[:read])  # No frame that is decoded in part.

    def test_damage_in_the_middle_costs_the_frames_there(self, clip):
        expected = cut(decoded(clip["path"]), open_source(**clip).tracklets[0])
        data = bytearray(clip["path"].read_bytes())
        middle = len(data) // 2
        data[middle:middle + 3000] = np.random.default_rng(0).bytes(3000)
        clip["path"].write_bytes(data)
        source = open_source(**clip)
        tracklet = source.tracklets[0]
        assert 10 < source.frames_read < 20 and len(source.warnings) == 1 and "left out" in source.warnings[0]
        assert {1, 20} < set(tracklet.boxes[:, 0])
        for (frame, *_), crop in zip(tracklet.boxes.astype(int)[[0, 1, 2, -2, -1]],
                                     [tracklet.frames[index] for index in (0, 1, 2, -2, -1)]):
            np.testing.assert_array_equal(crop, expected[frame - 1])

    @pytest.mark.parametrize("layout", ["tracks", "pictures"])
    def test_masks_and_truth_in_either_layout(self, clip, tmp_path, layout):
        whole = [noise(frame) for frame in range(20)]
        for tracklet in open_source(**clip).tracklets:
            for frame, crop in zip(tracklet.boxes[:, 0].astype(int), cut(whole, tracklet), strict=True):
                name = f"{tracklet.name}/{frame:06d}.png" if layout == "tracks" else f"{frame:06d}.png"
                picture = crop if layout == "tracks" else whole[frame - 1]
                write_png(tmp_path / "masks" / name, picture[:, :, 1] > 99)
                write_png(tmp_path / "truth" / name, picture)
        for tracklet in open_source(**clip, masks=tmp_path / "masks", truth=tmp_path / "truth").tracklets:
            assert_same(tracklet.truth, cut(whole, tracklet))
            assert_same(tracklet.masks, [crop[:, :, 1] > 99 for crop in cut(whole, tracklet)])

    @pytest.fixture
    def masked(self, tmp_path):
        """A video with boxes in its frames 1 (partly outside the picture) and 2, and no mask yet."""
        return {"path": make_video(tmp_path / "v.avi"), "masks": tmp_path / "masks",
                "boxes": write_boxes(tmp_path / "b.txt", "1,7,-5,0,20,10", "2,7,0,0,20,10")}

    def test_masks_of_tracks_that_do_not_fit(self, masked):
        masks = masked["masks"]
        refuses("masks", "no such folder", **masked)
        masks.mkdir()
        refuses("masks", "neither", **masked)
        mask(masks / "7/000001.png", 15, 10)
        refuses("7/000002.png", "missing", "1 mask", "2 boxes", **masked)
        mask(masks / "7/000002.png", 19, 10)
        refuses("7/000002.png", "19x10", "20x10", **masked)
        mask(masks / "7/000002.png", 20, 10)
        assert open_source(**masked).tracklets[0].masks[0].shape == (10, 15)
        mask(masks / "7/000003.png", 20, 10)
        refuses("7/000003.png", "3 mask", "2 boxes", **masked)
        (masks / "7/000003.png").unlink()
        mask(masks / "8/000001.png", 20, 10)
        refuses("masks/8", **masked)
        mask(masks / "000001.png", 20, 10)
        refuses("both", **masked)

    def test_masks_of_pictures_that_do_not_fit(self, masked):
        masks = masked["masks"]
        mask(masks / "000001.png", WIDTH, HEIGHT)
        refuses("masks/000002.png", "missing", **masked)
        mask(masks / "000002.png", HEIGHT, WIDTH)
        refuses("masks/000002.png", "48x64", "64x48", **masked)
        for frame in (2, 9):  # A mask for a picture without boxes does no harm.
            mask(masks / f"{frame:06d}.png", WIDTH, HEIGHT)
        assert len(open_source(**masked).tracklets[0].masks) == 2
        mask(masks / "000021.png", WIDTH, HEIGHT)
        refuses("masks/000021.png", "20 frames", **masked)


@pytest.mark.skipif(not CASES.is_dir(), reason=f"the example inputs are not at {CASES}")
class TestCases:
    """Small inputs of kinds that went wrong."""

    @pytest.mark.parametrize("folder, title, count, people", [
        ("mars/bbox_test", "MARS", 4, {"1", "3"}), ("market/bounding_box_train", "Market-1501", 3, {"2", "7", "10"})])
    def test_names_of_data_sets(self, folder, title, count, people):
        source = open_source(CASES / "reid-folder-names" / folder)
        assert len(source.tracklets) == count and {t.person for t in source.tracklets} == people
        assert title in source.notes[0] and source.warnings == ()

    @pytest.mark.parametrize("masks", ["alpha_black", "alpha_white"])
    def test_masks_with_alpha(self, masks):
        folder = CASES / "masks-with-alpha"
        tracklet, = open_source(folder / "fr", masks=folder / masks).tracklets
        inverted, = open_source(folder / "fr", masks=folder / "inverted").tracklets
        assert_same(tracklet.masks, [~mask for mask in inverted.masks])
        assert 0 < sum(mask.any() for mask in tracklet.masks) < 12


@pytest.mark.skipif(not VTEST.is_dir(), reason=f"the clip vtest is not at {VTEST}")
class TestVtest:
    def test_every_box_becomes_a_crop(self, tmp_path):
        source = open_source(VTEST / "vtest.avi", boxes=VTEST / "tracks.txt", spool=tmp_path)
        assert (source.frames_read, source.picture_size, source.frame_rate) == (795, (576, 768), 10)
        assert len(source.tracklets) == 20 and sum(map(len, source.tracklets)) == 4548
        assert source.warnings == () and all(t.warnings == () for t in source.tracklets)
        assert json.loads((tmp_path / "index.json").read_text())["frames_read"] == 795
        # OpenCV decodes by itself; its colour conversion rounds differently, by a few grey levels.
        frame, left, top, width, height = source.tracklets[0].boxes[0].astype(int)
        assert frame == 1
        picture = cv2.VideoCapture(str(VTEST / "vtest.avi")).read()[1].astype(int)
        crop = picture[top:top + height, left:left + width, ::-1]
        assert np.abs(source.tracklets[0].frames[0] - crop).max() <= 4

    def test_cut_in_the_middle(self, tmp_path):
        (tmp_path / "v.avi").write_bytes((VTEST / "vtest.avi").read_bytes()[:1_000_000])
        source = open_source(tmp_path / "v.avi", boxes=VTEST / "tracks.txt")
        assert f"{source.frames_read} frames of 795" in source.warnings[0] and 50 < source.frames_read < 200
        assert max(t.boxes[:, 0].max() for t in source.tracklets) == source.frames_read
