"""The README's code runs and its commands are commands. What they do is tested where they are."""

import re
import shlex
from pathlib import Path

import numpy as np
import tyro

from people import random_model
from vrstc_jax.cli import COMMANDS
from vrstc_jax.model import save_model

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
    assert {words[0] for words in found} == {"demo", "fit", "complete", "judge"}
    for words in found:
        parsed = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="vrstc", args=words)
        assert type(parsed) is COMMANDS[words[0]]


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
