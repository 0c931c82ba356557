"""Tells people, cameras and tracklets apart by the names of pictures, as re-identification data sets give them.

The identity -1 (in MARS 00-1) is junk: detections of no one; 0 are distractors: people who are no query. Both are
identities as text, "-1" and "0", as `vrstc_jax.evaluation.rank` and the readers of `data.datasets` have them.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

JUNK, DISTRACTORS = "-1", "0"
_ENOUGH = 2  # pictures with one beginning, for it to be that of a sequence
_SHOWN = 3  # beginnings in a message
# Numbers that change within one person's sequence, and are no sign of another person.
_TIME = re.compile(r"(19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d(\D{0,2}[0-2]\d[-_.:h]?[0-5]\d([-_.:m]?[0-5]\d)?)?", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)*", re.ASCII)


@dataclass(frozen=True)
class Origin:
    """What a picture's name says.

    Attributes:
      person: the identity without leading zeros, "-1" for junk, "0" for distractors.
      camera: its number.
      folder: a relative path that is the tracklet's among all of the data set, person/camera and what follows.
    """

    person: str
    camera: str
    folder: str


@dataclass(frozen=True)
class _Scheme:
    """A data set's names: the groups of `pattern` are person, camera and, where the data set has it, more.

    Attributes:
      title: the data set's, in messages.
      tracked: whether junk and distractors are tracklets too. If not, no two of their pictures show one person.
    """

    title: str
    pattern: re.Pattern
    tracked: bool = False

    def origin(self, stem: str) -> Origin | None:
        """What a picture's name says; None if it is not such a name."""
        found = self.pattern.fullmatch(stem)
        if found is None:
            return None
        person, camera, sequence, rest = found["person"], found["camera"], found["sequence"], found["rest"]
        number = JUNK if person in ("-1", "00-1") else str(int(person))
        folder = "/".join(filter(None, (person, f"c{camera}", sequence and sequence.lower())))
        if number in (JUNK, DISTRACTORS) and not self.tracked:
            folder += f"/{rest}"
        return Origin(number, str(int(camera)), folder)


_SCHEMES = (
    # 0001C1T0002F003: person, camera, tracklet, frame.
    _Scheme("MARS", re.compile(
        r"(?P<person>\d{4}|00-1)C(?P<camera>\d)(?P<sequence>T\d{4})(?P<rest>F\d{3,})", re.ASCII), tracked=True),
    # 0002_c1s1_000451_03: person, camera and sequence, frame, number of the detection in it.
    _Scheme("Market-1501", re.compile(
        r"(?P<person>\d{4}|-1)_c(?P<camera>\d)(?P<sequence>s\d+)_(?P<rest>\d{6,}_\d\d)", re.ASCII)),
    # 0002_c1_f0044158: person, camera, frame.
    _Scheme("DukeMTMC-reID", re.compile(
        r"(?P<person>\d{4}|-1)_c(?P<camera>\d)(?P<sequence>)_(?P<rest>f\d{7,})", re.ASCII)),
)


def origins(stems: Iterable[str]) -> tuple[str, list[Origin]] | None:
    """What the names of pictures say, if all are of one data set's form: its title, and an origin for each.

    Args:
      stems: the names without suffix.
    """
    stems = list(stems)
    for scheme in _SCHEMES:
        found = []
        for stem in stems:
            origin = scheme.origin(stem)
            if origin is None:
                break
            found.append(origin)
        if found and len(found) == len(stems):
            return scheme.title, found
    return None


def beginnings(stems: Iterable[str]) -> list[str]:
    """The beginnings of the names of what may be several sequences; [] for names that seem to be of one sequence.

    A beginning is what precedes one of the numbers in a name: 'anna_' of anna_001, 'cam1_person002_' of
    cam1_person002_00317. Those count that several pictures have. Dates and times are not looked at.
    """
    stems = [_TIME.sub("", stem) for stem in stems]
    cuts = [[number.start() for number in _NUMBER.finditer(stem)] for stem in stems]
    for level in range(max(map(len, cuts), default=0)):
        found = Counter(stem[:cut[level]] for stem, cut in zip(stems, cuts) if level < len(cut))
        sequences = sum(count >= _ENOUGH for count in found.values())
        # Where most beginnings are of one picture each, the number before is that of the frame.
        if sequences > 1 and len(found) <= len(stems) / _ENOUGH:
            return list(found)
    return []


def several_sequences(where: object, stems: list[str]) -> str | None:
    """A warning if the names of a tracklet's pictures are those of several sequences.

    Args:
      where: the folder, for the warning.
    """
    found = beginnings(stems)
    if not found:
        return None
    shown = [f"{beginning or 'digits'}…" for beginning in found[:_SHOWN]]
    listed = ", ".join([*shown, "…"] if len(found) > _SHOWN else shown)
    known = origins(stems)
    remedy = f"leave --pattern out to take them apart as in {known[0]}" if known else "give each a folder"
    return (f"{where}: the names of its {len(stems)} pictures begin in {len(found)} ways ({listed}), and all are taken "
            f"for one person; if they are several people, {remedy}.")
