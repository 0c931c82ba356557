"""The tally of kills: it says what went wrong, goes on where it was interrupted, and does so with real commands."""

import hashlib
import json
import random
from collections import Counter
from itertools import chain, repeat

import pytest
from refusals import refused

from tools.kill_tally import __main__ as command
from tools.kill_tally import two_processes
from tools.kill_tally.__main__ import Arguments, main
from tools.kill_tally.jobs import Job, Whole
from tools.kill_tally.tries import Try, kill_once, pair_once

REFUSED = "a notice\nvrstc: out: another process is writing here; wait until it has ended, or give another path.\n"
JOB = Job("copy", ("copy",), ("out/work/",), (("out/work", "working"), ("out/done", "done")))
RIGHT = {"out/a": "a", "out/done": "10:15"}  # the second file has a time in it
WHOLE = Whole({"out/a": hashlib.sha256(b"a").hexdigest(), "out/done": None}, seconds=0.02, files=2)
GOES_ON = None  # in place of an exit code


class Child:
    """A command that ended with a code, or that goes on until it is killed."""

    def __init__(self, code, said):
        self._code, self._said = code, said

    def code(self):
        return self._code

    def kill(self):
        self._code = -9
        return -9

    def wait(self):
        return self._code

    def said(self):
        return self._said


class Commands:
    """Each command that is started does the next of the given things: (files, code, stderr)."""

    def __init__(self, *runs):
        self._runs = iter(runs)

    def start(self, words, directory, log="log"):
        written, code, said = next(self._runs)
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in written.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text)
        (directory / log).write_text(said)
        return Child(code, said)


class TestKill:
    def try_(self, tmp_path, *runs):
        return kill_once(JOB, Commands(*runs), WHOLE, tmp_path / "run", random.Random(0))

    def test_right(self, tmp_path):
        done = self.try_(tmp_path, ({"out/work/x": "part"}, GOES_ON, ""), (RIGHT, 0, ""))
        assert (done.kind, done.job, done.phase, done.problems) == ("kill", "copy", "working", [])
        assert "killed" in done.line() and done.line().endswith("(working): the same")

    @pytest.mark.parametrize("killed, again, problem", [
        ({"out/a": "half"}, (RIGHT, 0, ""), "out/a is another after the kill"),
        ({}, (RIGHT | {"out/a": "b"}, 0, ""), "out/a is another"),
        ({}, ({"out/a": "a"}, 0, ""), "out/done is missing"),
        ({".out.lock": ""}, (RIGHT, 0, ""), ".out.lock is left over"),
        ({}, (RIGHT, 2, "vrstc: no\n"), "again: exit code 2: vrstc: no")])
    def test_wrong(self, tmp_path, killed, again, problem):
        done = self.try_(tmp_path, ({"out/work/x": ""} | killed, GOES_ON, ""), again)
        assert problem in done.problems and done.line().endswith("; ".join(done.problems))

    def test_ended_before_the_moment(self, tmp_path):
        done = self.try_(tmp_path, (RIGHT, 0, ""), (RIGHT, 0, ""), ({"out/work/x": ""}, GOES_ON, ""),
                         (RIGHT, 0, ""))
        assert not done.problems
        with refused(tmp_path / "run", "failed before it was killed"):
            self.try_(tmp_path, (RIGHT, 1, ""))


class TestPair:
    @pytest.mark.parametrize("runs, problem", [
        (((RIGHT, 0, ""), ({}, 2, REFUSED)), None), ((({}, 2, REFUSED), (RIGHT, 0, "")), None),
        (((RIGHT, 0, ""), ({}, 0, "")), "exit codes [0, 0]"),
        ((({}, 2, REFUSED), ({}, 2, REFUSED)), "out/a is missing"),
        (((RIGHT, 0, ""), ({}, 2, "vrstc: no\n")), "the refused one said: vrstc: no"),
        (((RIGHT, 0, ""), ({}, 2, REFUSED + "Traceback\n")), "the refused one said: Traceback"),
        (((RIGHT, 0, ""), ({"out/a": "b"}, 2, REFUSED)), "out/a is another")])
    def test_one_ends_and_the_other_is_refused(self, tmp_path, runs, problem):
        done = pair_once(JOB, Commands(*runs), WHOLE, tmp_path / "run", random.Random(0))
        assert (problem is None) == (not done.problems)
        assert problem is None or any(problem in each for each in done.problems), done.problems


class TestTally:
    @pytest.fixture
    def tried(self, monkeypatch):
        """Stand-ins of all that starts processes; the kinds, directories and moments of the tries."""
        tried, problems = [], chain([[]] * 4, [["out/a is another"]], repeat([]))

        def once(kind):
            def make(job, commands, whole, directory, draw):
                directory.mkdir()
                tried.append((kind, directory.name, draw.random()))
                return Try(kind, job, "working" if kind == "kill" else "", "now", next(problems))
            return make

        monkeypatch.setattr(command, "kill_once", once("kill"))
        monkeypatch.setattr(command, "pair_once", once("pair"))
        monkeypatch.setattr(command, "whole", lambda *_: WHOLE)
        monkeypatch.setattr(command, "jobs", lambda work: {"complete": "complete", "fit": "fit"})
        monkeypatch.setattr(command, "Commands", lambda cache: type("Commands", (), {"close": lambda self: None})())
        return tried

    def test_goes_on_and_says_what_went_wrong(self, tried, tmp_path, capsys):
        given = {"jobs": ("complete", "fit"), "workdir": tmp_path}
        assert main(Arguments(times=2, pairs=1, **given))
        assert "2 kills: 2 end results are the same; 1 pairs: in 1 one ended" in capsys.readouterr().out
        assert not main(Arguments(times=4, pairs=1, **given))
        out = capsys.readouterr().out
        assert [name for _, name, _ in tried] == ["kill0", "kill1", "pair0", "kill2", "kill3"]
        assert "fit: killed now (working): out/a is another" in out and "4 kills: 3 end results are the same" in out
        rows = [line.split() for line in out.splitlines() if ": working" in line]
        assert [row[-2:] for row in rows] == [["2", "2"], ["2", "1"]]
        assert (tmp_path / "kill3").exists() and not (tmp_path / "kill2").exists()
        assert not main(Arguments(times=4, pairs=1, **given)) and len(tried) == 5  # what went wrong stays
        with refused(tmp_path, "a tally with other jobs, steps or seed"):
            main(Arguments(times=4, pairs=1, seed=10**6, **given))

    def test_the_seed_gives_the_moments(self, tried, tmp_path):
        for name, seed in (("a", 3), ("b", 3), ("c", 4)):
            main(Arguments(times=2, pairs=1, jobs=("complete",), seed=seed, workdir=tmp_path / name))
        a, b, c = (tried[k:k + 3] for k in (0, 3, 6))
        assert a == b != c and len({moment for *_, moment in a + c}) == 6

    def test_a_line_that_was_cut_off(self, tried, tmp_path):
        given = {"jobs": ("complete",), "workdir": tmp_path}
        main(Arguments(times=2, pairs=0, **given))
        file = tmp_path / "tries.jsonl"
        file.write_text(file.read_text()[:-9])
        main(Arguments(times=2, pairs=0, **given))
        assert [json.loads(line)[0] for line in file.read_text().splitlines()] == [0, 1]

    def test_bad_arguments(self):
        for given, said in (({"times": -1}, "--times must be 0"), ({"jobs": ()}, "--jobs"),
                            ({"steps": 3}, "--steps must be 4")):
            with refused(said):
                main(Arguments(**given))


class TestTwoProcesses:
    def test_moments_are_of_the_seed(self):
        drawn, other = (two_processes.moments(40, seed, seconds=60.0, checkpoints=4) for seed in (3, 4))
        assert drawn == two_processes.moments(40, 3, seconds=60.0, checkpoints=4) != other
        assert {which for which, _, _ in drawn} == {0, 1}
        assert all(12 <= when <= 57 for _, kind, when in drawn if kind == "any")
        writing = [when for _, kind, when in drawn if kind == "writing"]
        assert len(writing) == 20 and set(writing) == {1, 2, 3, 4}

    def test_moments_of_a_completing_job(self):
        drawn = two_processes.moments(60, 3, seconds=60.0, checkpoints=4, tracklets=24)
        assert set(Counter(kind for _, kind, _ in drawn).values()) == {20}
        assert all(1 <= when <= 23 for _, kind, when in drawn if kind == "completing")

    @pytest.mark.slow
    def test_real_ones(self, tmp_path, capsys):
        """18 kills, which with the two of `test_killed` are 20."""
        assert main(Arguments(times=18, pairs=0, jobs=("processes",), seed=0, steps=6, workdir=tmp_path))
        out = capsys.readouterr().out
        counts = {line.split(":")[1].split("  ")[0].strip(): int(line.split()[-2]) for line in out.splitlines()
                  if line.startswith("processes: ")}
        assert counts["writing a checkpoint"] >= 5 and counts["completing"] >= 5
        # A result that is not the same is not called so.
        expected = two_processes.result(tmp_path / "whole") | {"stcnet": "another"}
        run = two_processes.Run(tmp_path / "once more", steps=6, cache=tmp_path / "compiled2")
        assert not two_processes.kill_once(run, (0, "any", 1.0), expected)["same"]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [("complete", "video"), ("fit", "demo")])
def test_real_commands(tmp_path, capsys, jobs):
    assert main(Arguments(times=6, pairs=2, jobs=jobs, seed=0, workdir=tmp_path))
    assert "6 kills: 6 end results are the same; 2 pairs: in 2 one ended" in capsys.readouterr().out
