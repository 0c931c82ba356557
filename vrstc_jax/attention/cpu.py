"""What XLA for CPU has to be told to compile sums over patches well; the values are not changed.

It hands reductions and matrix products, together with the elementwise work before them, to a library that
does that work slower and holds each of several terms; and it makes again, for each of the nine terms of a sum
over patches, what the terms are made from. On other devices these functions do nothing.
"""

import jax
import jax.numpy as jnp


def apart(x):
    """x, made outside of the reduction or product that it goes into."""
    largest = jnp.finfo(x.dtype).max
    # A clamp is no work that the library takes.
    return jax.lax.platform_dependent(
        x, cpu=lambda x: jax.lax.clamp(jnp.array(-largest, x.dtype), x, jnp.array(largest, x.dtype)),
        default=lambda x: x)


def kept(x):
    """x [P, Q], made once and kept, however often it is used."""
    def through_a_reduction(x):
        # What the library reads and writes is kept. Adding nothing, it must seem to add something.
        return x - 0 * jnp.sum(x, 1, keepdims=True)

    return jax.lax.platform_dependent(apart(x), cpu=through_a_reduction, default=lambda x: x)
