"""Pictures of a ranking: CMC curves, and queries with the gallery entries found for them.

Pictures are uint8 [H, W, 3], RGB. Right and wrong entries differ in colour and in a mark, for readers who do not
see the colours.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np

from vrstc_jax.data.images import write_png
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation.ranking import Ranking, first_entries
from vrstc_jax.evaluation.retrieval import Evaluation
from vrstc_jax.runtime.storage import as_path, replace_file

_Colour = tuple[int, int, int]
_RIGHT, _WRONG, _PLAIN = (0, 140, 90), (205, 60, 30), (110, 110, 110)
_BORDER, _GAP, _LINE = 4, 6, 22  # pixels: a frame, between pictures, a line of text
_STROKES = {_RIGHT: [(3, 8, 6, 12), (6, 12, 12, 3)], _WRONG: [(3, 3, 12, 12), (3, 12, 12, 3)]}  # a tick, a cross
_MARK = 16  # pixels, a side of the square in which they are drawn
_FONT, _TEXT_SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.45


@dataclass(frozen=True, eq=False)
class RankedList:
    """One query and what was found for it.

    Attributes:
      title: such as 'before completion'; letters that are not ASCII are drawn as '?', since cv2 has no others.
      query: a picture of the query.
      entries: pictures of the gallery entries, the nearest first.
      right: for each entry whether it is the query's person, or None where that is not known.

    Raises:
      ValueError: there are more or fewer entries than marks.
    """

    title: str
    query: np.ndarray
    entries: Sequence[np.ndarray]
    right: Sequence[bool | None]

    def __post_init__(self) -> None:
        if len(self.entries) != len(self.right):
            raise ValueError(f"list '{self.title}': {len(self.entries)} entries need as many marks. "
                             f"Got {len(self.right)}.")


def ranked_lists(lists: Sequence[RankedList], *, height: int = 128) -> np.ndarray:
    """Draws the lists as rows of one picture, each person `height` pixels high.

    The query is at the left in a grey frame. Entries follow by rank, which is written above them: a right one in a
    green frame with a tick, a wrong one in a red frame with a cross, one whose person is not known in grey.

    Raises:
      ValueError: no lists, or a height below 16.
    """
    if not lists or height < 16:
        raise ValueError(f"give at least one list and 16 pixels. Got {len(lists)} and {height}.")
    rows = [_row(ranked, height) for ranked in lists]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_widened(row, width) for row in rows])


def _row(ranked: RankedList, height: int) -> np.ndarray:
    tiles = [_tile(ranked.query, height, _PLAIN, "query")]
    for i, (entry, right) in enumerate(zip(ranked.entries, ranked.right), start=1):
        tiles.append(_tile(entry, height, _PLAIN if right is None else _RIGHT if right else _WRONG, str(i)))
    tiles[0] = _widened(tiles[0], tiles[0].shape[1] + 2 * _GAP)
    row = np.concatenate(tiles, axis=1)
    text = ranked.title.encode("ascii", "replace").decode()
    row = _widened(row, max(row.shape[1], _text_width(text) + 2 * _GAP))
    row = np.pad(row, ((_LINE, _GAP), (0, 0), (0, 0)), constant_values=255)
    _write(row, text, _GAP)
    return row


def _tile(picture: np.ndarray, height: int, colour: _Colour, text: str) -> np.ndarray:
    """The picture in a frame, with its mark in the corner, a line of text above it and a white gap around."""
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    way = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_CUBIC
    picture = cv2.resize(picture, (width, height), interpolation=way)
    picture = cv2.copyMakeBorder(picture, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_CONSTANT, value=colour)
    if colour in _STROKES:
        y, x = picture.shape[0] - _MARK, picture.shape[1] - _MARK
        picture[max(0, y):, max(0, x):] = colour
        for x0, y0, x1, y1 in _STROKES[colour]:
            cv2.line(picture, (x + x0, y + y0), (x + x1, y + y1), (255, 255, 255), 2, cv2.LINE_AA)
    picture = np.pad(picture, ((_LINE, 0), (_GAP // 2,) * 2, (0, 0)), constant_values=255)
    _write(picture, text, (picture.shape[1] - _text_width(text)) // 2)
    return picture


def _write(picture: np.ndarray, text: str, x: int) -> None:
    cv2.putText(picture, text, (max(0, x), _LINE - 7), _FONT, _TEXT_SIZE, (30, 30, 30), 1, cv2.LINE_AA)


def _text_width(text: str) -> int:
    return cv2.getTextSize(text, _FONT, _TEXT_SIZE, 1)[0][0]


def _widened(picture: np.ndarray, width: int) -> np.ndarray:
    return np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255)


def write_cmc_plot(path: str | Path, rankings: Mapping[str, Ranking], *, ranks: int = 20) -> None:
    """Draws CMC curves up to `ranks` into a PNG file; the legend gives the name, rank-1 and mAP in % of each.

    Raises:
      InputError: the file cannot be written.
      ValueError: no rankings, or no ranks.
    """
    if not rankings or ranks < 1:
        raise ValueError(f"give at least one ranking and one rank. Got {len(rankings)} and {ranks}.")
    from matplotlib.figure import Figure  # without pyplot: nothing of the user's is touched

    figure = Figure((6, 4), layout="constrained")
    axes = figure.subplots()
    for (name, ranking), line in zip(rankings.items(), cycle(("-", "--", ":", "-."))):
        shares = 100 * ranking.cmc[:ranks]
        axes.plot(np.arange(1, len(shares) + 1), shares, line, marker="o", markersize=3,
                  label=f"{name}: rank-1 {shares[0]:.1f}, mAP {100 * ranking.mean_ap:.1f}")
    axes.set(xlabel="rank", ylabel="queries with a right answer by then, %")
    longest = max(len(ranking.cmc[:ranks]) for ranking in rankings.values())
    axes.set_xticks(np.unique(np.linspace(1, longest, 6).round().astype(int)))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=120)
    replace_file(path, written.getvalue())


Tracklets = tuple[Sequence[Tracklet], Sequence[Tracklet]]
"""Queries and gallery."""


def ranked_picture(before: Evaluation, after: Evaluation, raw: Tracklets, completed: Tracklets, *, queries: int = 4,
                   count: int = 8) -> np.ndarray:
    """Draws the lists of `compared_lists`, uint8 [H, W, 3]; arguments as there.

    Raises:
      ValueError: `queries` is 0, so that there is no list to draw.
    """
    return ranked_lists(compared_lists(before, after, raw, completed, queries=queries, count=count))


def compared_lists(before: Evaluation, after: Evaluation, raw: Tracklets, completed: Tracklets, *, queries: int = 4,
                   count: int = 8) -> list[RankedList]:
    """Gives the ranked lists of some queries, each before and after completion.

    Half of the queries are those that gained the most average precision, the others those that lost the most, so that
    the choice does not flatter. Queries without a match in the gallery are left out.

    Args:
      raw, completed: (queries, gallery) as `before` and `after` were given them.
      queries: the largest number of queries.
      count: the largest number of entries of a list.
    """
    gain = after.ranking.average_precision - before.ranking.average_precision
    order = np.argsort(-np.nan_to_num(gain), kind="stable")
    order = order[before.ranking.counted[order]]
    queries = min(queries, len(order))
    chosen = [*order[:queries - queries // 2], *order[len(order) - queries // 2:]]
    lists = []
    for number in chosen:
        for name, evaluation, (query, gallery) in (("before", before, raw), ("after", after, completed)):
            precision = evaluation.ranking.average_precision[number]
            title = f"query {query[number].name}, {name} completion: average precision {100 * precision:.0f} %"
            lists.append(ranked_list(title, evaluation.distances[number], query[number], gallery, count))
    return lists


def ranked_list(title: str, row: np.ndarray, query: Tracklet, gallery: Sequence[Tracklet], count: int) -> RankedList:
    """The `count` entries of the gallery nearest to a query, by its row of distances [G], to be drawn."""
    entries, right = nearest_entries(row, query, gallery, count)
    known = [query.person is not None and gallery[i].person is not None for i in entries]
    return RankedList(title, portrait(query), [portrait(gallery[i]) for i in entries],
                      [bool(is_right) if has_name else None for is_right, has_name in zip(right, known)])


def nearest_entries(row: np.ndarray, query: Tracklet, gallery: Sequence[Tracklet], count: int,
                    ) -> tuple[np.ndarray, np.ndarray]:
    """(entries, right) as `first_entries`; a person or camera that is not known equals no other."""
    # Sources give neither of the names '' and '?', so an unknown query and an unknown entry differ from all.
    ids, cameras = (np.array([getattr(t, field) or "" for t in gallery], str) for field in ("person", "camera"))
    return first_entries(row, query.person or "?", ids, query.camera or "?", cameras, count=count)


def portrait(tracklet: Tracklet) -> np.ndarray:
    """One frame to show a tracklet by, the middle one."""
    return tracklet.frames[len(tracklet) // 2]


def write_pictures(directory: str | Path, evaluations: Mapping[str, Evaluation],
                   picture: np.ndarray | None) -> list[Path]:
    """Writes cmc.png, and ranked.png if there is a picture; returns the paths of the files.

    Raises:
      InputError: a file cannot be written.
    """
    written = []
    if picture is not None:
        write_png(as_path(directory) / "ranked.png", picture)
        written.append(as_path(directory) / "ranked.png")
    write_cmc_plot(as_path(directory) / "cmc.png", {name: e.ranking for name, e in evaluations.items()})
    return [*written, as_path(directory) / "cmc.png"]
