"""Who is it: whole sets of tracklets ranked by a re-ID network, with pictures.

    evaluation = evaluate(model, query, gallery)
    evaluation.ranking.mean_ap
"""

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vrstc_jax import hosts
from vrstc_jax.data.images import replace_file, write_png
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.errors import InputError
from vrstc_jax.evaluation import Ranking, distances, first_entries, rank
from vrstc_jax.evaluation.features import tracklet_features
from vrstc_jax.evaluation.ranking_pictures import RankedList, ranked_lists, write_cmc_plot
from vrstc_jax.model import ReidModel
from vrstc_jax.places import as_path
from vrstc_jax.report import Table
from vrstc_jax.shards import by_shards, progress

RANKS = (1, 5, 10, 20)
_HEADER = ["", *(f"rank-{k}" for k in RANKS), "mAP"]
JUNK = "-1"  # as `evaluation.rank` has it
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
             keep: Sequence[np.ndarray | None] | None = None, path: Path | None = None) -> Evaluation:
    """Ranks the gallery for each query by the cosine distance of the tracklets' features.

    Args:
      query, gallery: with `person` and `camera`.
      keep: for each of the queries and then of the gallery the frames to use, bool [T], or None: all.
      path: for the features, as of `features_of`.

    Raises:
      InputError: a tracklet without a person or a camera, or no query with a match in the gallery.
    """
    require_rankable(query, gallery)
    features = features_of(model, [*query, *gallery], keep=keep, path=path)
    return evaluate_features(features[:len(query)], features[len(query):], query, gallery)


def require_rankable(query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> None:
    """Checks what `evaluate` needs to know of tracklets; no frame is read.

    Raises:
      InputError: as `evaluate`.
    """
    if not query or not gallery:
        raise InputError(f"Ranking needs queries and a gallery. Got {len(query)} and {len(gallery)} tracklets.")
    require_seen_by(query, "query")
    require_seen_by(gallery, "gallery")
    if not has_match(query, gallery):
        raise InputError(f"None of the {len(query)} queries, the first of which is tracklet {query[0].name}, has a "
                         f"match among the {len(gallery)} tracklets of the gallery: the same person in another "
                         "camera; check the splits, and that persons and cameras belong together.")


def require_seen_by(tracklets: Iterable[Tracklet], split: str) -> None:
    """Checks that the person and the camera of each tracklet are known.

    Raises:
      InputError: one's are not; it is named, and the split.
    """
    for tracklet in tracklets:
        for field in ("person", "camera"):
            if not getattr(tracklet, field):
                raise InputError(f"tracklet {tracklet.name} of {split}: its {field} is not known, and ranking is "
                                 "judged by who was seen by which camera; give folders as "
                                 "person/camera/tracklet/frame.")


def has_match(query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> bool:
    """Whether a query's person was seen by another camera in the gallery, so that there is something to find."""
    cameras = defaultdict(set)
    for tracklet in gallery:
        cameras[tracklet.person].add(tracklet.camera)
    return any(tracklet.person != JUNK and cameras[tracklet.person] - {tracklet.camera} for tracklet in query)


def features_of(model: ReidModel, tracklets: Sequence[Tracklet], *,
                keep: Sequence[np.ndarray | None] | None = None, path: Path | None = None) -> np.ndarray:
    """`tracklet_features` with a progress bar.

    Args:
      keep: for each tracklet the frames to use, bool [T], or None: all.
      path: a file for them (.npz), which stands afterwards; the processes of a run then share the work, and what
        stands is not done again. None: each process that calls this does all of it.
    """
    kept = [None] * len(tracklets) if keep is None else keep
    if path is None:
        with tqdm(total=len(tracklets), desc="features", unit="tracklet", dynamic_ncols=True, delay=1,
                  disable=not hosts.first()) as bar:
            return tracklet_features(model, tracklets, keep=kept, progress=bar.update)
    lengths = [len(tracklet) for tracklet in tracklets]
    with progress("features", lengths) as bar:
        return np.stack(by_shards(path, lengths, lambda places: tracklet_features(
            model, tracklets[places.start:places.stop], keep=kept[places.start:places.stop], progress=bar.update)))


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
    return Table("Who is it: ranks and mean average precision, %", _HEADER, rows)


def format_figures(figures: Mapping[str, Mapping]) -> str:
    """The same as plain text, with what was left out."""
    shown = table(figures)
    lines = aligned(shown.columns, shown.rows)
    left_out = {row["left_out"] for row in figures.values()} - {0}
    notes = [f"{max(left_out)} queries have no match in the gallery and are left out"] if left_out else []
    return "\n".join([shown.caption, *lines, *notes])


def aligned(columns: Sequence[str], rows: Sequence[Sequence]) -> list[str]:
    """A table as lines of plain text, the first column to the left and the others to the right."""
    cells = [list(map(str, row)) for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]).rstrip()
            for row in cells]


def over_splits(figures: Sequence[Mapping[str, Mapping]]) -> dict[str, dict]:
    """Mean and standard deviation (of the sample; 0 of one) of the same evaluations of several splits.

    Args:
      figures: of each split {evaluation: `Evaluation.figures`}.

    Returns:
      {evaluation: {'rank1', …, 'map': {'mean', 'deviation'}}}.
    """
    def spread(name, key):
        values = [of_split[name][key] for of_split in figures]
        return {"mean": float(np.mean(values)), "deviation": float(np.std(values, ddof=min(1, len(values) - 1)))}

    return {name: {key: spread(name, key) for key in (*(f"rank{k}" for k in RANKS), "map")} for name in figures[0]}


def format_spreads(spreads: Mapping[str, Mapping[str, Mapping]], count: int) -> str:
    """What `over_splits` gives, of `count` splits, as plain text."""
    rows = [[name, *(f"{100 * each['mean']:.1f} ± {100 * each['deviation']:.1f}" for each in row.values())]
            for name, row in spreads.items()]
    return "\n".join([f"Who is it: mean ± standard deviation over {count} splits, %", *aligned(_HEADER, rows)])


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


def save_features(path, evaluation: Evaluation, query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> None:
    """Writes features and whose they are as .npz, under a temporary name first, for other tools to rank.

    The arrays are 'query' float32 [Q, C] and 'gallery' [G, C], and of both, as text [Q] and [G], 'query_names',
    'query_persons', 'query_cameras', 'gallery_names' and so on; identity "-1" is junk.
    """
    arrays = dict(zip(("query", "gallery"), evaluation.features))
    for split, tracklets in (("query", query), ("gallery", gallery)):
        for field in ("name", "person", "camera"):
            arrays[f"{split}_{field}s"] = np.array([getattr(tracklet, field) for tracklet in tracklets], str)
    file = io.BytesIO()
    np.savez(file, **arrays)
    replace_file(path, file.getvalue())


def write_pictures(directory, evaluations: Mapping[str, Evaluation], picture: np.ndarray | None) -> list[Path]:
    """cmc.png, and ranked.png where there is a picture; returns what was written."""
    written = []
    if picture is not None:
        write_png(as_path(directory) / "ranked.png", picture)
        written.append(as_path(directory) / "ranked.png")
    write_cmc_plot(as_path(directory) / "cmc.png", {name: e.ranking for name, e in evaluations.items()})
    return [*written, as_path(directory) / "cmc.png"]
