"""The fuzzer: its tries with one seed find nothing, and it finds each kind of fault that it looks for."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refused

from tools.fuzz import checking, judging, mutation
from tools.fuzz.good import Good
from tools.fuzz.kinds import KINDS
from tools.fuzz.session import Arguments, empty, main
from tools.fuzz.tries import Try, command, draw
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_300_tries(tmp_path, capsys):
    """Each kind in turn."""
    assert main(Arguments(seed=0, count=300, output=tmp_path / "out")), capsys.readouterr().out
    found = capsys.readouterr().out
    assert found.startswith("300 tries") and " 0 traceback, 0 hang, 0 memory, 0 leftover, 0 wrong pixel" in found
    rows = [json.loads(line) for line in (tmp_path / "out/tries.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in rows} == set(KINDS)
    assert {"error", "accepted", "warned"} == {row["outcome"] for row in rows}


def test_it_goes_on_where_it_stopped(tmp_path, capsys):
    for count in (3, 6):
        assert main(Arguments(seed=1, count=count, kinds=("records", "sets"), output=tmp_path))
    path = tmp_path / "tries.jsonl"
    lines = path.read_text().splitlines()
    assert [(row["kind"], row["number"]) for row in map(json.loads, lines)] == [
        (kind, number) for number in range(3) for kind in ("records", "sets")]
    # Cut off in its last line, and killed in a try.
    path.write_text("\n".join(lines[:5]) + "\n" + lines[5][:10])
    (tmp_path / "started").write_text("sets:2")
    assert not main(Arguments(seed=1, count=6, kinds=("records", "sets"), output=tmp_path))
    assert path.read_text().splitlines()[:5] == lines[:5]
    printed = capsys.readouterr().out
    assert "the process ended in it" in printed and f"--seed 1 --only sets:2 --output {tmp_path}" in printed
    with refused("holds the tries of another seed"):
        main(Arguments(seed=2, count=6, kinds=("records", "sets"), output=tmp_path))


def test_an_interruption_is_no_crash(tmp_path, monkeypatch, capsys):
    """Inside a command too, which takes the signal for its own."""
    arguments = Arguments(count=2, kinds=("sets", "flags"), output=tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(KINDS, "flags", lambda *_: Try(
            lambda: run_as_command(lambda: signal.raise_signal(signal.SIGINT)), ""))
        with pytest.raises(KeyboardInterrupt):
            main(arguments)
    assert len((tmp_path / "tries.jsonl").read_text().splitlines()) == 1
    assert main(arguments) and "2 tries" in capsys.readouterr().out


def test_a_single_try_again(tmp_path, capsys):
    assert main(Arguments(seed=0, only="flags:0", output=tmp_path))
    first = capsys.readouterr().out
    assert main(Arguments(seed=0, only="flags:0", output=tmp_path)) and capsys.readouterr().out == first
    for arguments in ({"only": "flags"}, {"only": "x:1"}, {"only": "flags:²"}, {"kinds": ("x",)}):
        with refused(next(iter(arguments))):
            main(Arguments(**arguments))


@pytest.mark.parametrize("kind", KINDS)
def test_a_try_depends_on_its_seed_kind_and_number_alone(tmp_path, kind):
    if kind == "checkpoints":
        pytest.skip("Orbax gives its files random names")

    def made():
        folder = tmp_path / "try"
        empty(folder)
        words = KINDS[kind](draw(5, kind, 2), folder, good).words
        return words, {path: about[0] for path, about in judging.snapshot(folder).items()}, {
            path: path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".mat"}  # which have the time

    good = Good(tmp_path / "good")
    good.folder.mkdir()
    assert made() == made()


class TestJudging:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "try").mkdir()
        (tmp_path / "try/in").write_text("x")
        return tmp_path / "try"

    def outcome(self, folder, call, **options):
        return judging.run(Try(call, "", **options), folder, seconds=2, megabytes=100).outcome

    def test_good_ends(self, folder):
        def warns():
            print("vrstc: warning: x")

        def refuses():
            raise InputError("x")

        assert self.outcome(folder, lambda: None) == "accepted"
        assert self.outcome(folder, warns) == "warned"
        assert self.outcome(folder, refuses) == "error"
        assert judging.run(command("complete", "none", "--output", "o"), folder).outcome == "error"

    def test_bad_ends(self, folder):
        def exits(code, text=""):
            def call():
                print(text)
                raise SystemExit(code)
            return call

        def swallows():
            while True:
                try:
                    time.sleep(5)
                    return
                except Exception:
                    pass

        assert self.outcome(folder, lambda: 1 / 0) == "traceback"
        assert self.outcome(folder, exits(1)) == self.outcome(folder, exits(2, "x")) == "traceback"
        assert self.outcome(folder, exits(2, "Traceback (most recent call last)\nvrstc: x")) == "traceback"
        assert self.outcome(folder, swallows) == "hang"
        assert self.outcome(folder, lambda: bytearray(150_000_000)) == "memory"
        assert self.outcome(folder, lambda: None, check=lambda: "x") == "wrong pixel"

    def test_leftovers(self, folder):
        def writes(name, error=None):
            def call():
                path = Path(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("y")
                if error:
                    raise error
            return call

        assert self.outcome(folder, writes("o/a.png"), outputs=("o",)) == "accepted"
        for name in ("in", "other", "o2/a", "o/.a.partial", "o/work", "../tmp/x"):
            assert self.outcome(folder, writes(name), outputs=("o",)) == "leftover", name
        assert self.outcome(folder, writes("p/a.png", InputError("x")), outputs=("p",)) == "leftover"
        assert self.outcome(folder, writes("q/scores/a.json", InputError("x")), outputs=("q",)) == "error"
        assert self.outcome(folder, writes("in", InputError("x")), outputs=("in",), resumed=True) == "error"

    def test_pixels(self, tmp_path):
        expected = Good.crops(tmp_path / "in", people=("a",), count=2)
        for name, picture in expected.items():
            for place, array in ((tmp_path / "o", picture), (tmp_path / "o/masks", np.zeros((40, 20), bool))):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(place / f"{name}.png")
        (tmp_path / "o/scores").mkdir()
        (tmp_path / "o/scores/a.json").write_text('{"frames": [1, 2]}')
        check = checking.completed(tmp_path / "o", expected)
        assert check() is None
        changed = expected["a/0001"].copy()
        changed[3, 4] ^= 1
        Image.fromarray(changed).save(tmp_path / "o/a/0001.png")
        assert check() == "a/0001: 1 visible pixels changed"
        (tmp_path / "o/a/0001.png").unlink()
        assert "missing or added" in check()


def test_damage_is_what_it_says():
    rng, data = draw(0, "x", 0), bytes(range(256)) * 8
    assert sum(mutation.damaged(rng, data) != data for _ in range(100)) > 90
    value = {"a": [1, {"b": "c"}], "d": 2.5}
    assert sum(mutation.damaged_value(rng, value) != value for _ in range(100)) > 80
    assert value == {"a": [1, {"b": "c"}], "d": 2.5}
    for _ in range(300):
        name = mutation.name(rng)
        assert "/" not in name and "\0" not in name and name not in ("", ".", "..")
