"""Tracklets where they are: the same records as from a stored set of them."""

import numpy as np
import pytest
from people import figures, masks_at, tracklet
from refusals import refused

from vrstc_jax.data.in_place import TrackletsInPlace
from vrstc_jax.data.tracklet_set import read_set, write_set


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(the set in place, the stored one) of tracklets with masks and without, and of one without frames."""
    given = []
    for k, hidden in enumerate([(3, 4, 10), None, (), (5,)]):
        frames = figures(12, sizes=((40, 20), (37, 19)), seed=k)
        given.append(tracklet(frames, None if hidden is None else masks_at(frames, hidden), name=f"t{k}"))
    given.insert(2, tracklet([], name="empty"))
    directory = tmp_path_factory.mktemp("stored") / "set"
    write_set(directory, given)
    return TrackletsInPlace(given), read_set(directory)


def test_tracklets_are_those_with_frames(both):
    in_place, stored = both
    assert [t.name for t in in_place.tracklets] == [t.name for t in stored.tracklets] == ["t0", "t1", "t2", "t3"]
    assert in_place.first == stored.first == (0, 12, 24, 36)


def test_records_are_those_of_a_stored_set(both):
    in_place, stored = both
    for record in range(4 * 12):
        for part in ("frame", "thumbnail", "mask"):
            np.testing.assert_array_equal(getattr(in_place, part)(record), getattr(stored, part)(record), strict=True)


def test_masked_frames_are_those_of_a_stored_set(both):
    in_place, stored = both
    for record in (*range(12), *range(24, 48)):  # of the tracklets with masks
        masked = in_place.masked_frame(record)
        np.testing.assert_array_equal(masked, stored.masked_frame(record), strict=True)
        assert masked.shape[2] == 4 and (masked[..., 3].max() == 255) == (record in (3, 4, 10, 41))


def test_no_frame_in_any_tracklet():
    for nothing in ([], [tracklet([])]):
        with refused("no frame in any tracklet"):
            TrackletsInPlace(nothing)
