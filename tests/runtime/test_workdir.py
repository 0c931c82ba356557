"""A job's directory: whose it is, what is made once, and that half a result never passes for the whole."""

import json
import shutil

import pytest
from bucket import folder  # noqa: F401
from refusals import refused

from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.workdir import Workdir


@pytest.fixture
def work(folder):
    """(the job's directory, where its files really are)."""
    return Workdir(folder[0]), folder[1]


class TestClaim:
    def test_the_same_job_has_it_again(self, work):
        job, here = work
        for _ in range(2):
            job.claim({"seed": 1, "sizes": (2, 3)})
        assert json.loads((here / "experiment.json").read_text()) == {"seed": 1, "sizes": [2, 3]}

    def test_another_job_is_refused(self, work):
        job, here = work
        job.claim({"seed": 1})
        with refused("x: holds an experiment with other data or settings"):
            job.claim({"seed": 2})
        assert json.loads((here / "experiment.json").read_text()) == {"seed": 1}

    def test_a_record_of_before_there_was_a_field(self, work):
        job, _ = work
        job.claim({"seed": 1})
        job.claim({"seed": 1, "more": 0}, complete=lambda record: {"more": 0} | record)
        with refused("holds an experiment"):
            job.claim({"seed": 1, "more": 1}, complete=lambda record: {"more": 0} | record)

    def test_files_of_nobody_s_job(self, work):
        job, here = work
        here.mkdir(parents=True)
        (here / ".experiment.json.partial").write_text("{")  # of a process killed while it claimed
        job.claim({"seed": 1})
        shutil.rmtree(here)
        here.mkdir()
        (here / "letter.txt").write_text("x")
        with refused("is not empty, and nothing in it is from this command"):
            job.claim({"seed": 1})
        assert [path.name for path in here.iterdir()] == ["letter.txt"]
        job.claim({"seed": 1}, shared=True)


class TestResults:
    def test_each_is_made_once(self, work, capsys):
        job, here = work
        here.mkdir(parents=True)
        made = []

        def get():
            return job.get_or_make("n.json", lambda: made.append(1) or 5, label="number",
                                   save=lambda path, value: path.write_text(json.dumps(value)),
                                   load=lambda path: json.loads(path.read_text()))

        assert (get(), get(), made) == (5, 5, [1])
        first, second = capsys.readouterr().out.splitlines()
        assert first == f"number: done in 0 s ({job.path}/n.json)."
        assert second == f"number: already done ({job.path}/n.json)."

    def test_what_make_leaves_itself(self, work):
        job, here = work
        here.mkdir(parents=True)
        for _ in range(2):
            assert job.get_or_make("a", lambda: (job.path / "a").write_text("once"),
                                   load=lambda path: path.read_text()) == "once"

    def test_what_is_written_by_process_0_alone(self, work, monkeypatch):
        job, here = work
        here.mkdir(parents=True)
        with monkeypatch.context() as another_process:
            another_process.setattr(distributed, "run_on_first", lambda call: None)
            assert job.get_or_write("b", lambda path: path.write_text("2"), load=lambda path: path.exists()) is False
        for text in ("1", "2"):
            assert job.get_or_write("b", lambda path: path.write_text(text), load=lambda path: path.read_text()) == "1"

    def test_whether_it_is_whole_is_asked(self, work):
        job, here = work
        (here / "set").mkdir(parents=True)
        read = job.get_or_make("set", lambda: (job.path / "set/last").write_text("1"),
                               load=lambda path: (path / "last").read_text(),
                               exists=lambda path: (path / "last").exists())
        assert read == "1"


def test_discarding(work):
    job, here = work
    (here / "set").mkdir(parents=True)
    (here / "set/last").write_text("x")
    (here / "file").write_text("x")
    for name in ("set", "file", "set", "absent"):
        job.discard(name, last="last")
    assert not [path for path in here.rglob("*") if path.is_file()]


def test_stopped_while_discarding(tmp_path):
    job = Workdir(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/last").write_text("x")
    (tmp_path / "set").rename(tmp_path / ".set.removed")  # killed between the renaming and the removal
    (tmp_path / ".hidden").write_text("x")
    job.clean()
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]
