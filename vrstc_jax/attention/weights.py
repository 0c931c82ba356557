"""The softmax from similarities of patches to weights, and its backward pass, for all positions or a block of rows.

Shapes: similarity, weights and their gradients are [P, Q], for P positions of the current frame and all Q of the
adjacent frames. `here` [P] and `there` [Q] are the factors of inner products: the inverse norms of the patches and, in
`here`, the softmax scale. `usable` is bool [Q] or None.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vrstc_jax.attention.cpu import apart, kept


class Maps(NamedTuple):
    """The op's inputs; `here`, `there` and `usable` have the shapes of maps."""

    current: jax.Array  # [H, W, C]
    adjacent: jax.Array  # [T, H', W', C]
    carried: jax.Array  # [T, H', W', D]
    here: jax.Array  # [H, W]
    there: jax.Array  # [T, H', W']
    usable: jax.Array | None  # [T, H', W']

    def flat(self) -> "Maps":
        """These maps with positions in one axis."""
        return Maps._make(None if x is None else x.reshape(-1, *x.shape[axes:])
                          for x, axes in zip(self, (2, 3, 3, 2, 3, 3)))

    def varying_alike(self) -> "Maps":
        """These maps; under `shard_map`, each varies over all mesh axes that any of them varies over."""
        # JAX does this before its own operations, but not before a custom VJP or a scan. The gradient of an array that
        # devices share would then not be summed over them.
        axes = {name: jax.typeof(x).manual_axis_type.varying for name, x in self._asdict().items() if x is not None}
        every = frozenset().union(*axes.values())
        return self._replace(**{name: jax.lax.pcast(getattr(self, name), tuple(every - own), to="varying")
                                for name, own in axes.items()})

    def like(self, *gradients: jax.Array) -> "Maps":
        """Gradients of all maps but `usable`, in the maps' shapes and types."""
        shaped = [g.reshape(x.shape).astype(x.dtype) for g, x in zip(gradients, self) if x is not None]
        return Maps._make([*shaped, None])


def product(equation: str, left: jax.Array, right: jax.Array, precision: jax.lax.PrecisionLike) -> jax.Array:
    """A matrix product in the type of `right`, with sums in float32 at least."""
    total = jnp.promote_types(right.dtype, jnp.float32)
    # float16 becomes float32: its range would lose small weights and gradients.
    narrow = total if right.dtype == jnp.float16 else right.dtype
    return jnp.einsum(equation, left.astype(narrow), right.astype(narrow), precision=precision,
                      preferred_element_type=total)


def softmax(similarity: jax.Array, here: jax.Array, there: jax.Array,
            usable: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """(weights, log of each row's total [P]). Rows without a usable position have weights of 0."""
    logits = _logits(similarity, here, there, usable)
    highest = jnp.max(logits, 1)  # subtracted, so that no exponential overflows
    weights = _only(usable, apart(jnp.exp(logits - highest[:, None])))
    total = jnp.sum(weights, 1)
    total = total if usable is None else jnp.where(total > 0, total, 1)
    return weights * (1 / total)[:, None], highest + jnp.log(total)


def softmax_again(similarity: jax.Array, here: jax.Array, there: jax.Array, usable: jax.Array | None,
                  log_total: jax.Array) -> jax.Array:
    """The weights of `softmax`, from the logarithms of the totals that it returned."""
    return _only(usable, jnp.exp(_logits(similarity, here, there, usable) - log_total[:, None]))


def through_softmax(weights: jax.Array, log_total: jax.Array, gradient: jax.Array, here: jax.Array,
                    there: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The backward pass: from the gradient of the weights to those of similarity [P, Q], `here` [P] and `there` [Q].

    Where a factor is 0, its gradient is taken as 0.
    """
    weighted = kept(weights * gradient)
    gradient = apart(weighted - weights * jnp.sum(weighted, 1)[:, None])
    # Logits come back from the logarithms of the weights, so that the forward pass need not store them. Where a weight
    # has underflowed to 0, so has the gradient that its logit is multiplied by.
    logits = jnp.log(jnp.where(weights > 0, weights, 1)) + log_total[:, None]
    scaled = apart(gradient * jnp.where(weights > 0, logits, 0))
    return (kept(gradient * here[:, None] * there), _divided(jnp.sum(scaled, 1), here),
            _divided(jnp.sum(scaled, 0), there))


def _divided(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(y != 0, x / jnp.where(y != 0, y, 1), 0)


def _logits(similarity: jax.Array, here: jax.Array, there: jax.Array, usable: jax.Array | None) -> jax.Array:
    logits = kept(similarity * here[:, None] * there)
    return logits if usable is None else jnp.where(usable, logits, jnp.finfo(logits.dtype).min)


def _only(usable: jax.Array | None, weights: jax.Array) -> jax.Array:
    return weights if usable is None else jnp.where(usable, weights, 0)
