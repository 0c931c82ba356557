"""`vrstc rank`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vrstc_jax.cli.footage import Footage, FootageArgument, Input, undone_if_refused
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import printable, shortened
from vrstc_jax.runtime.notices import print_notice, print_warnings
from vrstc_jax.runtime.paths import Written, require_apart, resolved

if TYPE_CHECKING:
    from vrstc_jax.data.inputs.sources import Source
    from vrstc_jax.data.tracklets import Tracklet


@dataclass(frozen=True)
class Rank:
    """Rank the tracklets of a gallery by similarity to a query, with the re-ID network of a model.

    If people are occluded, first complete both with `vrstc complete`.
    """

    input: Input
    """The gallery: a video, or a folder of pictures."""
    query: str
    """The name of one of its tracklets, such as a track's number or 0001/c1/t3, or a folder of frames. If
    the query is a tracklet of the gallery, by name or by folder, it is left out of the gallery."""
    model: Path
    """A model file from `vrstc fit`, or a re-ID network from `python -m experiments.vrstc`."""
    footage: FootageArgument = Footage()
    count: int = 10
    """How many tracklets to show."""
    output: Path | None = None
    """PNG to write: the query and the tracklets found for it."""

    def run(self) -> None:
        """Prints the nearest tracklets, and writes their picture."""
        from vrstc_jax.data.images import write_png
        from vrstc_jax.models.model_file import load_reid
        from vrstc_jax.recipes.rank import nearest
        from vrstc_jax.runtime import lock
        from vrstc_jax.runtime.storage import temporary_folder

        query = Path(self.query) if os.path.isdir(self.query) else None  # a name may be too long for a path
        require_apart(self.footage.paths(self.input) | {"--query": query, "--model": self.model},
                      {"--output": Written(self.output, "file")})
        if self.output and self.output.suffix != ".png":
            raise InputError(f"--output {self.output}: the picture is a PNG; call it so.")
        model = load_reid(self.model)
        with temporary_folder() as spool, undone_if_refused(*filter(None, [self.output and self.output.parent])):
            if self.output:
                lock.take(self.output, beside=True)
            source = self.footage.open(self.input, spool / "spool")
            query, gallery = _query(self.query, source)
            matches, picture = nearest(model, query, gallery, count=self.count)
        names = [printable(match.tracklet) for match in matches]
        width = max(map(len, names), default=0)
        for rank, (name, match) in enumerate(zip(names, matches), 1):
            print(f"{rank:4d}  {name:{width}}  {match.distance:.4f}")
        if self.output:
            write_png(self.output, picture)
            print(f"open {printable(self.output)}")


def _query(name: str, source: Source) -> tuple[Tracklet, list[Tracklet]]:
    """(query, gallery): the query by its name or its folder, and the gallery without it."""
    from vrstc_jax.data.inputs.folders import open_folder

    tracklets = source.tracklets
    found = [tracklet for tracklet in tracklets if tracklet.name == name]
    if not found and source.kind == "folder":
        found = [tracklet for tracklet in tracklets if _folder(source, tracklet) == resolved(Path(name))]
        if found:
            print_notice(f"--query {name}: is the tracklet {found[0].name} of the gallery, which is left out of it")
    if found:
        return found[0], [tracklet for tracklet in tracklets if tracklet is not found[0]]
    if not os.path.isdir(name):  # False, and no error, for a name that is too long
        known = ", ".join(tracklet.name for tracklet in tracklets[:5]) + (", …" if len(tracklets) > 5 else "")
        raise InputError(f"--query {shortened(name)}: is neither a folder of frames nor a tracklet of the input, which "
                         f"has {known}.")
    opened = open_folder(name, pattern="frame")
    print_warnings(opened.warnings)
    return opened.tracklets[0], list(tracklets)


def _folder(source: Source, tracklet: Tracklet) -> Path:
    """The folder of a tracklet's frames; for the pattern 'frame', the source's own folder.

    A tracklet that was told apart by names has no folder; the path that its name gives does not exist.
    """
    folder = source.path / tracklet.name
    return (folder if folder.is_dir() or len(source.tracklets) > 1 else source.path).resolve()
