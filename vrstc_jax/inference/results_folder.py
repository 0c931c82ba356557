"""A folder of completed tracklets: what is where in it, and what of it already stands.

    DIR/<tracklet>/<frame>.png         the completed crops (the input's tree and names)
    DIR/masks/<tracklet>/<frame>.png   the masks used, white = hidden
    DIR/scores/<tracklet>.json         for each frame what was hidden, and what it was filled from
    DIR/run.json                       what made it, so that the same command goes on

A tracklet's scores are written last: it is complete when they are there. Several processes write to one folder, each
whole tracklets of its own.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.inputs.masks import read_mask
from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.inference.complete import CompletedFrame
from vrstc_jax.inference.plan import Plan
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import as_path, entries, is_remote, remove, replace_file, require_writable_directory

RESERVED = ("masks", "scores", "work")


class ResultsFolder:
    """Writes completed tracklets, each under another name first, and knows which stand.

    Args:
      run: what makes the results: model, input, options. A folder made by another run is refused.
      frames: where the completed crops go, if not into the same folder.

    Raises:
      InputError: the folder cannot be written, or holds something else.
    """

    def __init__(self, directory, run: dict, *, frames=None):
        self.path = as_path(directory)
        self.frames = self.path if frames is None else as_path(frames)
        self.work = self.path / "work"
        distributed.run_on_first(lambda: self._claim(run))

    def _claim(self, run):
        require_writable_directory(self.path)
        record = self.path / "run.json"
        run = json.loads(json.dumps(run))
        if record.exists():
            if json.loads(record.read_text()) != run:
                raise InputError(f"{self.path}: holds the results of another run (see its run.json); "
                                 "remove it, or give another output folder.")
        elif any(entry.name != f".{record.name}.partial" for entry in entries(self.path)):
            raise InputError(f"{self.path}: is not empty, and nothing in it is from this command; "
                             "give an empty or a new folder.")
        else:
            replace_file(record, json.dumps(run, indent=1).encode())
        self.work.mkdir(parents=True, exist_ok=True)

    def require_names(self, tracklets: Iterable[Tracklet]) -> None:
        """Checks that no tracklet would lie where other results do.

        Raises:
          InputError: one would.
        """
        for tracklet in tracklets:
            if Path(tracklet.name).parts[0] in RESERVED:
                raise InputError(f"tracklet {tracklet.name}: its folder has the name of one that results need "
                                 f"({', '.join(RESERVED)}); rename it.")

    def has(self, tracklet: Tracklet) -> bool:
        """Whether a tracklet is complete here."""
        return self._scores(tracklet).exists()

    def read_scores(self, tracklet: Tracklet) -> dict:
        """What was written of a tracklet that is complete here."""
        return json.loads(self._scores(tracklet).read_text())

    def read(self, tracklet: Tracklet, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Mask bool [H, W] and completed frame uint8 [H, W, 3] of a tracklet that is complete here."""
        return self._mask(tracklet, index), self._frame(tracklet, index)

    def completed(self, tracklet: Tracklet) -> Tracklet:
        """A tracklet that is complete here, read when asked for: what was painted in, and where."""
        count = len(tracklet)
        return dataclasses.replace(
            tracklet, frames=LazySequence(count, lambda index: self._frame(tracklet, index)),
            masks=LazySequence(count, lambda index: self._mask(tracklet, index)), truth=None, silhouettes=None)

    def write(self, tracklet: Tracklet, plan: Plan, frames: Iterator[CompletedFrame]) -> dict:
        """Writes a tracklet as its frames come; returns what its scores file says."""
        places = {"frames": self.frames / tracklet.name, "masks": self.path / "masks" / tracklet.name}
        unfinished = {part: self.work / f"tracklet{distributed.process_index()}" / part for part in places}  # of this process
        if is_remote(self.path):  # nothing is renamed there
            unfinished = places
        for before in unfinished.values():
            remove(before)
        rows, names = [], tracklet.frame_names
        for done in frames:
            write_png(unfinished["frames"] / f"{names[done.index]}.png", done.frame)
            write_png(unfinished["masks"] / f"{names[done.index]}.png", done.mask)
            rows.append({"frame": names[done.index], "how": done.how,
                         "hidden": round(float(done.mask.mean()), 4),
                         "sources": [names[i] if i >= 0 else None for i in done.sources],
                         "scores": _listed(plan.scores[done.index])})
        for part, final in places.items() if unfinished is not places else ():
            final.parent.mkdir(parents=True, exist_ok=True)
            remove(final)
            os.replace(unfinished[part], final)
        result = {"tracklet": tracklet.name, "frames": rows, "warnings": [*tracklet.warnings, *plan.warnings]}
        replace_file(self._scores(tracklet), json.dumps(result, indent=1).encode())
        return result

    def finish(self) -> None:
        """Removes what was only needed on the way, when every process has come here."""
        distributed.barrier("folder")
        distributed.run_on_first(lambda: remove(self.work))

    def _mask(self, tracklet, index):
        return read_mask(self.path / "masks" / tracklet.name / f"{tracklet.frame_names[index]}.png")

    def _frame(self, tracklet, index):
        return read_image(self.frames / tracklet.name / f"{tracklet.frame_names[index]}.png")

    def _scores(self, tracklet):
        return self.path / "scores" / f"{tracklet.name}.json"


def _listed(scores):
    return None if np.isnan(scores).any() else [round(float(s), 5) for s in scores]
