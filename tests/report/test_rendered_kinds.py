"""What a rendered video keeps of its input: times, colours, sound, orientation; what its layouts are; its bytes."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from refusals import refused

from vrstc_jax.data.images import write_png
from vrstc_jax.data.inputs.video import VideoReader
from vrstc_jax.report import video_writer
from vrstc_jax.report.render import CompletedCrop, render_video, require_renderable

HEIGHT, WIDTH = 96, 160
TIMES = (0, 79, 162, 273, 407, 436, 477, 596, 730, 783, 843, 967, 2040, 2096, 2216)  # ms
CLOCK = (0, 1, -1, 0)  # a display matrix: a quarter turn clockwise
COLOURS = ((200, 60, 30), (30, 160, 70), (40, 60, 190), (128, 128, 128), (235, 235, 235), (20, 20, 20))
PATCH = 32


def patches(index):
    """Patches of one colour each, which move from frame to frame."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for row in range(HEIGHT // PATCH):
        for column in range(WIDTH // PATCH):
            picture[row * PATCH:(row + 1) * PATCH, column * PATCH:(column + 1) * PATCH] = COLOURS[
                (index + row + 2 * column) % len(COLOURS)]
    return picture


def assert_same_colours(picture, before, levels=2):
    """That colours are within some levels: of 99 in 100 pixels well inside patches (at an edge, 4:2:0 mixes colours),
    and of every patch on average."""
    assert picture.shape == before.shape
    differences = picture.astype(int) - before
    height, width = before.shape[:2]
    tiles = differences.reshape(height // PATCH, PATCH, width // PATCH, PATCH, 3)[:, 8:-8, :, 8:-8]
    assert np.abs(tiles.mean((1, 3))).max() <= levels
    assert (np.abs(tiles) <= levels).mean() > 0.99


def write(path, *, times=TIMES, sound="aac", matrix=None, start=0, tag=1, **options):
    """H.264 of BT.709, with a tone, frames at `times` from `start` on (ms), and a display matrix."""
    rate = 48000
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10, options={"crf": "1", **options})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, 1000)
        context.colorspace = context.color_primaries = context.color_trc = tag
        context.color_range = 1
        audio = output.add_stream(sound, rate=rate, layout="stereo") if sound else None
        for index, time in enumerate(times):
            image = av.VideoFrame.from_ndarray(patches(index), format="rgb24").reformat(
                format="yuv420p", dst_colorspace=1 if tag == 1 else 5, dst_color_range=1)
            image.pts, image.time_base = start + time, Fraction(1, 1000)
            output.mux(stream.encode(image))
        output.mux(stream.encode(None))
        if audio is not None:
            tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(int(2.3 * rate)) / rate)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(np.repeat(tone, 2).reshape(1, -1), format="s16", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, start * rate // 1000, Fraction(1, rate)
            resampler = av.AudioResampler(format=audio.codec_context.format, layout="stereo", rate=rate,
                                          frame_size=audio.codec_context.frame_size or 1024)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                output.mux(audio.encode(part))
            output.mux(audio.encode(None))
    if matrix is not None:
        data = path.read_bytes()
        place = data.index(b"tkhd") + 44
        a, b, c, d = matrix
        shown = np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 2**30], ">i4").tobytes()
        path.write_bytes(data[:place] + shown + data[place + 36:])
    return path


def decoded(path):
    """(time in ms, picture) of each frame, as FFmpeg decodes it."""
    with av.open(str(path)) as container:
        return [(round(1000 * frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def heard(path):
    """The sound's samples, mono, at 8,000 a second, and its first time in seconds."""
    with av.open(str(path)) as container:
        resampler, parts = av.AudioResampler(format="s16", layout="mono", rate=8000), []
        frames = list(container.decode(audio=0))
        for frame in frames:
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        return np.concatenate(parts), frames[0].time


def packets_of_sound(path):
    with av.open(str(path)) as container:
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize("name", ["o.mp4", "o.mov", "o.mkv"])
@pytest.mark.parametrize("layout", ["both", "completed"])
def test_times_colours_sound_and_orientation_are_kept(tmp_path, name, layout):
    video, output = write(tmp_path / "v.mp4", matrix=CLOCK), tmp_path / name
    source = decoded(video)
    assert render_video(video, output, {}, layout=layout, warn=pytest.fail) == len(TIMES)
    shown = decoded(output)
    assert [time for time, _ in shown] == [time for time, _ in source] == list(TIMES)
    for (_, picture), (_, before) in zip(shown, source, strict=True):
        before = np.rot90(before, -1)
        sides = [picture] if layout == "completed" else [picture[-WIDTH:, :HEIGHT], picture[-WIDTH:, -HEIGHT:]]
        assert picture.shape[:2] == ((WIDTH, HEIGHT) if layout == "completed" else (WIDTH + 24, 2 * HEIGHT + 4))
        for side in sides:
            assert_same_colours(side, before)
    with av.open(str(output)) as container:
        context, frame = container.streams.video[0].codec_context, next(container.decode(video=0))
        for of in (context, frame):
            assert (of.colorspace, of.color_primaries, of.color_trc, of.color_range) == (1, 1, 1, 1)
        assert frame.rotation == 0 and context.pix_fmt == "yuv420p"
    # Only what an encoder puts before the first time, and nobody hears, may be missing.
    kept, given = packets_of_sound(output), packets_of_sound(video)
    assert [data for _, data in kept][-len(given) + 1:] == [data for _, data in given][1:]
    assert all(abs(a - b) <= Fraction(1, 1000) for (a, _), (b, _) in zip(kept[::-1], given[::-1]))


def test_colours_of_the_older_standard_are_converted(tmp_path):
    """BT.601, tagged and not: the pictures look as the input's, and are BT.709 in the file."""
    for tag in (6, 2):
        video = write(tmp_path / "v.mp4", tag=tag, sound=None)
        render_video(video, tmp_path / "o.mp4", {}, layout="completed")
        for (_, picture), (_, before) in zip(decoded(tmp_path / "o.mp4"), decoded(video), strict=True):
            assert_same_colours(picture, before)


def test_regular_times_stay_in_every_container(tmp_path):
    video = write(tmp_path / "v.mp4", times=range(0, 2000, 100))
    for name in ("o.mp4", "o.mkv", "o.avi", "o.flv", "o.mov"):
        render_video(video, tmp_path / name, {}, warn=pytest.fail)
        assert [time for time, _ in decoded(tmp_path / name)] == list(range(0, 2000, 100)), name
        samples, start = heard(tmp_path / name)
        assert abs(len(samples) / 8000 - 2.3) < 0.1 and abs(start) < 0.03, name
    for name in ("o.mp4", "o.avi"):
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].average_rate == 10


def test_irregular_times_stay_in_an_avi(tmp_path):
    render_video(write(tmp_path / "v.mp4"), tmp_path / "o.avi", {}, layout="completed")
    shown, source = decoded(tmp_path / "o.avi"), decoded(tmp_path / "v.mp4")
    assert [time for time, _ in shown] == list(TIMES)
    for (_, picture), (_, before) in zip(shown, source, strict=True):
        assert_same_colours(picture, before, 4)


def test_a_clock_that_starts_late_is_moved_to_the_start_with_the_sound(tmp_path):
    video = write(tmp_path / "v.ts", start=7_000_000)
    first = decoded(video)[0][0]
    assert first > 6_000_000
    render_video(video, tmp_path / "o.mp4", {})
    times = [time for time, _ in decoded(tmp_path / "o.mp4")]
    assert times[0] < 200 and np.abs(np.diff(times) - np.diff(TIMES)).max() <= 1
    with av.open(str(video)) as container:
        sound = next(frame.time for frame in container.decode(audio=0))
    assert abs((heard(tmp_path / "o.mp4")[1] - times[0] / 1000) - (sound - first / 1000)) < 0.03


@pytest.mark.parametrize("sound, source, name", [
    ("flac", "v.mkv", "o.avi"), ("libopus", "v.mkv", "o.flv"), ("pcm_s16le", "v.mkv", "o.3gp"),
    ("libmp3lame", "v.mkv", "o.mp4"), ("libopus", "v.mkv", "o.mp4")])
def test_sound_that_a_container_does_not_take_is_encoded_anew(tmp_path, sound, source, name):
    video = write(tmp_path / source, sound=sound)
    render_video(video, tmp_path / name, {}, warn=pytest.fail)
    samples, _ = heard(tmp_path / name)
    assert abs(len(samples) / 8000 - 2.3) < 0.15
    spectrum = np.abs(np.fft.rfft(samples[4000:12000].astype(float)))
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_damaged_sound_costs_the_sound_alone(tmp_path):
    video = write(tmp_path / "v.mkv", sound="libopus")
    data = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        for packet in list(container.demux(audio=0))[10:60]:
            if packet.size:
                data[packet.pos + 8:packet.pos + packet.size] = bytes(packet.size - 8)
    video.write_bytes(data)
    said = []
    assert render_video(video, tmp_path / "o.flv", {}, warn=said.append) == len(TIMES)
    assert len(decoded(tmp_path / "o.flv")) == len(TIMES) and all("\n" not in line for line in said)


def test_pixels_that_are_not_square_stay_so(tmp_path):
    video = tmp_path / "v.mp4"
    with av.open(str(video), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(patches(0), format="rgb24")))
        output.mux(stream.encode(None))
    render_video(video, tmp_path / "o.mp4", {})
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)


def wide(path, width, height, **options):
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(2):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(
                np.full((height, width, 3), 128, np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("width, both", [(2046, (4096, 124)), (2048, (4096, 124)), (3840, (4096, 78))])
def test_both_pictures_are_scaled_to_4096_columns(tmp_path, width, both):
    video = wide(tmp_path / "v.mp4", width, 100)
    crop = CompletedCrop((width - 40, 10, 40, 80), np.full((80, 40, 3), (220, 30, 30), np.uint8),
                         np.ones((80, 40), bool))
    completed = {1: [crop], 2: [crop]}
    render_video(video, tmp_path / "o.mp4", completed)
    shown = decoded(tmp_path / "o.mp4")[0][1]
    assert shown.shape[1::-1] == both
    assert np.abs(shown[-30, -10].astype(int) - (220, 30, 30)).max() < 20
    render_video(video, tmp_path / "o.mp4", completed, layout="completed")
    shown = decoded(tmp_path / "o.mp4")[0][1]
    assert shown.shape[1::-1] == (width, 100)
    assert np.abs(shown[50, -20].astype(int) - (220, 30, 30)).max() < 20
    assert np.abs(shown[50, 20].astype(int) - 128).max() < 6
    with pytest.raises(ValueError, match="layout"):
        render_video(video, tmp_path / "o.mp4", {}, layout="left")


def test_pictures_in_a_folder(tmp_path):
    for index in range(6):
        write_png(tmp_path / f"s/img1/{index + 1:06d}.png", patches(index))
    (tmp_path / "s/seqinfo.ini").write_text("[Sequence]\nimDir=img1\nframeRate=20\nseqLength=6\n")
    assert render_video(tmp_path / "s", tmp_path / "o.mp4", {}, layout="completed") == 6
    shown = decoded(tmp_path / "o.mp4")
    assert [time for time, _ in shown] == [0, 50, 100, 150, 200, 250]
    for index, (_, picture) in enumerate(shown):
        assert_same_colours(picture, patches(index), 3)  # FFmpeg decodes up to 2 levels too dark


def test_the_bytes_are_the_same_every_time_whatever_the_threads(tmp_path):
    video = write(tmp_path / "v.mp4", times=range(0, 4000, 100))
    script = ("import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
              "from vrstc_jax.report.render import render_video\n"
              "for output in sys.argv[2:]: render_video(sys.argv[1], output, {})")
    names = "mp4", "mkv", "avi"
    subprocess.run([sys.executable, "-c", script, str(video), *(str(tmp_path / f"one.{name}") for name in names)],
                   check=True, cwd=Path(__file__).resolve().parents[2])
    for name in names:
        renderings = []
        for turn in range(3):
            render_video(video, tmp_path / f"{turn}.{name}", {})
            renderings.append((tmp_path / f"{turn}.{name}").read_bytes())
        assert {*renderings, (tmp_path / f"one.{name}").read_bytes()} == {renderings[0]}, name


@pytest.mark.parametrize("name", ["o.m3u8", "o.mpd", "o.ismv", "o.png", "o.jpg", "o.h264", "o.gif", "o.webm", "o.xyz"])
def test_names_of_several_files_or_of_none_are_refused(tmp_path, name):
    with refused(name, ".mp4"):
        require_renderable(tmp_path / name)
    with refused(name, ".mp4"):
        render_video(write(tmp_path / "v.mp4", sound=None), tmp_path / name, {})
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_without_x264_the_colours_are_right_too(tmp_path, monkeypatch):
    monkeypatch.setattr(video_writer.av, "codecs_available", {"mpeg4"})
    video = write(tmp_path / "v.mp4")
    render_video(video, tmp_path / "o.mp4", {}, layout="completed")
    shown = decoded(tmp_path / "o.mp4")
    assert [time for time, _ in shown] == list(TIMES)
    for (_, picture), (_, before) in zip(shown, decoded(video), strict=True):
        assert_same_colours(picture, before, 4)
    with VideoReader(tmp_path / "o.mp4") as reader:
        assert sum(1 for _ in reader) == len(TIMES)
