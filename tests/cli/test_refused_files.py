"""Files, names and models that the commands refuse: one line, and nothing left behind."""

import shutil

import cv2
import numpy as np
import pytest
from people import figure

from vrstc_jax.data.images import write_png


def flipped(data, index):
    """The bytes with one bit changed."""
    changed = bytearray(data)
    changed[index] ^= 8
    return bytes(changed)


class TestRefused:
    def test_a_video_that_does_not_decode(self, material, refused, tmp_path):
        for name, data in (("noise.mp4", np.random.default_rng(0).bytes(50_000)), ("empty.avi", b""),
                           ("half.mkv", material.video.read_bytes()[:700])):
            (tmp_path / name).write_bytes(data)
            refused.all(f"{{tmp}}/{name} --boxes {{boxes}}", tmp_path / name)

    @pytest.mark.parametrize("line, message", [
        ("4,3,ten,5,20,44,1", "'ten'"), ("25,3,5,5,20,44,1", "frame 25"), *(
            pytest.param(*each, marks=pytest.mark.slow) for each in (  # one file in each command; see test_boxes.py
                ("4,3,nan,5,20,44,1", "'nan'"), ("4,3,5,5", "4 fields"), ("4,30,5,5,0,44,1", "0 wide"),
                ("4,30,5,5,20,-4,1", "-4 high"), ("4,3,5,5,20,44,1", "track 3 already"),
                ("0,3,5,5,20,44,1", "frame 0")))])
    def test_boxes(self, material, refused, tmp_path, line, message):
        (tmp_path / "b.txt").write_text(material.boxes.read_text() + line + "\n")
        refused.all("{video} --boxes {tmp}/b.txt", f"{{tmp}}/b.txt:{len(material.rows) + 1}", message)

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
        for data, message in ((b"", "not a whole"), (whole[:-9], "not a whole"), (flipped(whole, -5), "damaged"),
                           (whole.replace(b'"format": "1"', b'"format": "2"'), "format is 2")):
            (tmp_path / "m").write_bytes(data)
            for command in ("complete {folder} --model {tmp}/m --output {tmp}/new", "judge {folder} --model {tmp}/m"):
                refused(command, "{tmp}/m", message)

    @pytest.mark.parametrize("name", ["masks", "parts", "scores", "work", "run.json", "report.html", "metrics.json"])
    def test_a_tracklet_named_as_a_part_of_the_results(self, refused, tmp_path, name):
        for i in range(3):
            write_png(tmp_path / f"in/a/{i}.png", figure(i))
            write_png(tmp_path / f"in/{name}/{i}.png", figure(i))
        refused("complete {tmp}/in --model {model} --output {tmp}/new", f"tracklet {name}", "rename")

    @pytest.mark.parametrize("name, message", [
        ("caf\udce9", "is not UTF-8"), ("x" * 256, "has 256 bytes"), ("x" * 5000, "has 5000 bytes")])
    def test_arguments_that_can_be_no_files(self, refused, name, message):
        for command in ("complete", "complete {folder} --masks", "judge {video} --boxes", "judge {folder} --output",
                        "walkers", "demo --output", "fit {folder} --output", "rank {folder} --query 1 --model"):
            more = " --output {tmp}/new" if command.startswith("complete") else ""
            refused(f"{command} {{tmp}}/new/{name}/below{more}", message)
        refused(f"rank {{folder}} --query {name} --model {{model}}", "neither a folder of frames")

    def test_a_model_whose_work_directory_would_have_too_long_a_name(self, refused):
        refused(f"fit {{folder}} --size smoke --output {{tmp}}/new/{'m' * 253}", "has 258 bytes")

    def test_names_that_cannot_be_written(self, refused, tmp_path):
        for top, name, message in (("latin", "caf\udce9/1.png", "caf\\udce9 is not UTF-8"),
                                ("frame", "t/\udcff.png", "\\udcff is not UTF-8"),
                                ("long", "x" * 251 + "/1.png", "256 bytes with .json")):
            write_png(tmp_path / top / name, figure(0))
            commands = ("complete",) if top == "long" else tuple(refused.FOOTAGE)
            refused.all(f"{{tmp}}/{top}", message, commands=commands)

    def test_a_name_with_a_terminals_escapes(self, refused, tmp_path):
        (tmp_path / "in/a\x1b[2J\nb").mkdir(parents=True)
        (tmp_path / "in/a\x1b[2J\nb/1.png").write_bytes(b"no picture")
        refused.all("{tmp}/in", "in/a\\x1b[2J\\nb/1.png")
