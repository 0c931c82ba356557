"""The commands as users call them: what they write, what they refuse, and what `kill -9` does to them.

Models have random weights. Commands run in separate processes (`commands.py`).
"""

import dataclasses
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from people import SMOKE, box_mask, figure, figures, masks_at, random_model

from vrstc_jax.cli.footage import undone_if_refused
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
def material(vrstc, tmp_path_factory):
    return Material(vrstc, tmp_path_factory.mktemp("material"))


class Material:
    """A folder of tracklets, a video with boxes, masks and truth of both, a model, and commands that use them."""

    FOLDER = {"0001/c1/t1": 14, "0001/c2/t1": 9, "0002/c1/t7": 12}
    TRACKS = {3: (2, 24), 12: (1, 20), 7: (5, 14)}  # first and last frame of each

    def __init__(self, vrstc, path):
        self.vrstc, self.path = vrstc, path
        self.folder, self.folder_masks, self.folder_truth = path / "crops", path / "crop masks", path / "crop truth"
        self.video, self.boxes = path / "clip.mkv", path / "boxes.txt"
        self.picture_masks, self.crop_masks = path / "picture masks", path / "track masks"
        self.model = path / "model.safetensors"
        self.write_folder()
        self.write_video()
        locator = Locator(SMOKE.reid, random_model().reid, 3)
        scores = [locator.scores([read_image(self.folder / name / f"f{i + 8}.png") for i in range(count)])
                  for name, count in self.FOLDER.items()]
        self.tau = choose_tau(scores, 0.15)
        save_model(self.model, dataclasses.replace(random_model(), tau=self.tau))

    def write_folder(self):
        for seed, (name, count) in enumerate(self.FOLDER.items()):
            for i, (frame, mask) in enumerate(zip(*self.tracklet(count, seed))):
                file = f"{name}/f{i + 8}.png"  # f8, f9, f10: not in the order of the alphabet
                write_png(self.folder_truth / file, frame)
                write_png(self.folder_masks / file, mask)
                frame[mask] = (10, 200, 10)
                write_png(self.folder / file, frame)

    def write_video(self):
        self.rows = []  # (track, frame, left, top, width, height)
        with av.open(str(self.video), "w") as output:
            stream = output.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
            for number in range(1, FRAMES + 1):
                picture = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
                mask = np.zeros((HEIGHT, WIDTH), bool)
                mask[30:50, :60] = number % 5 == 0
                for k, (track, (first, last)) in enumerate(self.TRACKS.items()):
                    if first <= number <= last:
                        top, left, height = 4 + number % 3, 5 + 30 * k, 44 + number % 2
                        picture[top:top + 44, left:left + 20] = figure(number, 44, 20, seed=k)
                        self.rows.append((track, number, left, top, 20, height))
                        write_png(self.crop_masks / f"{track}/{number:06d}.png", mask[top:top + height, left:left + 20])
                picture[mask] = (200, 30, 30)
                write_png(self.picture_masks / f"{number:06d}.png", mask)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
            output.mux(stream.encode(None))
        self.boxes.write_text("".join(f"{number},{track},{left},{top},{width},{height},1,-1,-1,-1\n"
                                      for track, number, left, top, width, height in self.rows))

    @staticmethod
    def tracklet(count, seed):
        frames = figures(count, sizes=((40, 20), (37, 19)), seed=seed)
        return frames, masks_at(frames, (1, 4, 5), share=0.4)

    def crops(self):
        """(file, crop) of every box of the video, track by track."""
        pictures = decoded(self.video)
        for track, number, left, top, width, height in sorted(self.rows):
            yield f"{track}/{number:06d}.png", pictures[number - 1][top:top + height, left:left + width]

    def run(self, line, tmp, *, code=0, **options):
        """Runs a command, with paths for {tmp}, {folder}, {model} and the other names above."""
        done = self.vrstc(*(word.format(tmp=tmp, **vars(self)) for word in line.split()), **options)
        assert done.code == code, (line, done)
        return done

    def run_without_effect(self, line, tmp, **options):
        """Runs a command that must leave everything in the folder `tmp` as it is."""
        before = tree(tmp)
        done = self.run(line, tmp, **options)
        left = tree(tmp)
        assert left.keys() == before.keys(), sorted(left.keys() ^ before.keys())
        assert left == before
        return done


def decoded(video):
    with av.open(str(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def tree(path):
    """Every file below a folder, with its bytes, and every empty folder."""
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None
            for p in sorted(Path(path).rglob("*")) if p.is_file() or not any(p.iterdir())}


def assert_visible_kept(after, before, mask):
    np.testing.assert_array_equal(after[~mask], before[~mask])


def flipped(data, index):
    """The bytes with one bit changed."""
    changed = bytearray(data)
    changed[index] ^= 8
    return bytes(changed)


class TestHelp:
    def test_what_a_newcomer_reads(self, material, tmp_path):
        text = material.run("--help", tmp_path).out
        for command in ("demo", "fit", "complete", "judge", "walkers"):
            assert command in text
        assert "--render" in material.run("complete --help", tmp_path).out

    def test_python_m_is_the_same_command(self, tmp_path):
        """As users start it: exit code and stderr come from a real process."""
        done = subprocess.run(
            [sys.executable, "-m", "vrstc_jax", "judge", tmp_path / "none.mp4", "--model", tmp_path / "m"],
            capture_output=True, text=True, timeout=240)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr == f"vrstc: {tmp_path}/m: no such model file; make one with `vrstc fit`.\n"
        assert os.listdir(tmp_path) == []


class Refusals:
    """Runs commands that must be refused, in a folder in which they must leave nothing."""

    FOOTAGE = {"fit": "fit {} --size smoke --output {{tmp}}/new/m.safetensors",
               "complete": "complete {} --model {{model}} --output {{tmp}}/new/out",
               "judge": "judge {} --model {{model}} --output {{tmp}}/new/verdict"}

    def __init__(self, material, tmp):
        self.material, self.tmp = material, tmp
        (tmp / "file").write_text("x")
        (tmp / "empty").mkdir()
        (tmp / "mine").mkdir()
        (tmp / "mine/letter.txt").write_text("x")

    def __call__(self, line, *parts):
        """Expects one line with all `parts`, which name paths as `line` does."""
        done = self.material.run_without_effect(line, self.tmp, code=2)
        assert done.out == "", done.out
        message, = done.err.splitlines()
        assert message.startswith("vrstc: ") and "Error" not in message.split()[1], message
        for part in parts:
            assert str(part).format(tmp=self.tmp, **vars(self.material)) in message, (part, message)

    def all(self, source, *parts, commands=tuple(FOOTAGE)):
        """The same of every command that reads footage."""
        for command in commands:
            self(self.FOOTAGE[command].format(source), *parts)


@pytest.fixture
def refused(material, tmp_path):
    return Refusals(material, tmp_path)


# Each is a command and what its message has.
BY_ALL = [
    ("{tmp}/none.mp4", "{tmp}/none.mp4", "no such file"),
    ("{video} --boxes {tmp}/b.txt", "{tmp}/b.txt", "no such"),
    ("{folder} --masks {tmp}/m", "{tmp}/m", "no such folder"),
    ("{video} --boxes {boxes} --masks {tmp}/m", "{tmp}/m", "no such folder"),
    ("{video}", "{video}", "--boxes"),
    ("{folder} --boxes {boxes}", "{folder}", "{boxes}"),
    ("{tmp}/empty", "{tmp}/empty", "no pictures"),
    ("{folder} --pattern tracklet/frame", "tracklet/frame"),
    ("{folder} --pattern people/frame", "people/frame"),
    ("{video} --boxes {boxes} --pattern frame", "'frame'")]
COMPLETE, RENDER = "complete {folder} --model {model} --output ", "complete {video} --boxes {boxes} --model {model} "
# (command, the flags that its message names): outputs that would eat inputs or each other.
EATING = [
    ("complete {folder} --model {model} --output {folder}", "--output", "the input"),
    ("complete {folder} --model {model} --output {folder}/done", "--output", "is inside the input"),
    ("complete {folder} --masks {folder_masks} --model {model} --output {folder_masks}/done", "--output", "--masks"),
    ("complete {folder} --masks {folder_masks} --model {model} --output {tmp}/o --dataset {folder_masks}",
     "--dataset", "--masks"),
    ("complete {folder} --model {model} --output {tmp}/d --dataset {tmp}/d", "--output", "--dataset"),
    ("complete {folder} --model {model} --output {tmp}/d --dataset {tmp}/d/set", "--output", "--dataset"),
    ("complete {folder} --model {model} --output {tmp}/d/o --dataset {tmp}/d", "--output", "--dataset"),
    ("complete {folder} --masks {folder} --model {model} --output {tmp}/o", "--masks", "the input"),
    *(("complete {video} --boxes {boxes} --model {model} --output " + rest, *flags) for rest, flags in (
        ("{tmp}/o --render {video}", ("--render", "the input")), ("{tmp}/o --render {boxes}", ("--render", "--boxes")),
        ("{tmp}/o --render {model}", ("--render", "--model")), ("{tmp}/o --render {tmp}/o", ("--output", "--render")),
        ("{tmp}/o --dataset {tmp}/d --render {tmp}/d/v.mp4", ("--dataset", "--render")),
        ("{video}", ("--output", "the input")))),
    ("fit {video} --boxes {boxes} --output {video}", "--output", "the input"),
    ("fit {video} --boxes {boxes} --output {boxes}", "--output", "--boxes"),
    ("fit {folder} --output {folder}/m", "--output", "is inside the input"),
    ("fit {folder} --masks {folder_masks} --output {folder_masks}/m", "--output", "--masks"),
    ("fit {folder} --start-from {model} --output {model}", "--output", "--start-from"),
    ("judge {folder} --model {model} --output {folder}/report", "--output", "the input"),
    ("judge {folder} --masks {folder_masks} --truth {folder_truth} --model {model} --output {folder_truth}",
     "--output", "--truth"),
    ("rank {folder} --query 0001/c1/t1 --model {model} --output {folder}/r.png", "--output", "the input"),
    ("rank {folder} --query {folder_truth}/0001/c1/t1 --model {model} --output {folder_truth}/0001/c1/t1/r.png",
     "--output", "--query")]
BY_ONE = [
    ("judge {folder} --masks {folder_masks} --truth {tmp}/t --model {model}", "{tmp}/t", "no such folder"),
    ("judge {folder} --model {model}", "--hold-out"),
    ("judge {folder} --truth {folder_truth} --model {model}", "--masks"),
    *((command + place, place) for command in (COMPLETE, "judge {folder} --model {model} --output ")
      for place in ("{tmp}/file", "{tmp}/file/inside", "/proc/vrstc")),
    (COMPLETE + "{tmp}/mine", "{tmp}/mine", "not empty"),  # somebody else's
    ("complete {tmp}/none --model {model} --output {tmp}/empty", "{tmp}/none"),  # which stays empty
    (COMPLETE + "{tmp}/new --render {tmp}/v.mp4", "--render", "{folder}"),
    *((RENDER + f"--output {{tmp}}/new --render {folder}/{name}", folder) for folder, name in (
        ("/proc", "v.mp4"), ("{tmp}/file", "v.mp4"), ("{tmp}", "v.xyz"), ("{tmp}", "v.m3u8"), ("{tmp}", "v.mpd"))),
    ("fit {folder} --size smoke --output /proc/vrstc/m", "/proc/vrstc"),
    ("fit {folder} --size smoke --output {tmp}/file/m", "{tmp}/file"),
    ("fit {folder} --size smoke --output {tmp}", "{tmp}", "folder"),
    *(("fit {folder} --output {tmp}/m " + option, *option.split()) for option in (
        "--steps 0", "--reid-steps -3", "--learning-rate -0.1", "--hold-out -1"))]


class TestRefused:
    @pytest.mark.parametrize("case", BY_ALL, ids=" ".join)
    def test_by_all_commands(self, refused, case):
        refused.all(*case)

    @pytest.mark.parametrize("case", BY_ONE, ids=" ".join)
    def test_by_one_command(self, refused, case):
        refused(*case)

    @pytest.mark.parametrize("case", EATING, ids=" ".join)
    def test_outputs_that_would_eat_inputs_or_each_other(self, material, refused, case):
        before = tree(material.path)
        refused(*case)
        assert tree(material.path) == before

    def test_by_a_link(self, material, refused, tmp_path):
        (tmp_path / "link").symlink_to(material.folder)
        refused("complete {folder} --model {model} --output {tmp}/link/done", "--output", "the input")
        refused("complete {tmp}/link --model {model} --output {folder}/done", "--output", "the input")

    def test_a_video_rendered_into_the_output(self, material, tmp_path):
        """Which is no harm: the results have no file of its name."""
        line = RENDER + "--output {tmp}/out --render {tmp}/out/v.mp4"
        material.run(line, tmp_path)
        material.run_without_effect(line, tmp_path)

    def test_a_value_that_is_none_of_the_choices(self, material, tmp_path):
        done = material.run("fit {folder} --output {tmp}/m --size huge", tmp_path, code=2)
        assert "huge" in done.err and not tree(tmp_path)

    def test_a_video_that_does_not_decode(self, material, refused, tmp_path):
        for name, data in (("noise.mp4", np.random.default_rng(0).bytes(50_000)), ("empty.avi", b""),
                           ("half.mkv", material.video.read_bytes()[:700])):
            (tmp_path / name).write_bytes(data)
            refused.all(f"{{tmp}}/{name} --boxes {{boxes}}", tmp_path / name)

    @pytest.mark.parametrize("line, told", [
        ("4,3,ten,5,20,44,1", "'ten'"), ("25,3,5,5,20,44,1", "frame 25"), *(
            pytest.param(*each, marks=pytest.mark.slow) for each in (  # one file in each command; see test_sources.py
                ("4,3,nan,5,20,44,1", "'nan'"), ("4,3,5,5", "4 fields"), ("4,30,5,5,0,44,1", "0 wide"),
                ("4,30,5,5,20,-4,1", "-4 high"), ("4,3,5,5,20,44,1", "track 3 already"),
                ("0,3,5,5,20,44,1", "frame 0")))])
    def test_boxes(self, material, refused, tmp_path, line, told):
        (tmp_path / "b.txt").write_text(material.boxes.read_text() + line + "\n")
        refused.all("{video} --boxes {tmp}/b.txt", f"{{tmp}}/b.txt:{len(material.rows) + 1}", told)

    def test_no_boxes(self, refused, tmp_path):
        (tmp_path / "b.txt").write_text("# nothing\n")
        refused.all("{video} --boxes {tmp}/b.txt", "{tmp}/b.txt", "no box")

    def test_a_corrupt_picture(self, material, refused, tmp_path):
        broken = shutil.copytree(material.folder, tmp_path / "crops") / "0001/c2/t1/f10.png"
        whole = broken.read_bytes()
        for data in (b"", b"not a picture", whole[:-20], whole[:100], flipped(whole, len(whole) // 2)):
            broken.write_bytes(data)
            refused.all("{tmp}/crops", broken, commands=["complete"])
        refused.all("{tmp}/crops", broken, commands=["fit", "judge"])
        broken.unlink()
        _, jpeg = cv2.imencode(".jpg", figure(0))
        broken.with_suffix(".jpg").write_bytes(jpeg.tobytes()[:-200])
        refused.all("{tmp}/crops", broken.with_suffix(".jpg"), commands=["complete"])

    @pytest.mark.parametrize("name, source, other, surplus", [
        ("crop masks", "{folder}", "0001/c1/t1/f9.png", "f99.png"),
        ("track masks", "{video} --boxes {boxes}", "12/000009.png", "000099.png"),
        pytest.param("picture masks", "{video} --boxes {boxes}", "000009.png", "000099.png", marks=pytest.mark.slow)])
    def test_masks_of_another_size_or_count(self, material, refused, tmp_path, name, source, other, surplus):
        file = shutil.copytree(material.path / name, tmp_path / "masks") / other
        source, whole = source + " --masks {tmp}/masks", file.read_bytes()
        write_png(file, np.zeros((7, 5), bool))
        refused.all(source, file, "5x7")
        file.unlink()
        refused.all(source, file, "missing", commands=["complete"])
        file.write_bytes(whole)
        file.with_name(surplus).write_bytes(whole)
        refused.all(source, file.with_name(surplus), commands=["complete"])

    def test_a_model_that_is_none(self, material, refused, tmp_path):
        whole = material.model.read_bytes()
        for data, told in ((b"", "not a whole"), (whole[:-9], "not a whole"), (flipped(whole, -5), "damaged"),
                           (whole.replace(b'"format": "1"', b'"format": "2"'), "format is 2")):
            (tmp_path / "m").write_bytes(data)
            for command in ("complete {folder} --model {tmp}/m --output {tmp}/new", "judge {folder} --model {tmp}/m"):
                refused(command, "{tmp}/m", told)

    @pytest.mark.parametrize("name", ["masks", "scores", "work", "run.json", "report.html", "metrics.json"])
    def test_a_tracklet_named_as_a_part_of_the_results(self, refused, tmp_path, name):
        for i in range(3):
            write_png(tmp_path / f"in/a/{i}.png", figure(i))
            write_png(tmp_path / f"in/{name}/{i}.png", figure(i))
        refused("complete {tmp}/in --model {model} --output {tmp}/new", f"tracklet {name}", "rename")

    @pytest.mark.parametrize("name, told", [
        ("caf\udce9", "is not UTF-8"), ("x" * 256, "has 256 bytes"), ("x" * 5000, "has 5000 bytes")])
    def test_arguments_that_can_be_no_files(self, refused, name, told):
        for command in ("complete", "complete {folder} --masks", "judge {video} --boxes", "judge {folder} --output",
                        "walkers", "demo --output", "fit {folder} --output", "rank {folder} --query 1 --model"):
            more = " --output {tmp}/new" if command.startswith("complete") else ""
            refused(f"{command} {{tmp}}/new/{name}/below{more}", told)
        refused(f"rank {{folder}} --query {name} --model {{model}}", "neither a folder of frames")

    def test_a_model_whose_work_directory_would_have_too_long_a_name(self, refused):
        refused(f"fit {{folder}} --size smoke --output {{tmp}}/new/{'m' * 253}", "has 258 bytes")

    def test_names_that_cannot_be_written(self, refused, tmp_path):
        for top, name, told in (("latin", "caf\udce9/1.png", "caf\\udce9 is not UTF-8"),
                                ("frame", "t/\udcff.png", "\\udcff is not UTF-8"),
                                ("long", "x" * 251 + "/1.png", "256 bytes with .json")):
            write_png(tmp_path / top / name, figure(0))
            commands = ("complete",) if top == "long" else tuple(refused.FOOTAGE)
            refused.all(f"{{tmp}}/{top}", told, commands=commands)

    def test_a_name_with_a_terminals_escapes(self, refused, tmp_path):
        (tmp_path / "in/a\x1b[2J\nb").mkdir(parents=True)
        (tmp_path / "in/a\x1b[2J\nb/1.png").write_bytes(b"no picture")
        refused.all("{tmp}/in", "in/a\\x1b[2J\\nb/1.png")


def test_an_error_before_the_first_result_leaves_nothing(tmp_path):
    """Whatever the error; a result, and what was there before, stays, and so does all at an interruption."""
    (tmp_path / "mine").mkdir()
    for error, result, kept in ((RuntimeError, False, False), (MemoryError, False, False), (RuntimeError, True, True),
                                (KeyboardInterrupt, False, True)):
        new = tmp_path / "new/out"
        with pytest.raises(error), undone_if_refused(new, tmp_path / "mine", unless=lambda given=result: given):
            new.mkdir(parents=True)
            (new / "run.json").write_text("{}")
            raise error
        assert new.exists() == kept and (tmp_path / "mine").exists()
        shutil.rmtree(tmp_path / "new", ignore_errors=True)


@pytest.mark.parametrize("target", ["nowhere", "link"])
def test_an_error_leaves_a_link_that_leads_nowhere(tmp_path, target):
    """It was there before; it only does not exist for who follows it."""
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(RuntimeError), undone_if_refused(tmp_path / "link", tmp_path / "link/new"):
        raise RuntimeError
    assert os.readlink(tmp_path / "link") == target


def read_results(output, name):
    result = json.loads((output / "scores" / f"{name}.json").read_text())
    assert result["tracklet"] == name
    return result["frames"]


class TestCompleteFolder:
    COMMAND = "complete {folder} --model {model} --output {tmp}/out"
    AS_SET = "complete {folder} --masks {folder_masks} --model {model} --output {tmp}/out --dataset {tmp}/set"

    @pytest.fixture(scope="class")
    def output(self, material, tmp_path_factory):
        tmp = tmp_path_factory.mktemp("folder")
        assert str(tmp / "out/report.html") in material.run(self.COMMAND, tmp).out
        return tmp / "out"

    @pytest.fixture(scope="class")
    def masked(self, material, tmp_path_factory):
        """The folder in which the results by given masks are, as files and as a data set."""
        tmp = tmp_path_factory.mktemp("masked")
        assert "set: a TFDS data set" in material.run(self.AS_SET, tmp).out
        return tmp

    def test_the_same_tree_and_names(self, output, material):
        inputs = set(tree(material.folder))
        masks = {f"masks/{p}" for p in inputs}
        scores = {f"scores/{name}.json" for name in material.FOLDER}
        assert set(tree(output)) == inputs | masks | scores | {"run.json", "report.html", "metrics.json"}

    def test_visible_pixels_and_masks(self, output, material):
        hidden = 0
        for file in tree(material.folder):
            before, mask = read_image(material.folder / file), read_mask(output / "masks" / file)
            assert mask.shape == before.shape[:2]
            assert_visible_kept(read_image(output / file), before, mask)
            hidden += mask.any()
        assert hidden  # else nothing is said

    def test_scores_say_what_was_hidden_and_what_it_was_filled_from(self, output, material):
        for name, count in material.FOLDER.items():
            rows = read_results(output, name)
            assert [row["frame"] for row in rows] == [f"f{i + 8}" for i in range(count)]
            clean = [all(s >= material.tau for s in row["scores"]) for row in rows]
            for i, row in enumerate(rows):
                mask = read_mask(output / "masks" / name / f"{row['frame']}.png")
                np.testing.assert_array_equal(mask, bands_mask(np.array(row["scores"]) < material.tau, *mask.shape))
                assert row["hidden"] == pytest.approx(mask.mean(), abs=1e-4)
                before, after = ([f"f{j + 8}" for j in span if clean[j]] for span in (range(i), range(i + 1, count)))
                expected = [before[-1] if before else None, after[0] if after else None]
                assert row["sources"] == (expected if row["how"] == "stcnet" else [None, None])
                assert row["how"] == ("visible" if clean[i] else "left" if mask.all() else "stcnet")

    def test_metrics_and_report(self, output, material):
        metrics = json.loads((output / "metrics.json").read_text())
        assert metrics["tracklets"] == 3 and metrics["frames"] == 35 and metrics["tau"] == material.tau
        counts = Counter(row["how"] for name in material.FOLDER for row in read_results(output, name))
        assert metrics["frames_by_how"] == {how: counts[how] for how in ("visible", "stcnet", "spatial", "left")}
        report = (output / "report.html").read_text()
        assert all(text in report for text in ("Completions", "Where attention looked", str(material.folder)))

    def test_again_gives_the_same(self, output, material):
        material.run_without_effect(self.COMMAND, output.parent)

    def test_another_run_is_refused_and_harms_nothing(self, output, material):
        save_model(output.parent / "other", random_model(seed=1))
        for arguments in ("{folder} --model {tmp}/other", "{folder} --masks {folder_masks} --model {model}",
                          "{video} --boxes {boxes} --model {model}"):
            done = material.run_without_effect(f"complete {arguments} --output {{tmp}}/out", output.parent, code=2)
            assert str(output) in done.err and len(done.err.splitlines()) == 1

    def test_as_a_data_set_too(self, masked, refused, material):
        stored = read_set(masked / "set").tracklets
        assert {t.name for t in stored} == set(material.FOLDER)
        for tracklet in stored:
            for name, frame, mask in zip(tracklet.frame_names, tracklet.frames, tracklet.masks, strict=True):
                file = f"{tracklet.name}/{name}.png"
                np.testing.assert_array_equal(frame, read_image(masked / "out" / file))
                np.testing.assert_array_equal(mask, read_mask(masked / "out/masks" / file))
        material.run(self.AS_SET, masked)  # the set is replaced
        refused(self.AS_SET.replace("{tmp}/set", "{tmp}/mine"), "mine", "no data set")

    def test_with_masks(self, masked, material):
        for file in tree(material.folder):
            mask = read_mask(material.folder_masks / file)
            np.testing.assert_array_equal(read_mask(masked / "out/masks" / file), mask)
            before, after = read_image(material.folder / file), read_image(masked / "out" / file)
            assert_visible_kept(after, before, mask)
            assert (before[mask] != after[mask]).any() == mask.any()
        row = read_results(masked / "out", "0001/c1/t1")[4]
        assert row["scores"] is None and row["how"] == "stcnet" and row["sources"] == ["f11", "f14"]


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
            expected |= {file, f"masks/{file}"}
            mask, after = read_mask(material.crop_masks / file), read_image(output / file)
            np.testing.assert_array_equal(read_mask(output / "masks" / file), mask)
            assert_visible_kept(after, crop, mask)
            assert (after[mask] != crop[mask]).any() == mask.any()
        assert set(tree(output)) == expected

    def test_masks_of_crops_do_as_well(self, output, material, tmp_path):
        material.run(RENDER + "--masks {crop_masks} --output {tmp}/out", tmp_path)
        for track in material.TRACKS:
            assert tree(output / str(track)) == tree(tmp_path / "out" / str(track))

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
        """In an AVI of JPEGs, each of which is a frame of its own."""
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

    def test_in_a_folder(self, material, tmp_path):
        kinds = {"one": [0.5], "spatial": [0.5] * 4, "left": [1] * 3, "fine": [0, 0, 0.5, 0, 0]}  # what is hidden
        for name, shares in kinds.items():
            for i, share in enumerate(shares):
                write_png(tmp_path / f"in/{name}/{i}.png", figure(i))
                write_png(tmp_path / f"masks/{name}/{i}.png", box_mask(40, 20, share) & bool(share))
        done = material.run("complete {tmp}/in --masks {tmp}/masks --model {model} --output {tmp}/out", tmp_path)
        hows = {name: {row["how"] for row in read_results(tmp_path / "out", name)} for name in kinds}
        assert hows == {"one": {"spatial"}, "spatial": {"spatial"}, "left": {"left"}, "fine": {"visible", "stcnet"}}
        report = (tmp_path / "out/report.html").read_text()
        assert "Tracklet one: None of its frames is free" in report
        assert "Tracklet spatial: None of its frames is free" in report
        assert "Tracklet left: 3 of its frames are hidden entirely" in report
        assert "Tracklet left: Its masks hide 100 % of its pixels" in report
        warned = re.findall('<li>(.*?)</li>', report.split('id="warnings"')[1].split("</section>")[0])
        assert sorted(line for line in done.err.splitlines() if "warning" in line) == sorted(
            f"vrstc: warning: {html.unescape(each)}" for each in warned)
        assert "Tracklet fine" not in report.split('id="warnings"')[1].split("</ul>")[0]
        for i in range(3):
            np.testing.assert_array_equal(read_image(tmp_path / f"out/left/{i}.png"), figure(i))
        # One frame without a mask: nothing can be located in it.
        done = material.run("complete {tmp}/in --model {model} --output {tmp}/located", tmp_path)
        assert "vrstc: warning: Tracklet one: It has one frame" in done.err
        assert "Tracklet one: It has one frame" in (tmp_path / "located/report.html").read_text()

    def test_names_as_people_have_them(self, material, tmp_path):
        """Results have the same names; what is printed has no escapes of the terminal, and one line for each line."""
        names = ["\x1b[31mred", "two\nlines\r", "²", "٣", "x" * 250, "<b>&amp;", "$(rm)", " "]
        for name in names:
            for i in range(2):
                write_png(tmp_path / f"in/{name}/{'f' * 250}{i}.png", figure(i))
                write_png(tmp_path / f"masks/{name}/{'f' * 250}{i}.png", box_mask(40, 20))
        done = material.run("complete {tmp}/in --masks {tmp}/masks --model {model} --output {tmp}/out", tmp_path)
        again = material.run("complete {tmp}/in --masks {tmp}/masks --model {model} --output {tmp}/out", tmp_path)
        for text in (done.out, again.err):
            assert all(line.isprintable() for line in text.splitlines())
        assert "vrstc: warning: Tracklet \\x1b[31mred: None of its frames" in done.err
        for name in names:
            for i in range(2):
                assert read_image(tmp_path / f"out/{name}/{'f' * 250}{i}.png").shape == (40, 20, 3)
        done = material.run("rank {tmp}/in --query ² --model {model}", tmp_path)
        assert "\\x1b[31mred" in done.out and "two\\nlines\\r" in done.out and "\x1b" not in done.out

    def test_names_of_mars_are_told_apart(self, material, tmp_path):
        for name in ("0001C1T0001", "0001C2T0001", "0001C2T0002"):
            for i in range(3):
                write_png(tmp_path / f"in/0001/{name}F{i:03d}.png", figure(i))
        done = material.run("complete {tmp}/in --model {model} --output {tmp}/out", tmp_path)
        line, = (line for line in done.err.splitlines() if "MARS" in line)
        assert line.startswith(f"vrstc: {tmp_path}/in: ") and "3 tracklets (people: 1; cameras: 2)" in line
        assert sorted(path.name for path in (tmp_path / "out/0001/c2/t0002").iterdir()) == [
            f"0001C2T0002F{i:03d}.png" for i in range(3)]

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


@pytest.mark.slow
@pytest.mark.parametrize("line, moments", [
    (COMPLETE + "{tmp}/place/out", [
        ("vrstc_jax.data.images:os.replace", 1),  # before the very first file has its name
        ("vrstc_jax.inference.results_folder:write_png", 23),
        ("vrstc_jax.inference.results_folder:os.replace", 2),  # between a tracklet's frames and its masks
        ("vrstc_jax.recipes.complete:write_report", 1)]),
    (RENDER + "--output {tmp}/place/out --render {tmp}/place/v.mp4", [
        ("vrstc_jax.data.inputs.spool:clip_box", 20),  # in the middle of the video
        ("vrstc_jax.report.render:put_back", 7)])], ids=["folder", "video"])
def test_killed_during_complete(material, tmp_path, line, moments):
    """`kill -9` at some moments, then the same command until it is through: the same files, byte for byte."""
    material.run(line, tmp_path)
    expected = tree(tmp_path)
    shutil.rmtree(tmp_path / "place")
    for moment in moments:
        material.run(line, tmp_path, code=-9, kill=moment)
    material.run(line, tmp_path)
    assert tree(tmp_path).keys() == expected.keys()
    assert tree(tmp_path) == expected


class TestJudge:
    """Scores against what the masks, truth and neighbours say by hand; the network's weights are random."""

    @pytest.fixture(scope="class")
    def held_out(self, material, tmp_path_factory):
        """The model with two held-out runs in the folder's tracklets, and one of another input."""
        path = tmp_path_factory.mktemp("judge") / "m.safetensors"
        run = [f"f{i + 8}" for i in range(6, 11)]
        runs = {"0001/c1/t1": [run], "0002/c1/t7": [run], "gone": [["f1", "f2"]]}
        save_model(path, dataclasses.replace(load_model(material.model), provenance={"held_out": runs}))
        return path

    def test_the_command(self, material, held_out, tmp_path):
        command = f"judge {{folder}} --masks {{folder_masks}} --model {held_out}"
        done = material.run(command + " --output {tmp}/out", tmp_path)
        rows = {line.split()[0]: line.split()[1:] for line in done.out.split("\n\n")[0].splitlines()[1:]}
        metrics = json.loads((tmp_path / "out/metrics.json").read_text())
        assert list(metrics["judge"]) == list(rows) == METHODS
        for method, scores in metrics["judge"].items():
            assert {"l1", "psnr", "ssim"} <= set(scores)
            assert rows[method] == [f"{scores['l1']:.4f}", f"{scores['psnr']:.2f}", f"{scores['ssim']:.4f}", "10"]
        # Frames 6 to 10 are hidden at once, and by masks 4 and 5: what is left to see begins at 3 and at 11.
        assert {d: s["copy"]["frames"] for d, s in metrics["judge_by_distance"].items()} == {
            "1": 2, "2": 2, "3": 4, "4": 2}
        assert sorted(os.listdir(tmp_path / "out")) == ["metrics.json", "report.html"]
        assert material.run(command + " --seed 0", tmp_path).out == done.out.rsplit("open ", 1)[0]
        assert material.run(command + " --seed 3", tmp_path).out.splitlines()[1] != done.out.splitlines()[1]

    def test_with_the_truth(self, material, tmp_path):
        done = material.run("judge {folder} --masks {folder_masks} --truth {folder_truth} --model {model} "
                            "--output {tmp}/out", tmp_path)
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

    def test_its_warnings(self, material, tmp_path):
        """Of the input and of the masks, on the terminal and in the report."""
        for name, shares in {"a": [0, 0.5, 0, 0], "b": [0, 0], "c": [1, 0.9]}.items():
            for i, share in enumerate(shares):
                write_png(tmp_path / f"in/{name}/{i}.png", figure(i))
                write_png(tmp_path / f"masks/{name}/{i}.png", box_mask(40, 20, share) & bool(share))
        done = material.run("judge {tmp}/in --masks {tmp}/masks --truth {tmp}/in --model {model} --output {tmp}/out",
                            tmp_path)
        report = html.unescape((tmp_path / "out/report.html").read_text())
        for told in ("Tracklet b: Its masks hide nothing in any of its 2 frames", "Tracklet c: Its masks hide 95 %"):
            assert f"vrstc: warning: {told}" in done.err and f"<li>{told}" in report
        assert "Tracklet a" not in done.err
