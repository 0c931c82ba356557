"""The README's code runs and its commands are commands. What they do is tested where they are."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import tyro
from people import random_model

from tools.accelerator_report.__main__ import parsed
from vrstc_jax.cli import COMMANDS
from vrstc_jax.models.model_file import save_model

pytestmark = pytest.mark.usefixtures("quick_compilation")

README = Path(__file__).resolve().parents[1] / "README.md"


def blocks(language):
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def commands():
    """Every `vrstc …` of the bash blocks, as words."""
    lines = [part.strip() for block in blocks("bash") for line in block.splitlines() for part in line.split("&&")]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("vrstc ")]


def test_every_command_is_one_that_the_program_takes():
    found = commands()
    assert {words[0] for words in found} == {"demo", "fit", "complete", "judge", "rank"}
    for words in found:
        parsed = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="vrstc", args=words)
        assert type(parsed) is COMMANDS[words[0]]


def scripts():
    """(module, words) of every experiment and tool in the bash blocks and inline code of README and docs; the launcher
    has a separate test."""
    command = re.compile(r"(?:[A-Z_]+=\S+ )*python (?:-m )?((?:experiments|tools)[./][a-z_0-9]+)(?:\.py)?(?= |\n|$)")
    for page in (README, *sorted((README.parent / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        for line in [*lines, *re.findall(r"(?<!`)`(python [^`]+)`", text)]:
            if (found := command.match(line)) and found[1] != "tools.launch":
                yield found[1].replace("/", "."), shlex.split(line[found.end():], comments=True)


def test_every_experiment_and_tool_takes_its_command():
    seen = {}
    for name, words in scripts():
        module = importlib.import_module(name)
        if name == "tools.accelerator_report":
            assert parsed(words).output
        else:
            tyro.cli(getattr(module, "Arguments", None) or module.Options, args=words)
        seen.setdefault(name, []).append(words)
    assert seen.keys() >= {f"experiments.{name}" for name in (
        "vrstc", "ablation", "ablation_faults", "default_model", "fixed_occluder", "variety")}
    assert seen.keys() >= {f"tools.{name}" for name in (
        "readme_picture", "import_resnet50", "plan_scaling", "benchmark_attention", "benchmark_evaluation",
        "benchmark_training", "accelerator_report")}
    assert seen["experiments.default_model"][-1][:4] == ["--people", "150", "--reid-steps", "400"]


def test_who_is_it_from_python_runs(tmp_path, monkeypatch):
    (block,) = [block for block in blocks("python") if "load_reid" in block]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out-vrstc").mkdir()
    save_model("out-vrstc/final.safetensors", random_model())  # a whole model's file has a re-ID network too
    random = np.random.default_rng(0)
    names = {"tracklets": [random.integers(0, 256, (n, 20, 10, 3), np.uint8) for n in (1, 3, 9, 4, 2)],
             "query_ids": [1, 2], "gallery_ids": [1, 2, 3], "query_cameras": [1, 1], "gallery_cameras": [2, 2, 2]}
    exec(compile(block, "README.md", "exec"), names)
    assert names["features"].shape[0] == 5 and names["between"].shape == (2, 3)
    assert 0 <= names["ranking"].mean_ap <= 1


def test_the_op_in_ten_lines_runs():
    (block,) = [block for block in blocks("python") if "temporal_attention" in block]
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["out"].shape == (32, 16, 256) and names["outs"].shape == (1, 32, 16, 256)
    import jax

    net, one = names["Net"](), np.ones((1, 4, 2, 8), np.float32)
    variables = net.init(jax.random.key(0), one, one[:, None])
    assert net.apply(variables, one, one[:, None]).shape == (1, 4, 2, 64)


def test_completing_from_python_runs(tmp_path, monkeypatch):
    (block,) = [block for block in blocks("python") if "complete_tracklet" in block]
    monkeypatch.chdir(tmp_path)
    save_model("model.safetensors", random_model())
    names = {"frames": np.random.default_rng(0).integers(0, 256, (3, 20, 10, 3), np.uint8)}
    exec(compile(block, "README.md", "exec"), names)
    assert names["done"].frames.shape == (3, 20, 10, 3) and names["done"].scores.shape == (3, 3)
