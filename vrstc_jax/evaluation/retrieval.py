"""Re-identification of sets of tracklets: a re-ID network ranks the gallery for each query.

    evaluation = evaluate(model, query, gallery)
    evaluation.ranking.mean_ap
"""

import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation import Ranking, distances, rank
from vrstc_jax.inference.features import tracklet_features
from vrstc_jax.models.model_file import ReidModel
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.sharded_map import by_shards, progress
from vrstc_jax.runtime.storage import replace_file

RANKS = (1, 5, 10, 20)
JUNK = "-1"  # the identity of boxes that show nobody in particular, as in `evaluation.rank`


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The ranking of a gallery for queries, and its data.

    Attributes:
      distances: float32 [Q, G].
      ranking: the result of `rank`.
      features: float32 [Q, C] and [G, C], of the queries and of the gallery; None if only distances were given.
    """

    distances: np.ndarray
    ranking: Ranking
    features: tuple[np.ndarray, np.ndarray] | None = None

    def figures(self) -> dict[str, float]:
        """{'rank1', 'rank5', …, 'map', 'queries', 'left_out'}: shares in [0, 1], and numbers of queries."""
        cmc = self.ranking.cmc
        # A gallery of fewer than k entries has its last value at rank k.
        return {f"rank{k}": float(cmc[min(k, len(cmc)) - 1]) for k in RANKS} | {
            "map": self.ranking.mean_ap, "queries": len(self.distances), "left_out": self.ranking.left_out}


def evaluate(model: ReidModel, query: Sequence[Tracklet], gallery: Sequence[Tracklet], *,
             keep: Sequence[np.ndarray | None] | None = None, path: Path | None = None) -> Evaluation:
    """Ranks the gallery for each query by the cosine distance of the tracklets' features.

    Args:
      query, gallery: with `person` and `camera`.
      keep: the frames to use of each query and then of each gallery tracklet, bool [T], or None for all.
      path: a file for the features, as of `features_of`.

    Raises:
      InputError: a tracklet without a person or a camera, or no query with a match in the gallery.
    """
    require_rankable(query, gallery)
    features = features_of(model, [*query, *gallery], keep=keep, path=path)
    return evaluate_features(features[:len(query)], features[len(query):], query, gallery)


def require_rankable(query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> None:
    """Checks that `evaluate` can rank these tracklets; reads no frame.

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
    """Checks that each tracklet has a person and a camera.

    Raises:
      InputError: one has not; the message names the tracklet and the split.
    """
    for tracklet in tracklets:
        for field in ("person", "camera"):
            if not getattr(tracklet, field):
                raise InputError(f"tracklet {tracklet.name} of {split}: its {field} is not known, and ranking needs "
                                 "persons and cameras; give folders as person/camera/tracklet/frame.")


def has_match(query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> bool:
    """Whether the gallery has the person of any query in another camera."""
    cameras: dict[str | None, set] = defaultdict(set)
    for tracklet in gallery:
        cameras[tracklet.person].add(tracklet.camera)
    return any(tracklet.person != JUNK and cameras[tracklet.person] - {tracklet.camera} for tracklet in query)


def features_of(model: ReidModel, tracklets: Sequence[Tracklet], *,
                keep: Sequence[np.ndarray | None] | None = None, path: Path | None = None) -> np.ndarray:
    """`tracklet_features` with a progress bar.

    Args:
      keep: the frames to use of each tracklet, bool [T], or None for all.
      path: a file (.npz) for the features. The processes of a run then share the work, and finished parts are not
        computed again. None: each process that calls this computes all features.
    """
    kept = [None] * len(tracklets) if keep is None else keep
    if path is None:
        with tqdm(total=len(tracklets), desc="features", unit="tracklet", dynamic_ncols=True, delay=1,
                  disable=not distributed.is_first()) as bar:
            return tracklet_features(model, tracklets, keep=kept, progress=bar.update)
    lengths = [len(tracklet) for tracklet in tracklets]
    with progress("features", lengths) as bar:
        return np.stack(by_shards(path, lengths, lambda part: list(tracklet_features(
            model, tracklets[part.start:part.stop], keep=kept[part.start:part.stop], progress=bar.update))))


def evaluate_features(query_features: np.ndarray, gallery_features: np.ndarray, query: Sequence[Tracklet],
                      gallery: Sequence[Tracklet]) -> Evaluation:
    """As `evaluate`, from features [Q, C] and [G, C]."""
    judged = judge_distances(distances(query_features, gallery_features), query, gallery)
    return replace(judged, features=(query_features, gallery_features))


def judge_distances(between: np.ndarray, query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> Evaluation:
    """As `evaluate`, from distances [Q, G] of any metric."""
    try:
        ranking = rank(between, *labels(query, gallery))
    except ValueError as error:
        raise InputError(f"The ranking cannot be judged: {error}") from None
    return Evaluation(between, ranking)


def labels(query: Sequence[Tracklet], gallery: Sequence[Tracklet]) -> tuple[np.ndarray, ...]:
    """(query ids, gallery ids, query cameras, gallery cameras), the arguments of `rank`: strings [Q] and [G]."""
    return tuple(np.array([getattr(tracklet, field) for tracklet in tracklets], dtype=str)
                 for field in ("person", "camera") for tracklets in (query, gallery))


def over_splits(figures: Sequence[Mapping[str, Mapping]]) -> dict[str, dict]:
    """Mean and sample standard deviation of figures over several splits; a single split has a deviation of 0.

    Args:
      figures: for each split {evaluation: `Evaluation.figures`}.

    Returns:
      {evaluation: {'rank1', …, 'map': {'mean', 'deviation'}}}.
    """
    def spread(name: str, key: str) -> dict[str, float]:
        values = [of_split[name][key] for of_split in figures]
        return {"mean": float(np.mean(values)), "deviation": float(np.std(values, ddof=min(1, len(values) - 1)))}

    return {name: {key: spread(name, key) for key in (*(f"rank{k}" for k in RANKS), "map")} for name in figures[0]}


def save_features(path: Path | str, evaluation: Evaluation, query: Sequence[Tracklet],
                  gallery: Sequence[Tracklet]) -> None:
    """Writes features and their labels as .npz, for other tools to rank.

    The arrays are 'query' float32 [Q, C] and 'gallery' [G, C], and for both, as text [Q] and [G], 'query_names',
    'query_persons', 'query_cameras', 'gallery_names' and so on; identity "-1" is junk.

    Raises:
      ValueError: the evaluation has no features.
    """
    if evaluation.features is None:
        raise ValueError("the evaluation is of distances alone, and has no features to save.")
    arrays: dict[str, Any] = dict(zip(("query", "gallery"), evaluation.features))
    for split, tracklets in (("query", query), ("gallery", gallery)):
        for field in ("name", "person", "camera"):
            arrays[f"{split}_{field}s"] = np.array([getattr(tracklet, field) for tracklet in tracklets], str)
    file = io.BytesIO()
    np.savez(file, **arrays)
    replace_file(path, file.getvalue())
