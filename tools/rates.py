"""Rates of this machine's device, measured, and the work of a program, as XLA counts it."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def analysis(program: Any) -> dict[str, float]:
    """XLA's cost analysis of a lowered or compiled program: 'flops', 'bytes accessed' and more."""
    found = program.cost_analysis()
    return found[0] if isinstance(found, list) else found


def temporary_bytes(compiled: Any) -> int | None:
    """Bytes that a compiled program needs beside its arguments and results; None where XLA does not say."""
    found = compiled.memory_analysis()
    return found.temp_size_in_bytes if found else None


def matrix_rate(size: int = 1024, dtype: jnp.dtype = jnp.dtype("float32")) -> float:
    """Operations a second of a matrix product, measured here."""
    first = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a, b: a @ b)
    return 2 * size**3 / quickest(lambda: product(first, first))


def copy_rate(count: int = 2**25) -> float:
    """Bytes a second of reading and writing an array, measured here."""
    array = jnp.ones(count)
    add = jax.jit(lambda a: a + 1)
    return 8 * count / quickest(lambda: add(array))


def quickest(call: Callable[[], Any], rounds: int = 5) -> float:
    """Seconds of the quickest of some calls, without the first, which may compile."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return min(times[1:])
