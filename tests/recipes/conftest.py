"""Whole runs of the five steps, for all tests of these."""

import shutil
from pathlib import Path

import pytest
from five_steps_runs import with_stand_ins
from five_steps_stand_ins import compiled_once, trained  # noqa: F401


@pytest.fixture(scope="module")
def done(tmp_path_factory, quick_compilation, compiled_once):
    return with_stand_ins(tmp_path_factory.mktemp("steps") / "work")


@pytest.fixture
def again(done, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(done.work, tmp_path / "work", copy_function=shutil.copy2))
