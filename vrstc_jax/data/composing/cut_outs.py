"""Cuts people out of a video of a static camera, by their difference to the empty scene before and after them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vrstc_jax.data.composing.material import CutOut
from vrstc_jax.data.inputs.video import VideoReader
from vrstc_jax.runtime.errors import InputError

_ROWS, _COLUMNS, _TALL = 192, 144, 128  # of a cut-out's frames, and its person's height
_LOOK = 192, 108  # columns, rows: enough to see whether anybody is there
_CHANGED, _EMPTY = 30, 0.012  # grey levels; share of pixels that change in an empty scene
_DIFFERENT = 34  # weighted distance in Lab, of 255, between a person's colour and the scene's
_COLOUR = np.array([0.7, 1.3, 1.3], np.float32)  # shadows change lightness, and colour less
_SCENE = 12  # empty frames before and after somebody, of which the scene is the median
_SHORTEST = 20  # frames of a cut-out
_TALLEST = 0.98  # of the picture: a person who is cut off at the edge is no cut-out
_LEAST_TALL = 0.4


@dataclass(frozen=True)
class _Figure:
    """A person in a picture: the box in pixels, and the mask of the picture, uint8, 0 or 1."""

    left: int
    top: int
    width: int
    height: int
    mask: np.ndarray


def cut_outs_of(video: str | Path) -> list[CutOut]:
    """People who come into an empty scene one by one, as cut-outs of neighbouring frames.

    The scene must be empty in the first frames, and the camera must not move. People who are alone and not cut off at
    the picture's edge are cut out; GrabCut draws their edges.

    Raises:
      InputError: no such video, it does not decode, or nobody in it can be cut out.
    """
    with VideoReader(video) as reader:
        pictures = [reader.rgb(frame) for _, frame in reader]
    found: list[CutOut] = []
    for first, last in _visits(pictures):
        empty = [i for i in (*range(first - _SCENE, first), *range(last, last + _SCENE)) if 0 <= i < len(pictures)]
        scene = np.median(np.stack([pictures[i] for i in empty]), 0).astype(np.uint8)
        run: list[tuple[np.ndarray, np.ndarray]] = []
        for picture in (*pictures[first:last], None):
            figure = None if picture is None else _figure(picture, scene)
            if picture is not None and figure is not None:
                run.append(_cut(picture, figure))
                continue
            if len(run) >= _SHORTEST:
                found.append(CutOut(*(np.stack(part) for part in zip(*run))))
            run = []
    if not found:
        raise InputError(f"{video}: nobody could be cut out of it; give a video of a camera that does not move, whose "
                         "scene is empty in the first frames.")
    return found


def _visits(pictures: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """(first, end) of the runs of frames in which something is there."""
    small = np.stack([cv2.resize(picture, _LOOK, interpolation=cv2.INTER_AREA) for picture in pictures])
    empty = np.median(small[:20], 0)
    inside, start = False, 0
    for index, picture in enumerate(small.astype(np.float32)):
        change = picture - empty
        # The camera's gain changes with what is in the picture; the median is the scene's.
        change = np.abs(change - np.median(change, (0, 1))).max(-1)
        there = bool((change > _CHANGED).mean() >= _EMPTY)
        if there and not inside:
            start = index
        if inside and not there:
            yield start, index
        inside = there
    if inside:
        yield start, len(pictures)


def _figure(picture: np.ndarray, scene: np.ndarray) -> _Figure | None:
    """The largest thing in a picture that is not of the scene, if it may be a whole person."""
    change = (cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
              - cv2.cvtColor(scene, cv2.COLOR_RGB2LAB).astype(np.float32))
    change -= np.median(change.reshape(-1, 3), 0)
    mask = (np.linalg.norm(change * _COLOUR, axis=-1) > _DIFFERENT).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return None
    largest = 1 + int(boxes[1:, cv2.CC_STAT_AREA].argmax())
    left, top, width, height, _ = (int(x) for x in boxes[largest])
    rows, columns = picture.shape[:2]
    whole = top > 0 and top + height < _TALLEST * rows and left > 0 and left + width < columns
    if not (whole and height > _LEAST_TALL * rows and width < 0.75 * height):
        return None
    return _Figure(left, top, width, height, (labels == largest).astype(np.uint8))


def _cut(picture: np.ndarray, figure: _Figure) -> tuple[np.ndarray, np.ndarray]:
    """A cut-out's frame uint8 [192, 144, 3], and how much of each pixel is the person's, uint8 [192, 144]."""
    alpha = _refined(picture, figure)
    scale = _TALL / figure.height
    middle = figure.left + figure.width / 2, figure.top + figure.height / 2
    size = _COLUMNS, _ROWS
    right, down = (half / 2 - centre * scale for half, centre in zip(size, middle))
    box = np.array([[scale, 0, right], [0, scale, down]], np.float32)
    return (cv2.warpAffine(picture, box, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT),
            cv2.warpAffine(alpha, box, size, flags=cv2.INTER_LINEAR))


def _refined(picture: np.ndarray, figure: _Figure) -> np.ndarray:
    """The figure's mask of the picture, uint8 0 to 255, with its edge where GrabCut, at half resolution, sees it."""
    rows = slice(max(0, figure.top - 15), figure.top + figure.height + 15)
    columns = slice(max(0, figure.left - 20), figure.left + figure.width + 20)
    part = np.ascontiguousarray(picture[rows, columns])
    half = cv2.resize(part, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(figure.mask[rows, columns], half.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    labels = np.where(mask > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode(mask, np.ones((5, 5), np.uint8)) > 0] = cv2.GC_FGD
    labels[cv2.dilate(mask, np.ones((9, 9), np.uint8)) == 0] = cv2.GC_BGD
    cv2.setRNGSeed(0)  # of GrabCut's colour clusters
    cv2.grabCut(half, labels, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)
    person = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8) * 255
    alpha = np.zeros(picture.shape[:2], np.uint8)
    alpha[rows, columns] = cv2.resize(person, part.shape[1::-1])
    return alpha
