"""Who stands nearer to the camera, by the boxes of a video: evidence of who hides whom."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from vrstc_jax.data.made_from import digest
from vrstc_jax.data.tracklets import LazySequence, Tracklet

GRID = 64, 32
"""Rows and columns of the maps."""


def with_nearer_boxes(tracklets: Sequence[Tracklet]) -> list[Tracklet]:
    """The tracklets of one video, each with the maps of where boxes of nearer people cover its crops.

    Of two people in a picture the one whose feet, the lower edge of the box, are lower stands nearer, on any ground
    that a camera looks down on. Tracklets without boxes, and those with masks, which need no evidence, stay as they
    are. What a tracklet is made from (`Tracklet.made_from`) then changes with the boxes of who hides them.
    """
    boxes = [tracklet.boxes for tracklet in tracklets if tracklet.boxes is not None]
    if not boxes:
        return list(tracklets)
    everybody = np.concatenate(boxes)
    everybody = everybody[np.argsort(everybody[:, 0], kind="stable")]
    return [tracklet if tracklet.boxes is None or tracklet.masks is not None else _with(
        tracklet, _maps(tracklet.boxes, everybody)) for tracklet in tracklets]


def _with(tracklet: Tracklet, maps: LazySequence) -> Tracklet:
    made_from = tracklet.made_from
    if made_from is not None:
        covered_in = [[index, np.packbits(each).tobytes().hex()] for index, each in enumerate(maps) if each.any()]
        made_from = digest([made_from, *covered_in])
    return replace(tracklet, nearer=maps, made_from=made_from)


def _maps(boxes: np.ndarray, everybody: np.ndarray) -> LazySequence:
    """A map of each of one person's boxes [T, 5], from those of all [N, 5], sorted by frame."""
    firsts, lasts = (np.searchsorted(everybody[:, 0], boxes[:, 0], side=side) for side in ("left", "right"))
    return LazySequence(len(boxes), partial(_covered_at, boxes, everybody, firsts, lasts))


def _covered_at(boxes: np.ndarray, everybody: np.ndarray, firsts: np.ndarray, lasts: np.ndarray,
                index: int) -> np.ndarray:
    return covered(boxes[index, 1:], everybody[firsts[index]:lasts[index], 1:])


def covered(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Where those of other boxes [N, 4] that stand nearer cover a box [4] (left, top, width, height): bool `GRID`."""
    rows, columns = GRID
    found = np.zeros(GRID, bool)
    left, top, width, height = own
    right_edges, lower_edges = others[:, 0] + others[:, 2], others[:, 1] + others[:, 3]
    nearer = (lower_edges > top + height) & (others[:, 1] < top + height)
    for other in others[nearer & (right_edges > left) & (others[:, 0] < left + width)]:
        across = (other[0] - left + np.array([0, other[2]])) / width * columns
        down = (other[1] - top + np.array([0, other[3]])) / height * rows
        (left_cell, right_cell), (upper, lower) = (np.round(edge).astype(int).clip(0, None) for edge in (across, down))
        found[upper:lower, left_cell:right_cell] = True
    return found
