"""Who is it: whole sets of tracklets ranked by a re-ID network, with pictures.

    evaluation = evaluate(model, query, gallery)
    evaluation.ranking.mean_ap
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vrstc_jax.data.images import replace_file, write_png
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.errors import InputError
from vrstc_jax.evaluation import Ranking, distances, first_entries, rank
from vrstc_jax.evaluation.features import tracklet_features
from vrstc_jax.evaluation.ranking_pictures import RankedList, ranked_lists, write_cmc_plot
from vrstc_jax.model import ReidModel
from vrstc_jax.report import Table

RANKS = (1, 5, 10, 20)
_UNKNOWN = "?"  # equal to no name that a source gives: those have neither this nor nothing


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A network's verdict on queries and a gallery.

    Attributes:
      distances: float32 [Q, G].
      ranking: what `rank` found.
      features: float32 [Q, C] and [G, C], of the queries and of the gallery; None where there are none.
    """

    distances: np.ndarray
    ranking: Ranking
    features: tuple[np.ndarray, np.ndarray] | None = None

    def figures(self) -> dict:
        """{'rank1', 'rank5', …, 'map', 'queries', 'left_out'}: shares in [0, 1], and numbers of queries."""
        cmc = self.ranking.cmc
        return {f"rank{k}": float(cmc[min(k, len(cmc)) - 1]) for k in RANKS} | {
            "map": self.ranking.mean_ap, "queries": len(self.distances), "left_out": self.ranking.left_out}


def evaluate(model: ReidModel, query: Sequence[Tracklet], gallery: Sequence[Tracklet], *,
             keep: Mapping[str, np.ndarray] | None = None) -> Evaluation:
    """Ranks the gallery for each query by the cosine distance of the tracklets' features.

    Args:
      query, gallery: with `person` and `camera`.
      keep: {tracklet's name: bool [T]}, the frames to use of it; all of those that are not named.

    Raises:
      InputError: a tracklet without a person or a camera, or no query with a match in the gallery.
    """
    if not query or not gallery:
        raise InputError(f"Ranking needs queries and a gallery. Got {len(query)} and {len(gallery)} tracklets.")
    everything = [*query, *gallery]
    for tracklet in everything:
        if tracklet.person is None or tracklet.camera is None:
            raise InputError(f"tracklet {tracklet.name}: ranking is judged by who was seen by which camera, and its "
                             "person or camera is not known; give folders as person/camera/tracklet/frame.")
    features = features_of(model, everything, keep=keep)
    return evaluate_features(features[:len(query)], features[len(query):], query, gallery)


def features_of(model: ReidModel, tracklets: Sequence[Tracklet], *,
                keep: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
    """`tracklet_features`, with a progress bar."""
    with tqdm(total=len(tracklets), desc="features", unit="tracklet", dynamic_ncols=True, delay=1) as bar:
        kept = None if keep is None else [keep.get(tracklet.name) for tracklet in tracklets]
        return tracklet_features(model, tracklets, keep=kept, progress=bar.update)


def evaluate_features(query_features: np.ndarray, gallery_features: np.ndarray, query: Sequence[Tracklet],
                      gallery: Sequence[Tracklet]) -> Evaluation:
    """As `evaluate`, of features [Q, C] and [G, C] that are there already."""
    judged = judge_distances(distances(query_features, gallery_features), query, gallery)
    return replace(judged, features=(query_features, gallery_features))


def judge_distances(between: np.ndarray, query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> Evaluation:
    """As `evaluate`, of distances [Q, G] however they were made."""
    try:
        ranking = rank(between, *labels(query, gallery))
    except ValueError as error:
        raise InputError(f"The ranking cannot be judged: {error}") from None
    return Evaluation(between, ranking)


def labels(query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> tuple[np.ndarray, ...]:
    """(query ids, gallery ids, query cameras, gallery cameras), as `rank` takes them."""
    return tuple(np.array([getattr(tracklet, field) for tracklet in tracklets], dtype=str)
                 for field in ("person", "camera") for tracklets in (query, gallery))


def table(figures: Mapping[str, Mapping]) -> Table:
    """For reports: a row for each evaluation's `figures`, in %."""
    rows = [[name, *(f"{100 * row[f'rank{k}']:.1f}" for k in RANKS), f"{100 * row['map']:.1f}"]
            for name, row in figures.items()]
    return Table("Who is it: ranks and mean average precision, %", ["", *(f"rank-{k}" for k in RANKS), "mAP"], rows)


def format_figures(figures: Mapping[str, Mapping]) -> str:
    """The same as plain text, with what was left out."""
    shown = table(figures)
    cells = [list(map(str, shown.columns)), *(list(map(str, row)) for row in shown.rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]).rstrip()
             for row in cells]
    left_out = {row["left_out"] for row in figures.values()} - {0}
    notes = [f"{max(left_out)} queries have no match in the gallery and are left out"] if left_out else []
    return "\n".join([shown.caption, *lines, *notes])


def ranked_picture(before: Evaluation, after: Evaluation, raw: tuple[Sequence, Sequence],
                   completed: tuple[Sequence, Sequence], *, queries: int = 4, count: int = 8) -> np.ndarray:
    """Some queries' ranked lists before and after completion, under each other: uint8 [H, W, 3].

    Half of the queries are those that gained the most average precision, the others those that lost the most,
    so that the picture does not flatter.

    Args:
      raw, completed: (queries, gallery) as `before` and `after` were given them.
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
            lists.append(_ranked_list(title, evaluation.distances[number], query[number], gallery, count))
    return ranked_lists(lists)


def _ranked_list(title, row, query, gallery, count):
    entries, right = _first(row, query, gallery, count)
    known = [query.person is not None and gallery[i].person is not None for i in entries]
    return RankedList(_ascii(title), portrait(query), [portrait(gallery[i]) for i in entries],
                      [bool(is_right) if told else None for is_right, told in zip(right, known)])


def _first(row, query, gallery, count):
    """(entries, right) as `first_entries`; who is not known is nobody else."""
    ids, cameras = (np.array([getattr(t, field) or "" for t in gallery], str) for field in ("person", "camera"))
    return first_entries(row, query.person or _UNKNOWN, ids, query.camera or _UNKNOWN, cameras, count=count)


def portrait(tracklet: Tracklet) -> np.ndarray:
    """One frame to show a tracklet by, the middle one."""
    return tracklet.frames[len(tracklet) // 2]


def _ascii(text):
    return text.encode("ascii", "replace").decode()


@dataclass(frozen=True)
class Match:
    """A gallery tracklet and how far it is from the query, cosine distance in [0, 2]."""

    tracklet: str
    distance: float
    person: str | None
    camera: str | None


def nearest(model: ReidModel, query: Tracklet, gallery: Sequence[Tracklet], *, count: int = 10,
            ) -> tuple[list[Match], np.ndarray]:
    """The `count` gallery tracklets most like a query, the nearest first, and a picture of them.

    Tracklets of the query's own person in its own camera are left out where both are known, as in `rank`.

    Raises:
      InputError: the gallery is empty, or a tracklet has no frame.
    """
    if not gallery:
        raise InputError("The gallery has no tracklet besides the query; give one with other tracklets.")
    features = features_of(model, [query, *gallery])
    row = distances(features[:1], features[1:])[0]
    entries, _ = _first(row, query, gallery, count)
    matches = [Match(gallery[i].name, float(row[i]), gallery[i].person, gallery[i].camera) for i in entries]
    return matches, ranked_lists([_ranked_list(f"query {query.name}", row, query, gallery, count)])


def save_features(path, **arrays: np.ndarray) -> None:
    """Writes arrays as .npz, under a temporary name first."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    replace_file(path, file.getvalue())


def write_pictures(directory, evaluations: Mapping[str, Evaluation], picture: np.ndarray | None) -> list[Path]:
    """ranked.png, and cmc.png where matplotlib is there; returns what was written."""
    written = []
    if picture is not None:
        write_png(Path(directory) / "ranked.png", picture)
        written.append(Path(directory) / "ranked.png")
    if find_spec("matplotlib"):  # without it there are the figures alone
        write_cmc_plot(Path(directory) / "cmc.png", {name: e.ranking for name, e in evaluations.items()})
        written.append(Path(directory) / "cmc.png")
    return written
