"""The rendered video: original left, completed right, only hidden pixels changed, nothing half-written."""

import dataclasses
import os

import av
import numpy as np
import pytest
from refusals import refused

from vrstc_jax.data.images import write_png
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.inference.results_folder import ResultsFolder
from vrstc_jax.report.render import CompletedCrop, CompletedFolder, put_back, render_video, require_renderable

HEIGHT, WIDTH, FRAMES = 75, 101, 12  # Odd, which 4:2:0 video cannot be.


def picture(index):
    pixels = np.full((HEIGHT, WIDTH, 3), (60, 90, 120), np.uint8)
    pixels[:, 5 * index:5 * index + 10] = (200, 180, 40)
    return pixels


def decoded(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def sides(frame):
    """The two pictures in a rendered frame: captions above, a gap between, one row and column of padding."""
    body = frame[-(HEIGHT + 1):-1]
    return body[:, :WIDTH], body[:, -(WIDTH + 1):-1]


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=12)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"  # Lossless RGB.
        for index in range(FRAMES):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        output.mux(stream.encode(None))
    return path


def crop(box, colour, hidden):
    left, top, width, height = box
    mask = np.zeros((height, width), bool)
    mask[:hidden] = True
    return CompletedCrop(box, np.full((height, width, 3), colour, np.uint8), mask)


def test_put_back_changes_hidden_pixels_only():
    rng = np.random.default_rng(0)
    full = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    before, expected, crops = full.copy(), full.copy(), []
    for left, top, width, height in ((3, 4, 20, 30), (81, 55, 20, 20), (10, 10, 9, 9)):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = rng.random((height, width)) > 0.5
        box = np.array([left, top, width, height], np.float64)  # as tracklets have them
        crops.append(CompletedCrop(tuple(box), pixels, mask))
        for y, x in np.argwhere(mask):
            expected[top + y, left + x] = pixels[y, x]
    np.testing.assert_array_equal(put_back(full, crops), expected)
    np.testing.assert_array_equal(full, before)


@pytest.mark.parametrize("box", [(90, 0, 20, 10), (-1, 0, 20, 10), (0, 70, 20, 10), (0, 0, 19, 10)])
def test_put_back_refuses_crops_that_do_not_fit(box):
    bad = CompletedCrop(box, np.zeros((10, 20, 3), np.uint8), np.ones((10, 20), bool))
    with pytest.raises(ValueError, match="box"):
        put_back(np.zeros((HEIGHT, WIDTH, 3), np.uint8), [bad])


@pytest.mark.parametrize("name", ["o.mp4", "o.mkv", "o.avi"])
def test_original_left_completed_right(video, tmp_path, name):
    red = crop((60, 10, 30, 50), (220, 30, 30), 24)
    completed = {number: [red] for number in range(1, FRAMES + 1) if number != 5}
    output = tmp_path / "new" / name
    assert render_video(video, output, completed) == FRAMES
    assert os.listdir(output.parent) == [name]
    frames = decoded(output)
    assert len(frames) == FRAMES
    with av.open(str(output)) as container:
        assert container.streams.video[0].average_rate == 12
    for index, frame in enumerate(frames):
        left, right = sides(frame)
        expected = picture(index)
        # Lossy, with colour at half resolution: the mean over the picture is within a few grey levels.
        assert np.abs(left.astype(int) - expected).mean() < 6
        if index != 4:
            expected[10:34, 60:90] = (220, 30, 30)
        assert np.abs(right.astype(int) - expected).mean() < 6
        inside = right[14:30, 64:86].reshape(-1, 3).mean(0)
        assert (np.abs(inside - (220, 30, 30)).max() < 20) == (index != 4)


def test_frame_rate_and_outline_are_options(video, tmp_path):
    quiet = dataclasses.replace(crop((60, 10, 30, 50), 0, 0), box=(60.0, 10.0, 30.0, 50.0))
    for outline in (False, True):
        render_video(video, tmp_path / "o.mp4", lambda number: [quiet], frame_rate=5, outline=outline)
        left, right = sides(decoded(tmp_path / "o.mp4")[0])
        edge = np.abs(right[10, 62:88].astype(int) - left[10, 62:88]).mean()
        assert (edge > 40) == outline  # The line is one pixel wide, which 4:2:0 dims.
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.video[0].average_rate == 5


def completed_folder(video, tmp_path):
    """A source with two tracks, and the results folder that `vrstc complete` would write for it."""
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("".join(f"{f},1,{f},-5,20,40\n" for f in range(1, FRAMES + 1))
                     + "".join(f"{f},2,70,30,50,30\n" for f in range(3, 6)))
    source, folder = open_source(video, boxes=boxes), ResultsFolder(tmp_path / "out", {})
    for tracklet in source.tracklets:
        for frame, name in zip(tracklet.frames, tracklet.frame_names):
            mask = np.zeros(frame.shape[:2], bool)
            mask[:, :5] = tracklet.name == "2"
            write_png(folder.path / f"{tracklet.name}/{name}.png", 255 - frame)
            write_png(folder.path / f"masks/{tracklet.name}/{name}.png", mask)
    return source, folder


def test_what_complete_wrote_is_found_by_frame(video, tmp_path):
    source, folder = completed_folder(video, tmp_path)
    completed = CompletedFolder(source, folder)
    assert completed(1) == [] and completed(999) == []
    found, = completed(4)
    assert found.box == (70, 30, 31, 30)  # Clipped at the right edge.
    np.testing.assert_array_equal(found.pixels, 255 - picture(3)[30:60, 70:])
    assert found.mask[:, :5].all() and not found.mask[:, 5:].any()
    assert render_video(video, tmp_path / "o.mp4", completed) == FRAMES


def test_bad_completed_folders_leave_no_video(video, tmp_path):
    source, folder = completed_folder(video, tmp_path)
    for part in ("masks/2/000004.png", "2/000005.png"):
        path = folder.path / part
        whole = path.read_bytes()
        for spoil, message in ((path.unlink, "no such file"), (lambda: path.write_bytes(whole[:40]), ""),
                               (lambda: write_png(path, np.full((9, 9, 3), 255, np.uint8)), "9x9")):
            spoil()
            with refused(part, message):
                render_video(video, tmp_path / "o.mp4", CompletedFolder(source, folder))
            assert not list(tmp_path.glob("*.mp4"))
        path.write_bytes(whole)
    write_png(tmp_path / "frames/1.png", picture(0))
    with refused("frames"):
        CompletedFolder(open_source(tmp_path / "frames"), folder)


def test_outputs_that_cannot_be_written(video, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "junk.avi").write_bytes(np.random.default_rng(0).bytes(4000))
    for bad in ("file/o.mp4", "o.xyz", "o.png.txt", "o", "o.webm", "folder.mp4"):
        for check in (require_renderable, lambda output: render_video(video, output, {})):
            with refused(bad.split("/")[0]):
                check(tmp_path / bad)
    for of, output, said in ((video, video, "itself"), (tmp_path / "none.avi", tmp_path / "o.mp4", "none.avi"),
                             (tmp_path / "junk.avi", tmp_path / "o.mp4", "junk.avi")):
        with refused(said):
            render_video(of, output, {})
    require_renderable(tmp_path / "new/o.mp4")
    assert sorted(os.listdir(tmp_path)) == ["clip.avi", "file", "folder.mp4", "junk.avi", "new"]
    assert os.listdir(tmp_path / "new") == [] and os.listdir(tmp_path / "folder.mp4") == []


def test_an_older_rendering_stays_until_the_new_one_is_whole(video, tmp_path):
    (tmp_path / "o.mp4").write_text("older")

    def fails(number):
        if number == 6:
            raise KeyboardInterrupt
        return []

    with pytest.raises(KeyboardInterrupt):
        render_video(video, tmp_path / "o.mp4", fails)
    assert (tmp_path / "o.mp4").read_text() == "older"
    assert sorted(os.listdir(tmp_path)) == ["clip.avi", "o.mp4"]


def test_a_video_that_breaks_off_is_rendered_as_far_as_it_goes(video, tmp_path):
    header, movie = video.read_bytes().split(b"movi", 1)
    before, *packets = movie.split(b"00dc")  # Each packet of an AVI's first stream begins so.
    video.write_bytes(header + b"movi" + b"00dc".join([before, *packets[:7], packets[7][:20]]))
    assert render_video(video, tmp_path / "o.mp4", {}) == 7
    assert len(decoded(tmp_path / "o.mp4")) == 7
