"""Names that come from files and arguments: how to print them, and whether one can be a file's name."""

import os
from collections.abc import Iterable

LONGEST_NAME = 255
"""Bytes of a file's or folder's name on ext4, XFS, APFS and NTFS."""
_LONGEST_PATH = 4095  # bytes; Linux' PATH_MAX without the final zero
_SHOWN = 60  # characters of a name in a message


def printable(text: object) -> str:
    """The text on one line: whatever a terminal would act on, or cannot show, is written as an escape such as \\x1b.

    These are line ends, control characters, invisible and direction-changing characters, and bytes that are not UTF-8.
    Applying it twice changes nothing more.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(name: object) -> str:
    """A name as `printable` gives it, with its middle left out if it is too long for a message."""
    text = printable(name)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN // 2]}…{text[-_SHOWN // 2:]}"


def name_problem(name: str, *, suffix: str = "", reserved: Iterable[str] = ()) -> str | None:
    """What keeps a text from being the name of a file or folder that is written, or None if nothing does.

    Args:
      suffix: added to the name when it is written, such as '.png'.
      reserved: names that are taken.

    Returns:
      The end of a sentence that begins with the name and ends with the remedy, without a full stop.
    """
    if "\0" in name:
        return "has a character that no name has (NUL); rename it"
    if not is_utf8(name):
        return "is not UTF-8; rename it"
    size = len(os.fsencode(name + suffix))
    if size > LONGEST_NAME:
        written = f" with {suffix}" if suffix else ""
        return f"has {size} bytes{written}, and a file's name has at most {LONGEST_NAME}; shorten it"
    if name in reserved:
        return f"is one of the names that results need ({', '.join(reserved)}); rename it"
    return None


def path_problem(path: str | os.PathLike, *, suffix: str = "") -> str | None:
    """`name_problem` of each part of a path, and of its whole length."""
    text = os.fspath(path)
    *folders, last = text.split(os.sep)
    for part, end in (*((folder, "") for folder in folders), (last, suffix)):
        if problem := name_problem(part, suffix=end):
            return problem if part == text else f"has a part, {shortened(part)}, that {problem}"
    size = len(os.fsencode(text + suffix))
    if size > _LONGEST_PATH:
        return f"has {size} bytes, and a path has at most {_LONGEST_PATH}; choose a shorter one"
    return None


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8. Python holds other bytes of a file's name as lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_number(text: str) -> bool:
    """Whether a text is a whole number in ASCII digits. `str.isdigit` also accepts '²', of which `int` makes none."""
    return text.isascii() and text.isdigit()
