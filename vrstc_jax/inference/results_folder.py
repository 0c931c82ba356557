"""A folder of completed tracklets: the path of each file, and which tracklets are complete.

    DIR/<tracklet>/<frame>.png         the completed crops (the input's tree and names)
    DIR/masks/<tracklet>/<frame>.png   the masks used, white = hidden
    DIR/scores/<tracklet>.json         for each frame what was hidden, and which frames it was filled from
    DIR/run.json                       identifies the run that writes the folder; the same command resumes it

The scores file of a tracklet is written last: a tracklet is complete when it exists. Several processes write to one
folder, each its own tracklets.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vrstc_jax.data.images import read_image, write_png
from vrstc_jax.data.inputs.masks import read_mask
from vrstc_jax.data.neighbours import NO_FRAME
from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.inference.completer import CompletedFrame
from vrstc_jax.inference.plan import Plan
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import name_problem, path_problem, shortened
from vrstc_jax.runtime.storage import as_path, is_remote, remove, replace_file
from vrstc_jax.runtime.workdir import Workdir

RESERVED = ("masks", "scores", "work", "run.json", "report.html", "metrics.json")


def require_names(tracklets: Iterable[Tracklet], *, split: str = "", folder: str | os.PathLike = "") -> None:
    """Checks that the results of tracklets can be written under their names.

    Args:
      split: of the tracklets, for the error.
      folder: of the results, whose path adds to the length.

    Raises:
      InputError: a tracklet's name begins with one of `RESERVED`, or a name or path would be too long for the file
        system.
    """
    for tracklet in tracklets:
        name, first = tracklet.name, PurePosixPath(tracklet.name).parts[0]
        longest = max(tracklet.frame_names, key=lambda frame: len(frame.encode()), default="")
        tracklet_of_split = f"tracklet {shortened(name)}{f' of {split}' if split else ''}"
        if problem := name_problem(first, reserved=RESERVED):
            raise InputError(f"{tracklet_of_split}: its folder {shortened(first)} {problem}.")
        # The file of its scores is called as the tracklet's folder.
        if problem := (path_problem(name, suffix=".json")
                       or path_problem(os.path.join(folder, "masks", name, longest), suffix=".png")):
            raise InputError(f"{tracklet_of_split}: its name {problem}.")


class ResultsFolder:
    """Writes completed tracklets, each whole or not at all, and reads them back.

    Attributes:
      path: the folder.
      frames: the folder of the completed crops; `path` unless another was given.
      work: folder of temporary files; `finish` removes it.

    Raises:
      InputError: the folder cannot be written, or holds the results of another run or files of another command.
    """

    def __init__(self, directory: str | os.PathLike, run: Mapping[str, Any], *,
                 frames: str | os.PathLike | None = None):
        """Claims the folder; every process of a run calls it.

        Args:
          run: all that the results depend on: model, input, options. A folder of another run is refused.
          frames: folder of the completed crops, where that is not `directory`.
        """
        self.path = as_path(directory)
        self.frames = self.path if frames is None else as_path(frames)
        self.work = self.path / "work"

        def claim() -> None:
            Workdir(self.path, "run.json", "the results of another run").claim(run)
            self.work.mkdir(parents=True, exist_ok=True)

        distributed.run_on_first(claim)

    def has(self, tracklet: Tracklet) -> bool:
        """Whether a tracklet is complete here."""
        return self._scores(tracklet).exists()

    def read_scores(self, tracklet: Tracklet) -> dict[str, Any]:
        """The scores file of a complete tracklet, as `write` returned it."""
        return json.loads(self._scores(tracklet).read_text())

    def read(self, tracklet: Tracklet, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Mask bool [H, W] and completed frame uint8 [H, W, 3] of a complete tracklet."""
        return self._mask(tracklet, index), self._frame(tracklet, index)

    def completed(self, tracklet: Tracklet) -> Tracklet:
        """A complete tracklet with its completed frames and the masks used, each read when it is indexed."""
        count = len(tracklet)
        return dataclasses.replace(
            tracklet, frames=LazySequence(count, lambda index: self._frame(tracklet, index)),
            masks=LazySequence(count, lambda index: self._mask(tracklet, index)), truth=None, silhouettes=None)

    def write(self, tracklet: Tracklet, plan: Plan, frames: Iterator[CompletedFrame]) -> dict[str, Any]:
        """Writes a tracklet frame by frame as it is completed; returns the contents of its scores file."""
        finals = {"frames": self.frames / tracklet.name, "masks": self.path / "masks" / tracklet.name}
        # Under another name until whole, for each process its own; in a bucket nothing can be renamed.
        unfinished = finals if is_remote(self.path) else {
            part: self.work / f"tracklet{distributed.process_index()}" / part for part in finals}
        for left in unfinished.values():
            remove(left)
        rows, names = [], tracklet.frame_names
        for done in frames:
            scores = plan.scores[done.index]
            write_png(unfinished["frames"] / f"{names[done.index]}.png", done.frame)
            write_png(unfinished["masks"] / f"{names[done.index]}.png", done.mask)
            rows.append({"frame": names[done.index], "how": done.how,
                         "hidden": round(float(done.mask.mean()), 4),
                         "sources": [None if i == NO_FRAME else names[i] for i in done.sources],
                         # The plan of a given mask has no scores; JSON has no NaN.
                         "scores": None if np.isnan(scores).any() else [round(float(s), 5) for s in scores]})
        for part, final in finals.items() if unfinished is not finals else ():
            final.parent.mkdir(parents=True, exist_ok=True)
            remove(final)
            os.replace(unfinished[part], final)
        result = {"tracklet": tracklet.name, "frames": rows, "warnings": [*tracklet.warnings, *plan.warnings]}
        replace_file(self._scores(tracklet), json.dumps(result, indent=1).encode())
        return result

    def finish(self) -> None:
        """Removes `work`, after every process has called this."""
        distributed.barrier("folder")
        distributed.run_on_first(lambda: remove(self.work))

    def _mask(self, tracklet: Tracklet, index: int) -> np.ndarray:
        return read_mask(self.path / "masks" / tracklet.name / f"{tracklet.frame_names[index]}.png")

    def _frame(self, tracklet: Tracklet, index: int) -> np.ndarray:
        return read_image(self.frames / tracklet.name / f"{tracklet.frame_names[index]}.png")

    def _scores(self, tracklet: Tracklet) -> Path:
        return self.path / "scores" / f"{tracklet.name}.json"
