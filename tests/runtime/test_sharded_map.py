"""Bulk jobs in shards: what is in which, what is done again, and that one process or several leave the same file."""

import re
import signal
from unittest import mock

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from people import figures, tracklet

from vrstc_jax.data.tracklet_set import write_set
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.sharded_map import bounds, by_shards


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


WRITE_PNG = "vrstc_jax.inference.results_folder:write_png"


def arrays(indices):
    return [np.full((index % 3, 2), index, np.float32) for index in indices]


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


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_processes_divides_all_the_work(monkeypatch, count):
    monkeypatch.setattr(distributed, "process_count", lambda: count)
    monkeypatch.setattr(distributed, "process_index", mock.Mock(side_effect=range(count)))
    assert sorted(item for _ in range(count) for item in distributed.own_items(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("wait", [lambda: distributed.run_on_first(int), lambda: distributed.barrier("here")])
def test_what_process_0_does_alone_cannot_wait_for_others(wait):
    """It would wait for ever where there are several, so one process refuses it too."""
    with pytest.raises(RuntimeError, match="only process 0 runs it"):
        distributed.run_on_first(wait)
    assert distributed.run_on_first(lambda: {"again": (1,)}) == {"again": [1]}


def files(*places):
    """{path: bytes} of all files in some folders."""
    return {str(path.relative_to(place.parent)): path.read_bytes()
            for place in places for path in place.rglob("*") if path.is_file()}


class TestBulkJobs:
    """Locating, completing and extracting features, by stand-ins of trained networks (`tools.killed_job` trains)."""

    @pytest.fixture(scope="class")
    def by_one(self, server, tmp_path_factory):
        return self.leaves(server, tmp_path_factory.mktemp("one"), processes=1)

    def leaves(self, server, place, processes, **options):
        for index, text in enumerate(server.run("bulk", place, processes=processes, **options)):
            reports = "rank: done in" in text or "results.json: exists already" in text
            assert reports == ("completing: " in text) == (index == 0), text
        assert {path.name for path in place.iterdir()} - {"log0", "log1"} == {"work", "queries"}
        left = files(place / "work", place / "queries")
        assert {"work/features.npz", "work/completed/tracklets.json", "work/scores/train.npz", "work/results.json",
                "queries/report.html", "queries/metrics.json"} <= set(left)
        assert not [name for name in left if "partial" in name or "parts" in name or "completed_" in name]
        return left

    @pytest.mark.slow
    def test_killed_and_run_again(self, server, by_one, tmp_path):
        server.run_killed("bulk", tmp_path, 1, (WRITE_PNG, 23))  # in the middle of a tracklet
        assert not (tmp_path / "work/completed").exists()
        assert self.leaves(server, tmp_path, 2) == by_one

    @pytest.mark.slow
    def test_sigterm(self, server, by_one, tmp_path):
        """As launchers send it to all: each leaves with the code that says to go on, whoever waits for whom."""
        said = server.run("bulk", tmp_path, processes=2, code=75, only={
            index: {"kill": (WRITE_PNG, call, signal.SIGTERM)} for index, call in enumerate((5, 9))})
        for index, text in enumerate(said):
            assert f"vrstc: process {index} of 2: preempted; the same command goes on from here" in text, text
            assert "Traceback" not in text
        assert not (tmp_path / "work/completed").exists()
        assert self.leaves(server, tmp_path, 2) == by_one

    def test_what_process_0_refuses_all_refuse(self, server, tmp_path):
        (tmp_path / "work").mkdir()
        (tmp_path / "work/mine").write_text("x")
        for index, text in enumerate(server.run("bulk", tmp_path, processes=2, code=2)):
            refusal = f"^vrstc: process {index} of 2: .*/work: is not empty, and nothing in it"
            assert re.search(refusal, text, re.M), text
            assert "Traceback" not in text

    @pytest.mark.slow
    def test_what_process_0_fails_at(self, server, tmp_path):
        said = server.run("bulk", tmp_path, processes=2, code=1,
                          only={0: {"fail": "vrstc_jax.recipes.five_steps.completing:write_set"}})
        assert "RuntimeError: made to fail" in said[0] and "takes the others down" in said[0]
        assert "another process of this run is gone" in said[1] and "Traceback" not in said[1]

    @pytest.mark.slow
    def test_in_a_bucket(self, server, by_one, tmp_path):
        """`bucket.py` stands in for one; two processes, killed and run again, leave the same there."""
        options = {"bucket": str(tmp_path / "buckets")}
        server.run_killed("bulk", tmp_path / "logs", 1, (WRITE_PNG, 23), **options)
        server.run("bulk", tmp_path / "logs", processes=2, **options)
        place = tmp_path / "buckets/here"
        assert files(place / "work", place / "queries") == by_one

    @pytest.mark.slow
    def test_killed_in_everything(self, server, by_one, tmp_path):
        """One after the other; then one process ends what two began."""
        for killed, moment in (
                (1, ("vrstc_jax.inference.locate:Locator.scores", 2)),
                (0, ("vrstc_jax.runtime.sharded_map:_save", 3)),
                (0, ("vrstc_jax.inference.results_folder:ResultsFolder.write", 3)),
                (0, ("vrstc_jax.recipes.five_steps.completing:write_set", 1)),
                (1, ("vrstc_jax.evaluation.retrieval:tracklet_features", 1)),
                (0, ("vrstc_jax.recipes.five_steps.ranking:write_ranking", 1)),
                (1, (WRITE_PNG, 1)),
                (0, ("vrstc_jax.recipes.complete:Summary.write", 1))):
            server.run_killed("bulk", tmp_path, killed, moment)
        assert self.leaves(server, tmp_path, 1) == by_one

    @pytest.mark.slow
    def test_two_hundred_tracklets(self, server, tmp_path):
        options = {"people": 51}  # 102 tracklets of them, 34 queries, and 34 and 34 more in the gallery
        one = self.leaves(server, tmp_path / "one", 1, **options)
        assert self.leaves(server, tmp_path / "two", 2, **options) == one
        server.run_killed("bulk", tmp_path / "killed", 1, (WRITE_PNG, 403), **options)
        assert self.leaves(server, tmp_path / "killed", 2, **options) == one


def test_a_set_is_the_same_bytes_from_any_process(tmp_path):
    """A map's fields are in an order that changes from process to process, unless they are put in order."""
    write_set(tmp_path / "set", [tracklet(figures(3), person="ann", camera="c1")])
    file, = (tmp_path / "set").glob("*.array_record*")
    records = ArrayRecordReader(str(file)).read_all()
    for record in records:
        places = [record.index(b"\n" + bytes([len(name)]) + name + b"\x12") for name in (
            b"camera", b"frame", b"has_mask", b"image", b"mask", b"person", b"tracklet")]
        assert places == sorted(places)
    assert len(records) == 3
