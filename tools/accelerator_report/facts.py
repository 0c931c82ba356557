"""The device and the versions that a report is about."""

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

import vrstc_jax
from tools.accelerator_report.plan import Size
from tools.machine import describe

# With the plugins by which JAX reaches GPUs and TPUs, where they are installed.
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin",
             "jax-rocm7-plugin", "jax-rocm60-plugin")


def measure(_: Size) -> Iterator[dict[str, Any]]:
    """{'device', 'versions', 'settings'}: equal in two runs exactly if their figures belong together."""
    first = jax.devices()[0]
    about, _why = describe(with_torch=False)
    stats = {} if first.platform == "cpu" else first.memory_stats() or {}
    yield {
        "device": {"kind": first.device_kind, "platform": first.platform, "count": len(jax.devices()),
                   "memory_bytes": stats.get("bytes_limit"), "cpu": about["cpu"], "cores": about["cores"],
                   "runtime": " ".join(first.client.platform_version.split())},
        "versions": {"python": platform.python_version(), "vrstc_jax": vrstc_jax.__version__, "commit": _commit(),
                     **{name: _version(name) for name in _PACKAGES if _version(name)}},
        "settings": {name: value for name, value in sorted(os.environ.items())
                     if name == "XLA_FLAGS" or name.startswith(("XLA_PYTHON", "JAX_", "CUDA_VISIBLE", "LIBTPU_"))
                     and not name.endswith("CACHE_DIR")}}


def _version(package: str) -> str | None:
    """An installed package's version; None where it is not installed or cannot be imported."""
    try:
        if package == "torch" and importlib.util.find_spec(package) is None:
            return None
        return importlib.metadata.version(package)
    except ImportError:  # PackageNotFoundError is one too
        return None


def _commit() -> str | None:
    """The checkout's commit; None outside Git."""
    try:
        done = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=Path(__file__).parent, text=True,
                              capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
