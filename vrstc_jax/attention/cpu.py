"""No-ops that make XLA for CPU compile sums over patches well; they change no value.

XLA for CPU hands reductions and matrix products, together with the elementwise work before them, to a library that does
that work more slowly and stores each of several terms. It also recomputes the input of a sum over patches for each of
its nine terms. On other devices these functions are the identity.
"""

import jax
import jax.numpy as jnp


def apart(x: jax.Array) -> jax.Array:
    """x, computed outside of the reduction or product that uses it."""
    largest = jnp.finfo(x.dtype).max
    # The library takes no clamps, so XLA computes x itself.
    return jax.lax.platform_dependent(
        x, cpu=lambda x: jax.lax.clamp(jnp.array(-largest, x.dtype), x, jnp.array(largest, x.dtype)),
        default=lambda x: x)


def kept(x: jax.Array) -> jax.Array:
    """x [P, Q], computed once and stored, however often it is used."""
    def through_a_reduction(x: jax.Array) -> jax.Array:
        # Adds 0·sum(x): a no-op that stops XLA for CPU from recomputing x for each term, because the sum goes through
        # the library, whose inputs are stored.
        return x - 0 * jnp.sum(x, 1, keepdims=True)

    return jax.lax.platform_dependent(apart(x), cpu=through_a_reduction, default=lambda x: x)
