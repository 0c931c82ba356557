"""Ranking a gallery for one query, with a picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation import distances
from vrstc_jax.evaluation.retrieval import features_of
from vrstc_jax.models.model_file import ReidModel
from vrstc_jax.report.ranking_pictures import nearest_entries, ranked_list, ranked_lists
from vrstc_jax.runtime.errors import InputError


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
    entries, _ = nearest_entries(row, query, gallery, count)
    matches = [Match(gallery[i].name, float(row[i]), gallery[i].person, gallery[i].camera) for i in entries]
    return matches, ranked_lists([ranked_list(f"query {query.name}", row, query, gallery, count)])
