"""Bulk jobs in shards: what is in which, what is done again, and that one process or several leave the same file."""

import numpy as np
import pytest

from vrstc_jax import hosts
from vrstc_jax.shards import bounds, by_shards


@pytest.mark.parametrize("lengths, expected", [
    ([], []),
    ([3], [[0]]),
    ([9], [[0]]),  # longer than a shard
    ([2, 2, 2], [[0, 1], [2]]),
    ([1, 9, 1], [[0], [1], [2]]),
    ([0, 0, 4, 0, 1], [[0, 1, 2, 3], [4]]),
])
def test_shards_are_runs_of_so_many_frames(lengths, expected):
    assert [list(part) for part in bounds(lengths, frames=4)] == expected


def arrays(places):
    return [np.full((place % 3, 2), place, np.float32) for place in places]


def test_what_stands_is_not_made_again(tmp_path):
    path, made = tmp_path / "scores.npz", []

    def make(places, until=10):
        if len(made) == until:
            raise KeyboardInterrupt
        made.append(list(places))
        return arrays(places)

    with pytest.raises(KeyboardInterrupt):
        by_shards(path, [1] * 7, lambda places: make(places, until=2), frames=2)
    assert made == [[0, 1], [2, 3]] and not path.exists()
    got = by_shards(path, [1] * 7, make, frames=2)
    assert made == [[0, 1], [2, 3], [4, 5], [6]]
    for one, expected in zip(got, arrays(range(7)), strict=True):
        np.testing.assert_array_equal(one, expected)
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.npz"]
    by_shards(path, [1] * 7, make, frames=2)
    assert len(made) == 4


def test_any_number_of_processes_divides_all_the_work(monkeypatch):
    for count in (1, 2, 3, 5):
        monkeypatch.setattr(hosts, "count", lambda: count)
        done = []
        for index in range(count):
            monkeypatch.setattr(hosts, "index", lambda: index)
            done += hosts.divided(4)
        assert sorted(done) == [0, 1, 2, 3]
