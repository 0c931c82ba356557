"""Step 4: completing all splits, by way of folders of frames, into a set of the same form."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from vrstc_jax.data.tracklet_set import INFO_FILE, TrackletSet, write_set
from vrstc_jax.inference.completer import Completer
from vrstc_jax.inference.plan import Plan
from vrstc_jax.inference.results_folder import ResultsFolder, require_names
from vrstc_jax.models.model_file import Model
from vrstc_jax.recipes.complete import complete_each, model_identity
from vrstc_jax.recipes.five_steps.locating import Located
from vrstc_jax.recipes.five_steps.options import Options
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.storage import as_path
from vrstc_jax.runtime.workdir import Workdir


def complete_sets(sets: Mapping[str, TrackletSet], model: Model, found: Located, work: str | PathLike, *,
                  options: Options = Options()) -> None:
    """Writes the set WORK/completed. Tracklets that are complete in the folder of frames are not completed again.

    Every process completes its share of the tracklets; process 0 then writes the set.
    """
    work = as_path(work)
    frames, details = "completed_frames", "completed_details"
    folders = _folders(work / frames, work / details, model_identity(model) | {"hidden": options.hidden}, sets)
    jobs = []
    for split, data in sets.items():
        require_names(data.tracklets)
        for index in distributed.own_items(len(data.tracklets)):
            # Step 2's scores are reused, so that nothing is located twice.
            plan = None if options.hidden == "given" else Plan.from_scores(found.scores[split][index], model.tau)
            jobs.append((folders[split], data.tracklets[index], plan))
    complete_each(Completer(model), jobs)
    for folder in folders.values():
        folder.finish()

    def join() -> None:
        write_set(work / "completed", {split: [folders[split].completed(tracklet) for tracklet in data.tracklets]
                                for split, data in sets.items()})
        if not options.keep_folder:
            for left in (frames, details):
                Workdir(work).discard(left, last=INFO_FILE)

    distributed.run_on_first(join)


def _folders(frames: Path, details: Path, run: Mapping[str, Any],
             sets: Mapping[str, TrackletSet]) -> dict[str, ResultsFolder]:
    """One folder for all splits, in the tree of the tracklets' names, or one for each where names clash
    (`Options.keep_folder`)."""
    names = [tracklet.name for data in sets.values() for tracklet in data.tracklets]
    if len(set(names)) == len(names):
        return dict.fromkeys(sets, ResultsFolder(details, run, frames=frames))
    return {split: ResultsFolder(details / split, run, frames=frames / split) for split in sets}
