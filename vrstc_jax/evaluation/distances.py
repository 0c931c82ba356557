"""Computes distances between the features of queries and of the gallery, by matrix products on the device."""

from collections.abc import Iterator
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

Metric = Literal["cosine", "euclidean", "squared"]
_ORDINARY = 30  # features with a largest value within 2^±30: sums of millions of squares are far from float32's limits


def distances(query_features: np.ndarray, gallery_features: np.ndarray, *,
              metric: Literal["cosine", "euclidean"] = "cosine", block: int = 512) -> np.ndarray:
    """Distances between all queries and all gallery entries, float32 [Q, G].

    The host holds the matrix; the device holds the features, in float32, and the distances of `block` queries at a
    time. Products have the device's highest precision. Euclidean distances are computed as |q|² + |g|² − 2 q·g: between
    features of length l, their error is at most about 1e-3 l, and largest for nearly equal features.

    Args:
      query_features, gallery_features: [Q, C] and [G, C], real numbers.
      metric: "cosine", 1 − cos in [0, 2], as the paper tests (section 4.1); a feature of length zero is at
        distance 1 from everything. Or "euclidean".
      block: queries whose distances the device computes at once, at least 1.

    Raises:
      ValueError: features of different lengths, or not finite; an unknown metric; a block below 1.
    """
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric must be 'cosine' or 'euclidean'. Got {metric!r}.")
    query, gallery = checked_features(query_features, gallery_features)
    exponent = 0
    if metric == "euclidean":
        query, gallery, exponent = to_ordinary_size(query, gallery)
    result = np.empty((len(query), len(gallery)), np.float32)
    for start, rows in distance_blocks(query, gallery, metric=metric, block=block):
        result[start:start + len(rows)] = rows
        del rows  # otherwise the device would hold this block and the next one at once
    return np.ldexp(result, exponent, out=result) if exponent else result


def distance_blocks(query: np.ndarray, gallery: np.ndarray, *, metric: Metric,
                    block: int) -> Iterator[tuple[int, jax.Array]]:
    """Yields (index of the first query, distances [block, G] of it and the queries after it), on the device.

    All blocks have one size, so that the device compiles once: the last block overlaps the one before it. Fewer queries
    than `block` are one smaller block.

    Args:
      query, gallery: [Q, C] and [G, C], of `checked_features`.
      metric: as of `distances`, or "squared", the squared Euclidean distance.

    Raises:
      ValueError: a block below 1.
    """
    if block < 1:
        raise ValueError(f"block must be at least 1 query. Got {block}.")
    if not len(query):
        return
    block = min(block, len(query))
    gallery, sizes = _prepared(jnp.asarray(gallery), metric=metric)
    for start in range(0, len(query), block):
        start = min(start, len(query) - block)
        yield start, _block(jnp.asarray(query[start:start + block]), gallery, sizes, metric=metric)


def checked_features(query: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Checks features and converts them to float32 [Q, C] and [G, C] on the host.

    Raises:
      ValueError: they are not real numbers, not finite in float32, or not of one length C.
    """
    query, gallery = np.asarray(query), np.asarray(gallery)
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1] or not query.shape[1]:
        raise ValueError("features must be [queries, C] and [gallery, C], of one length C. "
                         f"Got {list(query.shape)} and {list(gallery.shape)}.")
    checked = []
    for name, features in (("query", query), ("gallery", gallery)):
        # JAX's test of the type: NumPy does not count bfloat16 as floating point.
        if not jnp.issubdtype(features.dtype, jnp.floating) and features.dtype.kind not in "iu":
            raise ValueError(f"{name} features must be real numbers. Got {features.dtype}.")
        with np.errstate(over="ignore"):  # infinities are refused below
            features = features.astype(np.float32, copy=False)
        finite = np.asarray(np.isfinite(features).all(axis=1))
        if not finite.all():
            raise ValueError(f"{name} features must be finite in float32. Got others in {(~finite).sum()} of "
                             f"{len(finite)}, first in number {np.argmin(finite)} (from 0).")
        checked.append(features)
    return checked[0], checked[1]


def to_ordinary_size(query: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """(query / 2^e, gallery / 2^e, e), so that squares of the values fit into float32; e is 0 where they fit anyway."""
    # A power of two, so that no value is rounded. Without np.abs, which would copy all features.
    largest = max(float(max(features.max(initial=0), -features.min(initial=0))) for features in (query, gallery))
    exponent = int(np.frexp(largest)[1]) if largest else 0
    if abs(exponent) <= _ORDINARY:
        return query, gallery, 0
    return np.ldexp(query, -exponent), np.ldexp(gallery, -exponent), exponent


@partial(jax.jit, static_argnames="metric")
def _prepared(features: jax.Array, *, metric: Metric) -> tuple[jax.Array, jax.Array]:
    """Features [n, C], scaled to length 1 (or 0) for the cosine, and their squared lengths [n]."""
    if metric == "cosine":
        # Divides by the largest value first: squares of tiny or huge values would leave float32.
        features = features / _or_one(jnp.abs(features).max(axis=1, keepdims=True))
        features = features / _or_one(jnp.linalg.norm(features, axis=1, keepdims=True))
    return features, jnp.square(features).sum(axis=1)


@partial(jax.jit, static_argnames="metric")
def _block(query: jax.Array, gallery: jax.Array, gallery_sizes: jax.Array, *, metric: Metric) -> jax.Array:
    query, query_sizes = _prepared(query, metric=metric)
    # The default precision of TPUs and of some GPUs rounds to bfloat16 or TF32, which would change rankings.
    products = jnp.matmul(query, gallery.T, precision=jax.lax.Precision.HIGHEST)
    if metric == "cosine":
        return jnp.maximum(1 - products, 0)
    # Rounding may make equal features' difference negative.
    squared = jnp.maximum(query_sizes[:, None] + gallery_sizes - 2 * products, 0)
    return squared if metric == "squared" else jnp.sqrt(squared)


def _or_one(lengths: jax.Array) -> jax.Array:
    return jnp.where(lengths > 0, lengths, 1)
