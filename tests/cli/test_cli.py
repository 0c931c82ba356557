"""The commands as users call them: help, and outputs that are refused.

Models have random weights. Commands run in separate processes (`commands.py`).
"""

import os
import shutil
import subprocess
import sys

import pytest
from material import COMPLETE, RENDER, tree

from vrstc_jax.cli.footage import undone_if_refused


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
