"""Prints what the user should know besides results: one line each on stderr, in process 0 alone."""

import re
import sys
from collections.abc import Iterable

from vrstc_jax.runtime.lifecycle import is_first_process
from vrstc_jax.runtime.names import printable

_SHOWN = 3  # of warnings that are alike
_SUBJECT = re.compile(r"^(Track(?:let)? ).*?: ")
_NUMBERS = re.compile(r"\d+(?:\.\d+)?(?:, \d+)*(?: and \d+ more)?")


def print_notice(text: str) -> None:
    """Prints a line that is no warning, such as how an input was understood."""
    if is_first_process():
        print(f"vrstc: {printable(text)}", file=sys.stderr, flush=True)


def print_warnings(warnings: Iterable[str]) -> None:
    """Prints warnings; of many that are alike, the first three and how many more there are.

    Two are alike if they differ only in numbers and in the tracklet or file that they begin with.
    """
    groups: dict[str, list[str]] = {}
    for warning in dict.fromkeys(warnings):
        groups.setdefault(_kind(warning), []).append(warning)
    for group in groups.values():
        # A line that says "and 1 more" would take the place of that one.
        shown = group if len(group) == _SHOWN + 1 else group[:_SHOWN]
        for warning in shown:
            print_notice(f"warning: {warning}")
        if len(group) > len(shown):
            print_notice(f"warning: … and {len(group) - len(shown):,} more warnings like the last.")


def _kind(warning: str) -> str:
    """A warning without what differs between warnings that are alike."""
    subject = _SUBJECT.match(warning)
    rest = warning[subject.end():] if subject else warning.partition(": ")[2] or warning
    # Names in a warning are in parentheses, as numbers may be.
    return (subject[1] if subject else "") + _NUMBERS.sub("#", re.sub(r"\(.*?\)", "", rest)).replace("frames", "frame")
