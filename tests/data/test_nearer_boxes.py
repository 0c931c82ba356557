"""Who stands nearer, by the lower edges of boxes, and where they cover a crop."""

import dataclasses

import numpy as np

from vrstc_jax.data.nearer_boxes import GRID, covered, with_nearer_boxes
from vrstc_jax.data.tracklets import Tracklet


def tracklet(name, boxes):
    count = len(boxes)
    return Tracklet(name, [np.zeros((64, 32, 3), np.uint8)] * count, tuple(f"{i:06d}" for i in range(count)),
                    boxes=np.array(boxes, float))


def test_a_nearer_box_covers_its_part_of_the_crop():
    own = np.array([100.0, 50.0, 32.0, 64.0])
    found = covered(own, np.array([[116.0, 82.0, 50.0, 60.0]]))
    wanted = np.zeros(GRID, bool)
    wanted[32:, 16:] = True
    np.testing.assert_array_equal(found, wanted)


def test_who_stands_behind_or_abreast_covers_nothing():
    own = np.array([100.0, 50.0, 32.0, 64.0])
    assert not covered(own, np.array([[100.0, 40.0, 32.0, 60.0], [100.0, 50.0, 32.0, 64.0]])).any()


def test_a_box_elsewhere_covers_nothing():
    assert not covered(np.array([100.0, 50.0, 32.0, 64.0]), np.array([[10.0, 90.0, 32.0, 64.0]])).any()


def test_only_boxes_of_the_same_frame_count():
    first = tracklet("1", [(1, 0, 0, 32, 64), (2, 0, 0, 32, 64), (4, 0, 0, 32, 64)])
    second = tracklet("2", [(2, 16, 10, 32, 64), (3, 0, 10, 32, 64)])
    alone, hidden = with_nearer_boxes([first, second])[0].nearer[:2]
    assert not alone.any()
    np.testing.assert_array_equal(hidden.any(0), np.arange(GRID[1]) >= 16)
    assert not with_nearer_boxes([first, second])[0].nearer[2].any()
    assert not any(map(np.any, with_nearer_boxes([first, second])[1].nearer[:]))


def test_who_hides_a_person_is_part_of_what_the_tracklet_is_made_from():
    own, behind = [(1, 0, 0, 32, 64), (2, 0, 0, 32, 64)], [(1, 16, -10, 32, 64)]
    one = dataclasses.replace(tracklet("1", own), made_from="x")
    made = [with_nearer_boxes([one, tracklet("2", other)])[0].made_from
            for other in (behind, [(1, 40, 10, 32, 64)], [(1, 16, 10, 32, 64)], [(2, 16, 10, 32, 64)])]
    assert made[0] == made[1] and len(set(made)) == 3


def test_tracklets_without_boxes_stay_as_they_are():
    one = Tracklet("1", [np.zeros((64, 32, 3), np.uint8)], ("000001",))
    assert with_nearer_boxes([one]) == [one] and one.nearer is None
