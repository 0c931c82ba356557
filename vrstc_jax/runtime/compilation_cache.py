"""Keeping what JAX compiles for the next start."""

import hashlib
import os
import platform
import tempfile
from contextlib import suppress
from pathlib import Path

import jax


def enable_compilation_cache() -> None:
    """Keeps compiled programs in XDG_CACHE_HOME/vrstc_jax (~/.cache/vrstc_jax).

    JAX_COMPILATION_CACHE_DIR names another directory, and JAX_ENABLE_COMPILATION_CACHE=false switches it off. Where
    nothing can be written, nothing is kept.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] or not settings["jax_enable_compilation_cache"]:
        return
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vrstc_jax/compiled" / _processor()
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as probe:
            probe.write(b"x")
    except (OSError, RuntimeError):  # RuntimeError: there is no home directory
        return
    jax.config.update("jax_compilation_cache_dir", str(cache))


def _processor() -> str:
    """A name for the processor: homes are shared between machines, and XLA does not always notice that code compiled
    for one does not run on another."""
    about = [platform.machine(), platform.processor()]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about += sorted({line for line in lines if line.split(":")[0].strip() in ("model name", "flags", "Features")})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:12]
