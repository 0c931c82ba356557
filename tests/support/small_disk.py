"""A small file system, which tests fill."""

import subprocess

import pytest


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a megabyte, and a function that makes it larger."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
    yield place, lambda: subprocess.run(["mount", "-o", "remount,size=16m", place], check=True)
    subprocess.run(["umount", "--lazy", place], check=True)
