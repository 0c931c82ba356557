"""Re-ranking with k-reciprocal encoding (Zhong, Zheng, Cao and Li, CVPR 2017).

Two items of one person are among each other's nearest neighbours, and share most of these. Each item (query or
gallery entry) is encoded as a sparse vector of weights over its k-reciprocal neighbours. The distance of two items is a
weighted sum of the distance of their features and the Jaccard distance of their vectors.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csr_array, vstack

from vrstc_jax.evaluation.distances import checked_features, distance_blocks, to_ordinary_size

# These bound memory, not results: 256 rows of n float32, and 4096 feature pairs.
_BLOCK = 256  # items whose distances to all others are held at once
_PAIRS = 4096  # pairs whose features are held at once

_Csr = Any  # `scipy.sparse.csr_array`, for which SciPy has no types


def rerank(query_features: np.ndarray, gallery_features: np.ndarray, *, k1: int = 20, k2: int = 6,
           weight: float = 0.3) -> np.ndarray:
    """Distances after re-ranking, float32 [Q, G] in [0, 1]: sections 3.2 to 3.5 of the paper.

    Details that the paper leaves open follow its authors' Python code (`re_ranking_feature`):
    - The feature distance is the squared Euclidean distance. An item's distances to all queries and gallery entries are
      divided by the largest of them. (The authors' function for given distances squares these again.)
    - An item's k nearest neighbours are computed as k + 1 items, of which the item itself is the first.
    - Each member of an item's k-reciprocal set R is a candidate, with a k-reciprocal set of k1 / 2 neighbours, rounded
      as NumPy rounds (halves to the even number). If more than 2/3 of the candidate's set are in R, all of it is added
      to the item's expanded set. All candidates are compared with the same R.
    - A set's weights are exp(−distance), divided by their sum.
    - An item's vector becomes the mean of those of its k2 nearest, including itself.

    Unlike that code, ties are resolved (equal distances keep the order of the items, queries before gallery, an
    item before its duplicates), and everything is float32, not half precision.

    Memory holds no matrix of all pairs of the n = Q + G items. Distances are computed `_BLOCK` rows at a time (on the
    device, which holds the features) and reduced to neighbours; vectors are sparse. At MARS's size, n = 13,290, one
    matrix of all pairs would be 0.7 GB, and the authors' code holds several; here a block is 14 MB, the result 90 MB.

    Args:
      query_features, gallery_features: [Q, C] and [G, C], real numbers.
      k1: neighbours that are tested for reciprocity.
      k2: neighbours whose vectors are averaged; 1 averages nothing.
      weight: of the feature distance, λ in section 3.5; the Jaccard distance has 1 − λ.

    Raises:
      ValueError: features of unlike lengths or not finite, k1 or k2 below 1, a weight outside [0, 1].
    """
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1:
        raise ValueError(f"k1 and k2 must be at least 1 and the weight in [0, 1]. Got {k1}, {k2} and {weight}.")
    query, gallery = checked_features(query_features, gallery_features)
    if not len(query) or not len(gallery):
        return np.zeros((len(query), len(gallery)), np.float32)
    query, gallery, _ = to_ordinary_size(query, gallery)  # the scale cancels: distances are divided by the largest
    features = np.concatenate([query, gallery])
    result, neighbours, largest = _neighbours(features, queries=len(query), count=max(k1 + 1, k2))
    vectors = _encoded(features, neighbours[:, :k1 + 1], largest, half=round(k1 / 2) + 1)
    if k2 > 1:
        vectors = _averaged(vectors, neighbours[:, :k2])
    result *= weight
    for row, jaccard in enumerate(_jaccard(vectors, queries=len(query))):
        result[row] += (1 - weight) * jaccard
    return np.clip(result, 0, 1, out=result)  # rounding may exceed [0, 1] in the last digit


def _neighbours(features: np.ndarray, *, queries: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes distances and neighbours of n items, float32 [n, C], of which the first Q are queries.

    Returns:
      Squared distances of queries to the gallery, divided by the largest in the query's row, float32 [Q, G]; the
      indices of each item's `count` nearest items (or n, if fewer), itself first, int32 [n, count]; each item's largest
      squared distance, or 1 where all are 0, float32 [n].
    """
    result = np.empty((queries, len(features) - queries), np.float32)
    neighbours = np.empty((len(features), min(count, len(features))), np.int32)
    largest = np.empty(len(features), np.float32)
    for start, squared in distance_blocks(features, features, metric="squared", block=_BLOCK):
        here = slice(start, start + len(squared))
        neighbours[here], farthest = _nearest(squared, start, count=neighbours.shape[1])
        largest[here] = np.where(farthest > 0, farthest, 1)
        if start < queries:
            own = slice(start, min(start + len(squared), queries))  # a block may reach into the gallery
            result[own] = np.asarray(squared)[:own.stop - start, queries:] / largest[own, None]
        del squared  # else the device would hold this block and the next one at once
    return result, neighbours, largest


@partial(jax.jit, static_argnames="count")
def _nearest(squared: jax.Array, start: int, *, count: int) -> tuple[jax.Array, jax.Array]:
    """(the `count` nearest items [block, count], the largest squared distance [block]) of the items from `start`."""
    rows = jnp.arange(len(squared))
    # After rounding, an item may be further from itself than its duplicates are.
    squared = squared.at[rows, start + rows].set(-1)
    return jax.lax.top_k(-squared, count)[1], squared.max(axis=1)  # of equal ones, top_k gives the first


def _encoded(features: np.ndarray, neighbours: np.ndarray, largest: np.ndarray, *, half: int) -> _Csr:
    """The items' vectors, float32 [n, n]: weights over their expanded k-reciprocal sets (sections 3.2, 3.3).

    Args:
      features: [n, C].
      neighbours: [n, k1 + 1], each item's nearest.
      largest: [n], of `_neighbours`.
      half: size of a candidate's neighbourhood, with itself.
    """
    whole, nearer = _reciprocal(neighbours), _reciprocal(neighbours[:, :half])
    blocks = []
    for start in range(0, len(features), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(features)))
        own, entries = np.nonzero(whole[rows])
        candidates = neighbours[rows[own], entries]
        members = np.zeros((len(rows), len(features)), bool)
        members[own, candidates] = True
        reached, valid = neighbours[candidates, :half], nearer[candidates]
        common = (members[own[:, None], reached] & valid).sum(axis=1)
        # More than 2/3, in whole numbers.
        valid &= (3 * common > 2 * valid.sum(axis=1))[:, None]
        members[np.broadcast_to(own[:, None], valid.shape)[valid], reached[valid]] = True
        own, columns = np.divmod(np.flatnonzero(members), len(features))
        weights = np.exp(-_squared(features, rows[own], columns) / largest[rows[own]])
        sums = np.bincount(own, weights, minlength=len(rows))
        blocks.append(_csr((weights / sums[own]).astype(np.float32), (own, columns), members.shape))
    return vstack(blocks, format="csr")


def _reciprocal(neighbours: np.ndarray) -> np.ndarray:
    """Whether item i is among the neighbours of its a-th neighbour, int [n, k] to bool [n, k] (section 3.2)."""
    result = np.empty(neighbours.shape, bool)
    for start in range(0, len(neighbours), _BLOCK):
        here = neighbours[start:start + _BLOCK]
        own = np.arange(start, start + len(here))
        result[start:start + _BLOCK] = (neighbours[here] == own[:, None, None]).any(axis=2)
    return result


def _squared(features: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of pairs of items, int [P] and [P]: float32 [P]."""
    # From differences, not from |a|² + |b|² − 2 a·b, which loses digits for near features.
    result = np.empty(len(first), np.float32)
    for start in range(0, len(first), _PAIRS):
        here = slice(start, start + _PAIRS)
        difference = features[first[here]] - features[second[here]]
        result[here] = np.einsum("pc,pc->p", difference, difference)
    return result


def _csr(values: np.ndarray, where: tuple[np.ndarray, np.ndarray], shape: tuple[int, ...]) -> _Csr:
    """A sparse matrix with these values at (rows, columns)."""
    return csr_array((values, where), shape=shape)


def _averaged(vectors: _Csr, nearest: np.ndarray) -> _Csr:
    """Each item's vector becomes the mean of those of its nearest items, int [n, k2] (section 3.4)."""
    items, k = nearest.shape
    # Sums of a few float32 are exact in float64, in any order.
    ones = _csr(np.ones(nearest.size), (np.repeat(np.arange(items), k), nearest.ravel()), (items, items))
    means = ones @ vectors
    means.sort_indices()  # SciPy leaves a row's columns in any order, and the last digit of later sums depends on it
    means.data = (means.data / k).astype(np.float32)
    return means


def _jaccard(vectors: _Csr, *, queries: int) -> Iterator[np.ndarray]:
    """The Jaccard distances of each query's vector to the gallery's, float64 [G] (section 3.3)."""
    # By columns, so that only items that share an entry with the query are read.
    holders = vectors.T.tocsr()
    for query in range(queries):
        entries = slice(*vectors.indptr[query:query + 2])
        shared = holders[vectors.indices[entries]]
        weights = np.repeat(vectors.data[entries], np.diff(shared.indptr))
        smaller = np.bincount(shared.indices, np.minimum(weights, shared.data), minlength=vectors.shape[0])[queries:]
        # Vectors sum to 1, so that the sum of the larger weights is 2 minus that of the smaller ones.
        yield 1 - smaller / (2 - smaller)
