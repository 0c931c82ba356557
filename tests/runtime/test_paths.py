"""Outputs stay apart from inputs and from each other, and names within their folder."""

import os
from pathlib import Path

import pytest
from refusals import refused

from vrstc_jax.runtime.paths import Written, require_apart, require_different, require_name, within


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames/t1").mkdir(parents=True)
    (tmp_path / "v.mp4").write_text("x")
    (tmp_path / "link").symlink_to("frames")
    (tmp_path / "link.mp4").symlink_to("v.mp4")
    os.link(tmp_path / "v.mp4", tmp_path / "hard.mp4")
    return tmp_path


@pytest.mark.parametrize("read, written, kind", [
    ("v.mp4", "v.mp4", "file"), ("v.mp4", "link.mp4", "file"), ("v.mp4", "hard.mp4", "file"),
    ("v.mp4", "./new/../v.mp4", "file"), ("link.mp4", "v.mp4", "file"), ("frames", "frames", "folder"),
    ("frames", "link", "folder"), ("frames", "frames/done", "folder"), ("frames", "link/new/deep", "folder"),
    ("link", "frames/r.png", "file"), ("frames", "frames/report", "shared"), (".", "new", "folder"),
    ("frames/t1", "frames", "folder"), ("frames/t1", ".", "replaced"), ("none/boxes.txt", "none", "folder")])
def test_inputs_that_an_output_would_eat(here, read, written, kind):
    for path in (written, here / written):
        with refused(f"--output {Path(path)}", f"--in {read}"):
            require_apart({"--in": read}, {"--output": Written(path, kind)})


@pytest.mark.parametrize("read, written, kind", [
    ("v.mp4", "v.mp4.work", "folder"), ("frames", "frames2", "folder"), ("frames", "out", "folder"),
    ("frames/t1", "frames/done", "folder"), ("v.mp4", ".", "shared"), (None, "frames", "folder"),
    ("frames", None, "folder"), ("frames", "gs://b/frames", "folder")])
def test_paths_that_are_apart(here, read, written, kind):
    if written and written.startswith("gs:"):
        pytest.importorskip("gcsfs")
    require_apart({"--in": read}, {"--output": Written(written, kind)})


@pytest.mark.parametrize("output, other, kind, good", [
    ("d", "d", "replaced", False), ("d", "d/set", "replaced", False), ("d/out", "d", "replaced", False),
    ("d", "d/v.mp4", "file", True), ("d", "d/t1/v.mp4", "file", False), ("d", "e", "replaced", True),
    ("link", "frames", "replaced", False)])
def test_outputs_in_each_other(here, output, other, kind, good):
    outputs = {"--output": Written(output), "--more": Written(other, kind)}
    if good:
        require_apart({}, outputs)
    else:
        with refused(f"--output {output}", f"--more {other}"):
            require_apart({}, outputs)
    if kind == "replaced":
        with refused("--video d/v.mp4", "--more d"):
            require_apart({}, {"--more": Written("d", "replaced"), "--video": Written("d/v.mp4", "file")})


def test_one_file_system_that_ignores_case(here, monkeypatch):
    require_apart({"--in": "new/x"}, {"--output": Written("NEW/x")})
    monkeypatch.setattr("vrstc_jax.runtime.paths._ignores_case", lambda path: True)
    with refused("--output NEW/x", "--in new/x"):
        require_apart({"--in": "new/x"}, {"--output": Written("NEW/x")})


def test_a_loop_of_links(here):
    (here / "a").symlink_to("b")
    (here / "b").symlink_to("a")
    require_apart({"--in": "a/x"}, {"--output": Written("frames/x")})


def test_two_inputs_that_are_one(here):
    require_different({"--masks": "frames", "--truth": None, "--boxes": "v.mp4"})
    with refused("--masks link", "the input frames"):
        require_different({"the input": "frames", "--masks": "link"})


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "/etc/x", "", "a/..", "x\0", "."])
def test_names_that_lead_out(name):
    with refused("list.txt, line 3", repr(name)):
        require_name(name, "list.txt, line 3")


def test_names_that_do_not(tmp_path):
    for name in ("0001/c1/t1", "a..b", "...", "x.png", "²"):
        assert require_name(name, "list.txt") == name
        assert within(tmp_path, name, suffix=".png") == Path(f"{tmp_path}/{name}.png")


def test_links_that_lead_out(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/away").symlink_to(tmp_path)
    (tmp_path / "out/near").symlink_to("other")
    within(tmp_path / "out", "near/x")
    with refused("out/away/x/y: a link on this path leads out"):
        within(tmp_path / "out", "away/x/y")
    (tmp_path / "out by a link").symlink_to("out")
    within(tmp_path / "out by a link", "x")
