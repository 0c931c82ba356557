"""The CMC curve and mean average precision of distances between queries and a gallery.

The protocol is that of Market-1501 (Zheng et al., ICCV 2015) as MARS and the other video sets use it. For each query
the gallery is sorted by distance. Entries of the same person in the same camera are junk and are removed, as are
entries of identity −1, boxes that show nobody in particular. All other identities than the query's are wrong answers. A
query without a right answer is left out of both figures, and `left_out` counts it.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

# Queries that a thread sorts at once: at 11,310 gallery entries their keys fit into a core's cache. All threads
# together hold less than a block of `distances`, 512 queries.
_ROWS, _THREADS = 8, 8

_Codes = tuple[np.ndarray, np.ndarray]  # int32 [Q] and [G], of queries and gallery; equal where their labels are equal
_Entries = tuple[np.ndarray, np.ndarray]  # (rows, columns) of entries of a matrix


@dataclass(frozen=True, eq=False)
class Ranking:
    """The result of `rank`, for Q queries and G gallery entries.

    Attributes:
      cmc: float64 [G], the share of the counted queries whose first right answer is among the first 1, 2,
        … G. Junk leaves fewer than G entries; the curve continues with its last value, which is 1.
      mean_ap: the mean of the counted queries' average precisions.
      average_precision: float64 [Q], the mean of the precisions at a query's right answers (not the
        trapezoidal rule that MARS's own MATLAB evaluator integrates with); NaN where not counted.
      first_hit: int64 [Q], the rank of the first right answer, from 1; 0 where not counted.
      counted: bool [Q], whether the query has a right answer.
      left_out: the number of queries that have none.
    """

    cmc: np.ndarray
    mean_ap: float
    average_precision: np.ndarray
    first_hit: np.ndarray
    counted: np.ndarray
    left_out: int


def rank(distances: np.ndarray, query_ids: np.ndarray, gallery_ids: np.ndarray, query_cameras: np.ndarray,
         gallery_cameras: np.ndarray) -> Ranking:
    """Ranks the gallery for each query; computes the CMC curve and average precisions.

    Equal distances keep the gallery's order. Nothing is rounded: float32 and float16 are compared as they are,
    everything else as float64, which is slower. float32 and float64 are not copied: each thread reads `_ROWS` queries
    at a time, and holds about 20 bytes for each of their entries.

    Args:
      distances: [Q, G], real numbers, smaller is more similar; infinities are valid.
      query_ids, gallery_ids: [Q] and [G], whole numbers or strings, the same kind in both. A gallery
        identity of −1 (or "-1") is junk for every query.
      query_cameras, gallery_cameras: [Q] and [G], likewise.

    Raises:
      ValueError: lengths or kinds that do not agree, distances that are NaN, or not one query with a match.
    """
    distances = _distances(distances)
    people = _codes("ids", query_ids, gallery_ids, distances.shape)
    cameras = _codes("cameras", query_cameras, gallery_cameras, distances.shape)
    ranked = partial(_positions, distances, people, cameras, _nobody(gallery_ids))
    # NumPy releases Python's lock while it sorts.
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        hits = list(threads.map(ranked, range(0, max(len(distances), 1), _ROWS)))
    queries, positions = (np.concatenate(found) for found in zip(*hits))
    return _summary(queries, positions, distances.shape)


def first_entries(distances: np.ndarray, query_id: int | str, gallery_ids: np.ndarray, query_camera: int | str,
                  gallery_cameras: np.ndarray, *, count: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The `count` gallery entries nearest to one query, without junk, in the order of `rank`.

    Args:
      distances: [G], of the query; the rest as in `rank`, of one query.

    Returns:
      (entries, right): int64 and bool, [count] or as many as there are; `right` where an entry is the query's person.

    Raises:
      ValueError: as `rank`, except that the query may have no match.
    """
    rows = _distances(np.asarray(distances)[None])
    person, people = _codes("ids", np.asarray([query_id]), gallery_ids, rows.shape)
    camera, cameras = _codes("cameras", np.asarray([query_camera]), gallery_cameras, rows.shape)
    _check_numbers(rows)
    right = person == people
    kept = ~(_nobody(gallery_ids) | right & (camera == cameras))
    order = np.argsort(rows[0], kind="stable")
    order = order[kept[order]][:count]
    return order, right[order]


def _summary(queries: np.ndarray, positions: np.ndarray, shape: tuple[int, ...]) -> Ranking:
    """Computes the figures from all hits (right answers).

    Args:
      queries, positions: of each hit, its query and its position from 0; ascending by query, then by position.
      shape: (Q, G).
    """
    hits = np.bincount(queries, minlength=shape[0])
    counted = hits > 0
    if not counted.any():
        raise ValueError(f"none of the {shape[0]} queries has a match among the {shape[1]} gallery entries: "
                         "the same identity in another camera. Check that ids and cameras belong together.")
    firsts = (np.cumsum(hits) - hits)[counted]
    # At a query's n-th hit at position p, the precision is n / (p + 1).
    nth = np.arange(len(queries)) - np.repeat(firsts, hits[counted]) + 1
    average_precision = np.full(shape[0], np.nan)
    precisions = np.bincount(queries, nth / (positions + 1), minlength=shape[0])
    average_precision[counted] = precisions[counted] / hits[counted]
    first_hit = np.zeros(shape[0], np.int64)
    first_hit[counted] = positions[firsts] + 1
    cmc = np.cumsum(np.bincount(positions[firsts], minlength=shape[1])) / counted.sum()
    return Ranking(cmc=cmc, mean_ap=float(average_precision[counted].mean()), counted=counted,
                   average_precision=average_precision, first_hit=first_hit, left_out=int((~counted).sum()))


def _positions(distances: np.ndarray, people: _Codes, cameras: _Codes, nobody: np.ndarray, start: int) -> _Entries:
    """(queries, positions from 0 among entries without junk) of the hits in `_ROWS` rows from `start`, ascending."""
    rows, here = distances[start:start + _ROWS], slice(start, start + _ROWS)
    _check_numbers(rows, start)
    same, entries = _entries(people[0][here, None] == people[1])
    junk = (cameras[0][here][same] == cameras[1][entries]) | nobody[entries]
    ordered = _ordered_packed if rows.dtype == np.float32 else _ordered
    queries, positions = _entries(ordered(rows, np.flatnonzero(nobody), (same[junk], entries[junk]),
                                          (same[~junk], entries[~junk])))
    return queries + start, positions


def _entries(marks: np.ndarray) -> _Entries:
    """(rows, columns) where a matrix is true."""
    # np.nonzero of two axes is slower.
    return np.divmod(np.flatnonzero(marks), marks.shape[1])


def _ordered(rows: np.ndarray, nobody: np.ndarray, junk: _Entries, hits: _Entries) -> np.ndarray:
    """Which entries are hits, bool [rows, G], sorted by distance and then by index; junk comes last.

    Args:
      rows: distances [rows, G].
      nobody: the gallery entries that are junk for every row.
      junk, hits: the entries that are junk, and those that are hits.
    """
    keys, is_hit = rows.copy(), np.zeros(rows.shape, bool)
    keys[:, nobody] = keys[junk] = np.nan  # NumPy sorts NaN behind infinity
    is_hit[hits] = True
    return np.take_along_axis(is_hit, np.argsort(keys, axis=1, kind="stable"), axis=1)


def _ordered_packed(rows: np.ndarray, nobody: np.ndarray, junk: _Entries, hits: _Entries) -> np.ndarray:
    """As `_ordered`, for float32, and faster than its stable argsort.

    It sorts uint64 keys: the distance in the upper half, the entry's index below it, and in the lowest bit 1 for a hit.
    """
    bits = (rows + np.float32(0)).view(np.uint32)  # + 0 makes -0 equal to 0
    # Floats sort like their bits as unsigned numbers, if negative ones are inverted and others get the sign bit.
    bits ^= (bits.view(np.int32) >> 31).view(np.uint32) | np.uint32(1 << 31)
    keys = np.empty(rows.shape, "<u8")
    halves = keys.view("<u4").reshape(*rows.shape, 2)
    halves[..., 1] = bits
    halves[..., 0] = np.arange(0, 2 * rows.shape[1], 2)
    keys[hits] |= np.uint64(1)
    keys[:, nobody] = keys[junk] = ~np.uint64(1)  # above infinity, and not a hit
    keys.sort(axis=1)
    return (halves[..., 0].astype(np.uint8) & 1).view(bool)


def _distances(distances: np.ndarray) -> np.ndarray:
    """As float32 or float64 [Q, G]."""
    distances = np.asarray(distances)
    if distances.ndim != 2 or distances.dtype.kind not in "fiu":
        raise ValueError("distances must be real numbers [queries, gallery]. "
                         f"Got {distances.dtype} {list(distances.shape)}.")
    if distances.dtype == np.float16:
        return distances.astype(np.float32)
    return distances if distances.dtype == np.float32 else distances.astype(np.float64, copy=False)


def _check_numbers(rows: np.ndarray, start: int = 0) -> None:
    if np.isnan(rows).any():
        query, entry = np.argwhere(np.isnan(rows))[0]
        raise ValueError("distances must be numbers. "
                         f"Got NaN between query {start + query} and gallery entry {entry} (both from 0).")


def _nobody(gallery_ids: np.ndarray) -> np.ndarray:
    """Which gallery entries show nobody in particular, bool [G]."""
    gallery_ids = np.asarray(gallery_ids)
    return gallery_ids == ("-1" if gallery_ids.dtype.kind == "U" else -1)


def _codes(what: str, query: np.ndarray, gallery: np.ndarray, shape: tuple[int, ...]) -> _Codes:
    """Checks labels and renumbers them from 0, since strings compare slowly; `what` names them in errors."""
    query, gallery = np.asarray(query), np.asarray(gallery)
    if (query.shape, gallery.shape) != (shape[:1], shape[1:]):
        raise ValueError(f"distances {list(shape)} need {shape[0]} query and {shape[1]} gallery {what}. "
                         f"Got shapes {list(query.shape)} and {list(gallery.shape)}.")
    kinds = {"i": "number", "u": "number", "U": "string"}
    if {kinds.get(a.dtype.kind) for a in (query, gallery) if a.size} not in ({"number"}, {"string"}, set()):
        raise ValueError(f"{what} must be whole numbers or strings, the same in queries and gallery. "
                         f"Got {query.dtype} and {gallery.dtype}.")
    if np.result_type(query, gallery).kind == "f":  # int64 and uint64 meet as floats, which makes large ones equal
        for labels in (query, gallery):
            if labels.size and labels.max() > np.iinfo(np.int64).max:
                raise ValueError(f"{what} of which some are unsigned and some are not must be at most 2^63 - 1. "
                                 f"Got {labels.max()}.")
        query, gallery = query.astype(np.int64), gallery.astype(np.int64)
    codes = np.unique(np.concatenate([query, gallery]), return_inverse=True)[1].astype(np.int32)
    return codes[:len(query)], codes[len(query):]
