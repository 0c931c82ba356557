"""`vrstc complete` on a video with boxes: what it writes and renders, and boxes that do not fit."""

import dataclasses
import json
import shutil

import av
import numpy as np
import pytest
from material import FRAMES, HEIGHT, RENDER, WIDTH, assert_visible_kept, decoded, tree

from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.inputs.masks import read_mask
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.data.tracklet_set import write_set
from vrstc_jax.models.model_file import load_model, save_model


class TestCompleteVideo:
    COMMAND = RENDER + "--masks {picture_masks} --output {tmp}/out --render {tmp}/v.mp4"

    @pytest.fixture(scope="class")
    def output(self, material, tmp_path_factory):
        tmp = tmp_path_factory.mktemp("video")
        material.run(self.COMMAND, tmp)
        return tmp / "out"

    def test_a_file_for_every_box(self, output, material):
        expected = {"run.json", "report.html", "metrics.json", *(f"scores/{track}.json" for track in material.TRACKS)}
        for file, crop in material.crops():
            mask, after = read_mask(material.crop_masks / file), read_image(output / file)
            expected |= {file, f"masks/{file}"} | ({f"origin/{file}"} if 0 < mask.mean() < 1 else set())
            np.testing.assert_array_equal(read_mask(output / "masks" / file), mask)
            assert_visible_kept(after, crop, mask)
            assert (after[mask] != crop[mask]).any() == mask.any()
        assert set(tree(output)) == expected

    def test_masks_of_crops_do_as_well(self, output, material, tmp_path):
        material.run(RENDER + "--masks {crop_masks} --output {tmp}/out", tmp_path)
        for track in material.TRACKS:
            assert tree(output / str(track)) == tree(tmp_path / "out" / str(track))

    def test_masks_of_people_say_what_is_hidden(self, material, tmp_path):
        """Of whole people, who fill their boxes, and of what is seen of them: the difference is repainted."""
        for file, _ in material.crops():
            hidden = read_mask(material.crop_masks / file)
            write_png(tmp_path / "whole" / file, np.ones_like(hidden))
            write_png(tmp_path / "visible" / file, ~hidden)
        material.run(RENDER + "--whole {tmp}/whole --visible {tmp}/visible --output {tmp}/out", tmp_path)
        for file, crop in material.crops():
            mask = read_mask(tmp_path / "out/masks" / file)
            np.testing.assert_array_equal(mask, read_mask(material.crop_masks / file))
            assert_visible_kept(read_image(tmp_path / "out" / file), crop, mask)

    def test_the_rendered_video_has_the_original_and_the_completed(self, output, material):
        shown, pictures = decoded(output.parent / "v.mp4"), decoded(material.video)
        assert len(shown) == len(pictures) == FRAMES
        changed = []
        for number, (both, picture) in enumerate(zip(shown, pictures), start=1):
            left, right = both[-HEIGHT:, :WIDTH].astype(int), both[-HEIGHT:, -WIDTH:].astype(int)
            # H.264 blurs colours at edges; a wrong frame or half would be far off.
            assert np.abs(left - picture).mean() < 12
            mask = read_mask(material.picture_masks / f"{number:06d}.png")
            assert np.abs(right - picture)[~mask].mean() < 12
            if mask.any():
                changed.append(np.abs(right - left)[mask].mean())
        assert min(changed) > 20

    def test_again_gives_the_same(self, output, material):
        material.run_without_effect(self.COMMAND, output.parent)

    def test_its_pictures_in_a_folder_are_the_same_video(self, output, material, tmp_path):
        for number, picture in enumerate(decoded(material.video), start=1):
            write_png(tmp_path / f"MOT-01/img1/{number:06d}.png", picture)
        (tmp_path / "MOT-01/seqinfo.ini").write_text("[Sequence]\nimDir=img1\nframeRate=30\nseqLength=24\n")
        done = material.run("complete {tmp}/MOT-01/img1 --boxes {boxes} --masks {picture_masks} --model {model} "
                            "--output {tmp}/out --render {tmp}/v.mp4 --layout completed", tmp_path)
        assert f"{tmp_path}/v.mp4: {FRAMES} frames\n" in done.out
        assert all("masks hide" in line for line in done.err.splitlines() if "warning" in line)  # none of the frames
        for track in material.TRACKS:
            assert tree(output / str(track)) == tree(tmp_path / "out" / str(track))
        shown = decoded(tmp_path / "v.mp4")
        assert len(shown) == FRAMES and shown[0].shape == (HEIGHT, WIDTH, 3)
        with av.open(str(tmp_path / "v.mp4")) as container:
            assert container.streams.video[0].average_rate == 30

    def test_a_frame_that_does_not_decode_is_said(self, material, tmp_path):
        """In an AVI of JPEGs, each of which decodes alone."""
        with av.open(str(tmp_path / "v.avi"), "w") as target:
            stream = target.add_stream("mjpeg", rate=10)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            for picture in decoded(material.video):
                target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            target.mux(stream.encode(None))
        with av.open(str(tmp_path / "v.avi")) as container:
            packet = list(container.demux(video=0))[8]
        data = bytearray((tmp_path / "v.avi").read_bytes())
        data[packet.pos:packet.pos + packet.size] = bytes(packet.size)
        (tmp_path / "v.avi").write_bytes(data)
        done = material.run("complete {tmp}/v.avi --boxes {boxes} --model {model} --output {tmp}/out "
                            "--render {tmp}/v.mp4", tmp_path)
        line, = (line for line in done.err.splitlines() if "warning" in line)
        assert "frame 9 does not decode" in line and "3 boxes" in line
        left = {path.stem for path in (tmp_path / "out/3").iterdir()}
        assert left == {f"{number:06d}" for number in range(2, 25) if number != 9}
        assert len(decoded(tmp_path / "v.mp4")) == FRAMES - 1

    def test_a_model_fitted_with_held_out_runs_to_other_footage(self, material, tmp_path):
        """Tracks of all videos are numbered alike: a track's name says nothing of whose frames they are."""
        status = material.video.stat()
        own = [str(material.video), status.st_size, int(status.st_mtime)]
        for number, (frame, source) in enumerate([("000010", own), ("000010", ["/other.mp4", 1, 2]), ("000900", own)]):
            save_model(tmp_path / f"{number}.model", dataclasses.replace(load_model(material.model), provenance={
                "held_out": {"3": [[frame]]}, "inputs": {"input": source}}))
            material.run("complete {video} --boxes {boxes} "
                         f"--model {{tmp}}/{number}.model --output {{tmp}}/{number}", tmp_path)
            metrics = json.loads((tmp_path / f"{number}/metrics.json").read_text())
            assert ("judge" in metrics) == (number == 0)


@pytest.mark.slow
def test_fit_on_a_video_trains_from_its_spool(material, tmp_path):
    """Its crops are on disk once; a work directory that has a stored set too goes on with that, to the same numbers."""
    def fit(name):
        done = material.run("fit {video} --boxes {boxes} --size smoke --steps 3 --reid-steps 3 --hold-out 2 "
                            f"--output {{tmp}}/{name}", tmp_path)
        return done.out.partition("learned from")[2], tmp_path / f"{name}.work"

    expected, work = fit("one")
    left = {path.name for path in work.iterdir()}
    assert left == {"fit.json", "reid", "scores.npz", "spool", "stcnet"}
    earlier = tmp_path / "two.work"
    shutil.copytree(work / "spool", earlier / "spool", copy_function=shutil.copy2)
    shutil.copy(work / "fit.json", earlier / "fit.json")
    source = open_source(material.video, boxes=material.boxes, spool=earlier / "spool")
    write_set(earlier / "tracklets", source.tracklets)
    for track in material.TRACKS:  # the same video, so the index holds, but other pixels: the stored set is read
        file = earlier / f"spool/{track}.rgb"
        file.write_bytes(bytes(len(file.read_bytes())))
    assert fit("two")[0] == expected


class TestOddTracklets:
    """Warnings in the report and exit 0."""

    def test_boxes_whose_frames_count_from_zero(self, material, tmp_path):
        rows = [line.split(",", 1) for line in material.boxes.read_text().split()]
        (tmp_path / "b.txt").write_text("".join(f"{int(frame) - 1},{rest}\n" for frame, rest in rows))
        material.run("complete {video} --boxes {boxes} --model {model} --output {tmp}/one", tmp_path)
        zero = "complete {video} --boxes {tmp}/b.txt --model {model} --output {tmp}/two"
        assert "--first-frame 0" in material.run_without_effect(zero, tmp_path, code=2).err
        material.run(f"{zero} --first-frame 0", tmp_path)
        one, two = ({path.name: path.read_bytes() for path in (tmp_path / name / "3").iterdir()}
                    for name in ("one", "two"))
        assert one == two
        material.run_without_effect(zero, tmp_path, code=2)  # another run, by its other frames

    def test_boxes_outside_the_picture(self, material, tmp_path):
        (tmp_path / "b.txt").write_text(
            material.boxes.read_text() + "1,3,500,5,20,44,1\n3,40,-30,0,20,44,1\n4,50,-10,-5,20,44,1\n"
                                         "5,50,90,40,20,44,1\n")
        done = material.run("complete {video} --boxes {tmp}/b.txt --model {model} --output {tmp}/out", tmp_path)
        out, report = tmp_path / "out", (tmp_path / "out/report.html").read_text()
        assert not (out / "40").exists() and "Track 40" in report and "Track 40" in done.err
        assert not (out / "3/000001.png").exists() and (out / "3/000002.png").exists()
        assert "Tracklet 3: The box lies outside the picture in frame 1" in report
        assert "vrstc: warning: Tracklet 3: The box lies outside the picture in frame 1" in done.err
        assert read_image(out / "50/000004.png").shape == (39, 10, 3)  # clipped at the left and the top
        assert read_image(out / "50/000005.png").shape == (24, 6, 3)  # at the right and the bottom

    def test_a_video_that_breaks_off(self, material, tmp_path):
        """What could be read is completed, with a warning."""
        video, out = tmp_path / "cut.mkv", tmp_path / "out"
        whole = material.video.read_bytes()
        video.write_bytes(whole[:int(0.6 * len(whole))])
        done = material.run("complete {tmp}/cut.mkv --boxes {boxes} --model {model} --output {tmp}/out "
                            "--render {tmp}/v.mp4", tmp_path)
        line, = (line for line in done.err.splitlines() if "warning" in line)
        assert str(video) in line and "breaks off" in line
        assert "breaks off" in (out / "report.html").read_text()
        count = len(list((out / "3").iterdir()))
        assert 5 < count < 22
        track = [row for row in material.crops() if row[0].startswith("3/")]
        for file, crop in track[:count]:
            assert_visible_kept(read_image(out / file), crop, read_mask(out / "masks" / file))
        assert count <= len(decoded(tmp_path / "v.mp4")) < FRAMES
