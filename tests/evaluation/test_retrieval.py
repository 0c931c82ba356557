"""Rankings of whole sets: figures by hand on made-up distances."""

import dataclasses
import os

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from people import random_reid, tracklet
from refusals import refused
from small_ranking import AFTER, BEFORE, GALLERY, QUERY, seen

from vrstc_jax.evaluation import retrieval
from vrstc_jax.evaluation.retrieval import evaluate, evaluate_features, judge_distances, save_features
from vrstc_jax.inference.features import tracklet_features
from vrstc_jax.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_figures_by_hand():
    evaluation = judge_distances(BEFORE, QUERY, GALLERY)
    # ann: hits at 2 and 4, precisions 1/2 and 2/4; bob: one at 4.
    np.testing.assert_allclose(evaluation.ranking.average_precision, [0.5, 0.25, np.nan])
    assert evaluation.figures() == {"rank1": 0.0, "rank5": 1.0, "rank10": 1.0, "rank20": 1.0, "map": 0.375,
                                    "queries": 3, "left_out": 1}
    assert evaluation.ranking.cmc.tolist() == [0, 0.5, 0.5, 1, 1, 1] and evaluation.features is None
    better = judge_distances(AFTER, QUERY, GALLERY).figures()
    assert (better["rank1"], better["map"]) == (0.5, 0.625)


def test_evaluate_ranks_by_the_cosine_of_features():
    query = [seen("ann", "c1", colour=30), seen("bob", "c1", colour=90)]
    gallery = [seen("bob", "c2", colour=35), seen("ann", "c2", colour=40), seen("eve", "c2", colour=200)]
    evaluation = evaluate(random_reid(), query, gallery)
    features = tracklet_features(random_reid(), [*query, *gallery])
    np.testing.assert_array_equal(np.concatenate(evaluation.features), features)
    unit = features / np.linalg.norm(features.astype(float), axis=1, keepdims=True)
    np.testing.assert_allclose(evaluation.distances, 1 - unit[:2] @ unit[2:].T, atol=1e-6)  # float32 products
    # Features of greys are the more alike the nearer the greys are: each query's match is its second.
    assert evaluation.ranking.first_hit.tolist() == [2, 2] and evaluation.figures()["map"] == 0.5
    again = evaluate_features(*evaluation.features, query, gallery)
    np.testing.assert_array_equal(again.distances, evaluation.distances)


def test_only_frames_that_are_kept_count():
    frames = [np.full((24, 12, 3), value, np.uint8) for value in (0, 200)]
    mixed, first = (tracklet(given, name="m", person="ann", camera="c1") for given in (frames, frames[:1]))
    # By their indices: a query and a gallery's tracklet may share a name.
    gallery = [seen("ann", "c2", "m"), seen("bob", "c2", "m", colour=100)]
    kept = evaluate(random_reid(), [mixed], gallery, keep=[np.array([True, False]), None, None]).distances
    np.testing.assert_allclose(kept, evaluate(random_reid(), [first], gallery).distances, atol=1e-6)
    assert np.abs(kept - evaluate(random_reid(), [mixed], gallery).distances).max() > 1e-4


@pytest.mark.parametrize("query, gallery, message", [
    ([], GALLERY, "Ranking needs queries and a gallery. Got 0 and 6 tracklets."),
    (QUERY, [], "Ranking needs queries and a gallery. Got 3 and 0 tracklets."),
    ([seen(None, "c1", "q")], GALLERY, "tracklet q of query: its person is not known, and ranking needs "
                                       "persons and cameras"),
    (QUERY, [seen("ann", None, "g")], "tracklet g of gallery: its camera is not known"),
    (QUERY, [seen("", "c1", "g")], "tracklet g of gallery: its person is not known"),
    ([seen("cid", "c1", "q")], GALLERY, "None of the 1 queries, the first of which is tracklet q, has a match among "
                                        "the 6 tracklets of the gallery: the same person in another camera"),
    ([seen("-1", "c1")], GALLERY, "None of the 1 queries"), ([seen("bob", "c2")], GALLERY, "None of the 1 queries"),
])
def test_what_cannot_be_judged(query, gallery, message):
    """There is no network: input is checked before features are made."""
    with refused(message):
        evaluate(None, query, gallery)


WHO = st.lists(st.tuples(st.sampled_from(("-1", "0", "a", "b")), st.sampled_from("12")), min_size=1, max_size=3)


@hypothesis.given(WHO, WHO)
@hypothesis.settings(max_examples=60)
def test_there_is_a_match_where_rank_finds_one(query, gallery):
    query, gallery = ([seen(person, camera, size=(2, 2)) for person, camera in each] for each in (query, gallery))
    try:
        judge_distances(np.zeros((len(query), len(gallery)), np.float32), query, gallery)
        found = True
    except InputError as error:
        assert "none of the" in str(error)
        found = False
    assert retrieval.has_match(query, gallery) == found


def test_over_splits():
    splits = [{"after": judge_distances(matrix, QUERY, GALLERY).figures()} for matrix in (BEFORE, AFTER)]
    found = retrieval.over_splits(splits)
    assert list(found["after"]) == ["rank1", "rank5", "rank10", "rank20", "map"]
    # mAPs of 0.375 and 0.625; of two values the sample's standard deviation is their difference over √2.
    assert found["after"]["map"] == {"mean": 0.5, "deviation": pytest.approx(0.25 / 2 ** 0.5)}
    assert retrieval.over_splits(splits[:1])["after"]["map"] == {"mean": 0.375, "deviation": 0.0}


def test_features_on_disk(tmp_path):
    """All that another tool needs, and no pickle."""
    features = np.eye(3, dtype=np.float32), np.arange(18, dtype=np.float32).reshape(6, 3)
    evaluation = dataclasses.replace(judge_distances(BEFORE, QUERY, GALLERY), features=features)
    save_features(tmp_path / "features.npz", evaluation, QUERY, GALLERY)
    assert os.listdir(tmp_path) == ["features.npz"]
    with np.load(tmp_path / "features.npz", allow_pickle=False) as stored:
        assert {name: stored[name].tolist() for name in stored.files} == {
            "query": features[0].tolist(), "gallery": features[1].tolist(),
            "query_names": ["ann/c1", "bob/c1", "cid/c1"],
            "gallery_names": ["ann/c2", "again", "bob/c2", "-1/c2", "eve/c2", "ann/c3"],
            "query_persons": ["ann", "bob", "cid"], "gallery_persons": ["ann", "ann", "bob", "-1", "eve", "ann"],
            "query_cameras": ["c1"] * 3, "gallery_cameras": ["c2", "c1", "c2", "c2", "c2", "c3"]}
