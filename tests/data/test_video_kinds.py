"""Videos as cameras, phones, browsers and trackers write them: times, orientation, damage, image sequences, formats."""

import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from refusals import refused

from vrstc_jax.data.images import check_picture, read_image, write_png
from vrstc_jax.data.inputs.picture_sequence import open_frames
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.data.inputs.video import VideoReader, upright

CASES = Path(__file__).resolve().parents[3] / "shared/cases"
HEIGHT, WIDTH, FRAMES = 48, 96, 32
IRREGULAR = (0, 79, 162, 273, 407, 436, 477, 596, 730, 783, 843, 967, 4040, 4096, 4216)  # ms; a tab in the background


def numbered(index):
    """A picture in which five bars spell its index, so that a shift of numbers is seen after any damage."""
    picture = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    picture[:8] = cv2.resize(np.random.default_rng(index).integers(0, 256, (4, 9, 3), dtype=np.uint8), (WIDTH, 8))
    for bit in range(5):
        picture[12:, 8 + 16 * bit:20 + 16 * bit] = 230 if index >> bit & 1 else 20
    return picture


def index_of(picture):
    return sum(1 << bit for bit in range(5) if picture[18:42, 11 + 16 * bit:17 + 16 * bit].mean() > 125)


def write(path, codec, *, times=None, count=FRAMES, pix_fmt="yuv420p", picture=numbered, **options):
    """Writes `count` numbered pictures, at 10 a second or at `times` in ms."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=10, options=options)
        stream.height, stream.width = picture(0).shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(count if times is None else len(times)):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = ((index, Fraction(1, 10)) if times is None else
                                          (times[index], Fraction(1, 1000)))
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def packets(path):
    """(number of its frame in the order shown, position, size) of every packet, in the order of the file."""
    with av.open(str(path)) as container:
        found = [(packet.pts, packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    order = sorted(pts for pts, _, _ in found)
    return [(order.index(pts) + 1, position, size) for pts, position, size in found]


def zero(path, frame):
    """Overwrites the data of one frame with zeros."""
    (position, size), = [(position, size) for number, position, size in packets(path) if number == frame]
    data = bytearray(path.read_bytes())
    data[position + 4:position + size] = bytes(size - 4)
    path.write_bytes(data)


def read(path):
    """The reader after its pass, and (number, index spelled, time) of each frame."""
    with open_frames(path) as reader:
        return reader, [(number, index_of(reader.rgb(frame)), float(reader.time)) for number, frame in reader]


def boxes_of(path, frames):
    path.write_text("".join(f"{frame},1,0,0,40,48\n" for frame in frames))
    return path


class TestTimes:
    def test_a_webm_without_duration_has_the_rate_of_its_times(self, tmp_path):
        """As browsers record: neither a frame rate nor a duration, which FFmpeg takes for 1000 frames a second."""
        path = write(tmp_path / "v.webm", "libvpx", times=IRREGULAR)
        data = path.read_bytes()
        default_duration, duration = data.find(b"\x23\xe3\x83\x84"), data.find(b"\x44\x89\x88")
        for position, size in ((default_duration, 4), (duration, 8)):
            if position > 0:  # an element of no meaning in place of each
                length = len(b"\x44\x89") if position == duration else len(b"\x23\xe3\x83")
                data = data[:position] + b"\xec" + bytes([0x80 + length - 2 + size + 0]) + bytes(
                    length - 1 + size - 1 + 1) + data[position + length + 1 + size:]
        path.write_bytes(data)
        reader, frames = read(path)
        assert [round(1000 * time) for _, _, time in frames] == list(IRREGULAR)
        assert 3 < reader.frame_rate < 4

    @pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.mov"])
    def test_every_frame_has_its_own_time(self, tmp_path, name):
        reader, frames = read(write(tmp_path / name, "libx264", times=IRREGULAR))
        assert [round(1000 * time) for _, _, time in frames] == list(IRREGULAR)
        assert [index for _, index, _ in frames] == list(range(len(IRREGULAR)))
        assert reader.broken is None and not reader.lost and 3 < reader.frame_rate < 4

    def test_a_regular_video_keeps_its_rate(self, tmp_path):
        for name in ("v.mkv", "v.mp4", "v.avi", "v.ts"):
            codec = "mpeg2video" if name == "v.ts" else "mpeg4"
            reader, frames = read(write(tmp_path / name, codec))
            assert reader.frame_rate == 10 and not reader.notes and reader.broken is None, name
            assert np.diff([time for _, _, time in frames]).round(3).tolist() == [0.1] * (FRAMES - 1)

    def test_dropped_frames_of_an_avi_are_no_break(self, tmp_path):
        times = [100 * index for index in range(FRAMES + 4) if index not in (8, 9, 10, 20)]
        path = tmp_path / "v.avi"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("mpeg4", rate=10, options={"bf": "0"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for index, time in enumerate(times):
                frame = av.VideoFrame.from_ndarray(numbered(index), format="rgb24")
                frame.pts, frame.time_base = time // 100, Fraction(1, 10)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        reader, frames = read(path)
        assert reader.declared == FRAMES + 4 and reader.broken is None and not reader.lost
        assert [(number, round(time, 3)) for number, _, time in frames] == [
            (index + 1, time / 1000) for index, time in enumerate(times)]
        assert reader.frame_rate == 10


class TestDamage:
    @pytest.mark.parametrize("name, codec, options", [
        ("v.avi", "mjpeg", {}), ("v.mkv", "mjpeg", {}), ("v.mp4", "libx264", {"bf": "2", "g": "8"}),
        ("v.avi", "mpeg4", {"bf": "0"}), ("v.mkv", "ffv1", {"g": "1", "slicecrc": "1"})])
    @pytest.mark.parametrize("frame", [1, 8, 19])
    def test_one_bad_frame_costs_one_frame(self, tmp_path, name, codec, options, frame):
        path = write(tmp_path / name, codec, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p", **options)
        zero(path, frame)
        reader, frames = read(path)
        assert reader.broken is None and reader.last_number == FRAMES
        # Of a codec that predicts, frames that depend on the bad one may go too, or be made up by the decoder.
        assert reader.lost in ([], [frame]) or (frame == 1 and reader.lost[0] == 1)
        whole = [(number, index) for number, index, _ in frames if number == index + 1]
        assert len(frames) == FRAMES - len(reader.lost)
        assert len(whole) >= FRAMES - (1 if codec in ("mjpeg", "ffv1") else 12)
        assert whole[-1] == (FRAMES, FRAMES - 1)

    def test_the_loss_is_said_with_its_boxes(self, tmp_path):
        path = write(tmp_path / "v.avi", "mjpeg", pix_fmt="yuvj420p")
        zero(path, 9)
        boxes = boxes_of(tmp_path / "b.txt", range(1, FRAMES + 1))
        boxes.write_text(boxes.read_text() + "9,7,0,0,9,9\n")
        source = open_source(path, boxes=boxes)
        (warning,) = source.warnings
        assert "frame 9 does not decode" in warning and "2 boxes" in warning and "tracks 7" in warning
        (tracklet,) = source.tracklets
        assert tracklet.boxes[:, 0].tolist() == [number for number in range(1, FRAMES + 1) if number != 9]
        for frame in range(1, FRAMES + 1):  # a mask of the lost frame too
            write_png(tmp_path / f"masks/{frame:06d}.png", np.ones((HEIGHT, WIDTH), bool))
        assert len(open_source(path, boxes=boxes, masks=tmp_path / "masks").tracklets[0]) == FRAMES - 1

    def test_packets_that_an_avi_lists_and_that_are_gone_count(self, tmp_path):
        path = write(tmp_path / "v.avi", "mjpeg", pix_fmt="yuvj420p")
        (start, end), = [(position, position + size) for number, position, size in packets(path) if number == 12]
        data = bytearray(path.read_bytes())
        data[start - 40:end - 10] = bytes(end - start + 30)  # the header too, so that no packet is found here
        path.write_bytes(data)
        reader, frames = read(path)
        assert reader.broken is None and 12 in reader.lost and len(reader.lost) <= 2
        assert all(number == index + 1 for number, index, _ in frames)

    def test_a_hole_in_the_times_of_a_stream_is_noted(self, tmp_path):
        path = write(tmp_path / "v.mkv", "mjpeg", pix_fmt="yuvj420p",
                     times=[100 * index for index in range(24) if not 14 < index < 18])
        reader, _ = read(path)
        (note,) = reader.notes
        assert "between frames 15 and 16" in note and "0.40 s" in note
        source = open_source(path, boxes=boxes_of(tmp_path / "b.txt", [1, 2]))
        assert source.warnings == (note,)

    def test_any_error_of_ffmpeg_is_one_line(self, tmp_path, monkeypatch):
        path = write(tmp_path / "v.mp4", "mpeg4", count=6)
        boxes = boxes_of(tmp_path / "b.txt", [1])
        for error in (av.error.EOFError(541478725, "End of file"), av.error.ExternalError(1, "external"),
                      av.error.DecoderNotFoundError(2, "Decoder not found"), UnicodeDecodeError("utf8", b"", 0, 1, "x"),
                      av.error.ArgumentError(22, "Invalid argument"), MemoryError()):
            def fails(*_, error=error, **__):
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(av, "open", fails)
                with refused("v.mp4"):
                    open_source(path, boxes=boxes, spool=tmp_path / "spool")
        assert not (tmp_path / "spool").exists()

    @pytest.mark.parametrize("name, codec", [("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.avi", "mpeg4"),
                                             ("v.ts", "mpeg2video"), ("v.webm", "libvpx"), ("v.flv", "flv")])
    def test_damaged_files_are_read_in_part_or_refused(self, tmp_path, name, codec):
        whole = write(tmp_path / name, codec, g="8").read_bytes()
        for seed in range(24):
            rng, data = np.random.default_rng(seed), bytearray(whole)
            if seed % 3 == 0:
                data = data[:rng.integers(len(data))]
            for position in rng.integers(0, max(1, len(data)), seed % 3 * 8):
                data[position] ^= 1 << rng.integers(8)
            (tmp_path / name).write_bytes(data)
            try:
                reader, frames = read(tmp_path / name)
            except ValueError as error:
                assert str(error).startswith(str(tmp_path / name)) and "\n" not in str(error)
                continue
            numbers, times = [number for number, _, _ in frames], [time for _, _, time in frames]
            assert sorted({*numbers, *reader.lost}) == list(range(1, reader.last_number + 1))
            assert all(np.diff(times) > 0)


class TestOrientation:
    MATRICES = {"": (1, 0, 0, 1), "hflip": (-1, 0, 0, 1), "vflip": (1, 0, 0, -1), "rotate 180": (-1, 0, 0, -1),
                "clock": (0, 1, -1, 0), "cclock": (0, -1, 1, 0), "cclock_flip": (0, 1, 1, 0),
                "clock_flip": (0, -1, -1, 0)}

    @staticmethod
    def as_ffmpeg(name, picture):
        """What FFmpeg's filters of these names do."""
        return {"": lambda p: p, "hflip": lambda p: p[:, ::-1], "vflip": lambda p: p[::-1],
                "rotate 180": lambda p: p[::-1, ::-1], "clock": lambda p: np.rot90(p, -1), "cclock": np.rot90,
                "cclock_flip": lambda p: p.swapaxes(0, 1),
                "clock_flip": lambda p: np.rot90(p, 2).swapaxes(0, 1)}[name](picture)

    @pytest.mark.parametrize("name", MATRICES)
    def test_all_eight_orientations(self, tmp_path, name):
        path = write(tmp_path / "v.mp4", "mpeg4", count=3)
        with av.open(str(path)) as container:
            stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
        data = path.read_bytes()
        unity = np.array([65536, 0, 0, 0, 65536, 0, 0, 0, 2**30], ">i4").tobytes()
        a, b, c, d = self.MATRICES[name]
        track = data.index(b"tkhd")
        assert data.index(unity, track) - track == 44
        matrix = np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 2**30], ">i4").tobytes()
        path.write_bytes(data[:track + 44] + matrix + data[track + 80:])
        expected = self.as_ffmpeg(name, stored)
        with VideoReader(path) as reader:
            _, frame = next(iter(reader))
            np.testing.assert_array_equal(reader.rgb(frame), expected)
            assert reader.picture_size == expected.shape[:2]

    def test_a_corner_goes_where_the_matrix_says(self):
        picture = np.arange(6).reshape(2, 3)
        for name, matrix in self.MATRICES.items():
            np.testing.assert_array_equal(upright(picture, matrix), self.as_ffmpeg(name, picture), err_msg=name)
        np.testing.assert_array_equal(upright(picture, (0, 0, 0, 0)), picture)
        # 80° is shown as 90°.
        np.testing.assert_array_equal(upright(picture, (11380, 64540, -64540, 11380)), np.rot90(picture, -1))


class TestSequences:
    INFO = "[Sequence]\nname=MOT17-02\nimDir=img1\nframeRate=30\nseqLength={}\nimExt=.jpg\n"

    def fill(self, top, names, info=None):
        (top / "img1").mkdir(parents=True)
        for index, name in enumerate(names):
            write_png(top / "img1" / name, numbered(index))
        if info is not None:
            (top / "seqinfo.ini").write_text(info)
        return boxes_of(top / "gt.txt", range(1, len(names) + 1))

    def test_pictures_are_a_video_in_the_order_of_their_names(self, tmp_path):
        boxes = self.fill(tmp_path / "s", [f"{number}.png" for number in range(1, 13)], self.INFO.format(12))
        for folder in (tmp_path / "s/img1", tmp_path / "s"):
            source = open_source(folder, boxes=boxes)
            assert (source.kind, source.frame_rate, source.frames_read, source.warnings) == ("video", 30, 12, ())
            (tracklet,) = source.tracklets
            assert len(tracklet) == 12 and tracklet.frame_names[0] == "000001"
            for index in range(12):
                np.testing.assert_array_equal(tracklet.frames[index], numbered(index)[:, :40])
            with refused("seqinfo.ini", "--boxes"):
                open_source(folder)
        with open_frames(tmp_path / "s") as reader:
            assert [float(reader.time) * 30 for _ in reader][:2] == [0.0, 1.0]

    def test_without_seqinfo_the_rate_is_assumed_and_said(self, tmp_path):
        boxes = self.fill(tmp_path, ["a.png", "b.png"])
        source = open_source(tmp_path / "img1", boxes=boxes)
        assert source.frame_rate == 25 and "25 frames a second" in source.warnings[0] and len(source.warnings) == 1

    def test_missing_and_damaged_pictures_cost_their_frames(self, tmp_path):
        boxes = self.fill(tmp_path, [f"{number:06d}.png" for number in range(1, 9)], self.INFO.format(8))
        (tmp_path / "img1/000003.png").unlink()
        (tmp_path / "img1/000005.png").write_bytes(b"damaged")
        source = open_source(tmp_path / "img1", boxes=boxes)
        assert source.tracklets[0].boxes[:, 0].tolist() == [1, 2, 4, 6, 7, 8]
        assert "frames 3, 5 do not decode or are missing" in source.warnings[0] and "2 boxes" in source.warnings[0]
        assert source.frames_read == 6
        np.testing.assert_array_equal(source.tracklets[0].frames[2], numbered(3)[:, :40])

    def test_counts_that_differ_are_said(self, tmp_path):
        boxes = self.fill(tmp_path, ["a.png", "b.png", "c.png"], self.INFO.format(9))
        assert "9 frames" in open_source(tmp_path / "img1", boxes=boxes).warnings[0]

    def test_the_spool_is_made_again_when_a_picture_changes(self, tmp_path):
        boxes = self.fill(tmp_path, ["1.png", "2.png"], self.INFO.format(2))
        open_source(tmp_path, boxes=boxes, spool=tmp_path / "spool")
        write_png(tmp_path / "img1/2.png", numbered(9))
        frames = open_source(tmp_path, boxes=boxes, spool=tmp_path / "spool").tracklets[0].frames
        np.testing.assert_array_equal(frames[1], numbered(9)[:, :40])

    def test_folders_that_are_no_video(self, tmp_path):
        boxes = self.fill(tmp_path / "s", ["1.png", "2.png"], self.INFO.format(2))
        write_png(tmp_path / "s/img1/2.png", numbered(0)[:20])
        with refused("2.png", "96x20", "96x48"):
            open_source(tmp_path / "s", boxes=boxes)
        with refused("'frame'"):
            open_source(tmp_path / "s", boxes=boxes, pattern="frame")
        write_png(tmp_path / "tree/t1/1.png", numbered(0))
        with refused("tree", "no pictures directly in it"):
            open_source(tmp_path / "tree", boxes=boxes)
        with refused("beyond the last frame", ", 2;"):
            write_png(tmp_path / "s/img1/2.png", numbered(0))
            open_source(tmp_path / "s", boxes=boxes_of(tmp_path / "b.txt", [1, 3]))

    @pytest.mark.parametrize("text, said", [
        ("[Sequence]\nframeRate=fast", "frameRate is 'fast'"), ("[Sequence]\nframeRate=0", "frameRate is '0'"),
        ("[Sequence]\nframeRate=1e400", "frameRate"), ("[Sequence]\nseqLength=-3", "seqLength"),
        ("[Sequence]\nseqLength=2.5", "seqLength"), ("[Sequence]\nimDir=../../etc", "imDir"),
        ("[Sequence]\nimDir=none", "none"), ("no section = 1\n[", "seqinfo.ini: cannot be read")])
    def test_a_damaged_seqinfo_is_refused(self, tmp_path, text, said):
        boxes = self.fill(tmp_path, ["1.png"], text)
        with refused("seqinfo.ini", said):
            open_source(tmp_path, boxes=boxes)


class TestFormats:
    def test_what_is_no_video_is_not_opened(self, tmp_path):
        """Playlists, lists, text drawn as ANSI art, and single pictures."""
        clip = write(tmp_path / "clip.mp4", "mpeg4", count=4)
        write_png(tmp_path / "picture.png", numbered(0))
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n"
        for name, content in (("l.m3u8", playlist), ("l.mp4", playlist),
                              ("c.mp4", f"ffconcat version 1.0\nfile {clip}\n"),
                              ("a.ans", "\x1b[1;31mhello\n" * 50), ("a.txt", "hello\n" * 50)):
            (tmp_path / name).write_text(content)
            with refused(name):
                open_frames(tmp_path / name)
        with refused("picture.png"):
            open_frames(tmp_path / "picture.png")

    def test_codecs_that_are_not_listed_are_named(self, tmp_path):
        path = write(tmp_path / "v.avi", "asv1", count=2)
        with refused("v.avi", "asv1", "H.264"):
            open_frames(path)

    def test_pictures_of_other_formats_are_not_opened(self, tmp_path):
        """EPS would be drawn by Ghostscript, a program."""
        for name, format_ in (("p.png", "EPS"), ("q.jpg", "PDF"), ("r.png", "ICNS"), ("s.png", "TGA")):
            Image.fromarray(numbered(0)[:32, :32]).save(tmp_path / name, format=format_)
            for look in (read_image, check_picture):
                with refused(name, "not a picture"):
                    look(tmp_path / name)
        for format_ in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF"):
            Image.fromarray(numbered(0)).save(tmp_path / "t.png", format=format_)
            assert read_image(tmp_path / "t.png").shape == (HEIGHT, WIDTH, 3)

    def test_a_container_with_sound_alone(self, tmp_path):
        path = tmp_path / "v.mp4"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("aac", rate=48000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 48000
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        with refused("v.mp4", "no video stream"):
            open_frames(path)
        assert os.path.exists(path)


@pytest.mark.skipif(not CASES.is_dir(), reason=f"the example inputs are not at {CASES}")
class TestExamples:
    """Inputs of these kinds that other programs wrote."""

    def open(self, video, boxes="plain.txt"):
        folder = CASES / video
        return open_source(folder, boxes=folder.parent / boxes)

    def test_a_recording_of_a_browser(self):
        with VideoReader(CASES / "webm-without-duration/mediarecorder.webm") as reader:
            times = [float(reader.time) for _ in reader]
        assert len(times) == 24 and 4.9 < times[-1] < 5 and 4 < reader.frame_rate < 5

    def test_varying_times(self):
        with VideoReader(CASES / "variable-frame-rate/vfr2.mp4") as reader:
            assert [float(reader.time) for _ in reader][12] == pytest.approx(4.04)

    @pytest.mark.parametrize("name, lost", [("mj_zero9.avi", 9), ("corrupt_zero8.mp4", 8)])
    def test_one_bad_frame(self, name, lost):
        source = self.open(f"one-bad-frame/{name}")
        assert f"frame {lost} does not decode" in source.warnings[0] and len(source.warnings) == 1
        for tracklet in source.tracklets:
            assert tracklet.boxes[:, 0].tolist() == [number for number in range(1, 25) if number != lost]

    @pytest.mark.parametrize("name, shown", [
        ("hflip", lambda p: p[:, ::-1]), ("vflip", lambda p: p[::-1]), ("transpose", lambda p: p.swapaxes(0, 1))])
    def test_mirrored(self, name, shown):
        path = CASES / f"mirrored/{name}.mp4"
        with av.open(str(path)) as container:
            stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
        with VideoReader(path) as reader:
            _, frame = next(iter(reader))
            np.testing.assert_array_equal(reader.rgb(frame), shown(stored))

    def test_dropped_frames(self):
        source = self.open("avi-with-dropped-frames/gaps.avi")
        assert source.warnings == () and source.frames_read == 24 and all(len(t) == 24 for t in source.tracklets)

    def test_an_image_sequence(self):
        source = self.open("mot-image-sequence/MOT17-02/img1", "gt/gt.txt")
        assert (source.kind, source.frame_rate, source.frames_read) == ("video", 30, 24)
