"""A folder of completed tracklets: the path of each file, and which tracklets are complete.

    DIR/<tracklet>/<frame>.png         the completed crops (the input's tree and names)
    DIR/masks/<tracklet>/<frame>.png   the masks used, white = hidden
    DIR/parts/whole/…                  where hidden parts were located pixel by pixel: the whole person,
    DIR/parts/visible/…                and what is seen of them
    DIR/origin/<tracklet>/<frame>.png  of repainted frames where each pixel comes from (`inference.origin`)
    DIR/scores/<tracklet>.json         for each frame what was hidden, and which frames it was filled from
    DIR/run.json                       identifies the run that writes the folder; the same command resumes it

The scores file of a tracklet is written last: a tracklet is complete when it exists. It also records what the tracklet
was made from, so that `review` finds those that changed since. Several processes write to one folder, each its own
tracklets.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.images import read_image, read_numbers, write_png
from vrstc_jax.data.inputs.masks import read_mask
from vrstc_jax.data.inputs.picture_files import natural_key
from vrstc_jax.data.made_from import listed
from vrstc_jax.data.neighbours import NO_FRAME
from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.inference.completer import CompletedFrame, How
from vrstc_jax.inference.origin import Origin
from vrstc_jax.inference.plan import Plan
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError, warn
from vrstc_jax.runtime.names import name_problem, path_problem, shortened
from vrstc_jax.runtime.notices import print_notice
from vrstc_jax.runtime.paths import require_name, within
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.storage import (
    as_path,
    describe_error,
    is_remote,
    remove,
    replace_file,
    require_writable_directory,
)
from vrstc_jax.runtime.workdir import Workdir

RESERVED = ("masks", "parts", "origin", "scores", "work", "run.json", "report.html", "metrics.json")
_PARTS = "whole", "visible"
_UNKNOWN = "unknown"


def require_names(tracklets: Iterable[Tracklet], *, split: str = "", folder: str | os.PathLike = "") -> None:
    """Checks that each tracklet's results can be written, in a folder to themselves below the results folder.

    Args:
      split: of the tracklets, for the error.
      folder: of the results, whose path adds to the length.

    Raises:
      InputError: a name leads out of the folder, begins with one of `RESERVED`, is the beginning of another, or is
        too long for the file system.
    """
    tracklets, of_split = list(tracklets), f" of {split}" if split else ""
    names = {tracklet.name for tracklet in tracklets}
    for tracklet in tracklets:
        path = PurePosixPath(require_name(tracklet.name, f"a tracklet{of_split}"))
        called = f"tracklet {shortened(tracklet.name)}{of_split}"
        for frame in tracklet.frame_names:
            if "/" in require_name(frame, f"{called}: a frame"):
                raise InputError(f"{called}: the frame's name {frame!r} must have no '/'.")
        if outer := next((str(parent) for parent in path.parents if str(parent) in names), None):
            raise InputError(f"{called}: is inside the folder of tracklet {outer}; rename one of them.")
        if problem := name_problem(path.parts[0], reserved=RESERVED):
            raise InputError(f"{called}: its folder {shortened(path.parts[0])} {problem}.")
        longest = max(tracklet.frame_names, key=lambda frame: len(frame.encode()), default="")
        # The file of its scores is called as the tracklet's folder.
        if problem := (path_problem(tracklet.name, suffix=".json")
                       or path_problem(os.path.join(folder, "masks", tracklet.name, longest), suffix=".png")):
            raise InputError(f"{called}: its name {problem}.")


def _complete_config(record: dict[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the fields of the model's config that one of an earlier version lacks, or all of it."""
    if "config" not in run:
        return record
    record = {"config": run["config"]} | record
    with suppress(InputError):  # a later version's record stays as it is, so that it differs
        record |= {"config": configs.with_defaults(record["config"])}
    return record


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
                 frames: str | os.PathLike | None = None, complete: Callable[[dict], dict] = dict):
        """Claims the folder; every process of a run calls it.

        Args:
          run: what the results depend on: model, input, options, but not the content of the tracklets. A folder of
            another run is refused.
          frames: folder of the completed crops, where that is not `directory`.
          complete: makes a record of an earlier version like one of this version.
        """
        self.path = as_path(directory)
        self.frames = self.path if frames is None else as_path(frames)
        self.work = self.path / "work"

        def claim() -> None:
            if not is_remote(self.path):
                _require_own_folders(self.path)
            Workdir(self.path, "run.json", "the results of another run").claim(
                run, complete=lambda record: _complete_config(complete(record), run))
            require_writable_directory(self.work)

        distributed.run_on_first(claim)

    def review(self, tracklets: Sequence[Tracklet]) -> None:
        """Drops the results of tracklets that changed since, and of those that are gone, and says how many.

        Results of an earlier version have no record of what they were made from; they are kept, with a warning. One
        process calls it, before any tracklet is completed.
        """
        recorded = self._recorded()
        now = {tracklet.name: tracklet.made_from for tracklet in tracklets}
        gone = [name for name in recorded if name not in now]
        changed = [name for name, made_from in recorded.items() if name in now and made_from is not _UNKNOWN
                   and now[name] is not None and made_from != now[name]]
        for name in changed:
            remove(within(self.path / "scores", name, suffix=".json"))  # so that it is not complete
        for name in gone:
            self._remove(name)
        if changed or gone:
            kept = len(recorded) - len(changed) - len(gone)
            parts = [f"{len(names)} of its {len(recorded)} tracklets {what} {listed(names)}"
                     for names, what in ((changed, "changed since and are completed again"),
                                         (gone, "are gone and their results removed")) if names]
            print_notice(f"{self.path}: {'; '.join(parts)}; {kept} kept")
        if any(made_from is _UNKNOWN and now.get(name) is not None for name, made_from in recorded.items()):
            warn(f"{self.path}: has results of an earlier version, which did not record what they were made from; "
                 "changes of the input since then cannot be seen, and these results are kept.")

    def _recorded(self) -> dict[str, str | None]:
        """What each complete tracklet was made from, in natural order; `_UNKNOWN` in files of earlier versions."""
        top, found = self.path / "scores", {}
        for file in top.rglob("*.json") if top.exists() else ():
            if file.is_dir():  # of tracklets that are called so
                continue
            try:
                made_from = read_record(file, fits=lambda found: isinstance(found["frames"], list)).get(
                    "made_from", _UNKNOWN)
            except InputError:
                made_from = "a damaged file"  # no digest is: the tracklet is completed again
            found[file.relative_to(top).with_suffix("").as_posix()] = made_from
        return {name: found[name] for name in sorted(found, key=natural_key)}

    def _remove(self, name: str) -> None:
        """Removes a tracklet's results, and the folders above them that are then empty."""
        # The scores first: a tracklet without them is not complete.
        for root, suffix in ((self.path / "scores", ".json"), (self.path / "masks", ""), (self.frames, ""),
                             (self.path / "origin", ""), *((self.path / "parts" / part, "") for part in _PARTS)):
            path = within(root, name, suffix=suffix)
            remove(path)
            for parent in path.parents:
                if parent == root or not parent.is_dir() or any(parent.iterdir()):
                    break
                parent.rmdir()

    def has(self, tracklet: Tracklet) -> bool:
        """Whether a tracklet is complete here: its scores file is whole, and its pictures are there."""
        path = self._scores(tracklet)
        if is_remote(path):
            return path.exists()
        if not os.path.lexists(path):
            return False
        try:
            self.read_scores(tracklet)
            missing = next((file for name in tracklet.frame_names for file in self._files(tracklet, name)
                            if not file.is_file()), None)
            problem = missing and f"{missing}: is missing"
        except InputError as error:
            problem = str(error).rpartition(";")[0]
        if problem:
            warn(f"{problem}; tracklet {tracklet.name} is completed again")
        return not problem

    def read_scores(self, tracklet: Tracklet) -> dict[str, Any]:
        """The scores file of a complete tracklet, as `write` returned it.

        Raises:
          InputError: the file is damaged, or of other frames.
        """
        def fits(found: dict) -> bool:
            rows = found["frames"]
            return (all(isinstance(warning, str) for warning in found["warnings"]) and all(map(_is_row, rows))
                    and [row["frame"] for row in rows] == list(tracklet.frame_names))

        return read_record(self._scores(tracklet), fits=fits)

    def read(self, tracklet: Tracklet, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Mask bool [H, W] and completed frame uint8 [H, W, 3] of a complete tracklet."""
        return self._mask(tracklet, index), self._frame(tracklet, index)

    def read_origin(self, tracklet: Tracklet, index: int) -> Origin | None:
        """Where a frame's repainted pixels come from; None where that is not recorded, or nothing was repainted."""
        file = self.path / "origin" / tracklet.name / f"{tracklet.frame_names[index]}.png"
        return Origin.of_picture(index, read_numbers(file)) if file.is_file() else None

    def completed(self, tracklet: Tracklet) -> Tracklet:
        """A complete tracklet with its completed frames and the masks used, each read when it is indexed."""
        count = len(tracklet)
        return dataclasses.replace(
            tracklet, frames=LazySequence(count, lambda index: self._frame(tracklet, index)),
            masks=LazySequence(count, lambda index: self._mask(tracklet, index)), truth=None, silhouettes=None,
            made_from=None)

    def write(self, tracklet: Tracklet, plan: Plan, frames: Iterator[CompletedFrame]) -> dict[str, Any]:
        """Writes a tracklet frame by frame as it is completed; returns the contents of its scores file."""
        finals = {"frames": within(self.frames, tracklet.name)} | {
            part: within(self.path / part, tracklet.name) for part in ("masks", "origin")}
        if plan.parts is not None:
            finals |= {part: within(self.path / "parts" / part, tracklet.name) for part in _PARTS}
        scored = within(self.path / "scores", tracklet.name, suffix=".json")
        # Under another name until whole, for each process its own; in a bucket nothing can be renamed.
        unfinished = finals if is_remote(self.path) else {
            part: self.work / f"tracklet{distributed.process_index()}" / part for part in finals}
        # The scores of earlier results too, which say what those were made from.
        for left in (scored, *unfinished.values()):
            remove(left)
        rows, names = [], tracklet.frame_names
        for done in frames:
            scores = plan.scores[done.index]
            file = require_name(f"{names[done.index]}.png", f"tracklet {tracklet.name}")
            write_png(unfinished["frames"] / file, done.frame)
            write_png(unfinished["masks"] / file, done.mask)
            if done.origin is not None:
                write_png(unfinished["origin"] / file, done.origin.picture())
            if plan.parts is not None:
                size = done.mask.shape[0], done.mask.shape[1]
                write_png(unfinished["whole"] / file, plan.parts.amodal(done.index, *size))
                write_png(unfinished["visible"] / file, plan.parts.modal(done.index, *size))
            rows.append({"frame": names[done.index], "how": done.how,
                         "hidden": round(float(done.mask.mean()), 4),
                         "imagined": round(done.imagined, 4),
                         "sources": [None if i == NO_FRAME else names[i] for i in done.sources],
                         # The plan of a given mask has no scores; JSON has no NaN.
                         "scores": None if np.isnan(scores).any() else [round(float(s), 5) for s in scores]})
        for part, final in finals.items() if unfinished is not finals else ():
            try:
                final.parent.mkdir(parents=True, exist_ok=True)
                remove(final)
                if unfinished[part].exists():  # nothing has an origin where nothing was repainted
                    os.replace(unfinished[part], final)
            except OSError as error:
                raise InputError(f"{final}: cannot be written ({describe_error(error)}); remove it, and run the same "
                                 "command again.") from None
        result = {"tracklet": tracklet.name, "made_from": tracklet.made_from, "frames": rows,
                  "warnings": [*tracklet.warnings, *plan.warnings]}
        replace_file(scored, json.dumps(result, indent=1).encode())
        return result

    def finish(self) -> None:
        """Removes `work`, after every process has called this."""
        distributed.barrier("folder")
        distributed.run_on_first(lambda: remove(self.work))

    def _mask(self, tracklet: Tracklet, index: int) -> np.ndarray:
        return read_mask(self._files(tracklet, tracklet.frame_names[index])[1])

    def _frame(self, tracklet: Tracklet, index: int) -> np.ndarray:
        return read_image(self._files(tracklet, tracklet.frame_names[index])[0])

    def _files(self, tracklet: Tracklet, frame: str) -> tuple[Path, Path]:
        """The files of a completed frame and of its mask."""
        return (self.frames / tracklet.name / f"{frame}.png", self.path / "masks" / tracklet.name / f"{frame}.png")

    def _scores(self, tracklet: Tracklet) -> Path:
        return self.path / "scores" / f"{tracklet.name}.json"


def _require_own_folders(path: Path) -> None:
    """Checks that the parts of a folder of results are folders in it.

    Through a link, the files of something else would be taken for results, and removed as those of tracklets that are
    gone.
    """
    for entry in (path / name for name in ("masks", "parts", "origin", "scores", "work")):
        if entry.is_symlink() or os.path.lexists(entry) and not entry.is_dir():
            kind = "a link" if entry.is_symlink() else "a file"
            raise InputError(f"{entry}: is {kind}, and should be a folder of results; remove it, and run the same "
                             "command again.")


def _is_row(row: dict[str, Any]) -> bool:
    """Whether a frame's row of a scores file has the form that `ResultsFolder.write` gives it."""
    scores, sources = row["scores"], row["sources"]
    return (row["how"] in get_args(How) and len(sources) == 2
            # Earlier versions did not write how much was imagined.
            and all(isinstance(share, int | float) for share in (row["hidden"], row.get("imagined", 0)))
            and all(source is None or isinstance(source, str) for source in sources)
            and (scores is None or all(isinstance(score, int | float) for score in scores)))
