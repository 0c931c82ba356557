"""The tool that measures memory: its inputs are what it says, and a process above the limit is not passed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from refusals import refused

from tools import memory_tally
from vrstc_jax.data.inputs.sources import open_source

REPOSITORY = Path(__file__).parents[2]


def test_inputs(tmp_path):
    found = {}
    for name, write in memory_tally._INPUTS.items():
        (tmp_path / name).mkdir()
        words = write(tmp_path / name, 0.002 if name != "video" else 0.03)
        boxes = tmp_path / name / words[2] if "--boxes" in words else None
        found[name] = open_source(tmp_path / name / words[0], boxes=boxes, spool=tmp_path / name / "spool")
        assert not found[name].all_warnings()
    assert {name: (len(source.tracklets), {len(t) for t in source.tracklets}) for name, source in found.items()} == {
        "long": (1, {40}), "video": (200, {3}), "many": (6, {6})}
    shown = [source.tracklets[-1].frames[1] for source in found.values()]
    assert all(frame.shape == (64, 32, 3) and frame.std() > 10 for frame in shown)
    one, other = (found["many"].tracklets[who].frames[0] for who in (0, 1))
    assert np.abs(one.astype(int) - other).max() > 30


def test_unknown_input():
    with refused("--inputs none", "long, video, many"):
        memory_tally.main(memory_tally.Arguments(inputs=("none",)))


@pytest.mark.slow
def test_the_limit(tmp_path):
    def tally(*words):
        # In a process of its own: a process starts with the size of the one that forked it, here of all tests so far.
        return subprocess.run([sys.executable, "-m", "tools.memory_tally", "--inputs", "many", "--share", "0.001",
                               "--workdir", tmp_path, *words],
                              cwd=REPOSITORY, capture_output=True, text=True, check=False)

    below, above = tally(), tally("--megabytes", "100")
    assert (below.returncode, above.returncode) == (0, 1)
    assert (tmp_path / "many/done/report.html").exists() and " MB, " in below.stdout
