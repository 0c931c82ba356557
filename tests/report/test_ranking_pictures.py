"""Tables and pictures of rankings."""

import numpy as np
import pytest
from people import figures, tracklet
from small_ranking import AFTER, BEFORE, GALLERY, QUERY, seen

from vrstc_jax.data.images import read_image
from vrstc_jax.evaluation.retrieval import judge_distances
from vrstc_jax.report import ranking_pictures, ranking_tables
from vrstc_jax.report.ranking_pictures import compared_lists, portrait, ranked_picture, write_pictures
from vrstc_jax.report.ranking_tables import format_figures
from vrstc_jax.runtime.errors import InputError


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
        """How many pictures have a frame of the colour, by their upper edges."""
        rows = (picture == colour).all(axis=2)
        edge = np.append(rows[np.argmax(rows.any(axis=1))], False)
        return int((edge[:-1] & ~edge[1:]).sum())

    assert [frames(one, green), frames(one, red)] == [1, 1]
    assert [frames(other, green), frames(other, red)] == [2, 1]
    # Frames are in the order of the list: the wrong one comes first before, last after.
    left = {name: np.argmax((picture == colour).all(axis=2).any(axis=0)) for name, picture, colour in
            [("one red", one, red), ("one green", one, green), ("red", other, red), ("green", other, green)]}
    assert left["one red"] < left["one green"] and left["green"] < left["red"]
    with pytest.raises(ValueError, match="2 entries need as many marks. Got 1"):
        ranking_pictures.RankedList("before", black, [grey, black], [True])
    with pytest.raises(ValueError, match="Got 0 and 40"):
        ranking_pictures.ranked_lists([], height=40)


def test_cmc_plot(tmp_path):
    rankings = {name: judge_distances(matrix, QUERY, GALLERY).ranking
                for name, matrix in (("raw", BEFORE), ("completed", AFTER))}
    ranking_pictures.write_cmc_plot(tmp_path / "new" / "cmc.png", rankings)
    drawn = read_image(tmp_path / "new" / "cmc.png")
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 50
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["cmc.png"]
    with pytest.raises(ValueError, match="Got 0 and 20"):
        ranking_pictures.write_cmc_plot(tmp_path / "cmc.png", {})


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
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.shape[0] % 4 == 0
    assert picture.shape[0] / 4 > 128


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


def test_a_portrait_is_the_middle_frame():
    frames = figures(5)
    np.testing.assert_array_equal(portrait(tracklet(frames)), frames[2])
    np.testing.assert_array_equal(portrait(tracklet(frames[:1])), frames[0])


class TestWritePictures:
    evaluations = {"before": judge_distances(BEFORE, QUERY, GALLERY)}
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)

    def test_what_is_written(self, tmp_path):
        written = write_pictures(tmp_path, self.evaluations, self.picture)
        assert written == [tmp_path / "ranked.png", tmp_path / "cmc.png"]
        np.testing.assert_array_equal(read_image(tmp_path / "ranked.png"), self.picture)
        assert read_image(tmp_path / "cmc.png").shape[2] == 3
        assert write_pictures(tmp_path / "other", self.evaluations, None) == [tmp_path / "other/cmc.png"]

    def test_where_nothing_can_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="file/cmc.png: cannot be written"):
            write_pictures(tmp_path / "file", self.evaluations, None)
