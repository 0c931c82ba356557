"""The tools lock their outputs: a second process is refused before it measures anything."""

import fcntl
import os
from contextlib import contextmanager

import pytest
from refusals import refused

from tools import benchmark_attention, benchmark_evaluation, benchmark_training, import_resnet50, plan_scaling
from tools.accelerator_report import plan, run


@contextmanager
def in_use(path):
    """As if another process had the lock of an output, a folder or a file: another opening of what it locks."""
    if path.suffix:
        file = path.with_name(f".{path.name}.lock")
        file.touch()
    else:
        file = path
        file.mkdir()
    descriptor = os.open(file, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield
    os.close(descriptor)


@pytest.mark.parametrize("name, start", [
    ("out", lambda path: benchmark_attention.run(benchmark_attention.Options(output=path))),
    ("out.json", lambda path: benchmark_evaluation.run(benchmark_evaluation.Options(output=path))),
    ("out.json", lambda path: benchmark_training.main(benchmark_training.Options(json=path))),
    ("out.json", lambda path: plan_scaling.main(plan_scaling.Arguments(output=path))),
    ("out.safetensors", lambda path: import_resnet50.run(import_resnet50.Options(path.with_name("none.pth"), path))),
    ("out", lambda path: run.run(plan.Options(output=path)))])
def test_refused(tmp_path, name, start):
    with in_use(tmp_path / name), refused(f"{tmp_path / name}: another process is writing here"):
        start(tmp_path / name)
