"""From similarities of patches to attention weights and back, for all of a current frame's positions or some of them.

Shapes: similarity, weights and their gradients are [P, Q], for P positions of the current frame and all Q of the
adjacent frames. An inner product is multiplied by `factor` [P] and `adjacent_factor` [Q]: the inverse norms of the two
patches, the first times the softmax scale. `allowed`, bool [Q] or None, says which positions may be attended to.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vrstc_jax.attention.xla_cpu import materialised, unfused

# As `jax.lax.dot_general` takes it.
Precision = str | jax.lax.Precision | None


class Maps(NamedTuple):
    """What the op is computed from, in the shapes of maps."""

    current: jax.Array  # [H, W, C]
    adjacent: jax.Array  # [T, H', W', C]
    carried: jax.Array  # [T, H', W', D]
    factor: jax.Array  # [H, W]
    adjacent_factor: jax.Array  # [T, H', W']
    allowed: jax.Array | None  # [T, H', W']

    def flat(self) -> "Maps":
        """The same with positions in one axis."""
        current, adjacent, carried = (x.reshape(-1, x.shape[-1]) for x in self[:3])
        return Maps(current, adjacent, carried, self.factor.reshape(-1), self.adjacent_factor.reshape(-1),
                    None if self.allowed is None else self.allowed.reshape(-1))

    def varying_alike(self) -> "Maps":
        """The same; under `shard_map`, each varying over the mesh axes that any of them varies over.

        JAX does so before its own operations, but not before a custom VJP or a scan. Without it, the gradient by an
        array that devices share would not be the sum of theirs.
        """
        axes = {name: jax.typeof(x).manual_axis_type.varying
                for name, x in self._asdict().items() if x is not None}
        every = frozenset().union(*axes.values())
        return self._replace(**{name: jax.lax.pcast(getattr(self, name), tuple(every - own), to="varying")
                                for name, own in axes.items()})

    def like(self, *gradients: jax.Array) -> "Maps":
        """Gradients of all but `allowed`, in these maps' shapes and types."""
        like = [g.reshape(x.shape).astype(x.dtype) for g, x in zip(gradients, self[:5])]
        return Maps(*like, allowed=None)


def sum_type(dtype: np.dtype) -> np.dtype:
    """The type of sums over numbers of a type: float32 at least."""
    # NumPy's rule, because JAX's raises under jax_numpy_dtype_promotion="strict".
    return np.promote_types(dtype, np.float32)


def product(equation: str, left: jax.Array, right: jax.Array, precision: Precision) -> jax.Array:
    """A matrix product, summed in float32 at least.

    The operands have the type of `right`, except that float16 becomes float32: small weights and gradients would
    underflow in it.
    """
    total = sum_type(right.dtype)
    narrow = total if right.dtype == jnp.float16 else right.dtype
    return jnp.einsum(equation, left.astype(narrow), right.astype(narrow), precision=precision,
                      preferred_element_type=total)


def softmax(similarity: jax.Array, factor: jax.Array, adjacent_factor: jax.Array,
            allowed: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """The weights, and the logarithm of each row's total [P]. With no position allowed, all weights are 0."""
    logits = _logits(similarity, factor, adjacent_factor, allowed)
    highest = jnp.max(logits, 1)
    weights = _only(allowed, unfused(jnp.exp(logits - highest[:, None])))
    total = jnp.sum(weights, 1)
    total = total if allowed is None else jnp.where(total > 0, total, 1)
    return weights * (1 / total)[:, None], highest + jnp.log(total)


def softmax_again(similarity: jax.Array, factor: jax.Array, adjacent_factor: jax.Array, allowed: jax.Array | None,
                  log_total: jax.Array) -> jax.Array:
    """The weights, from the logarithms of the totals that `softmax` returned."""
    return _only(allowed, jnp.exp(_logits(similarity, factor, adjacent_factor, allowed) - log_total[:, None]))


def softmax_gradients(weights: jax.Array, log_total: jax.Array, gradient: jax.Array, factor: jax.Array,
                      adjacent_factor: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The backward pass of `softmax`: from the weights' gradient to those by the similarity [P, Q], `factor` [P] and
    `adjacent_factor` [Q].

    The logits are recovered from the logarithms of the weights. A weight that underflows to 0 has no logarithm, but
    what its logit is multiplied by is then 0 too. The gradient by a factor of 0 is taken as 0.
    """
    weighted = materialised(weights * gradient)
    gradient = unfused(weighted - weights * jnp.sum(weighted, 1)[:, None])
    logits = jnp.log(jnp.where(weights > 0, weights, 1)) + log_total[:, None]
    scaled = unfused(gradient * jnp.where(weights > 0, logits, 0))
    return (materialised(gradient * factor[:, None] * adjacent_factor[None]), _divided(jnp.sum(scaled, 1), factor),
            _divided(jnp.sum(scaled, 0), adjacent_factor))


def _divided(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(y != 0, x / jnp.where(y != 0, y, 1), 0)


def _logits(similarity: jax.Array, factor: jax.Array, adjacent_factor: jax.Array,
            allowed: jax.Array | None) -> jax.Array:
    logits = materialised(similarity * factor[:, None] * adjacent_factor[None])
    # Not −∞: a row without an allowed position would be NaN in the softmax, and so in its gradient.
    return logits if allowed is None else jnp.where(allowed[None], logits, jnp.finfo(logits.dtype).min)


def _only(allowed: jax.Array | None, weights: jax.Array) -> jax.Array:
    return weights if allowed is None else jnp.where(allowed[None], weights, 0)
