"""The five steps one after the other, each skipped when its result exists, or done again when asked for."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from vrstc_jax import config as configs
from vrstc_jax.data.made_from import digest
from vrstc_jax.data.tracklet_set import INFO_FILE, TrackletSet, is_complete
from vrstc_jax.models.model_file import ReidModel, load_model, load_reid, save_model, save_reid
from vrstc_jax.recipes.five_steps.completing import complete_sets
from vrstc_jax.recipes.five_steps.data import DataSource, read_splits, require_current, require_trainable
from vrstc_jax.recipes.five_steps.locating import locate, read_located
from vrstc_jax.recipes.five_steps.networks import final_network, first_network, generators
from vrstc_jax.recipes.five_steps.options import STEPS, Options, Step, complete_record
from vrstc_jax.recipes.five_steps.ranking import rank_sets
from vrstc_jax.runtime import distributed, lock
from vrstc_jax.runtime.errors import InputError, warn
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.storage import as_path, is_remote, replace_file
from vrstc_jax.runtime.workdir import Workdir

LEFT_BY = {  # what each step leaves in the work directory; first the file or set with which it is done
    "data": ("data", "data.unfinished"),
    "reid": ("reid.safetensors", "reid"),
    "locate": ("locating.json", "scores"),
    "stcnet": ("model.safetensors", "stcnet"),
    "complete": ("completed", "completed.unfinished", "completed_frames", "completed_details"),
    "rank": ("results.json", "final.safetensors", "final", "before.safetensors", "before", "features",
             "features.npz", "ranked.png", "cmc.png"),
}
_AGAIN = "again.json"  # while steps are done again: from which one
_MADE_FROM = "made_from.json"  # for each step, a digest of what its result is made from


def run(work: str | PathLike, config: configs.Config, write: Callable[[Path], None], *,
        options: Options = Options(), inputs: Mapping[str, Any] | None = None, start: Step | None = None,
        command: str = "", backbone: Callable[[], dict[str, Any]] | None = None) -> dict[str, Any]:
    """Takes the five steps, each unless its result exists, and prints a line for each.

    Every process of a run calls it with the same arguments, and all must see the same `work`. They train together,
    locate, complete and extract features each in its share, and process 0 does the rest.

    Args:
      work: directory for everything; gs:// will do.
      write: writes the data set of step 0 to the path it is given, under another name first. Of a `DataSource`, later
        calls check that it has not changed.
      inputs: what identifies the data, for the record in `work`; a directory whose record differs is refused.
      start: a step to do again, and all after it; until that is done, the same call goes on with it.
      backbone: returns variables of `ReidNet` to begin training with, such as ImageNet's; called before the first
        step, and only if a network is still to be trained. None: networks begin with random weights.

    Returns:
      The contents of results.json.

    Raises:
      InputError: `work` holds another experiment, the data cannot be used, or a result that is there was made from
        others than those of now.
      TrainingDiverged: a loss was not finite.
    """
    with lock.releasing():
        folder = Workdir(as_path(work))
        if start is not None and start not in STEPS:
            raise InputError(f"There is no step '{start}'; choose one of {', '.join(STEPS)}.")
        results = folder.path / "results.json"
        done = distributed.run_on_first(lambda: results.exists() and (start is None or _going_on(folder, start)))
        start_from = None if backbone is None or done else backbone()

        def take() -> None:
            folder.claim({"config": configs.to_dict(config), "options": dataclasses.asdict(options),
                          "inputs": dict(inputs or {})}, complete=complete_record)
            _clean(folder, options)
            going_on = start is not None and _going_on(folder, start)
            if isinstance(write, DataSource) and (going_on or start != "data"):
                try:
                    _require_current(folder, write)
                except InputError:
                    if start != "data":
                        raise
                    going_on = False  # it changed once more
            if start is not None and not going_on:
                _begin_again(folder, start, write)
            if not _has_results(folder) and not (folder.path / _MADE_FROM).exists():
                replace_file(folder.path / _MADE_FROM, b"{}")

        distributed.run_on_first(take)
        if done:
            distributed.print_on_first(
                f"{results}: exists already; nothing is left to do (--from STEP does steps again).")
        else:
            raw = _data(folder, write, options)
            _take(folder, raw, config, options=options, command=command, start_from=start_from)
        distributed.run_on_first(lambda: _discard(folder, _AGAIN))
        return read_record(results, fits=lambda found: (
            isinstance(found["evaluations"], dict) and "gallery" in found))


def _data(folder: Workdir, write: Callable[[Path], None], options: Options) -> dict[str, TrackletSet]:
    """Step 0's data, checked for what all steps need of them."""
    try:
        raw = folder.get_or_write("data", write, load=read_splits, exists=is_complete, label="data")
        distributed.barrier("data")  # all processes have read the data before one may remove them
        require_trainable(raw, options)
        return raw
    except InputError:  # another attempt, with the right data, may have the directory
        if distributed.is_first():
            _give_back(folder)
        raise


def _take(folder: Workdir, raw: Mapping[str, TrackletSet], config: configs.Config, *, options: Options, command: str,
          start_from: dict[str, Any] | None) -> None:
    """Steps 1 to 5."""
    work = folder.path
    data = {split: [[t.name, t.made_from] for t in of_split.tracklets] for split, of_split in raw.items()}
    _made_from(folder, "reid", data)
    first = folder.get_or_make("reid.safetensors", lambda: first_network(
        raw["train"], config.first_reid, work / "reid", command=command, start_from=start_from),
        save=save_reid, load=load_reid, label="reid")
    _made_from(folder, "locate", data, first.digest)
    found = folder.get_or_make("locating.json", lambda: locate(raw, config, first, work),
                               load=lambda path: read_located(path.parent), label="locate")
    _made_from(folder, "stcnet", data, first.digest, found.digest)
    model = folder.get_or_make("model.safetensors", lambda: generators(
        raw["train"], config, first, found, work / "stcnet", options=options, command=command),
        save=save_model, load=load_model, label="stcnet")
    _made_from(folder, "complete", data, found.digest, model.digest)
    completed = folder.get_or_make("completed", lambda: complete_sets(raw, model, found, work, options=options),
                                   load=read_splits, exists=is_complete, label="complete")

    def final(name: str, train: TrackletSet, directory: str) -> ReidModel:
        return final_network(train, config, first, work / directory, start_from=start_from, command=command,
                             name=f"final network, {name} completion")

    def rank() -> None:
        models = {"first": first, "after": final("after", completed["train"], "final")}
        if options.compare:
            models["before"] = final("before", raw["train"], "before")
        rank_sets(raw, completed, models, work, options=options, command=command)

    _made_from(folder, "rank", data, first.digest, {
        split: [[t.name, t.made_from] for t in of_split.tracklets] for split, of_split in completed.items()})
    folder.get_or_make("results.json", rank, load=lambda path: None, label="rank")


def _made_from(folder: Workdir, step: Step, *parts: Any) -> None:
    """Records what a step's result is made from, before it is made, or checks that it is what the record says.

    A directory of an earlier version has no record, and is used as it is.

    Raises:
      InputError: the result, or an unfinished one, is made from something else.
    """
    def check() -> None:
        path, now = folder.path / _MADE_FROM, digest(parts)
        record = _read_made_from(path) if path.exists() else {step: now}
        if record.get(step, now) != now:
            raise InputError(f"{folder.path / LEFT_BY[step][0]}: was made from other data or results than those that "
                             f"are here now; take the steps again (--from {step}), or choose another directory.")
        if step not in record:
            replace_file(path, json.dumps(record | {step: now}, indent=1).encode())

    distributed.run_on_first(check)


def _read_made_from(path: Path) -> dict[str, str]:
    return read_record(path, fits=lambda found: all(isinstance(value, str) for value in found.values()))


def _require_current(folder: Workdir, source: DataSource) -> None:
    """Checks that stored data are those of the source, where that can be seen."""
    if _has_results(folder) and not (folder.path / _MADE_FROM).exists():
        warn(f"{folder.path}: is of an earlier version, which did not record what its results were made from; changes "
             "of the data since then cannot be seen.")
    elif is_complete(folder.path / "data"):
        require_current(folder.path / "data", source.read)


def _has_results(folder: Workdir) -> bool:
    """Whether there is anything beyond the data."""
    return any((folder.path / name).exists() for step in STEPS[1:] for name in LEFT_BY[step])


def _discard(folder: Workdir, name: str) -> None:
    folder.discard(name, last=INFO_FILE)


def _give_back(folder: Workdir) -> None:
    """Leaves the directory as if it had not been claimed, unless more than the data is there."""
    if not _has_results(folder):
        for name in (*LEFT_BY["data"], _MADE_FROM):
            _discard(folder, name)
        (folder.path / folder.record).unlink()


def _going_on(folder: Workdir, start: str) -> bool:
    """Whether the directory is in the middle of doing this step again."""
    record = folder.path / _AGAIN
    return record.exists() and read_record(record, fits=lambda found: "from" in found)["from"] == start


def _begin_again(folder: Workdir, start: Step, write: Callable[[Path], None]) -> None:
    """Removes what a step and those after it left. New data are written before the old data and their results go."""
    again = folder.path / "data.again"
    if start == "data":
        write(again)
    # The last step first: if this is cut off, no result is left without what it was made from.
    again_from = STEPS.index(start)
    for step in reversed(STEPS[again_from:]):
        for name in LEFT_BY[step]:
            _discard(folder, name)
    record = folder.path / _MADE_FROM
    if record.exists():
        kept = {step: value for step, value in _read_made_from(record).items() if step in STEPS[:again_from]}
        replace_file(record, json.dumps(kept, indent=1).encode())
    if start == "data":
        if is_remote(folder.path):  # nothing can be renamed in a bucket
            write(folder.path / "data")
            _discard(folder, again.name)
        else:
            again.rename(folder.path / "data")
    replace_file(folder.path / _AGAIN, json.dumps({"from": start}).encode())


def _clean(folder: Workdir, options: Options) -> None:
    """Removes what a process left that was killed while it removed or replaced something."""
    folder.clean()
    for name in ("data.again", "data.again.unfinished"):
        _discard(folder, name)
    if is_complete(folder.path / "completed") and not options.keep_folder:
        for name in ("completed_frames", "completed_details"):
            _discard(folder, name)
