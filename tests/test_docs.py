"""Every Python block of docs/attention.md runs and gives the shapes it says; its commands are commands."""

import re
import shlex
from pathlib import Path

import jax
import pytest
import tyro

from vrstc_jax.attention import temporal_attention

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "attention.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def run(block, names):
    """Runs a block; each result whose shape is in a comment behind it, `out = …  # [16, 8, 32]`, must have it."""
    for statement in re.split(r"\n(?=\S)", block):  # statements begin where lines do
        exec(compile(statement, "docs/attention.md", "exec"), names)
        declared = re.match(r"(\w+) = .*# \[([\d, ]+)\]$", statement.rstrip())
        if declared:
            assert list(names[declared[1]].shape) == [int(n) for n in declared[2].split(",")], statement
            jax.block_until_ready(names[declared[1]])


@pytest.fixture(scope="module")
def setting():
    """The names that the first block leaves, from which the others go on."""
    names = {}
    run(BLOCKS[0], names)
    return names


@pytest.mark.parametrize("block", BLOCKS[1:], ids=[block.splitlines()[0][:50] for block in BLOCKS[1:]])
def test_a_block_runs(block, setting):
    if "import equinox" in block:
        pytest.importorskip("equinox", reason="Equinox is not installed; pip install equinox")
    run(block, dict(setting))


def test_shapes_are_told():
    assert len(re.findall(r"^\w+ = .*# \[[\d, ]+\]$", "\n".join(BLOCKS), re.MULTILINE)) >= 12


def test_forward_mode_is_refused_as_the_page_says(setting):
    op, current, adjacent = (setting[name] for name in ("temporal_attention", "current", "adjacent"))
    for block_size in (None, 4):
        with pytest.raises(TypeError):
            jax.eval_shape(jax.jacfwd(lambda f: op(f, adjacent, block_size=block_size)), current)


def test_the_default_is_whole_up_to_64_mib():
    def program(frames):
        map_of = lambda *shape: jax.ShapeDtypeStruct((*shape, 8), "float32")
        return str(jax.make_jaxpr(temporal_attention)(map_of(64, 32), map_of(frames, 64, 32)))

    assert "scan" not in program(4) and "scan" in program(5)  # over blocks of rows


def test_every_command_is_one_that_the_tool_takes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from tools.benchmark_attention import Options

    prefix = "python -m tools.benchmark_attention"
    found = re.findall(rf"{prefix}[^`\n]*", PAGE)
    assert len(found) >= 3
    for command in found:
        tyro.cli(Options, args=shlex.split(command.removeprefix(prefix)))
