"""Names of files and tracklets as people have them: what is printed of them, and which are refused."""

import io
import os
import sys

import pytest

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.names import is_number, name_problem, path_problem, printable, shortened
from vrstc_jax.runtime.storage import write_whole

BYTES = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize("text, shown", [
    ("anna/c1 Ünal 王", "anna/c1 Ünal 王"), ("\x1b[31mred", "\\x1b[31mred"), ("a\nb\r\n\tc", "a\\nb\\r\\n\\tc"),
    ("a\u2028b\x85", "a\\u2028b\\x85"), ("x\u202egpj.exe", "x\\u202egpj.exe"), (BYTES, "caf\\udce9"),
    ("C:\\x", "C:\\x")])
def test_what_a_terminal_would_act_on_is_escaped(text, shown):
    assert printable(text) == shown == printable(printable(text))
    assert str(InputError(f"{text}: wrong")) == f"{shown}: wrong"


def test_a_long_name_is_shortened():
    assert shortened("a" * 60) == "a" * 60
    assert shortened("a" * 5000 + "b") == "a" * 30 + "…" + "a" * 29 + "b"


def test_names_that_can_be_files():
    for name in ("a", "²", "x" * 255, "王" * 85, "\n"):
        assert name_problem(name) is None and path_problem(f"top/{name}") is None
    assert "256 bytes" in name_problem("x" * 256)
    assert "258 bytes" in name_problem("王" * 86)
    assert "255 bytes" not in (name_problem("x" * 251, suffix=".png") or "")
    assert "256 bytes with .png" in name_problem("x" * 252, suffix=".png")
    assert "not UTF-8" in name_problem(BYTES)
    assert "NUL" in name_problem("a\0b") and "NUL" in path_problem("top/a\0b")
    assert "run.json, work" in name_problem("work", reserved=("run.json", "work"))
    assert "has a part, caf\\udce9, that is not UTF-8" in path_problem(f"top/{BYTES}/below")
    assert "5000 bytes, and a path" in path_problem("/".join(["x" * 49] * 100) + "/")
    assert path_problem("/".join(["x" * 49] * 80)) is None


def test_numbers_are_of_ascii_digits():
    assert is_number("007")
    assert not any(map(is_number, ("", "²", "1²3", "٣", "-1", "1_0", " 1")))


def test_the_longest_name_can_be_written(tmp_path):
    for name in ("x" * 255, "王" * 85):
        write_whole(tmp_path / name, b"1")
        assert (tmp_path / name).read_bytes() == b"1"
    assert len(os.listdir(tmp_path)) == 2


def test_a_terminal_that_lacks_the_letters_does_not_fail_a_command(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii"))
    run_as_command(lambda: print("completed Ünal", flush=True))
    assert written.getvalue() == b"completed \\xdcnal\n"
