"""What the commands share: their input, their model, and undoing what a refused command created."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vrstc_jax.runtime.lifecycle import is_first_process
from vrstc_jax.runtime.lock import InUse, holds
from vrstc_jax.runtime.notices import print_notice, print_warnings
from vrstc_jax.runtime.paths import require_different
from vrstc_jax.runtime.storage import remove

if TYPE_CHECKING:
    from vrstc_jax.data.inputs.sources import Source
    from vrstc_jax.models.model_file import Model

Input = tyro.conf.Positional[Path]


@dataclass(frozen=True)
class Footage:
    """Where the people are and what hides them."""

    boxes: Path | None = None
    """For a video, or a folder of its pictures: the people's boxes, MOTChallenge text
    (frame,id,left,top,width,height, frames from 1)."""
    first_frame: int = 1
    """The number of the video's first frame in the boxes; 0 where they count from 0. Results count from 1."""
    masks: Path | None = None
    """Folder of masks (PNG, white = hidden), used instead of locating."""
    visible: Path | None = None
    """For a video: masks of what is seen of each person (modal), of which nothing is repainted: PNGs for each track,
    MOTS text or pictures, or COCO's run-length encodings in JSON."""
    whole: Path | None = None
    """For a video: masks of each whole person, hidden parts too (amodal), in the same forms. With --visible too, what
    is hidden is the difference, and nothing is located."""
    pattern: str | None = None
    """For a folder: its levels, such as person/camera/tracklet/frame. If left out, found from its depth, and names of
    pictures as in MARS, Market-1501 and DukeMTMC-reID are told apart."""

    def open(self, path: Path, spool: Path, *, truth: Path | None = None) -> Source:
        """The tracklets of an input; every process of a run calls it, and warnings are printed.

        Args:
          spool: for a video, the folder in which its crops wait.
          truth: folder of the frames without what hides people.

        Raises:
          InputError: the input cannot be used.
        """
        from vrstc_jax.data.inputs.people_masks import PeopleMasks
        from vrstc_jax.data.inputs.sources import open_source
        from vrstc_jax.runtime import distributed

        opened: list[Source] = []

        def look() -> None:
            opened.append(open_source(path, boxes=self.boxes, masks=self.masks, truth=truth, pattern=self.pattern,
                                      spool=spool, first_frame=self.first_frame,
                                      people=PeopleMasks(self.visible, self.whole)))

        distributed.run_on_first(look)  # process 0 writes the crops of a video; the others then find them
        if not opened:
            look()
        for note in opened[0].notes:
            print_notice(note)
        print_warnings(opened[0].all_warnings())
        return opened[0]

    def paths(self, path: Path, *, truth: Path | None = None) -> dict[str, Path | None]:
        """The paths of an input by their flags, for `require_apart`.

        Raises:
          InputError: two of them are the same. The truth may be the input: footage with nothing hidden, and masks.
        """
        require_different({"the input": path, "--boxes": self.boxes, "--masks": self.masks})
        require_different({"--masks": self.masks, "--truth": truth})
        require_different({"the input": path, "--boxes": self.boxes} | self._of_people())
        return {"the input": path, "--boxes": self.boxes, "--masks": self.masks, "--truth": truth} | self._of_people()

    def identity(self, path: Path) -> dict[str, Any]:
        """What identifies an input: names, sizes and times of change of its files."""
        return {"input": _identity(path), "boxes": _identity(self.boxes), "masks": _identity(self.masks),
                "pattern": self.pattern, **({"first_frame": self.first_frame} if self.first_frame != 1 else {}),
                **{flag[2:]: _identity(given) for flag, given in self._of_people().items() if given}}

    def place(self, path: Path) -> dict[str, Any]:
        """Where an input is; `Tracklet.made_from` tells its content."""
        return {"input": _place(path), "boxes": _place(self.boxes), "masks": _place(self.masks),
                "pattern": self.pattern,
                **{flag[2:]: _place(given) for flag, given in self._of_people().items() if given}}

    def _of_people(self) -> dict[str, Path | None]:
        return {"--visible": self.visible, "--whole": self.whole}


FootageArgument = Annotated[Footage, tyro.conf.arg(name="")]
"""Its flags are the command's own: --boxes, --masks, --visible, --whole, --pattern."""


def _place(path: Path | None) -> str | None:
    if path is None:
        return None
    # The shell gives a pipe of <(…) any free number.
    name = str(path.absolute())
    return "a pipe" if path.is_fifo() and name.startswith(("/dev/fd/", "/proc/")) else name


def _identity(path: Path | None) -> str | list | None:
    if path is None or not path.is_file():
        return _place(path)
    status = path.stat()
    return [str(path.absolute()), status.st_size, int(status.st_mtime)]


def typed() -> str:
    """The command line as the user typed it, for records."""
    return shlex.join(["vrstc", *sys.argv[1:]])


def load(path: Path | None, *, use: str = "using") -> Model:
    """The model in a file; None: the default model, of which a line on stderr informs the user.

    Raises:
      InputError: as `load_model`.
    """
    from vrstc_jax.models.model_file import load_model

    model = load_model(path)
    if path is None:
        print_notice(f"{use} the default model, made on made-up walkers alone (`vrstc model show`)")
    return model


@contextmanager
def undone_if_refused(*paths: Path, unless: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """On an error, deletes every path, and every parent, that did not exist on entry; an interruption keeps them.

    In process 0 alone, which is the one that creates them.

    Args:
      unless: says, when the error comes, whether there is a result already that is worth keeping.
    """
    # A link that leads nowhere is the user's, and was there.
    missing = [path.absolute() for path in paths if not os.path.lexists(path)] if is_first_process() else []
    new = set(map(_highest_missing, missing))
    try:
        yield
    except Exception as error:
        for path in new if not unless() else ():
            # What is new may by now be that of another process, which has the lock.
            if isinstance(error, InUse) and not holds(path):
                continue
            with suppress(OSError):  # a path below a file
                remove(path)
        raise


def _highest_missing(path: Path) -> Path:
    while not os.path.lexists(path.parent):
        path = path.parent
    return path
