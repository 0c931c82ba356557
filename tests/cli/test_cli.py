"""The commands as users call them: what they write, what they refuse, and what `kill -9` does to them.

Models have random weights. Commands run in processes of their own (`commands.py`).
"""

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from html import escape
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from people import SMOKE, box_mask, figure, figures, masks_at, random_model

from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.inputs.masks import read_mask
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.data.tracklet_set import read_set, write_set
from vrstc_jax.inference.locate import Locator, choose_tau
from vrstc_jax.models.model_file import load_model, save_model
from vrstc_jax.ops.regions import bands_mask

METHODS = ["copy", "mean", "telea", "spatial", "stcnet"]
HEIGHT, WIDTH, FRAMES = 64, 96, 24  # of the video


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A folder of tracklets, a video with boxes, masks and truth of both, and a model."""
    return Material(tmp_path_factory.mktemp("material"))


class Material:
    FOLDER = {"0001/c1/t1": 14, "0001/c2/t1": 9, "0002/c1/t7": 12}
    TRACKS = {3: (2, 24), 12: (1, 20), 7: (5, 14)}  # first and last frame of each

    def __init__(self, path):
        self.path = path
        self.folder, self.folder_masks = path / "crops", path / "crop masks"
        self.folder_truth = path / "crop truth"
        for seed, (name, count) in enumerate(self.FOLDER.items()):
            for i, (frame, mask) in enumerate(zip(*self.tracklet(count, seed))):
                file = f"{name}/f{i + 8}.png"  # f8, f9, f10: not in the order of the alphabet
                write_png(self.folder_truth / file, frame)
                write_png(self.folder_masks / file, mask)
                frame[mask] = (10, 200, 10)
                write_png(self.folder / file, frame)
        self.video, self.boxes = path / "clip.mkv", path / "boxes.txt"
        self.picture_masks, self.crop_masks = path / "picture masks", path / "track masks"
        lines = []
        with av.open(str(self.video), "w") as output:
            stream = output.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
            for number in range(1, FRAMES + 1):
                picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
                mask = np.zeros((HEIGHT, WIDTH), bool)
                for k, (track, (first, last)) in enumerate(self.TRACKS.items()):
                    if first <= number <= last:
                        top, left = 4 + number % 3, 5 + 30 * k
                        picture[top:top + 44, left:left + 20] = figure(number, 44, 20, seed=k)
                        lines.append(f"{number},{track},{left},{top},20,{44 + number % 2},1,-1,-1,-1")
                if number % 5 == 0:
                    mask[30:50, :60] = True
                    picture[mask] = (200, 30, 30)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
                output.mux(stream.encode(frame))
                write_png(self.picture_masks / f"{number:06d}.png", mask)
                for line in lines:
                    frame_number, track, left, top, width, height = map(int, line.split(",")[:6])
                    if frame_number == number:
                        write_png(self.crop_masks / str(track) / f"{number:06d}.png",
                                  mask[top:top + height, left:left + width])
            output.mux(stream.encode(None))
        self.boxes.write_text("\n".join(lines) + "\n")
        self.model = path / "model.safetensors"
        locator = Locator(SMOKE.reid, random_model().reid, 3)
        scores = [locator.scores([read_image(self.folder / name / f"f{i + 8}.png") for i in range(count)])
                  for name, count in self.FOLDER.items()]
        self.tau = choose_tau(scores, 0.15)
        save_model(self.model, dataclasses.replace(random_model(), tau=self.tau))

    @staticmethod
    def tracklet(count, seed):
        frames = figures(count, sizes=((40, 20), (37, 19)), seed=seed)
        return frames, masks_at(frames, (1, 4, 5), share=0.4)

    def pictures(self):
        with av.open(str(self.video)) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

    def box_rows(self):
        rows = [list(map(int, row[:6])) for row in csv.reader(self.boxes.open())]
        return sorted((track, frame, *box) for frame, track, *box in rows)


def tree(path):
    """Every file below a folder, with its bytes, and every empty folder."""
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None
            for p in sorted(Path(path).rglob("*")) if p.is_file() or not any(p.iterdir())}


def succeeded(done):
    assert done.code == 0, done.err
    return done


class Refusals:
    """Runs commands that must be refused, in a folder in which they must leave nothing."""

    def __init__(self, vrstc, folder):
        self.vrstc, self.folder = vrstc, folder

    def __call__(self, *arguments, parts):
        before = tree(self.folder)
        done = self.vrstc(*arguments)
        assert done.code == 2, (arguments, done)
        assert done.out == "", done.out
        line, = done.err.splitlines()
        assert line.startswith("vrstc: ") and "Error" not in line.split()[1], line
        for part in parts:
            assert str(part) in line, (part, line)
        left = tree(self.folder)
        assert left.keys() == before.keys(), sorted(left.keys() ^ before.keys())
        assert left == before

    def all(self, material, *source, parts, commands=("fit", "complete", "judge")):
        """The same of every command that reads footage."""
        if "fit" in commands:
            self("fit", *source, "--size", "smoke", "--output", self.folder / "new/m.safetensors",
                 parts=parts)
        if "complete" in commands:
            self("complete", *source, "--model", material.model, "--output", self.folder / "new/out",
                 parts=parts)
        if "judge" in commands:
            self("judge", *source, "--model", material.model, "--output", self.folder / "new/verdict",
                 parts=parts)


@pytest.fixture
def refused(vrstc, tmp_path):
    return Refusals(vrstc, tmp_path)


class TestHelp:
    def test_what_a_newcomer_reads(self, vrstc):
        text = succeeded(vrstc("--help")).out
        for command in ("demo", "fit", "complete", "judge", "walkers"):
            assert command in text
        assert "--render" in succeeded(vrstc("complete", "--help")).out

    def test_python_m_is_the_same_command(self, tmp_path):
        """Once as users start it: exit code and stderr come from a real process."""
        done = subprocess.run(
            [sys.executable, "-m", "vrstc_jax", "judge", tmp_path / "none.mp4", "--model", tmp_path / "m"],
            capture_output=True, text=True, timeout=240)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr == f"vrstc: {tmp_path}/m: no such model file; make one with `vrstc fit`.\n"
        assert os.listdir(tmp_path) == []


class TestRefused:
    def test_no_such_file(self, material, refused, tmp_path):
        refused.all(material, tmp_path / "none.mp4", parts=[tmp_path / "none.mp4", "no such file"])
        refused.all(material, material.video, "--boxes", tmp_path / "b.txt",
                    parts=[tmp_path / "b.txt", "no such"])
        refused.all(material, material.folder, "--masks", tmp_path / "m",
                    parts=[tmp_path / "m", "no such folder"])
        refused.all(material, material.video, "--boxes", material.boxes, "--masks", tmp_path / "m",
                    parts=[tmp_path / "m", "no such folder"])
        refused("judge", material.folder, "--masks", material.folder_masks, "--truth", tmp_path / "t",
                "--model", material.model, parts=[tmp_path / "t", "no such folder"])

    def test_a_video_that_does_not_decode(self, material, refused, tmp_path):
        (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
        (tmp_path / "empty.avi").write_bytes(b"")
        (tmp_path / "half.mkv").write_bytes(material.video.read_bytes()[:700])
        for name in ("noise.mp4", "empty.avi", "half.mkv"):
            refused.all(material, tmp_path / name, "--boxes", material.boxes, parts=[tmp_path / name])

    @pytest.mark.parametrize("line, told", [
        ("4,3,ten,5,20,44,1", "'ten'"), ("4,3,nan,5,20,44,1", "'nan'"), ("4,3,5,5", "4 fields"),
        ("4,30,5,5,0,44,1", "0 wide"), ("4,30,5,5,20,-4,1", "-4 high"),
        ("4,3,5,5,20,44,1", "track 3 already"),
        ("25,3,5,5,20,44,1", "frame 25"), ("0,3,5,5,20,44,1", "frame 0")])
    def test_boxes(self, material, refused, tmp_path, line, told):
        boxes = tmp_path / "b.txt"
        text = material.boxes.read_text()
        boxes.write_text(text + line + "\n")
        refused.all(material, material.video, "--boxes", boxes,
                    parts=[f"{boxes}:{text.count(chr(10)) + 1}", told])

    def test_empty_boxes_or_none(self, material, refused, tmp_path):
        (tmp_path / "b.txt").write_text("# nothing\n")
        refused.all(material, material.video, "--boxes", tmp_path / "b.txt",
                    parts=[tmp_path / "b.txt", "no box"])
        refused.all(material, material.video, parts=[material.video, "--boxes"])
        refused.all(material, material.folder, "--boxes", material.boxes,
                    parts=[material.folder, material.boxes])

    def test_a_corrupt_picture(self, material, refused, tmp_path):
        crops = tmp_path / "crops"
        shutil.copytree(material.folder, crops)
        broken = crops / "0001/c2/t1/f10.png"
        whole = broken.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 8
        for data in (b"", b"not a picture", whole[:-20], whole[:100], bytes(flipped)):
            broken.write_bytes(data)
            refused.all(material, crops, parts=[broken], commands=["complete"])
        refused.all(material, crops, parts=[broken])
        broken.unlink()
        _, jpeg = cv2.imencode(".jpg", figure(0))
        (broken.parent / "f10.jpg").write_bytes(jpeg.tobytes()[:-200])
        refused.all(material, crops, parts=[broken.parent / "f10.jpg"], commands=["complete"])

    def test_a_folder_that_is_none_of_ours(self, material, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        refused.all(material, tmp_path / "empty", parts=[tmp_path / "empty", "no pictures"])
        refused.all(material, material.folder, "--pattern", "tracklet/frame", parts=["tracklet/frame"])
        refused.all(material, material.folder, "--pattern", "people/frame", parts=["people/frame"])
        refused.all(material, material.video, "--boxes", material.boxes, "--pattern", "frame",
                    parts=["'frame'"])

    def test_masks_of_another_size_or_count(self, material, refused, tmp_path):
        video = [material.video, "--boxes", material.boxes]
        for name, source, other in (("crop masks", [material.folder], "0001/c1/t1/f9.png"),
                                    ("track masks", video, "12/000009.png"),
                                    ("picture masks", video, "000009.png")):
            masks = tmp_path / name
            shutil.copytree(material.path / name, masks)
            file = masks / other
            whole = file.read_bytes()
            write_png(file, np.zeros((7, 5), bool))
            refused.all(material, *source, "--masks", masks, parts=[file, "5x7"])
            file.unlink()
            refused.all(material, *source, "--masks", masks, parts=[file, "missing"], commands=["complete"])
            file.write_bytes(whole)
            more = file.with_name("f99.png" if name == "crop masks" else "000099.png")
            more.write_bytes(whole)
            refused.all(material, *source, "--masks", masks, parts=[more], commands=["complete"])

    def test_an_output_that_cannot_be_written(self, material, refused, tmp_path):
        (tmp_path / "file").write_text("x")
        for place in (tmp_path / "file", tmp_path / "file/inside", "/proc/vrstc"):
            refused("complete", material.folder, "--model", material.model, "--output", place, parts=[place])
            refused("judge", material.folder, "--model", material.model, "--output", place, parts=[place])
        for place in ("/proc/vrstc/m", tmp_path / "file/m"):
            refused("fit", material.folder, "--size", "smoke", "--output", place, parts=[Path(place).parent])
        refused("fit", material.folder, "--size", "smoke", "--output", tmp_path, parts=[tmp_path, "folder"])
        video = [material.video, "--boxes", material.boxes, "--model", material.model, "--output",
                 tmp_path / "new"]
        for place in ("/proc/v.mp4", tmp_path / "file/v.mp4", tmp_path / "v.xyz"):
            refused("complete", *video, "--render", place, parts=[Path(place).parent])
        refused("complete", material.folder, "--model", material.model, "--output", tmp_path / "new",
                "--render", tmp_path / "v.mp4", parts=["--render", material.folder])

    def test_an_output_that_is_somebody_else_s(self, material, refused, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/letter.txt").write_text("x")
        refused("complete", material.folder, "--model", material.model, "--output", tmp_path / "mine",
                parts=[tmp_path / "mine", "not empty"])

    def test_an_empty_folder_stays_empty(self, material, refused, tmp_path):
        (tmp_path / "new").mkdir()
        refused("complete", tmp_path / "none", "--model", material.model, "--output", tmp_path / "new",
                parts=[tmp_path / "none"])

    def test_a_model_that_is_none(self, material, refused, tmp_path):
        whole = material.model.read_bytes()
        flipped = bytearray(whole)
        flipped[-5] ^= 1
        model = tmp_path / "m.safetensors"
        for data, told in ((b"", "not a whole"), (whole[:-9], "not a whole"), (bytes(flipped), "damaged"),
                           (whole.replace(b'"format": "1"', b'"format": "2"'), "format is 2")):
            model.write_bytes(data)
            for command in (("complete", "--output", tmp_path / "new"), ("judge",)):
                refused(command[0], material.folder, "--model", model, *command[1:], parts=[model, told])

    def test_values_that_make_no_sense(self, material, refused, tmp_path):
        for option, value in (("--steps", 0), ("--reid-steps", -3), ("--learning-rate", -0.1),
                              ("--hold-out", -1)):
            refused("fit", material.folder, "--output", tmp_path / "m", option, value, parts=[option, value])
        done = refused.vrstc("fit", material.folder, "--output", tmp_path / "m", "--size", "huge")
        assert done.code == 2 and "huge" in done.err and not tree(tmp_path)

    def test_nothing_to_judge(self, material, refused):
        refused("judge", material.folder, "--model", material.model, parts=["--hold-out"])
        refused("judge", material.folder, "--truth", material.folder_truth, "--model", material.model,
                parts=["--masks"])

    def test_a_tracklet_named_as_a_part_of_the_results(self, material, refused, tmp_path):
        for i in range(3):
            write_png(tmp_path / f"in/a/{i}.png", figure(i))
            write_png(tmp_path / f"in/masks/{i}.png", figure(i))
        refused("complete", tmp_path / "in", "--model", material.model, "--output", tmp_path / "new",
                parts=["tracklet masks"])


def read_results(output, name):
    result = json.loads((output / "scores" / f"{name}.json").read_text())
    assert result["tracklet"] == name
    return result


class TestCompleteFolder:
    @pytest.fixture(scope="class")
    def output(self, vrstc, material, tmp_path_factory):
        output = tmp_path_factory.mktemp("folder") / "out"
        done = succeeded(vrstc("complete", material.folder, "--model", material.model, "--output", output))
        assert str(output / "report.html") in done.out
        return output

    def test_the_same_tree_and_names(self, output, material):
        inputs = set(tree(material.folder))
        results = set(tree(output))
        masks = {f"masks/{p}" for p in inputs}
        scores = {f"scores/{name}.json" for name in material.FOLDER}
        assert results == inputs | masks | scores | {"run.json", "report.html", "metrics.json"}

    def test_visible_pixels_and_masks(self, output, material):
        hidden = 0
        for file in tree(material.folder):
            before, after = read_image(material.folder / file), read_image(output / file)
            mask = read_mask(output / "masks" / file)
            assert before.shape == after.shape and mask.shape == before.shape[:2]
            np.testing.assert_array_equal(before[~mask], after[~mask])
            hidden += mask.any()
        assert hidden  # else nothing is said

    def test_scores_say_what_was_hidden_and_what_it_was_filled_from(self, output, material):
        names = {}
        for name, count in material.FOLDER.items():
            result = read_results(output, name)
            names[name] = [row["frame"] for row in result["frames"]]
            assert names[name] == [f"f{i + 8}" for i in range(count)]
            clean = [all(s >= material.tau for s in row["scores"]) for row in result["frames"]]
            for i, row in enumerate(result["frames"]):
                mask = read_mask(output / "masks" / name / f"{row['frame']}.png")
                np.testing.assert_array_equal(mask,
                                              bands_mask(np.array(row["scores"]) < material.tau, *mask.shape))
                assert row["hidden"] == pytest.approx(mask.mean(), abs=1e-4)
                before, after = ([j for j in range(count) if clean[j] and (j < i if k == 0 else j > i)]
                                 for k in (0, 1))
                expected = [f"f{before[-1] + 8}" if before else None, f"f{after[0] + 8}" if after else None]
                assert row["sources"] == (expected if row["how"] == "stcnet" else [None, None])
                assert row["how"] == ("visible" if clean[i] else "left" if mask.all() else "stcnet")

    def test_metrics_and_report(self, output, material):
        metrics = json.loads((output / "metrics.json").read_text())
        assert metrics["tracklets"] == 3 and metrics["frames"] == 35 and metrics["tau"] == material.tau
        counts = dict.fromkeys(("visible", "stcnet", "spatial", "left"), 0)
        for name in material.FOLDER:
            for row in read_results(output, name)["frames"]:
                counts[row["how"]] += 1
        assert metrics["frames_by_how"] == counts
        report = (output / "report.html").read_text()
        assert "Completions" in report and "Where attention looked" in report
        assert escape(f"vrstc complete '{material.folder}'") in report or str(material.folder) in report

    def test_again_gives_the_same(self, vrstc, output, material):
        before = tree(output)
        succeeded(vrstc("complete", material.folder, "--model", material.model, "--output", output))
        assert tree(output) == before

    def test_another_run_is_refused_and_harms_nothing(self, vrstc, output, material, tmp_path):
        before = tree(output)
        other = tmp_path / "other.safetensors"
        save_model(other, random_model(seed=1))
        for arguments in ((material.folder, "--model", other),
                          (material.folder, "--masks", material.folder_masks, "--model", material.model),
                          (material.video, "--boxes", material.boxes, "--model", material.model)):
            done = vrstc("complete", *arguments, "--output", output)
            assert done.code == 2 and str(output) in done.err and len(done.err.splitlines()) == 1
            assert tree(output) == before

    def test_as_a_data_set_too(self, vrstc, refused, material, tmp_path):
        command = ("complete", material.folder, "--masks", material.folder_masks, "--model", material.model,
                   "--output", tmp_path / "out", "--dataset", tmp_path / "set")
        assert "set: a TFDS data set" in succeeded(vrstc(*command)).out
        stored = read_set(tmp_path / "set").tracklets
        assert {t.name for t in stored} == {str(Path(name)) for name in material.FOLDER}
        for tracklet in stored:
            for name, frame, mask in zip(tracklet.frame_names, tracklet.frames, tracklet.masks, strict=True):
                file = f"{tracklet.name}/{name}.png"
                np.testing.assert_array_equal(frame, read_image(tmp_path / "out" / file))
                np.testing.assert_array_equal(mask, read_mask(tmp_path / "out/masks" / file))
        succeeded(vrstc(*command))  # again: the set is made anew
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/letter.txt").write_text("x")
        refused(*command[:-3], tmp_path / "out2", "--dataset", tmp_path / "mine", parts=["mine", "no data set"])

    def test_with_masks(self, vrstc, material, tmp_path):
        output = tmp_path / "out"
        succeeded(vrstc("complete", material.folder, "--masks", material.folder_masks,
                        "--model", material.model, "--output", output))
        for file in tree(material.folder):
            mask = read_mask(material.folder_masks / file)
            np.testing.assert_array_equal(read_mask(output / "masks" / file), mask)
            before, after = read_image(material.folder / file), read_image(output / file)
            np.testing.assert_array_equal(before[~mask], after[~mask])
            assert (before[mask] != after[mask]).any() == mask.any()
        row = read_results(output, "0001/c1/t1")["frames"][4]
        assert row["scores"] is None and row["how"] == "stcnet" and row["sources"] == ["f11", "f14"]


class TestCompleteVideo:
    @pytest.fixture(scope="class")
    def output(self, vrstc, material, tmp_path_factory):
        output = tmp_path_factory.mktemp("video") / "out"
        succeeded(vrstc("complete", material.video, "--boxes", material.boxes,
                        "--masks", material.picture_masks, "--model", material.model,
                        "--output", output, "--render", output.parent / "v.mp4"))
        return output

    def test_a_file_for_every_box(self, output, material):
        pictures, expected = material.pictures(), set()
        for track, number, left, top, width, height in material.box_rows():
            file = f"{track}/{number:06d}.png"
            expected |= {file, f"masks/{file}"}
            crop = pictures[number - 1][top:top + height, left:left + width]
            mask = read_mask(material.picture_masks / f"{number:06d}.png")
            mask = mask[top:top + height, left:left + width]
            np.testing.assert_array_equal(read_mask(output / "masks" / file), mask)
            after = read_image(output / file)
            np.testing.assert_array_equal(after[~mask], crop[~mask])
            if mask.any():
                assert (after[mask] != crop[mask]).any()
        expected |= {f"scores/{track}.json" for track in material.TRACKS}
        assert set(tree(output)) == expected | {"run.json", "report.html", "metrics.json"}

    def test_masks_of_crops_do_as_well(self, vrstc, output, material, tmp_path):
        succeeded(vrstc("complete", material.video, "--boxes", material.boxes, "--masks", material.crop_masks,
                        "--model", material.model, "--output", tmp_path / "out"))
        for track in material.TRACKS:
            assert tree(output / str(track)) == tree(tmp_path / "out" / str(track))

    def test_the_rendered_video_has_the_original_and_the_completed(self, output, material):
        with av.open(str(output.parent / "v.mp4")) as container:
            shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
        pictures = material.pictures()
        assert len(shown) == len(pictures) == FRAMES
        changed = []
        for number, (both, picture) in enumerate(zip(shown, pictures), start=1):
            left, right = both[-HEIGHT:, :WIDTH], both[-HEIGHT:, -WIDTH:]
            # H.264 blurs colours at edges; a wrong frame or half would be far off.
            assert np.abs(left - picture).mean() < 12
            mask = read_mask(material.picture_masks / f"{number:06d}.png")
            assert np.abs(right - picture)[~mask].mean() < 12
            if mask.any():
                changed.append(np.abs(right - left)[mask].mean())
        assert min(changed) > 20

    def test_again_gives_the_same(self, vrstc, output, material):
        before = tree(output.parent)
        succeeded(vrstc("complete", material.video, "--boxes", material.boxes,
                        "--masks", material.picture_masks, "--model", material.model,
                        "--output", output, "--render", output.parent / "v.mp4"))
        assert tree(output.parent) == before

    def test_a_model_fitted_with_held_out_runs_to_other_footage(self, vrstc, material, tmp_path):
        """Tracks of all videos are numbered alike: a track's name says nothing of whose frames they are."""
        status = material.video.stat()
        own = [str(material.video), status.st_size, int(status.st_mtime)]
        for number, (frame, inputs) in enumerate([
                ("000010", {"input": own}), ("000010", {"input": ["/other.mp4", 1, 2]}),
                ("000900", {"input": own})]):
            model, output = tmp_path / f"{number}.safetensors", tmp_path / f"{number}"
            save_model(model, dataclasses.replace(load_model(material.model), provenance={
                "held_out": {"3": [[frame]]}, "inputs": inputs}))
            succeeded(vrstc("complete", material.video, "--boxes", material.boxes, "--model", model,
                            "--output", output))
            assert ("judge" in json.loads((output / "metrics.json").read_text())) == (number == 0)


@pytest.mark.slow
def test_fit_on_a_video_trains_from_its_spool(vrstc, material, tmp_path):
    """Its crops are on disk once; a work directory that has a stored set too goes on with that, to the same numbers."""
    def fit(name):
        done = succeeded(vrstc("fit", material.video, "--boxes", material.boxes, "--size", "smoke", "--steps", 3,
                               "--reid-steps", 3, "--hold-out", 2, "--output", tmp_path / name))
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

    def test_in_a_folder(self, vrstc, material, tmp_path):
        kinds = {"one": 1, "spatial": 4, "left": 3, "fine": 5}
        for name, count in kinds.items():
            for i in range(count):
                frame = figure(i)
                share = {"one": 0.5, "spatial": 0.5, "left": 1, "fine": 0.5 if i == 2 else 0}[name]
                write_png(tmp_path / f"in/{name}/{i}.png", frame)
                write_png(tmp_path / f"masks/{name}/{i}.png", box_mask(40, 20, share) & bool(share))
        succeeded(vrstc("complete", tmp_path / "in", "--masks", tmp_path / "masks", "--model", material.model,
                        "--output", tmp_path / "out"))
        hows = {name: {row["how"] for row in read_results(tmp_path / "out", name)["frames"]}
                for name in kinds}
        assert hows == {"one": {"spatial"}, "spatial": {"spatial"}, "left": {"left"},
                        "fine": {"visible", "stcnet"}}
        report = (tmp_path / "out/report.html").read_text()
        assert "Tracklet one: None of its frames is free" in report
        assert "Tracklet spatial: None of its frames is free" in report
        assert "Tracklet left: 3 of its frames are hidden entirely" in report
        assert "Tracklet fine" not in report.split('id="warnings"')[1].split("</ul>")[0]
        for i in range(3):
            np.testing.assert_array_equal(read_image(tmp_path / f"out/left/{i}.png"), figure(i))
        # One frame without a mask: nothing can be located in it.
        succeeded(vrstc("complete", tmp_path / "in", "--model", material.model, "--output",
                        tmp_path / "located"))
        assert "Tracklet one: It has one frame" in (tmp_path / "located/report.html").read_text()

    def test_boxes_outside_the_picture(self, vrstc, material, tmp_path):
        boxes = tmp_path / "b.txt"
        boxes.write_text(material.boxes.read_text() + "".join(
            f"{line}\n" for line in ("1,3,500,5,20,44,1", "3,40,-30,0,20,44,1", "4,50,-10,-5,20,44,1",
                                     "5,50,90,40,20,44,1")))
        done = succeeded(vrstc("complete", material.video, "--boxes", boxes, "--model", material.model,
                               "--output", tmp_path / "out"))
        out, report = tmp_path / "out", (tmp_path / "out/report.html").read_text()
        assert not (out / "40").exists() and "Track 40" in report and "Track 40" in done.err
        assert not (out / "3/000001.png").exists() and (out / "3/000002.png").exists()
        assert "Tracklet 3: The box lies outside the picture in frame 1" in report
        assert read_image(out / "50/000004.png").shape == (39, 10, 3)  # clipped at the left and the top
        assert read_image(out / "50/000005.png").shape == (24, 6, 3)  # at the right and the bottom

    def test_a_video_that_breaks_off(self, vrstc, material, tmp_path):
        """What was read is done, and said; by every command."""
        video = tmp_path / "cut.mkv"
        whole = material.video.read_bytes()
        video.write_bytes(whole[:int(0.6 * len(whole))])
        done = succeeded(vrstc("complete", video, "--boxes", material.boxes, "--model", material.model,
                               "--output", tmp_path / "out", "--render", tmp_path / "v.mp4"))
        line, = (line for line in done.err.splitlines() if "warning" in line)
        assert str(video) in line and "breaks off" in line
        assert "breaks off" in (tmp_path / "out/report.html").read_text()
        count = len(list((tmp_path / "out/3").iterdir()))
        assert 5 < count < 22
        pictures = material.pictures()
        track = [row[1:] for row in material.box_rows() if row[0] == 3][:count]
        for number, left, top, width, height in track:
            after = read_image(tmp_path / f"out/3/{number:06d}.png")
            mask = read_mask(tmp_path / f"out/masks/3/{number:06d}.png")
            np.testing.assert_array_equal(after[~mask],
                                          pictures[number - 1][top:top + height, left:left + width][~mask])
        with av.open(str(tmp_path / "v.mp4")) as container:
            assert count <= len(list(container.decode(video=0))) < FRAMES


@pytest.mark.slow
class TestKilled:
    """`kill -9` at some moments, and the same command until it is through: the same files, byte for byte."""

    def compare(self, vrstc, arguments, place, moments):
        succeeded(vrstc(*arguments))
        expected = tree(place)
        shutil.rmtree(place)
        for moment in moments:
            assert vrstc(*arguments, kill=moment).code == -9, moment
        succeeded(vrstc(*arguments))
        assert tree(place).keys() == expected.keys()
        assert tree(place) == expected

    def test_during_complete_on_a_folder(self, vrstc, material, tmp_path):
        place = tmp_path / "place"
        self.compare(vrstc,
                     ("complete", material.folder, "--model", material.model, "--output", place / "out"),
                     place, [
            ("vrstc_jax.data.images:os.replace", 1),  # before the very first file has its name
            ("vrstc_jax.inference.results_folder:write_png", 23),
            ("vrstc_jax.inference.results_folder:os.replace", 2),  # between a tracklet's frames and its masks
            ("vrstc_jax.recipes.complete:write_report", 1)])

    def test_during_complete_on_a_video(self, vrstc, material, tmp_path):
        place = tmp_path / "place"
        self.compare(vrstc, ("complete", material.video, "--boxes", material.boxes, "--model", material.model,
                             "--output", place / "out", "--render", place / "v.mp4"), place, [
            ("vrstc_jax.data.inputs.spool:clip_box", 20),  # in the middle of the video
            ("vrstc_jax.report.render:put_back", 7)])


class TestJudge:
    """Scores against what the masks, truth and neighbours say by hand; the network is as random as ever."""

    RUN = 5

    @pytest.fixture(scope="class")
    def held_out(self, material, tmp_path_factory):
        """The model with two held-out runs in the folder's tracklets, and one of another input."""
        path = tmp_path_factory.mktemp("judge") / "m.safetensors"
        runs = {"0001/c1/t1": [[f"f{i + 8}" for i in range(6, 11)]],
                "0002/c1/t7": [[f"f{i + 8}" for i in range(6, 11)]], "gone": [["f1", "f2"]]}
        save_model(path, dataclasses.replace(load_model(material.model), provenance={"held_out": runs}))
        return path

    def test_the_command(self, vrstc, material, held_out, tmp_path):
        arguments = ("judge", material.folder, "--masks", material.folder_masks, "--model", held_out)
        done = succeeded(vrstc(*arguments, "--output", tmp_path / "out"))
        rows = {line.split()[0]: line.split()[1:] for line in done.out.split("\n\n")[0].splitlines()[1:]}
        metrics = json.loads((tmp_path / "out/metrics.json").read_text())
        assert list(metrics["judge"]) == list(rows) == METHODS
        for method, scores in metrics["judge"].items():
            assert {"l1", "psnr", "ssim"} <= set(scores)
            assert rows[method] == [f"{scores['l1']:.4f}", f"{scores['psnr']:.2f}", f"{scores['ssim']:.4f}",
                                    "10"]
        # Frames 6 to 10 are hidden at once, and by masks 4 and 5: what is left to see begins at 3 and at 11.
        assert {d: s["copy"]["frames"] for d, s in metrics["judge_by_distance"].items()} == {
            "1": 2, "2": 2, "3": 4, "4": 2}
        assert sorted(os.listdir(tmp_path / "out")) == ["metrics.json", "report.html"]
        assert succeeded(vrstc(*arguments, "--seed", "0")).out == done.out.rsplit("open ", 1)[0]
        assert succeeded(vrstc(*arguments, "--seed", "3")).out.splitlines()[1] != done.out.splitlines()[1]

    def test_with_the_truth(self, vrstc, material, tmp_path):
        done = succeeded(vrstc(
            "judge", material.folder, "--masks", material.folder_masks, "--truth", material.folder_truth,
            "--model", material.model, "--output", tmp_path / "out"))
        assert "true masks" in done.out and "located masks" in done.out
        metrics = json.loads((tmp_path / "out/metrics.json").read_text())
        assert metrics["judge_setting"] == "true masks"
        for key in ("judge", "judge_located_masks"):
            assert list(metrics[key]) == METHODS
            # Three hidden frames in each tracklet.
            assert {scores["frames"] for scores in metrics[key].values()} == {9}
        # Neighbours as the masks have them: 0 and 2 for 1, 3 and 6 for 4 and 5.
        psnrs, l1s = [], []
        for seed, count in enumerate(material.FOLDER.values()):
            frames, masks = Material.tracklet(count, seed)
            for index, nearest in ((1, 0), (4, 3), (5, 6)):
                filled = cv2.resize(frames[nearest], frames[index].shape[1::-1])[masks[index]].astype(float)
                difference = filled - frames[index][masks[index]]
                l1s.append(np.abs(difference).mean() / 255)
                psnrs.append(10 * np.log10(255 ** 2 / np.square(difference).mean()))
        # The crops' sizes take turns, so copies are resized: INTER_AREA there, where one is smaller.
        assert metrics["judge"]["copy"]["l1"] == pytest.approx(np.mean(l1s), abs=0.01)
        assert metrics["judge"]["copy"]["psnr"] == pytest.approx(np.mean(psnrs), abs=1)
