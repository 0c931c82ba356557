"""The five steps one after the other, each skipped when its result exists, or done again when asked for."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from vrstc_jax import config as configs
from vrstc_jax.data.tracklet_set import INFO_FILE, TrackletSet, is_complete
from vrstc_jax.models.model_file import ReidModel, load_model, load_reid, save_model, save_reid
from vrstc_jax.recipes.five_steps.completing import complete_sets
from vrstc_jax.recipes.five_steps.data import read_splits, require_trainable
from vrstc_jax.recipes.five_steps.locating import locate, read_located
from vrstc_jax.recipes.five_steps.networks import final_network, first_network, generators
from vrstc_jax.recipes.five_steps.options import STEPS, Options, complete_record
from vrstc_jax.recipes.five_steps.ranking import rank_sets
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
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


def run(work: str | PathLike, config: configs.Config, write: Callable[[Path], None], *,
        options: Options = Options(), inputs: Mapping[str, Any] | None = None, start: str | None = None,
        command: str = "", backbone: Callable[[], dict[str, Any]] | None = None) -> dict[str, Any]:
    """Takes the five steps, each unless its result exists, and prints a line for each.

    Every process of a run calls it with the same arguments, and all must see the same `work`. They train together,
    locate, complete and extract features each in its share, and process 0 does the rest.

    Args:
      work: directory for everything; gs:// will do.
      write: writes the data set of step 0 to the path it is given, under another name first.
      inputs: what identifies the data, for the record in `work`; a directory whose record differs is refused.
      start: a step to do again, and all after it; until that is done, the same call goes on with it.
      backbone: returns variables of `ReidNet` to begin training with, such as ImageNet's; called before the first
        step, and only if a network is still to be trained. None: networks begin with random weights.

    Returns:
      The contents of results.json.

    Raises:
      InputError: `work` holds another experiment, or the data cannot be used.
      TrainingDiverged: a loss was not finite.
    """
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
        if start is not None and not _going_on(folder, start):
            _begin_again(folder, start, write)

    distributed.run_on_first(take)
    if done:
        distributed.print_on_first(f"{results}: exists already; nothing is left to do (--from STEP does steps again).")
    else:
        raw = _data(folder, write, options)
        _take(folder, raw, config, options=options, command=command, start_from=start_from)
    distributed.run_on_first(lambda: _discard(folder, _AGAIN))
    return json.loads(results.read_text())


def _data(folder: Workdir, write: Callable[[Path], None], options: Options) -> dict[str, TrackletSet]:
    """Step 0's data, checked for what all steps need of them."""
    try:
        raw = folder.get_or_make("data", lambda: None, save=lambda path, _: write(path), load=read_splits,
                                 exists=is_complete, label="data")
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
    first = folder.get_or_make("reid.safetensors", lambda: first_network(
        raw["train"], config.first_reid, work / "reid", command=command, start_from=start_from),
        save=save_reid, load=load_reid, label="reid")
    found = folder.get_or_make("locating.json", lambda: locate(raw, config, first, work),
                               load=lambda path: read_located(path.parent), label="locate")
    model = folder.get_or_make("model.safetensors", lambda: generators(
        raw["train"], config, first, found, work / "stcnet", options=options, command=command),
        save=save_model, load=load_model, label="stcnet")
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

    folder.get_or_make("results.json", rank, load=lambda path: None, label="rank")


def _discard(folder: Workdir, name: str) -> None:
    folder.discard(name, last=INFO_FILE)


def _give_back(folder: Workdir) -> None:
    """Leaves the directory as if it had not been claimed, unless more than the data is there."""
    if not any((folder.path / name).exists() for step in STEPS[1:] for name in LEFT_BY[step]):
        for name in LEFT_BY["data"]:
            _discard(folder, name)
        (folder.path / folder.record).unlink()


def _going_on(folder: Workdir, start: str) -> bool:
    """Whether the directory is in the middle of doing this step again."""
    record = folder.path / _AGAIN
    return record.exists() and json.loads(record.read_text())["from"] == start


def _begin_again(folder: Workdir, start: str, write: Callable[[Path], None]) -> None:
    """Removes what a step and those after it left. New data are written before the old data and their results go."""
    again = folder.path / "data.again"
    if start == "data":
        write(again)
    # The last step first: if this is cut off, no result is left without what it was made from.
    for step in reversed(STEPS[STEPS.index(start):]):
        for name in LEFT_BY[step]:
            _discard(folder, name)
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
