"""Tables and pictures of rankings."""

import os

import numpy as np
import pytest
from refusals import refused
from small_ranking import AFTER, BEFORE, GALLERY, QUERY, seen

from vrstc_jax.data.images import read_image
from vrstc_jax.evaluation.retrieval import judge_distances
from vrstc_jax.report import ranking_pictures, ranking_tables
from vrstc_jax.report.images import runs
from vrstc_jax.report.ranking_pictures import compared_lists, ranked_picture, write_pictures
from vrstc_jax.report.ranking_tables import format_figures


def test_figures_as_text_and_as_a_table():
    figures = {"before": judge_distances(BEFORE, QUERY, GALLERY).figures(),
               "afterwards": judge_distances(AFTER, QUERY, GALLERY).figures()}
    lines = format_figures(figures).splitlines()
    assert lines == ["Who is it: ranks and mean average precision, %",
                     "            rank-1  rank-5  rank-10  rank-20   mAP",
                     "before         0.0   100.0    100.0    100.0  37.5",
                     "afterwards    50.0   100.0    100.0    100.0  62.5",
                     "1 queries have no match in the gallery and are left out"]
    assert ranking_tables.table(figures).rows[1] == ["afterwards", "50.0", "100.0", "100.0", "100.0", "62.5"]
    without = judge_distances(BEFORE[:2], QUERY[:2], GALLERY).figures()
    assert len(format_figures({"a": without}).splitlines()) == 3


def test_ranked_lists_frame_what_is_right_and_wrong():
    black, grey = np.zeros((64, 32, 3), np.uint8), np.full((20, 10, 3), 128, np.uint8)
    before = ranking_pictures.RankedList("before", black, [grey, black], [False, True])
    after = ranking_pictures.RankedList("after", black, [black, grey, grey], [True, True, False])
    green, red = ranking_pictures._RIGHT, ranking_pictures._WRONG
    one, other, both = (ranking_pictures.ranked_lists(lists, height=40) for lists in
                        ([before], [after], [before, after]))
    assert both.dtype == np.uint8 and both.shape == (one.shape[0] + other.shape[0], other.shape[1], 3)

    def frames(picture, colour):
        """The left ends of the frames of the colour, by their upper edges."""
        rows = (picture == colour).all(axis=2)
        return [left for left, _ in runs(rows[np.argmax(rows.any(axis=1))])]

    # Frames are in the order of the list: the wrong one comes first before, last after.
    (wrong,), (right,) = frames(one, red), frames(one, green)
    assert wrong < right
    (first, second), (wrong,) = frames(other, green), frames(other, red)
    assert first < second < wrong
    with pytest.raises(ValueError, match="2 entries need as many marks. Got 1"):
        ranking_pictures.RankedList("before", black, [grey, black], [True])
    with pytest.raises(ValueError, match="Got 0 and 40"):
        ranking_pictures.ranked_lists([], height=40)


def test_lists_of_before_and_after():
    before, after = (judge_distances(matrix, QUERY, GALLERY) for matrix in (BEFORE, AFTER))
    completed = [seen(t.person, t.camera, t.name, colour=100) for t in GALLERY]
    given = before, after, (QUERY, GALLERY), (QUERY, completed)
    drawn = compared_lists(*given, count=3)
    # cid, who has no match, is not shown.
    assert [entry.title for entry in drawn] == [
        "query ann/c1, before completion: average precision 50 %",
        "query ann/c1, after completion: average precision 100 %",
        "query bob/c1, before completion: average precision 25 %",
        "query bob/c1, after completion: average precision 25 %"]
    assert [list(entry.right) for entry in drawn] == [[False, True, False], [True, True, False],
                                                      [False] * 3, [False] * 3]
    assert {int(entry.max()) for entry in drawn[0].entries} == {3}  # the frame in the middle
    assert {int(entry.max()) for entry in drawn[1].entries} == {103}
    picture = ranked_picture(*given, count=3)
    np.testing.assert_array_equal(picture, ranking_pictures.ranked_lists(drawn))
    assert picture.shape[0] % 4 == 0 and picture.shape[0] / 4 > 128


def test_gains_and_losses_are_shown_alike():
    """Of six queries those with the largest gains come first, and those with the largest losses last."""
    people = [f"p{i}" for i in range(6)]
    query, gallery = ([seen(person, camera) for person in people] for camera in ("c1", "c2"))

    def ranked_at(ranks):
        """Distances at which the right one has the given rank, from 1."""
        matrix = np.tile(np.arange(6, dtype=np.float32), (6, 1))
        for i, rank in enumerate(ranks):
            order = [j for j in range(6) if j != i]
            order.insert(rank - 1, i)
            matrix[i, order] = np.arange(6)
        return judge_distances(matrix, query, gallery)

    # Gains of 0, 5/6, 0, −4/5, 1/4 and −1/3.
    before, after = ranked_at([1, 6, 3, 1, 4, 2]), ranked_at([1, 1, 3, 5, 2, 6])
    names = lambda count: [entry.title[6:11] for entry in compared_lists(
        before, after, (query, gallery), (query, gallery), queries=count)]
    assert names(4)[::2] == ["p1/c1", "p4/c1", "p5/c1", "p3/c1"]
    assert names(1) == ["p1/c1"] * 2
    assert sorted(names(99)[::2]) == [f"{person}/c1" for person in people]


def test_letters_that_cannot_be_drawn_become_question_marks():
    black = np.zeros((64, 32, 3), np.uint8)
    drawn, expected = (ranking_pictures.ranked_lists([ranking_pictures.RankedList(title, black, [black], [None])])
                       for title in ("query é/东", "query ?/?"))
    np.testing.assert_array_equal(drawn, expected)


def test_right_and_wrong_need_known_persons():
    ranked = [ranking_pictures.ranked_list("q", np.arange(3.0), query, [seen(None, None), seen("ann", "c2"),
                                                                         seen("bob", "c2")], 3)
              for query in (QUERY[0], seen(None, None))]
    assert [list(each.right) for each in ranked] == [[None, True, False], [None, None, None]]


def test_pictures_are_written(tmp_path):
    evaluations = {name: judge_distances(matrix, QUERY, GALLERY) for name, matrix in (("a", BEFORE), ("b", AFTER))}
    ranked, folder = np.arange(60, dtype=np.uint8).reshape(4, 5, 3), tmp_path / "new"
    assert write_pictures(folder, evaluations, ranked) == [folder / "ranked.png", folder / "cmc.png"]
    np.testing.assert_array_equal(read_image(folder / "ranked.png"), ranked)
    assert len(np.unique(read_image(folder / "cmc.png").reshape(-1, 3), axis=0)) > 50
    assert sorted(os.listdir(folder)) == ["cmc.png", "ranked.png"]
    assert write_pictures(tmp_path / "other", evaluations, None) == [tmp_path / "other/cmc.png"]
    (tmp_path / "file").write_text("")
    with refused("file/cmc.png: cannot be written"):
        write_pictures(tmp_path / "file", evaluations, None)
    with pytest.raises(ValueError, match="Got 0 and 20"):
        write_pictures(tmp_path, {}, None)
