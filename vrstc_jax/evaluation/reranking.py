"""Re-ranking with k-reciprocal encoding (Zhong, Zheng, Cao and Li, CVPR 2017).

Two items that belong together have each other among their nearest neighbours, and share the rest of them.
Each item, query or gallery, is encoded as a sparse vector of weights over its k-reciprocal neighbours, and
the distance of two items is mixed from that of their features and the Jaccard distance of their vectors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vrstc_jax.evaluation.distances import checked_features, distance_blocks, to_ordinary_size

_BLOCK = 256  # items whose distances to all others are held at once, as float32
_SUMS = 64  # items whose vectors are held at once with their zeros, as float64, twice
_PAIRS = 4096  # pairs whose features are held at once


def rerank(query_features: np.ndarray, gallery_features: np.ndarray, *, k1: int = 20, k2: int = 6,
           weight: float = 0.3) -> np.ndarray:
    """Distances after re-ranking, float32 [Q, G] in [0, 1]: sections 3.2 to 3.5 of the paper.

    What its authors' Python code (`re_ranking_feature`) settles beyond it is kept:
    - The feature distance is Euclidean, squared once, and divided by the largest in its item's row, over
      queries and gallery together. (Handing squared distances to its sister, which squares what it is given,
      squares them twice.)
    - The k nearest neighbours of an item are k + 1: itself comes first.
    - Every member of an item's k-reciprocal set is a candidate, with a set of its own made from k1 / 2
      neighbours, rounded as NumPy does, halves to the even number, and itself. Where more than 2/3
      of the candidate's set are in the item's, as it was before it grew, all of it joins.
    - A set's weights are exp(−distance), divided by their sum.
    - An item's vector becomes the mean of those of its k2 nearest, itself one of them.

    Where that code is left to chance or to half precision, this one is not: equal distances keep the order in
    which items came, queries before gallery, an item before all its duplicates; and everything is float32.

    No matrix of all pairs of the n = Q + G items is made. Distances are computed `_BLOCK` rows at a time
    (on the device, which holds the features) and reduced to neighbours; vectors are sparse. At MARS's size,
    n = 13,290, one matrix of all pairs would be 0.7 GB, and the authors' code holds several; here a block is
    14 MB, the result 90 MB.

    Args:
      query_features, gallery_features: [Q, C] and [G, C], real numbers.
      k1: neighbours that are looked at for reciprocity.
      k2: neighbours whose vectors are averaged; with 1 they stay as they are.
      weight: of the feature distance, λ in section 3.5; the Jaccard distance has the rest.

    Raises:
      ValueError: features of unlike lengths or not finite, k1 or k2 below 1, a weight outside [0, 1].
    """
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1:
        raise ValueError("k1 and k2 must be at least 1 and the weight in [0, 1]. "
                         f"Got {k1}, {k2} and {weight}.")
    query, gallery = checked_features(query_features, gallery_features)
    if not len(query) or not len(gallery):
        return np.zeros((len(query), len(gallery)), np.float32)
    query, gallery, _ = to_ordinary_size(query, gallery)  # distances are relative to an item's largest
    features = np.concatenate([query, gallery])
    result, neighbours, largest = _neighbours(features, queries=len(query), count=max(k1 + 1, k2))
    vectors = _encoded(features, neighbours[:, :k1 + 1], largest, half=round(k1 / 2) + 1)
    vectors = _averaged(vectors, neighbours[:, :k2])
    result *= weight
    for row, jaccard in enumerate(_jaccard(vectors, queries=len(query))):
        result[row] += (1 - weight) * jaccard
    return np.clip(result, 0, 1, out=result)  # rounding may leave [0, 1] by its last digit


@dataclass(frozen=True)
class _Sparse:
    """A sparse matrix by rows: row i has `values` at `columns`, both from starts[i] to starts[i + 1]."""

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    @classmethod
    def from_blocks(cls, blocks) -> "_Sparse":
        """From (values per row, columns, values) of consecutive rows."""
        counts, columns, values = (np.concatenate(parts) for parts in zip(*blocks))
        return cls(np.concatenate([[0], np.cumsum(counts)]), columns, values)

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(index into `rows`, column, value) of all that these rows hold, one row after another."""
        counts = self.starts[rows + 1] - self.starts[rows]
        ends = np.cumsum(counts)
        places = np.arange(counts.sum()) + np.repeat(self.starts[rows] - (ends - counts), counts)
        return np.repeat(np.arange(len(rows)), counts), self.columns[places], self.values[places]

    def transposed(self) -> "_Sparse":
        """Rows become columns; the matrix is square."""
        rows = np.repeat(np.arange(len(self.starts) - 1, dtype=np.int32), np.diff(self.starts))
        order = np.argsort(self.columns, kind="stable")
        counts = np.bincount(self.columns, minlength=len(self.starts) - 1)
        return _Sparse(np.concatenate([[0], np.cumsum(counts)]), rows[order], self.values[order])


def _neighbours(features, *, queries: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query-gallery distances [Q, G], squared over the largest of the query's row; the `count` nearest of
    all n items (fewer where n is) [n, count], itself first; and the largest squared distance of each [n],
    or 1 where all are 0."""
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
        del squared  # or the next block is made while this one is on the device
    return result, neighbours, largest


@partial(jax.jit, static_argnames="count")
def _nearest(squared, start, *, count):
    rows = jnp.arange(len(squared))
    # Rounding may put an item at some distance from itself, and duplicates at none.
    squared = squared.at[rows, start + rows].set(-1)
    return jax.lax.top_k(-squared, count)[1], squared.max(axis=1)  # of equals, top_k gives the first


def _encoded(features, neighbours, largest, *, half: int) -> _Sparse:
    """The items' vectors: weights over their expanded k-reciprocal sets (sections 3.2, 3.3)."""
    return _Sparse.from_blocks(_encoded_blocks(features, neighbours, largest, half))


def _encoded_blocks(features, neighbours, largest, half: int) -> Iterator[tuple]:
    whole, nearer = _reciprocal(neighbours), _reciprocal(neighbours[:, :half])
    for start in range(0, len(features), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(features)))
        own, entries = np.nonzero(whole[rows])
        candidates = neighbours[rows[own], entries]
        members = np.zeros((len(rows), len(features)), bool)
        members[own, candidates] = True
        reached, valid = neighbours[candidates, :half], nearer[candidates]
        common = (members[own[:, None], reached] & valid).sum(axis=1)
        valid &= (3 * common > 2 * valid.sum(axis=1))[:, None]
        members[np.broadcast_to(own[:, None], valid.shape)[valid], reached[valid]] = True
        own, columns = np.divmod(np.flatnonzero(members), len(features))
        weights = np.exp(-_squared(features, rows[own], columns) / largest[rows[own]])
        sums = np.bincount(own, weights, minlength=len(rows))
        yield (np.bincount(own, minlength=len(rows)), columns.astype(np.int32),
               (weights / sums[own]).astype(np.float32))


def _reciprocal(neighbours) -> np.ndarray:
    """Whether item i is among the neighbours of its a-th neighbour, bool [n, k] (section 3.2)."""
    result = np.empty(neighbours.shape, bool)
    for start in range(0, len(neighbours), _BLOCK):
        here = neighbours[start:start + _BLOCK]
        own = np.arange(start, start + len(here))
        result[start:start + _BLOCK] = (neighbours[here] == own[:, None, None]).any(axis=2)
    return result


def _squared(features, first, second) -> np.ndarray:
    """Squared Euclidean distances of pairs [P], from the features' differences."""
    result = np.empty(len(first), np.float32)
    for start in range(0, len(first), _PAIRS):
        here = slice(start, start + _PAIRS)
        difference = features[first[here]] - features[second[here]]
        result[here] = np.einsum("pc,pc->p", difference, difference)
    return result


def _averaged(vectors: _Sparse, nearest) -> _Sparse:
    """Each item's vector becomes the mean of its nearest ones' (section 3.4)."""
    if nearest.shape[1] == 1:
        return vectors
    return _Sparse.from_blocks(_averaged_blocks(vectors, nearest))


def _averaged_blocks(vectors: _Sparse, nearest) -> Iterator[tuple]:
    items, k = nearest.shape
    for start in range(0, items, _SUMS):
        near = nearest[start:start + _SUMS]
        own, columns, values = vectors.take(near.ravel())
        sums = np.bincount(own // k * items + columns, values, minlength=near.shape[0] * items)
        places = np.flatnonzero(sums)
        own, columns = np.divmod(places, items)
        yield (np.bincount(own, minlength=len(near)), columns.astype(np.int32),
               (sums[places] / k).astype(np.float32))


def _jaccard(vectors: _Sparse, *, queries: int) -> Iterator[np.ndarray]:
    """The Jaccard distances of each query's vector to the gallery's, float64 [G] (section 3.3).

    Vectors sum to 1, so the larger weights sum to 2 less what the smaller ones do; and only items that share
    an entry with the query are touched.
    """
    holders = vectors.transposed()
    items = len(vectors.starts) - 1
    for query in range(queries):
        _, shared, weights = vectors.take(np.array([query]))
        which, others, values = holders.take(shared)
        smaller = np.bincount(others, np.minimum(weights[which], values), minlength=items)[queries:]
        yield 1 - smaller / (2 - smaller)
