"""Videos give the frames that were put into them, and bad input is refused in one line."""

import json
import os
import pickle
import threading
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from footage import HEIGHT, WIDTH, assert_same, cut, decoded, make_video, mask, noise, refuses, write_boxes

from vrstc_jax.data.images import write_png
from vrstc_jax.data.inputs.sources import open_source

SHARED = Path(__file__).resolve().parents[3] / "shared"
VTEST, CASES = SHARED / "data/vtest", SHARED / "cases"


@pytest.fixture
def clip(tmp_path):
    """A whole video of 20 frames and boxes of two tracks."""
    rows = [f"{frame},{track},{5 * track},{track + frame % 3},{10 + frame % 4},20,1,-1,-1,-1"
            for frame in range(1, 21) for track in (2, 10) if track == 2 or frame > 15]
    return {"path": make_video(tmp_path / "clip.avi"), "boxes": write_boxes(tmp_path / "boxes.txt", *rows)}


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
