"""From similarities of patches to weights and back, for all of a current frame's positions or some of them.

Shapes: similarity, weights and their gradients [P, Q], for P positions of the current frame and all Q of the
adjacent ones; `here` [P] and `there` [Q] are what inner products are multiplied by at each end, the inverse
norms of the patches and, in `here`, the softmax scale; usable bool [Q] or None.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vrstc_jax.attention.cpu import apart, kept


class Maps(NamedTuple):
    """What the op is computed from; `here`, `there` and `usable` as maps."""

    current: jax.Array  # [H, W, C]
    adjacent: jax.Array  # [T, H', W', C]
    carried: jax.Array  # [T, H', W', D]
    here: jax.Array  # [H, W]
    there: jax.Array  # [T, H', W']
    usable: jax.Array | None  # [T, H', W']

    def flat(self):
        """The same with positions in one axis."""
        return Maps(*(None if x is None else x.reshape(-1, *x.shape[axes:])
                      for x, axes in zip(self, (2, 3, 3, 2, 3, 3))))

    def varying_alike(self):
        """The same; under `shard_map`, each varying over the mesh axes that any of them varies over.

        JAX does so before its own operations. A custom VJP and a scan it leaves alone, and a gradient of what
        devices share is then not their sum.
        """
        axes = {name: jax.typeof(x).manual_axis_type.varying
                for name, x in self._asdict().items() if x is not None}
        every = frozenset().union(*axes.values())
        return self._replace(**{name: jax.lax.pcast(getattr(self, name), tuple(every - own), to="varying")
                                for name, own in axes.items()})

    def like(self, *gradients):
        """Gradients of all but `usable`, in these maps' shapes and types."""
        return Maps(*(g.reshape(x.shape).astype(x.dtype) for g, x in zip(gradients, self)), None)


def product(equation, left, right, precision):
    """A matrix product with sums in float32 at least. Operands stay as narrow as `right` is, but for
    float16, in whose range small weights and gradients would be lost."""
    total = jnp.promote_types(right.dtype, jnp.float32)
    narrow = total if right.dtype == jnp.float16 else right.dtype
    return jnp.einsum(equation, left.astype(narrow), right.astype(narrow), precision=precision,
                      preferred_element_type=total)


def softmax(similarity, here, there, usable):
    """(weights, log of each row's total [P]). Rows without a usable position have weights of 0."""
    logits = _logits(similarity, here, there, usable)
    highest = jnp.max(logits, 1)
    weights = _only(usable, apart(jnp.exp(logits - highest[:, None])))
    total = jnp.sum(weights, 1)
    total = total if usable is None else jnp.where(total > 0, total, 1)
    return weights * (1 / total)[:, None], highest + jnp.log(total)


def softmax_again(similarity, here, there, usable, log_total):
    """The weights, from what `softmax` found the logarithms of the totals to be."""
    return _only(usable, jnp.exp(_logits(similarity, here, there, usable) - log_total[:, None]))


def through_softmax(weights, log_total, gradient, here, there):
    """From the weights' gradient to (similarity's [P, Q], here's [P], there's [Q]).

    The logits come back from the weights' logarithms. Where a weight is 0 in the number format, so is
    whatever its logit is multiplied by. An end that multiplies by 0 gets a gradient of 0.
    """
    weighted = kept(weights * gradient)
    gradient = apart(weighted - weights * jnp.sum(weighted, 1)[:, None])
    logits = jnp.log(jnp.where(weights > 0, weights, 1)) + log_total[:, None]
    scaled = apart(gradient * jnp.where(weights > 0, logits, 0))
    return (kept(gradient * here[:, None] * there), _divided(jnp.sum(scaled, 1), here),
            _divided(jnp.sum(scaled, 0), there))


def _divided(x, y):
    return jnp.where(y != 0, x / jnp.where(y != 0, y, 1), 0)


def _logits(similarity, here, there, usable):
    logits = kept(similarity * here[:, None] * there)
    return logits if usable is None else jnp.where(usable, logits, jnp.finfo(logits.dtype).min)


def _only(usable, weights):
    return weights if usable is None else jnp.where(usable, weights, 0)
