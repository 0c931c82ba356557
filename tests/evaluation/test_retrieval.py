"""Rankings of whole sets: figures by hand on made-up distances."""

import dataclasses
import os

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from people import figures, random_reid, tracklet
from refusals import refused
from small_ranking import AFTER, BEFORE, GALLERY, QUERY, seen

from vrstc_jax.evaluation import retrieval
from vrstc_jax.evaluation.retrieval import evaluate, evaluate_features, judge_distances, save_features
from vrstc_jax.recipes.rank import nearest
from vrstc_jax.runtime.errors import InputError


def test_figures_by_hand():
    evaluation = judge_distances(BEFORE, QUERY, GALLERY)
    # ann: hits at 2 and 4, precisions 1/2 and 2/4; bob: one at 4.
    np.testing.assert_allclose(evaluation.ranking.average_precision, [0.5, 0.25, np.nan])
    assert evaluation.figures() == {"rank1": 0.0, "rank5": 1.0, "rank10": 1.0, "rank20": 1.0, "map": 0.375,
                                    "queries": 3, "left_out": 1}
    assert evaluation.ranking.cmc.tolist() == [0, 0.5, 0.5, 1, 1, 1] and evaluation.features is None
    better = judge_distances(AFTER, QUERY, GALLERY).figures()
    assert (better["rank1"], better["map"]) == (0.5, 0.625)


@pytest.fixture
def by_colour(monkeypatch):
    """In place of a network: the mean brightness of the kept frames, as an angle."""
    def features(model, tracklets, *, keep=None, progress=None):
        angles = []
        for i, each in enumerate(tracklets):
            kept = np.ones(len(each), bool) if keep is None or keep[i] is None else keep[i]
            angles.append(np.mean([each.frames[t] for t in np.flatnonzero(kept)]) / 100)
            progress()
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)

    monkeypatch.setattr(retrieval, "tracklet_features", features)


def test_evaluate_ranks_by_the_cosine_of_features(by_colour):
    query = [seen("ann", "c1", colour=30), seen("bob", "c1", colour=90)]
    gallery = [seen("bob", "c2", colour=35), seen("ann", "c2", colour=40), seen("eve", "c2", colour=200)]
    evaluation = evaluate(None, query, gallery)
    angles = [np.array([t.frames[0].mean() + 1 for t in each]) / 100 for each in (query, gallery)]
    # Float32 features of length 1.
    np.testing.assert_allclose(evaluation.distances, 1 - np.cos(angles[0][:, None] - angles[1]), atol=1e-6)
    assert evaluation.ranking.first_hit.tolist() == [2, 2] and evaluation.figures()["map"] == 0.5
    assert [part.shape for part in evaluation.features] == [(2, 2), (3, 2)]
    again = evaluate_features(*evaluation.features, query, gallery)
    np.testing.assert_array_equal(again.distances, evaluation.distances)


def test_only_frames_that_are_kept_count(by_colour):
    ann, bob = seen("ann", "c2", "a"), seen("bob", "c2", "b", colour=100)
    frames = [np.full((24, 12, 3), value, np.uint8) for value in (0, 200)]
    mixed = tracklet(frames, name="m", person="ann", camera="c1")
    assert evaluate(None, [mixed], [ann, bob]).ranking.first_hit[0] == 2
    first = np.array([True, False])
    assert evaluate(None, [mixed], [ann, bob], keep=[first, None, None]).ranking.first_hit[0] == 1
    # By their places: a query and a gallery's tracklet may share a name.
    ann, bob = (dataclasses.replace(each, name="m") for each in (ann, bob))
    assert evaluate(None, [mixed], [ann, bob], keep=[first, None, None]).ranking.first_hit[0] == 1


@pytest.mark.parametrize("query, gallery, message", [
    ([], GALLERY, "Ranking needs queries and a gallery. Got 0 and 6 tracklets."),
    (QUERY, [], "Ranking needs queries and a gallery. Got 3 and 0 tracklets."),
    ([seen(None, "c1", "q")], GALLERY, "tracklet q of query: its person is not known, and ranking is judged by who "
                                       "was seen by which camera"),
    (QUERY, [seen("ann", None, "g")], "tracklet g of gallery: its camera is not known"),
    (QUERY, [seen("", "c1", "g")], "tracklet g of gallery: its person is not known"),
    ([seen("cid", "c1", "q")], GALLERY, "None of the 1 queries, the first of which is tracklet q, has a match among "
                                        "the 6 tracklets of the gallery: the same person in another camera"),
    ([seen("-1", "c1")], GALLERY, "None of the 1 queries"), ([seen("bob", "c2")], GALLERY, "None of the 1 queries"),
])
def test_what_cannot_be_judged(query, gallery, message):
    """There is no network: this is told before features are made."""
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


def test_nearest(by_colour):
    query = seen("ann", "c1", "q", colour=50)
    gallery = [seen("bob", "c2", "far", colour=150), seen("ann", "c2", "right", colour=60),
               seen("ann", "c1", "junk", colour=50), seen("-1", "c2", "nobody", colour=50),
               seen(None, None, "unknown", colour=52), seen("eve", "c1", "wrong", colour=70)]
    matches, picture = nearest(None, query, gallery)
    assert [(match.tracklet, match.person, match.camera) for match in matches] == [
        ("unknown", None, None), ("right", "ann", "c2"), ("wrong", "eve", "c1"), ("far", "bob", "c2")]
    # Angles of brightness / 100.
    assert [match.distance for match in matches] == pytest.approx(
        [1 - np.cos(difference / 100) for difference in (2, 10, 20, 100)], abs=1e-6)
    for colour in ((0, 140, 90), (205, 60, 30), (110, 110, 110)):  # a right one, wrong ones, an unknown one
        assert (picture == colour).all(2).any()
    assert len(nearest(None, query, gallery, count=2)[0]) == 2


def test_of_an_unknown_query_nothing_is_right_or_wrong(by_colour):
    gallery = [seen("bob", "c2", "a", colour=9), seen(None, None, "b", colour=5), seen("-1", "c1", "c")]
    matches, picture = nearest(None, seen(None, None, "q"), gallery)
    assert [match.tracklet for match in matches] == ["b", "a"]
    grey = (picture == (110, 110, 110)).all(2).mean()
    assert grey > 0.02 and not (picture == (205, 60, 30)).all(2).any()


def test_nearest_of_nothing(by_colour):
    with refused("gallery has no tracklet"):
        nearest(None, QUERY[0], [])


@pytest.mark.usefixtures("quick_compilation")
def test_an_empty_tracklet_is_named():
    with refused("tracklet empty: has no frame"):
        nearest(random_reid(), tracklet(figures(1), name="q"), [tracklet([], name="empty")])


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
