"""Hints that make XLA for CPU compile sums over patches well. They change no value, and do nothing on other devices.

XLA for CPU gives reductions and matrix products, together with the elementwise work before them, to a library that
does the elementwise work slower and keeps each of several terms in memory. And it fuses the computation of an array
into each of its uses, so that it would compute the terms of a sum over nine shifts nine times.
"""

import jax
import jax.numpy as jnp


def unfused(x: jax.Array) -> jax.Array:
    """x, computed before the reduction or matrix product that takes it, and not by the library as part of that."""
    largest = jnp.finfo(x.dtype).max
    # A clamp to the type's own range changes nothing, and the library does not take clamps.
    return jax.lax.platform_dependent(
        x, cpu=lambda x: jax.lax.clamp(jnp.array(-largest, x.dtype), x, jnp.array(largest, x.dtype)),
        default=lambda x: x)


def materialised(x: jax.Array) -> jax.Array:
    """x [P, Q], computed once and held in memory, however often it is used."""
    def through_a_reduction(x):
        # Adds 0·sum(x): a no-op that stops XLA for CPU from recomputing x for each use, because what the library
        # reads and writes is held in memory.
        return x - 0 * jnp.sum(x, 1, keepdims=True)

    return jax.lax.platform_dependent(unfused(x), cpu=through_a_reduction, default=lambda x: x)
