"""Step 5: ranking the gallery for each query, before and after completion."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vrstc_jax.data.datasets import gallery_with_queries
from vrstc_jax.data.tracklet_set import TrackletSet
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation import retrieval
from vrstc_jax.models.model_file import ReidModel
from vrstc_jax.recipes.five_steps.options import Options
from vrstc_jax.report import ranking_pictures, write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.workdir import Workdir

_GALLERIES = {True: "with the queries", False: "without the queries"}
Rankings = Mapping[str, Mapping[bool, retrieval.Evaluation]]
"""{ranking: {whether the queries have joined the gallery: the evaluation}}."""


def rank_sets(raw: Mapping[str, TrackletSet], completed: Mapping[str, TrackletSet], models: Mapping[str, ReidModel],
              work: Path, *, options: Options = Options(), command: str = "") -> None:
    """Ranks, and writes results.json, features.npz, cmc.png and ranked.png into a work directory.

    Args:
      models: 'first', the network of step 1; 'after', trained on completed data; with `options.compare` also
        'before', trained on the raw data.
    """
    features = work / "features"  # of each ranking, kept until all are ranked
    rankings = {}
    if options.compare:
        for name, model in (("first network, before completion", "first"), ("before completion", "before")):
            rankings[name] = evaluate_galleries(models[model], raw, options, path=features / f"{model}.npz")
    rankings["after completion"] = evaluate_galleries(models["after"], completed, options,
                                                      path=features / "after.npz")
    distributed.run_on_first(lambda: write_ranking(raw, completed, rankings, work, options=options, command=command))


def write_ranking(raw: Mapping[str, TrackletSet], completed: Mapping[str, TrackletSet], rankings: Rankings, work: Path,
                  *, options: Options, command: str) -> None:
    """Writes the files of `rank_sets`, results.json last."""
    evaluations = {name: found[options.queries_in_gallery] for name, found in rankings.items()}
    picture = None
    if options.compare:
        picture = ranking_pictures.ranked_picture(
            evaluations["before completion"], evaluations["after completion"], tracklets_to_rank(raw, options),
            tracklets_to_rank(completed, options))
    ranking_pictures.write_pictures(work, evaluations, picture)
    retrieval.save_features(work / "features.npz", evaluations["after completion"],
                            *tracklets_to_rank(completed, options))
    Workdir(work).discard("features")
    write_json(work / "results.json", figures(rankings, options) | {
        "locating": read_record(work / "locating.json"), "command": command})


def figures(rankings: Rankings, options: Options) -> dict[str, Any]:
    """The figures of results.json: found in the gallery, and in 'other_gallery' where two are in use."""
    official = options.queries_in_official_gallery

    def of(joined: bool) -> dict[str, Any]:
        found = {"evaluations": {name: each[joined].figures() for name, each in rankings.items() if joined in each},
                 "gallery": _GALLERIES[joined]}
        return found if official is None else found | {"official": joined == official}

    main = options.queries_in_gallery
    return of(main) if official is None else of(main) | {"other_gallery": of(not main)}


def tracklets_to_rank(sets: Mapping[str, TrackletSet],
                      options: Options = Options()) -> tuple[list[Tracklet], list[Tracklet]]:
    """(queries, gallery)."""
    query, gallery = list(sets["query"].tracklets), list(sets["gallery"].tracklets)
    return query, gallery_with_queries(query, gallery) if options.queries_in_gallery else gallery


def evaluate(model: ReidModel, sets: Mapping[str, TrackletSet], options: Options = Options(), *,
             keep: Sequence[np.ndarray | None] | None = None, path: Path | None = None) -> retrieval.Evaluation:
    """The ranking of a set by a network; `keep` and `path` as of `retrieval.evaluate`."""
    return retrieval.evaluate(model, *tracklets_to_rank(sets, options), keep=keep, path=path)


def evaluate_galleries(model: ReidModel, sets: Mapping[str, TrackletSet], options: Options = Options(), *,
                       path: Path | None = None) -> dict[bool, retrieval.Evaluation]:
    """The rankings of a set by a network, {whether the queries have joined the gallery: the ranking}.

    Always of `options.queries_in_gallery`; of the other gallery too where both are in use (`Options`) and a query
    has a match in it. `path` as of `retrieval.features_of`.
    """
    query, gallery = tracklets_to_rank(sets, dataclasses.replace(options, queries_in_gallery=False))
    # In the order of `gallery_with_queries`: one extraction serves both galleries.
    features = retrieval.features_of(model, [*query, *gallery], path=path)
    found = {}
    for joined in (True, False):
        query, gallery = tracklets_to_rank(sets, dataclasses.replace(options, queries_in_gallery=joined))
        other = joined != options.queries_in_gallery
        if other and (options.queries_in_official_gallery is None or not retrieval.has_match(query, gallery)):
            continue
        of_gallery = features if joined else features[len(query):]
        found[joined] = retrieval.evaluate_features(features[:len(query)], of_gallery, query, gallery)
    return found
