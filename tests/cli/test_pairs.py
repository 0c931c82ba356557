"""Two processes on one output: the second is refused in a line and changes nothing. A killed one is not in the way."""

import dataclasses

import pytest
from people import box_mask, figure, random_model
from stopping import Stopping, stopped

from vrstc_jax.data.images import write_png
from vrstc_jax.models.model_file import save_model

COMPLETE = ["vrstc_jax", "complete", "frames", "--masks", "masks", "--model", "m.safetensors", "--output", "out"]
WRITING = "vrstc_jax.inference.results_folder:write_png"


@pytest.fixture
def material(tmp_path):
    """Absolute words of a command, in a folder with frames, masks and a model."""
    for name in ("t1", "t2"):
        for i in range(6):
            write_png(tmp_path / f"frames/{name}/{i}.png", figure(i))
            write_png(tmp_path / f"masks/{name}/{i}.png", box_mask(40, 20, 0.4) & (i == 3))
    save_model(tmp_path / "m.safetensors", dataclasses.replace(random_model(), tau=0.0))
    here = {"frames", "masks", "m.safetensors", "out", "out2", "set", "work"}
    return lambda words: [str(tmp_path / word) if word.split("/")[0] in here else word for word in words]


def tree(path):
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def refused(vrstc, words, path):
    done = Stopping(vrstc, words)
    assert done.end() == 2
    line = done.said.splitlines()[-1]
    assert line.startswith(f"vrstc: {path}: another process is writing here"), done.said


def test_complete(material, tmp_path, vrstc):
    words = material(COMPLETE)
    with stopped(vrstc, words, at=WRITING, call=9) as first:
        before = tree(tmp_path)
        refused(vrstc, words, tmp_path / "out")
        assert tree(tmp_path) == before
        assert first.go_on() == 0
    assert {"t1/5.png", "t2/5.png", "report.html"} <= {str(file) for file in tree(tmp_path / "out")}
    alone = Stopping(vrstc, material([*COMPLETE[:-1], "out2"]))
    assert alone.end() == 0
    pictures = [{file: data for file, data in tree(tmp_path / name).items() if file.suffix == ".png"}
                for name in ("out", "out2")]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 26  # two of them of origins
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


@pytest.mark.slow
def test_complete_killed_and_started_again(material, tmp_path, vrstc):
    words = material(COMPLETE)
    for call in (3, 9):
        with stopped(vrstc, words, at=WRITING, call=call):
            pass
    assert Stopping(vrstc, words).end() == 0


@pytest.mark.slow
def test_another_output_but_one_data_set(material, tmp_path, vrstc):
    """The second leaves no output."""
    words = material([*COMPLETE, "--dataset", "set"])
    with stopped(vrstc, words, at=WRITING, call=2) as first:
        refused(vrstc, material([*COMPLETE[:-1], "out2", "--dataset", "set"]), tmp_path / "set")
        assert not (tmp_path / "out2").exists() and (tmp_path / "out/run.json").exists()
        assert first.go_on() == 0
    assert {path.name for path in tmp_path.iterdir()} == {"frames", "masks", "m.safetensors", "out", "set"}


@pytest.mark.parametrize("words, at, output", [
    (["vrstc_jax", "fit", "frames", "--size", "smoke", "--output", "out"], "vrstc_jax.recipes.fit:train_reid",
     "out.work"),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        (["vrstc_jax", "demo", "--size", "smoke", "--output", "out"], "vrstc_jax.recipes.demo:fit", "out"),
        (["experiments.vrstc", "--size", "smoke", "--workdir", "work"],
         "vrstc_jax.recipes.five_steps.job:first_network", "work"),
        (["experiments.default_model", "--size", "smoke", "--workdir", "work"],
         "vrstc_jax.recipes.five_steps:first_network", "work"),
        (["experiments.ablation", "--size", "smoke", "--workdir", "work"],
         "vrstc_jax.recipes.five_steps:first_network", "work")))],
    ids=lambda value: value[0] if isinstance(value, list) else "")
def test_trainings(material, tmp_path, vrstc, words, at, output):
    with stopped(vrstc, material(words), at=at):
        before = tree(tmp_path)
        refused(vrstc, material(words), tmp_path / output)
        assert tree(tmp_path) == before
    with stopped(vrstc, material(words), at=at):  # killed, and started again
        pass


def test_judge(material, tmp_path, vrstc):
    words = material(["vrstc_jax", "judge", "frames", "--masks", "masks", "--truth", "frames", "--model",
                      "m.safetensors", "--output", "out"])
    with stopped(vrstc, words, at="vrstc_jax.recipes.judge:judge_truth") as first:
        refused(vrstc, words, tmp_path / "out")
        assert first.go_on() == 0
    assert {str(file) for file in tree(tmp_path / "out")} == {"report.html", "metrics.json"}
