"""The whole test session runs on CPU, as eight devices, in float32."""

import os
import signal
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis
import jax
import pytest

# Before anything asks JAX for its devices, which fixes their number.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_matmul_precision", "float32")
# Compiling is most of the time, and many tests compile the same: what one has compiled the others find, in this
# process, in the others that pytest-xdist starts (they inherit the variable) and in those that tests start.
_COMPILED = tempfile.TemporaryDirectory(prefix="vrstc-compiled-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _COMPILED.name)
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# A shell starts what runs in the background with SIGINT ignored, and so would be what the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same few examples every time: a test that fails does so for whoever runs it.
hypothesis.settings.register_profile("vrstc", max_examples=10, deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("vrstc")


@pytest.fixture(autouse=True)
def released():
    """Lets go of what a test locks in this process: the next may have its folder in the same place."""
    from vrstc_jax.runtime import lock

    with lock.releasing():
        yield


@pytest.fixture(scope="session")
def torch():
    """PyTorch, or a skipped test that says how to get it."""
    module = pytest.importorskip(
        "torch", reason="parity tests compare with PyTorch; get it with: pip install -e '.[parity]'")
    module.set_num_threads(2)
    return module


@pytest.fixture(scope="session")
def twin(torch):
    """The PyTorch twins of the networks, `torch_twin.py`."""
    import torch_twin

    return torch_twin


@pytest.fixture(scope="session")
def weights(torch):
    """Carries weights between Flax and PyTorch, `torch_weights.py`."""
    import torch_weights

    return torch_weights


@pytest.fixture(scope="session")
def eight_devices():
    """Eight devices, or a skipped test."""
    devices = jax.devices()
    if len(devices) < 8:
        pytest.skip(f"needs 8 devices; there are {len(devices)} {devices[0].platform}")
    return devices[:8]


@pytest.fixture(scope="session")
def compiled():
    """Where all processes that tests start keep what they compile, and find it."""
    return os.environ["JAX_COMPILATION_CACHE_DIR"]


@pytest.fixture(scope="session")
def vrstc(compiled):
    """Runs `vrstc` commands in separate processes, `commands.py`. Its start takes seconds: all test files share it."""
    from commands import Commands

    commands = Commands(compiled)
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def server(compiled):
    """Starts trainings by several processes, `training_processes.py`."""
    from training_processes import Server

    server = Server(compiled)
    yield server
    server.close()


@pytest.fixture(scope="module")
def quick_compilation():
    """Compiles without LLVM's optimisation, which for small shapes is most of a test's time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def full_compilation():
    """Compiles as users do, within a module that uses `quick_compilation`."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
