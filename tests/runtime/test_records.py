"""Damaged records: one line that names the file and says what to do, or the work is done again; never a wait."""

import json
import shutil

import numpy as np
import pytest
from damage import DAMAGES
from people import figures, tracklet
from refusals import refused

from vrstc_jax.data.images import read_image
from vrstc_jax.data.tracklet_set import read_set, write_set
from vrstc_jax.inference.completer import CompletedFrame
from vrstc_jax.inference.plan import Plan
from vrstc_jax.inference.results_folder import ResultsFolder
from vrstc_jax.runtime import records
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.sharded_map import by_shards
from vrstc_jax.runtime.workdir import Workdir
from vrstc_jax.training import metrics_log

each = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
FRAMES = figures(3, sizes=((12, 8),))


def one_line(error, path):
    assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 600, error


@each
def test_json(tmp_path, damage):
    path = tmp_path / "record.json"
    path.write_text('{"seed": 1.5, "tracklets": [["a", 1]]}')
    assert records.read_record(path, fits=lambda found: found["seed"]) == {"seed": 1.5, "tracklets": [["a", 1]]}
    damage(path)
    with pytest.raises(InputError) as raised:
        records.read_record(path, remedy="remove that", fits=lambda found: found["seed"])
    one_line(raised.value, path)
    assert str(raised.value).endswith("; remove that.")


def test_a_record_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "LARGEST", 10)
    (tmp_path / "record").write_text('{"a": 1, "b": 2}')
    with refused(tmp_path / "record", "it has 16 bytes"):
        records.read_record(tmp_path / "record")


@each
def test_of_a_work_directory(tmp_path, damage):
    """Also a link that leads nowhere: what is there would otherwise be taken for the results of any job."""
    job = Workdir(tmp_path / "job", "fit.json", "another fit")
    def complete(record):
        return record | {"config": dict(record["config"])}

    job.claim({"config": {"a": 1}}, complete=complete)
    damage(tmp_path / "job/fit.json")
    for shared in (True, False):
        with pytest.raises(InputError) as raised:
            job.claim({"config": {"a": 1}}, complete=complete, shared=shared)
        one_line(raised.value, tmp_path / "job")
        assert "remove" in str(raised.value)


def arrays(indices):
    return [np.full((index + 1, 3), index, np.float32) for index in indices]


ARRAYS = DAMAGES | {
    "fewer arrays": lambda path: np.savez(path, *arrays(range(1))),
    "another shape": lambda path: np.savez(path, *arrays(range(2)), np.zeros((3, 2), np.float32)),
    "not finite": lambda path: np.savez(path, *arrays(range(2)), np.full((3, 3), np.nan, np.float32)),
    "objects": lambda path: np.savez(path, *arrays(range(2)), np.array([{}], object)),
    "other names": lambda path: np.savez(path, a=1, b=2, c=3)}


@pytest.mark.parametrize("damage", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("part", [False, True])
def test_of_scores(tmp_path, damage, part, capsys):
    path, made = tmp_path / "scores.npz", []

    def make(indices, until=9):
        if len(made) == until:
            raise KeyboardInterrupt
        made.append(list(indices))
        return arrays(indices)

    def kept(until=9):
        return by_shards(path, [1, 2, 3], lambda indices: make(indices, until), frames=3,
                         fits=lambda array, length: array.shape == (length, 3))

    if part:
        with pytest.raises(KeyboardInterrupt):
            kept(until=1)
        damage(tmp_path / ".scores.parts/00000.npz")
    else:
        kept()
        damage(path)
    before = len(made)
    got = kept()
    assert len(made) == (before + 2)  # both shards, or the damaged one and the one that was not made yet
    for one, expected in zip(got, arrays(range(3)), strict=True):
        np.testing.assert_array_equal(one, expected)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "computed again" in said[0]
    kept()
    assert len(made) == before + 2 and [entry.name for entry in tmp_path.iterdir()] == ["scores.npz"]


class TestResults:
    walker = tracklet(FRAMES, name="0001/c1")

    def write(self, directory):
        folder = ResultsFolder(directory, {"seed": 1})
        plan = Plan.from_scores(np.ones((3, 3)), 0.5)
        done = [CompletedFrame(i, frame, np.zeros(frame.shape[:2], bool), (-1, -1), "visible")
                for i, frame in enumerate(FRAMES)]
        if not folder.has(self.walker):
            folder.write(self.walker, plan, iter(done))
            return True
        return False

    @each
    @pytest.mark.parametrize("file", ["scores/0001/c1.json", "0001/c1/000001.png", "masks/0001/c1/000002.png"])
    def test_done_again(self, tmp_path, damage, file, capsys):
        """Of a picture, what is no file; what is in one is seen when it is read."""
        self.write(tmp_path)
        damage(tmp_path / file)
        again = self.write(tmp_path)
        assert again == (file.endswith(".json") or not (tmp_path / file).is_file() or bool(capsys.readouterr().err))
        if again:
            assert not self.write(tmp_path)
            for i, frame in enumerate(FRAMES):
                np.testing.assert_array_equal(read_image(tmp_path / f"0001/c1/{i:06d}.png"), frame)

    @pytest.mark.parametrize("change", [
        lambda rows: rows.pop(), lambda rows: rows.append(rows[0]), lambda rows: rows[0].update(how="x"),
        lambda rows: rows[1].update(frame="000007"), lambda rows: rows[1].pop("sources"),
        lambda rows: rows[1].update(scores="x"), lambda rows: rows[1].update(hidden=None)])
    def test_rows(self, tmp_path, change, capsys):
        self.write(tmp_path)
        record = json.loads((tmp_path / "scores/0001/c1.json").read_text())
        change(record["frames"])
        (tmp_path / "scores/0001/c1.json").write_text(json.dumps(record))
        assert self.write(tmp_path) and not self.write(tmp_path)
        assert "tracklet 0001/c1 is completed again" in capsys.readouterr().err

    @each
    @pytest.mark.parametrize("what", ["run.json", "work", "scores", "masks", "0001"])
    def test_what_they_are_in(self, tmp_path, damage, what):
        """Anything in place of the record or of a folder."""
        self.write(tmp_path / "out")
        if (tmp_path / "out" / what).is_dir():
            shutil.rmtree(tmp_path / "out" / what)
        (tmp_path / "out" / what).write_text("x")
        damage(tmp_path / "out" / what)
        try:
            self.write(tmp_path / "out")
        except InputError as error:
            one_line(error, tmp_path / "out")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "set"
    write_set(path, [tracklet(FRAMES, name="a"), tracklet(FRAMES, name="b")])
    return path


def frames_of(path):
    return [frame for walker in read_set(path).tracklets for frame in walker.frames]


@each
@pytest.mark.parametrize("file", ["dataset_info.json", "features.json", "tracklets.json", "records", "set"])
def test_of_a_set(stored, tmp_path, damage, file):
    path = tmp_path / "set"
    shutil.copytree(stored, path)
    target = path if file == "set" else next(path.glob("*array_record*")) if file == "records" else path / file
    if file == "set":
        shutil.rmtree(path)
        path.write_text("x")
    damage(target)
    try:
        found = frames_of(path)
    except InputError as error:
        one_line(error, path)
        assert "again" in str(error) or "replace it" in str(error)
    else:
        np.testing.assert_array_equal(found, [*FRAMES, *FRAMES])


@each
def test_of_metrics(tmp_path, damage, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    damage(path)
    try:
        found = metrics_log.read_metrics(tmp_path)
        metrics_log.curves(tmp_path)
    except InputError as error:
        one_line(error, path)
    else:
        assert found in ([], [{"step": 1, "loss": 2.0}])


def test_of_metrics_in_the_middle(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "a": 2.0}\nx\n{"step": 3, "a": 1.0}\n')
    assert metrics_log.read_metrics(tmp_path) == [{"step": 1, "a": 2.0}]
    assert "metrics.jsonl: line 2 is damaged; it and those after it are left out" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "a": 2.0}\n{"step": 2, "b": 1.0}\n{"step": 3, "a"')
    assert metrics_log.curves(tmp_path) == {"a": [[1, 2.0]]} and not capsys.readouterr().err


@each
@pytest.mark.parametrize("what", ["metrics.jsonl", "run"])
def test_a_log_that_goes_on(tmp_path, damage, what):
    directory = tmp_path / "run"
    with metrics_log.MetricsLog(directory) as log:
        log.write(1, {"loss": 2.0})
    damaged = directory if what == "run" else directory / what
    if what == "run":
        shutil.rmtree(directory)
        directory.write_text("x")
    damage(damaged)
    try:
        with metrics_log.MetricsLog(directory, 1) as log:
            log.write(2, {"loss": 1.0})
    except InputError as error:
        one_line(error, directory)
    else:
        assert metrics_log.read_metrics(directory)[-1] == {"step": 2, "loss": 1.0}
