"""What becomes of records: cut off, edited, or replaced by something that is no file."""

import os
import shutil

_WRONG_TEXTS = {
    "empty": b"", "not text": b"\xff\xfe\x00{", "not JSON": b"{'a': 1}", "a list": b"[]", "a number": b"3",
    "null": b"null", "an empty object": b"{}", "not a number": b'{"seed": NaN}', "infinite": b'{"seed": 1e999}',
    "a long number": b'{"seed": ' + b"9" * 5000 + b"}", "nested": b'{"seed": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "wrong types": b'{"frames": 1, "warnings": 2, "config": 3, "tracklet": [], "key": 0, "from": {}, "tau": "x"}'}


def _replaced_by(make):
    def damage(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        make(path)

    return damage


DAMAGES = {name: lambda path, text=text: path.write_bytes(text) for name, text in _WRONG_TEXTS.items()} | {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 2]),
    "a folder": _replaced_by(lambda path: path.mkdir()),
    "a folder with a file": _replaced_by(lambda path: (path.mkdir(), (path / "x").write_text("x"))),
    "a pipe": _replaced_by(os.mkfifo),
    "a link to itself": _replaced_by(lambda path: path.symlink_to(path.name)),
    "a link to nothing": _replaced_by(lambda path: path.symlink_to("none")),
    "a link to its folder": _replaced_by(lambda path: path.symlink_to("."))}
