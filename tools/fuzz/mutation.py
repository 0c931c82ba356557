"""Damage: to bytes, numbers, names, JSON and files."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

NUMBERS = ("nan", "inf", "-inf", "NaN", "1e309", "-1e309", "1e-320", "-1", "-0", "0", "00", "1", "2", "1.5", ".5", "1.",
           "+1", "1e5", "-1e5", str(2**31), str(2**32 - 1), str(2**63 - 1), str(2**63), str(2**64 - 1), str(2**64),
           str(10**40), "9" * 400, "9" * 5000, "1e400", "0x10", "1_0", "1,5", "--1", "٣", "²", "1²3", "½", "१", "x",
           "", " ", "1 2", "\x00", "1\x00", "True", "None", "1;", "'1'", "\u200b1", "−1")
"""Texts in place of a number."""
VALUES = (None, True, False, 0, -1, 1, 2, 0.5, -0.5, 1e308, 2**31, 2**63, 2**64, 10**40, "", "x", "1", "../x", "\x00",
          "\ud800", [], [[]], {}, [0], ["x"], [None], {"x": 1}, {"": None}, float("nan"), float("inf"))
"""Values in place of one in a record."""
_NAMES = ("..", ".", "...", "a/../../b", "/abs", "~", "~root", "-x", "--output", "con", "nul", "a b", " a", "a ",
          "a\nb", "a\rb", "a\tb", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\u202eabc", "\u200b", "e\u0301", "é", "²",
          "1²3", "٣", "½", "日本", "😀", "a" * 200, "a" * 250, "é" * 120, "run.json", "report.html", "metrics.json",
          "masks", "origin", "scores", "work", "RUN.JSON", ".hidden", "a.png", "a.", "a:b", "a|b", "a?b", "a*b",
          "a\\b", "a'b", 'a"b', "<script>alert(1)</script>", "{{ 7*7 }}", "{% x %}", "%s%n", "{0}", "$HOME", "`id`",
          "000001", "1", "-1", "0", "00-1", "0001", "gs:", "file:", "\udcff", "a\udcffb", "\udce9t\udce9",
          "index.json", ".lock", "x.partial")


def number(rng: random.Random) -> str:
    """A text in place of a number."""
    return rng.choice(NUMBERS)


def name(rng: random.Random) -> str:
    """A name of a file or folder that is hard on programs; it can be created, and has no '/'."""
    while True:
        found = rng.choice(_NAMES) if rng.random() < 0.8 else "".join(
            chr(rng.choice((rng.randrange(1, 128), rng.randrange(128, 0xd7ff)))) for _ in range(rng.randint(1, 30)))
        if "/" not in found and found not in (".", "..") and len(os.fsencode(found)) <= 250:
            return found


def text(rng: random.Random) -> str:
    """A text in place of a name in a file, which may be a path that leads elsewhere."""
    return rng.choice((*_NAMES, "", "a/b", "a//b", "a/./b", "x" * 5000, "/" * 300, "a\x00b"))


def damaged(rng: random.Random, data: bytes, *, most: int = 4) -> bytes:
    """Bytes with some of them flipped, cut, inserted, repeated, swapped, zeroed or overwritten."""
    found = bytearray(data)
    for _ in range(rng.randint(1, most)):
        if not found:
            break
        begin = rng.randrange(len(found)) if rng.random() < 0.6 else rng.randrange(min(64, len(found)))
        size = min(len(found) - begin, int(2 ** rng.uniform(0, 9)))
        piece = found[begin:begin + size]
        match rng.choice(("flip", "flip", "cut", "end", "insert", "repeat", "swap", "zero", "noise")):
            case "flip":
                found[begin] ^= 1 << rng.randrange(8)
            case "cut":
                del found[begin:begin + size]
            case "end":
                del found[begin:]
            case "insert":
                found[begin:begin] = rng.randbytes(size)
            case "repeat":
                found[begin:begin] = piece * rng.randint(1, 3)
            case "swap":
                other = rng.randrange(len(found) - size + 1)
                found[begin:begin + size], found[other:other + size] = found[other:other + size], piece
            case "zero":
                found[begin:begin + size] = bytes(size)
            case "noise":
                found[begin:begin + size] = rng.randbytes(size)
    return bytes(found)


def damaged_text(rng: random.Random, lines: list[str]) -> bytes:
    """Lines of text in an order, encoding and with line ends that are not as they should be."""
    lines = list(lines)
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(lines)) if lines else 0
        match rng.choice(("drop", "repeat", "swap", "blank", "comment", "join", "rubbish")):
            case "drop" if lines:
                del lines[at]
            case "repeat" if lines:
                lines.insert(at, lines[at])
            case "swap" if lines:
                lines.insert(rng.randrange(len(lines)), lines.pop(at))
            case "blank":
                lines.insert(at, rng.choice(("", "   ", "\t", "\f", "\v")))
            case "comment":
                lines.insert(at, rng.choice(("# a comment", "#", "// no", ";", "frame,id,left,top,width,height")))
            case "join" if len(lines) > 1:
                lines[at - 1:at + 1] = ["".join(lines[at - 1:at + 1])]
            case "rubbish":
                lines.insert(at, rng.choice(("x", ",,,,,", "\x00", "\x1b[2J", "1", "{}", "\u2028", "," * 10_000)))
    joined = rng.choice(("\n", "\n", "\n", "\r\n", "\r", "\n\r", "\x85", "\u2028")).join(lines)
    joined += rng.choice(("\n", "\n", "", "\n\n\n", "\x1a"))
    encoding = rng.choice(("utf-8",) * 6 + ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1",
                                             "cp037"))
    data = joined.encode(encoding, "replace")
    return damaged(rng, data) if rng.random() < 0.2 else data


def damaged_value(rng: random.Random, value: Any) -> Any:
    """A JSON value in which one part is another, missing, more, or moved."""
    value = json.loads(json.dumps(value))
    holders: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        pairs = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, inner in pairs:
            holders.append((part, key))
            walk(inner)

    walk(value)
    if not holders or rng.random() < 0.03:
        return rng.choice(VALUES)
    holder, key = rng.choice(holders)
    match rng.choice(("value", "value", "value", "drop", "add", "wrap", "move", "nest")):
        case "value":
            holder[key] = rng.choice(VALUES)
        case "drop":
            del holder[key]
        case "add":
            if isinstance(holder, dict):
                holder[text(rng).replace("\ud800", "?")] = rng.choice(VALUES)
            else:
                holder.insert(key, rng.choice(VALUES))
        case "wrap":
            holder[key] = [holder[key]]
        case "move":
            other, where = rng.choice(holders)
            try:
                holder[key] = json.loads(json.dumps(other[where]))
            except LookupError:
                pass
        case "nest":
            inner: Any = rng.choice(VALUES)
            for _ in range(rng.choice((3, 100, 400))):
                inner = [inner]
            holder[key] = inner
    return value


def damaged_json(rng: random.Random, value: Any) -> bytes:
    """A JSON text of a damaged value, or a damaged text of a value."""
    if rng.random() < 0.15:
        return rng.choice((b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff\xfe", b"{}", b"{}{}", b"[" * 100_000,
                           b'{"a":' * 50_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 1e999}', b"NaN", b"\x00" * 100))
    if rng.random() < 0.2:
        return damaged(rng, json.dumps(value).encode())
    for _ in range(rng.randint(1, 2)):
        value = damaged_value(rng, value)
    return json.dumps(value).encode()


def replace(rng: random.Random, path: Path) -> None:
    """Puts something that is no file, or another file, in the place of a file or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    match rng.choice(("gone", "folder", "full folder", "pipe", "loop", "broken", "parent", "empty", "device", "text")):
        case "folder":
            path.mkdir()
        case "full folder":
            path.mkdir()
            (path / "x").write_text("x")
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)
        case "broken":
            path.symlink_to("none")
        case "parent":
            path.symlink_to(".")
        case "empty":
            path.write_bytes(b"")
        case "device":
            path.symlink_to(rng.choice(("/dev/null", "/dev/zero", "/proc/self/mem")))
        case "text":
            path.write_bytes(rng.choice((b"x", b"\x00" * 1000, b"../../x\n", rng.randbytes(500))))
