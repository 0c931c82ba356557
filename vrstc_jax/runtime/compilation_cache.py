"""Storing compiled programs on disk, so that the next start does not compile them again."""

import hashlib
import os
import platform
import tempfile
from contextlib import suppress
from pathlib import Path

import jax


def enable_compilation_cache() -> None:
    """Stores compiled programs in XDG_CACHE_HOME/vrstc_jax (~/.cache/vrstc_jax).

    JAX_COMPILATION_CACHE_DIR sets another directory, and JAX_ENABLE_COMPILATION_CACHE=false switches the cache off.
    Without a writable directory, nothing is stored.
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
    """A name for the processor.

    Machines may share a home directory, and XLA does not always notice that code was compiled for another processor.
    """
    about = [platform.machine(), platform.processor()]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about += sorted({line for line in lines if line.split(":")[0].strip() in ("model name", "flags", "Features")})
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:12]
