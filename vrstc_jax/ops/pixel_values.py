"""Pictures to and from the floats that networks take, in JAX; `ops.pictures`, which resizes, needs OpenCV."""

from typing import Any

import jax
import jax.numpy as jnp


def to_float(pictures: Any) -> Any:
    """Pictures of NumPy or JAX, uint8, to float32 in [−1, 1], of the same library."""
    return pictures.astype(jnp.float32) / 127.5 - 1.0


def to_uint8(frames: jax.Array) -> jax.Array:
    """[−1, 1] to uint8, rounded and clipped."""
    return jnp.clip(jnp.round((frames + 1.0) * 127.5), 0, 255).astype(jnp.uint8)
