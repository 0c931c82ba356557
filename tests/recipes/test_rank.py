"""The gallery's nearest to one query: greys, whose features are the more alike the nearer the greys are."""

import numpy as np
import pytest
from people import figures, random_reid, tracklet
from small_ranking import QUERY, seen

from vrstc_jax.evaluation import distances
from vrstc_jax.inference.features import tracklet_features
from vrstc_jax.recipes.rank import nearest
from vrstc_jax.report.ranking_pictures import RankedList, ranked_lists
from vrstc_jax.runtime.errors import InputError

pytestmark = pytest.mark.usefixtures("quick_compilation")

GREEN, RED, GREY = (0, 140, 90), (205, 60, 30), (110, 110, 110)


def drawn(title, query, entries, right):
    """The picture of these tracklets, each by its middle frame."""
    return ranked_lists([RankedList(title, query.frames[1], [entry.frames[1] for entry in entries], right)])


def test_nearest():
    query = seen("ann", "c1", "q", colour=50)
    gallery = [seen("bob", "c2", "far", colour=150), seen("ann", "c2", "right", colour=60),
               seen("ann", "c1", "junk", colour=50), seen("-1", "c2", "nobody", colour=50),
               seen(None, None, "unknown", colour=52), seen("eve", "c1", "wrong", colour=70)]
    matches, picture = nearest(random_reid(), query, gallery)
    assert [match.tracklet for match in matches] == ["unknown", "right", "wrong", "far"]
    assert [(match.person, match.camera) for match in matches] == [(None, None), ("ann", "c2"), ("eve", "c1"),
                                                                   ("bob", "c2")]
    assert [match.distance for match in matches] == pytest.approx(
        distances(tracklet_features(random_reid(), [query]),
                  tracklet_features(random_reid(), [gallery[i] for i in (4, 1, 5, 0)]))[0], abs=1e-6)
    expected = drawn("query q", query, [gallery[i] for i in (4, 1, 5, 0)], [None, True, False, False])
    np.testing.assert_array_equal(picture, expected)
    for colour in (GREEN, RED, GREY):  # a right one, wrong ones, an unknown one
        assert (picture == colour).all(2).any()
    assert len(nearest(random_reid(), query, gallery, count=2)[0]) == 2


def test_of_an_unknown_query_nothing_is_right_or_wrong():
    gallery = [seen("bob", "c2", "a", colour=9), seen(None, None, "b", colour=5), seen("-1", "c1", "c")]
    query = seen(None, None, "q")
    matches, picture = nearest(random_reid(), query, gallery)
    assert [match.tracklet for match in matches] == ["b", "a"]
    np.testing.assert_array_equal(picture, drawn("query q", query, [gallery[1], gallery[0]], [None, None]))
    assert (picture == GREY).all(2).mean() > 0.02
    assert not (picture == GREEN).all(2).any() and not (picture == RED).all(2).any()


def test_nearest_of_nothing():
    with pytest.raises(InputError, match="gallery has no tracklet"):
        nearest(random_reid(), QUERY[0], [])


def test_an_empty_tracklet_is_named():
    with pytest.raises(InputError, match="tracklet empty: has no frame"):
        nearest(random_reid(), tracklet(figures(1), name="q"), [tracklet([], name="empty")])
