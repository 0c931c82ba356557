"""The machine that a benchmark runs on, as the benchmark's files record it."""

import os
import platform
from pathlib import Path
from typing import Any

import jax


def describe(with_torch: bool) -> tuple[dict[str, Any], str | None]:
    """(device, CPU, load and versions for the JSON file; why PyTorch is left out, or None if it is not)."""
    first = jax.devices()[0]
    about = {"device": first.device_kind, "platform": first.platform, "cpu": _cpu_model(),
             "cores": os.cpu_count(), "load_average": load_average() or 0,
             "python": platform.python_version(), "jax": jax.__version__, "torch": None}
    if not with_torch:
        return about, "not asked for"
    try:
        import torch
    except ImportError:
        return about, "not installed"
    # Times compare only on the same device: PyTorch without CUDA would run on the CPU beside a GPU.
    if first.platform != "cpu" and not (first.platform == "gpu" and torch.cuda.is_available()):
        return about, "has no device like JAX's"
    about |= {"torch": torch.__version__, "torch_threads": torch.get_num_threads(),
              "torch_device": "cpu" if first.platform == "cpu" else torch.cuda.get_device_name()}
    return about, None


def load_average() -> float | None:
    """The number of running processes over the last minute; None if the system does not count them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def warn_if_busy(about: dict[str, Any]) -> None:
    """Prints a warning if other programs take more than a quarter of the cores."""
    # PyTorch's threads wait for each other, so one busy core slows all of them.
    if about["load_average"] > about["cores"] / 4:
        print(f"Other programs are running (load average {about['load_average']:.1f}): times are unreliable, "
              "PyTorch's most of all.")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a CPU that Linux does not name
        return platform.processor() or platform.machine()
