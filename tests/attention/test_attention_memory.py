"""What temporal attention holds in memory, read off programs that are compiled, or only traced, and not run.

The bounds are the project's own, in megabytes, for XLA on CPU. It plans the same buffers whether or not it
optimises the code, so these compile quickly too.
"""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from attention_programs import compiled_quickly, op_and_gradients, operations

pytestmark = pytest.mark.usefixtures("quick_compilation")
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices plan other buffers")


def shapes(current, adjacent):
    """Arguments of `op_and_gradients`, without values."""
    current, adjacent = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (current, adjacent))
    return {"current": current, "adjacent": adjacent}, current


def temporaries(function, *arguments):
    """In megabytes."""
    return compiled_quickly(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes / 1e6


@on_cpu
def test_a_batch_takes_at_most_48_megabytes():
    batch = shapes((8, 32, 16, 256), (8, 32, 16, 256))
    assert 8 < temporaries(jax.vmap(op_and_gradients), *batch) <= 48  # the pairs alone, once, are 8


@on_cpu
def test_blocks_take_at_most_160_megabytes_and_grow_linearly_in_frames():
    def of(frames, block=2):
        return temporaries(partial(op_and_gradients, block=block), *shapes((64, 32, 256), (frames, 64, 32, 256)))

    two, four, eight = of(2), of(4), of(8)
    assert eight <= 160
    assert (eight - four) / (four - two) == pytest.approx(2, rel=0.1)
    assert of(8, None) <= 160, "without a block size, one is chosen"


@pytest.mark.parametrize("size", [1, 3, 5])
def test_blocks_never_hold_all_pairs(size):
    arguments = shapes((32, 8, 4), (3, 16, 8, 4))
    pairs = (32 * 8) * (3 * 16 * 8)

    def largest(block):
        program = operations(partial(op_and_gradients, size=size, block=block), *arguments)
        return max(array.aval.size for operation in program for array in operation.outvars)

    assert largest(None) == pairs
    # A block with the rows before it, which the sum over patches goes through.
    assert largest(2) == pairs * (2 + size - 1) // 32
