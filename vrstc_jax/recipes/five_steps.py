"""The five steps of the paper as one resumable job: from raw tracklets to a ranking (DESIGN, section 2).

    0 data      WORK/data                 the tracklets, as a TFDS set with splits train, query, gallery
    1 reid      WORK/reid.safetensors     the re-ID network that locates and guides
    2 locate    WORK/scores/, locating.json   how well each band agrees with its tracklet, and τ
    3 stcnet    WORK/model.safetensors    the whole model, generators included
    4 complete  WORK/completed            the completed tracklets, a set of the same form
    5 rank      WORK/final.safetensors, before.safetensors, results.json, features.npz (after completion, with
                names, persons and cameras; see `retrieval.save_features`), ranked.png, cmc.png

A step whose result stands is skipped. Everything is a function of the config and the data. What the last steps
will ask of the data is checked after step 0, and before any training.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames
from vrstc_jax.data.datasets import gallery_with_queries
from vrstc_jax.data.tracklet_set import INFO_FILE, TrackletSet, is_complete, read_set, write_set
from vrstc_jax.evaluation import retrieval
from vrstc_jax.evaluation.locating import LocatingScore, judge_locating
from vrstc_jax.inference.complete import Completer
from vrstc_jax.inference.locate import Locator, choose_tau
from vrstc_jax.inference.plan import Plan
from vrstc_jax.inference.results_folder import RESERVED, ResultsFolder
from vrstc_jax.models.model_file import Model, ReidModel, load_model, load_reid, save_model, save_reid
from vrstc_jax.recipes import fit
from vrstc_jax.recipes.complete import model_identity
from vrstc_jax.report import ranking_pictures, write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.sharded_map import read_arrays
from vrstc_jax.runtime.storage import as_path, entries, is_remote, remove, replace_file, require_writable_directory
from vrstc_jax.training.metrics_log import curves
from vrstc_jax.training.reid import train_reid
from vrstc_jax.training.stcnet import train_stcnet

STEPS = ("data", "reid", "locate", "stcnet", "complete", "rank")
SPLITS = ("train", "query", "gallery")
PAPER_TAU = 0.89

_LEFT_BY = {  # what each step leaves in the work directory; first what says that it is done
    "data": ("data", "data.unfinished"),
    "reid": ("reid.safetensors", "reid"),
    "locate": ("locating.json", "scores"),
    "stcnet": ("model.safetensors", "stcnet"),
    "complete": ("completed", "completed.unfinished", "completed_frames", "completed_details"),
    "rank": ("results.json", "final.safetensors", "final", "before.safetensors", "before", "features",
             "features.npz", "ranked.png", "cmc.png"),
}
_AGAIN = "again.json"  # while steps are done again: from which one
_GALLERIES = {True: "with the queries", False: "without the queries"}


@dataclass(frozen=True)
class Options:
    """How the steps are taken, beside the method's config.

    Attributes:
      hidden: what is hidden, 'located' (step 2), or 'given': by the data's masks, where they have them.
      compare: also train the final network on the data as they are, for the ranking before completion.
      queries_in_gallery: rank in a gallery that the queries have joined, as MARS's 11,310 do.
      queries_in_official_gallery: of a set on which both galleries are in use, whether the official one has the
        queries; then the other gallery is ranked in as well, and results.json says which is official. None:
        there is one gallery, as `queries_in_gallery` has it.
      keep_folder: leave the completed frames as a folder of PNGs too, in the tree of the tracklets' names:
        WORK/completed_frames/<tracklet>/<frame>.png, and in WORK/completed_details what was hidden (masks/) and why
        (scores/). Where tracklets of two splits share a name, each split has such trees of its own,
        WORK/completed_frames/<split>.
    """

    hidden: str = "located"
    compare: bool = True
    queries_in_gallery: bool = False
    queries_in_official_gallery: bool | None = None
    keep_folder: bool = False


@dataclass(frozen=True, eq=False)
class Located:
    """Scores of each split's tracklets, [T, 3] each, and τ."""

    scores: dict[str, list[np.ndarray]] = field(repr=False)
    tau: float


def run(work, config: configs.Config, write: Callable[[Path], None], *, options: Options = Options(),
        inputs: dict | None = None, start: str | None = None, command: str = "",
        backbone: Callable[[], dict] | None = None, say: Callable[[str], None] = distributed.print_on_first) -> dict:
    """Takes the five steps, each unless its result stands.

    Every process of a run calls it with the same arguments, and all must see the same `work`. They train together,
    locate, complete and extract features each for its part, and process 0 does the rest.

    Args:
      work: directory for everything; gs:// will do.
      write: writes the data set of step 0 to the path it is given, under another name first.
      inputs: what identifies the data, for the record; another work directory's is refused.
      start: a step to do again, and all after it; until that is done, the same call goes on with it.
      backbone: reads variables of `ReidNet` to begin with, such as ImageNet's; called before anything is done,
        and not where the results stand. None: networks begin fresh.
      say: is told which steps are done and which stand.

    Returns:
      What results.json holds.

    Raises:
      InputError: `work` holds another experiment, or the data cannot be used.
      TrainingDiverged: a loss was not finite.
    """
    work = as_path(work)
    if start is not None and start not in STEPS:
        raise InputError(f"There is no step '{start}'; choose one of {', '.join(STEPS)}.")
    results = work / "results.json"
    done = distributed.run_on_first(lambda: results.exists() and (start is None or _going_on(work, start)))
    start_from = None if backbone is None or done else backbone()

    def take():
        require_writable_directory(work)
        claim(work, {"config": configs.to_dict(config), "options": dataclasses.asdict(options),
                     "inputs": inputs or {}})
        _clean(work, options)
        if start is not None and not _going_on(work, start):
            _begin_again(work, start, write)

    distributed.run_on_first(take)
    if done:
        distributed.run_on_first(lambda: _remove(work / _AGAIN))
        say(f"{results}: stands; nothing is left to do (--from STEP does steps again).")
        return json.loads(results.read_text())

    def step(name, path, make):
        began = time.perf_counter()
        if distributed.run_on_first(path.exists if path.suffix else lambda: is_complete(path)):
            say(f"{name}: stands ({path}).")
            return
        make()
        say(f"{name}: done in {time.perf_counter() - began:.0f} s ({path}).")

    try:
        step("data", work / "data", lambda: distributed.run_on_first(lambda: write(work / "data")))
        raw = read_splits(work / "data")
        distributed.barrier("data")  # all have read it before one may give it back
        require_usable(raw, options)
    except InputError:  # another attempt, with the right data, may have the directory
        if distributed.is_first():
            _give_back(work)
        raise
    step("reid", work / "reid.safetensors", lambda: kept_reid(
        work / "reid.safetensors", lambda: first_network(raw["train"], config.first_reid, work / "reid",
                                                         command=command, start_from=start_from)))
    first = load_reid(work / "reid.safetensors")
    step("locate", work / "locating.json", lambda: locate(raw, config, first, work))
    found = read_located(work)
    step("stcnet", work / "model.safetensors", lambda: kept_model(
        work / "model.safetensors",
        lambda: generators(raw["train"], config, first, found, work / "stcnet", options=options, command=command)))
    model = load_model(work / "model.safetensors")
    step("complete", work / "completed", lambda: complete_sets(raw, model, found, work, options=options))
    completed = read_splits(work / "completed")
    step("rank", results, lambda: rank_sets(raw, completed, config, first, found, work, options=options,
                                            command=command, start_from=start_from))
    distributed.run_on_first(lambda: _remove(work / _AGAIN))
    return json.loads(results.read_text())


def kept_reid(path: Path, make: Callable[[], ReidModel]) -> ReidModel:
    """The re-ID network in a file; where there is none, all processes make it, and process 0 writes it."""
    return _kept(path, make, save_reid, load_reid)


def kept_model(path: Path, make: Callable[[], Model]) -> Model:
    """As `kept_reid`, of a whole model."""
    return _kept(path, make, save_model, load_model)


def _kept(path, make, save, load):
    if not distributed.run_on_first(path.exists):
        made = make()
        distributed.run_on_first(lambda: save(path, made))
    return load(path)


def read_splits(directory) -> dict[str, TrackletSet]:
    """{'train', 'query', 'gallery'} of a stored set."""
    return {split: read_set(directory, split) for split in SPLITS}


def first_network(train: TrackletSet, task: configs.ReidTask, directory, *, start_from: dict | None = None,
                  command: str = "", name: str = "re-ID network") -> ReidModel:
    """The network of step 1, or of step 5: trained on all frames."""
    identities, seen = all_frames(train)
    variables = train_reid(train, seen, task, len(identities), directory, start_from=start_from, name=name)
    return ReidModel(task.network, variables, identities, {
        "command": command, "tracklets": len(train.tracklets), "steps": task.training.steps,
        "curves": {name: curves(directory)}})


def all_frames(train: TrackletSet) -> tuple[tuple[str, ...], list[TrainingFrames]]:
    """(identities, what re-ID training may use of each tracklet: everything)."""
    identities, labels = fit.identities_of(train.tracklets)
    return identities, [TrainingFrames(first, np.arange(len(tracklet)), label)
                        for tracklet, first, label in zip(train.tracklets, train.first, labels)]


def locate(sets: Mapping[str, TrackletSet], config: configs.Config, network: ReidModel, work) -> None:
    """Step 2: scores/<split>.npz and locating.json, which says τ and, where masks are known, how good it is."""
    work = as_path(work)
    locator = Locator(network.config, network.variables, len(network.identities))
    distributed.run_on_first(lambda: (work / "scores").mkdir(parents=True, exist_ok=True))
    scores = {split: fit.locate_tracklets(work / "scores" / f"{split}.npz", data, locator) for split, data in sets.items()}
    tau = config.tau if config.tau is not None else choose_tau(scores["train"], config.tau_quantile)
    record = {"tau": float(tau), "tau_quantile": config.tau_quantile if config.tau is None else None}
    other = PAPER_TAU if config.tau is None else choose_tau(scores["train"], config.tau_quantile)
    quality = locating_table(sets, scores, (tau, other))
    if quality:
        record["quality"] = [dataclasses.asdict(row) for row in quality]
    distributed.run_on_first(lambda: write_json(work / "locating.json", record))


def locating_table(sets: Mapping[str, TrackletSet], scores: Mapping[str, Sequence[np.ndarray]],
                   taus: Sequence[float]) -> list[LocatingScore]:
    """How good locating is on the test tracklets, for each τ; empty where no masks are known."""
    known = [(tracklet.masks, s) for split in SPLITS[1:] if split in sets
             for tracklet, s in zip(sets[split].tracklets, scores[split]) if tracklet.masks is not None]
    if not known:
        return []
    masks, values = zip(*known)
    return [judge_locating(values, masks, tau) for tau in taus]


def read_located(work) -> Located:
    """What `locate` left."""
    work = as_path(work)
    scores = {split: read_arrays(work / "scores" / f"{split}.npz") for split in SPLITS}
    return Located(scores, json.loads((work / "locating.json").read_text())["tau"])


def generators(train: TrackletSet, config: configs.Config, network: ReidModel, found: Located, directory, *,
               options: Options = Options(), command: str = "") -> Model:
    """Step 3: STCnet, from the training frames that nothing hides."""
    _, labels = fit.identities_of(train.tracklets)
    given = options.hidden == "given"
    clean = [fit.clean_frames(tracklet if given else dataclasses.replace(tracklet, masks=None), scores, found.tau)
             for tracklet, scores in zip(train.tracklets, found.scores["train"])]
    usable = [TrainingFrames(first, np.flatnonzero(ok), label)
              for ok, first, label in zip(clean, train.first, labels)]
    trained = train_stcnet(train, usable, config.stcnet_task, network.variables, len(network.identities), directory)
    return Model(config=config, generators=trained[0], discriminators=trained[1], reid=network.variables,
                 identities=network.identities, tau=found.tau, provenance={
                     "command": command, "tracklets": len(train.tracklets),
                     "frames": int(sum(map(len, train.tracklets))),
                     "unoccluded_frames": int(sum(ok.sum() for ok in clean)),
                     "reid_steps": config.reid_training.steps, "stcnet_steps": config.stcnet_training.steps,
                     "curves": network.provenance["curves"] | {"STCnet": curves(directory)}})


def complete_sets(sets: Mapping[str, TrackletSet], model: Model, found: Located, work, *,
                  options: Options = Options(), name: str = "completed") -> None:
    """Step 4: WORK/completed, by way of folders of frames, where each tracklet that stands is not done again.

    Each process completes every so many-th tracklet; process 0 then makes the set.
    """
    work = as_path(work)
    frames, details = work / f"{name}_frames", work / f"{name}_details"
    folders = _folders(frames, details, model_identity(model) | {"hidden": options.hidden}, sets)
    completer = Completer(model)
    done = {}
    parts = {split: distributed.own_items(len(data.tracklets)) for split, data in sets.items()}
    total = sum(len(sets[split].tracklets[place]) for split, places in parts.items() for place in places)
    with tqdm(total=total, desc="completing", unit="frame", dynamic_ncols=True, disable=not distributed.is_first()) as bar:
        for split, data in sets.items():
            folder = folders[split]
            folder.require_names(data.tracklets)
            for place in parts[split]:
                tracklet, scores = data.tracklets[place], found.scores[split][place]
                if not folder.has(tracklet):
                    given = options.hidden == "given"
                    plan = completer.plan(tracklet) if given else Plan.from_scores(scores, model.tau)
                    folder.write(tracklet, plan, completer.stream(tracklet, plan))
                bar.update(len(tracklet))
            done[split] = [folder.completed(tracklet) for tracklet in data.tracklets]
    for folder in folders.values():
        folder.finish()

    def join():
        write_set(work / name, done)
        if not options.keep_folder:
            _remove(frames)
            _remove(details)

    distributed.run_on_first(join)


def _folders(frames, details, run, sets):
    """One folder for all splits, in the tree of the tracklets' names, or one for each where names clash
    (`Options.keep_folder`)."""
    names = [tracklet.name for data in sets.values() for tracklet in data.tracklets]
    if len(set(names)) == len(names):
        return dict.fromkeys(sets, ResultsFolder(details, run, frames=frames))
    return {split: ResultsFolder(details / split, run, frames=frames / split) for split in sets}


def rank_sets(raw: Mapping[str, TrackletSet], completed: Mapping[str, TrackletSet], config: configs.Config,
              first: ReidModel, found: Located, work, *, options: Options = Options(), command: str = "",
              start_from: dict | None = None) -> None:
    """Step 5: the final network on completed data, and, to compare with, on the data as they are."""
    work = as_path(work)
    networks = {"after": completed} | ({"before": raw} if options.compare else {})
    models = {name: final_network(data["train"], config, first, work / ("final" if name == "after" else name),
                                  start_from=start_from, command=command,
                                  name=f"final network, {name} completion")
              for name, data in networks.items()}
    rankings, features = {}, work / "features"  # there until they are ranked by
    if options.compare:
        rankings["first network, before completion"] = evaluate_galleries(first, raw, options,
                                                                          path=features / "first.npz")
        rankings["before completion"] = evaluate_galleries(models["before"], raw, options,
                                                           path=features / "before.npz")
    rankings["after completion"] = evaluate_galleries(models["after"], completed, options,
                                                      path=features / "after.npz")
    distributed.run_on_first(lambda: _write_ranking(raw, completed, rankings, work, options, command))


def _write_ranking(raw, completed, rankings, work, options, command):
    evaluations = {name: found[options.queries_in_gallery] for name, found in rankings.items()}
    picture = None
    if options.compare:
        picture = ranking_pictures.ranked_picture(evaluations["before completion"], evaluations["after completion"],
                                           tracklets_to_rank(raw, options), tracklets_to_rank(completed, options))
    ranking_pictures.write_pictures(work, evaluations, picture)
    retrieval.save_features(work / "features.npz", evaluations["after completion"],
                            *tracklets_to_rank(completed, options))
    _remove(work / "features")
    write_json(work / "results.json", _figures(rankings, options) | {
        "locating": json.loads((work / "locating.json").read_text()), "command": command})


def _figures(rankings, options):
    """Of results.json: what was found in the gallery, and 'other_gallery' where there are two."""
    official = options.queries_in_official_gallery

    def of(joined):
        figures = {"evaluations": {name: found[joined].figures() for name, found in rankings.items()
                                   if joined in found}, "gallery": _GALLERIES[joined]}
        return figures if official is None else figures | {"official": joined == official}

    main = options.queries_in_gallery
    return of(main) if official is None else of(main) | {"other_gallery": of(not main)}


def final_network(train: TrackletSet, config: configs.Config, first: ReidModel, directory: Path, *,
                  start_from: dict | None = None, command: str = "", name: str = "final network") -> ReidModel:
    """Step 5's network, trained; its file, `directory`.safetensors, stands afterwards."""
    path = directory.with_name(f"{directory.name}.safetensors")
    begin = backbone_of(first.variables) if config.final_from_first else start_from
    return kept_reid(path, lambda: first_network(train, config.final_reid, directory, start_from=begin,
                                                 command=command, name=name))


def backbone_of(variables: dict) -> dict:
    """What another network may begin with, as it does with ImageNet's weights. With the classifier too, which knows
    the training people already, it learns little more of what tells people apart."""
    return {collection: {"backbone": tree["backbone"]} for collection, tree in variables.items()}


def tracklets_to_rank(sets: Mapping[str, TrackletSet], options: Options = Options()) -> tuple[list, list]:
    """(queries, gallery)."""
    query, gallery = list(sets["query"].tracklets), list(sets["gallery"].tracklets)
    return query, gallery_with_queries(query, gallery) if options.queries_in_gallery else gallery


def evaluate(model: ReidModel, sets: Mapping[str, TrackletSet], options: Options = Options(), *,
             keep: Sequence[np.ndarray | None] | None = None, path: Path | None = None) -> retrieval.Evaluation:
    """The ranking of a set by a network; `keep` and `path` as of `retrieval.evaluate`."""
    return retrieval.evaluate(model, *tracklets_to_rank(sets, options), keep=keep, path=path)


def evaluate_galleries(model: ReidModel, sets: Mapping[str, TrackletSet], options: Options = Options(), *,
                       path: Path | None = None) -> dict[bool, retrieval.Evaluation]:
    """As `evaluate`, {whether the queries have joined the gallery: the ranking}: `options.queries_in_gallery`,
    and the other too where both are in use (`Options`), unless no query has a match in it; `path` as of
    `retrieval.features_of`."""
    query, gallery = tracklets_to_rank(sets, dataclasses.replace(options, queries_in_gallery=False))
    # In the order of `gallery_with_queries`.
    features = retrieval.features_of(model, [*query, *gallery], path=path)
    found = {}
    for joined in (True, False):
        query, gallery = tracklets_to_rank(sets, dataclasses.replace(options, queries_in_gallery=joined))
        other = joined != options.queries_in_gallery
        if other and (options.queries_in_official_gallery is None or not retrieval.has_match(query, gallery)):
            continue
        of_gallery = features if joined else features[len(query):]
        found[joined] = retrieval.evaluate_features(features[:len(query)], of_gallery, query, gallery)
    return found


def require_usable(sets: Mapping[str, TrackletSet], options: Options = Options()) -> None:
    """Checks what training, completing and ranking will ask of the data; no frame is read.

    Raises:
      InputError: a tracklet's person or camera is not known; there are not two people, or no two frames of a
        tracklet, to learn from; no query has a match in the gallery; completing has no place for a tracklet's
        name; or a tracklet has no masks, with `hidden='given'`.
    """
    train = sets["train"].tracklets
    retrieval.require_seen_by(train, "train")
    people = {tracklet.person for tracklet in train}
    if len(people) < 2:
        raise InputError(f"The split train has {len(train)} tracklets of {len(people)} people"
                         f"{''.join(f' ({person})' for person in people)}; telling people apart is learned from two "
                         "at least.")
    if max(map(len, train)) < 2:
        raise InputError(f"No tracklet of train has two frames (the first is {train[0].name}), so none has a "
                         "neighbour to complete from; give longer ones.")
    retrieval.require_rankable(*tracklets_to_rank(sets, options))
    for split, data in sets.items():
        for tracklet in data.tracklets:
            if Path(tracklet.name).parts[0] in RESERVED:
                raise InputError(f"tracklet {tracklet.name} of {split}: its folder has the name of one that "
                                 f"completing needs ({', '.join(RESERVED)}); rename it.")
            if options.hidden == "given" and tracklet.masks is None:
                raise InputError(f"tracklet {tracklet.name} of {split}: has no masks that say what is hidden; let "
                                 "step 2 locate it (hidden='located').")


def claim(work: Path, experiment: dict) -> None:
    """Takes a work directory for an experiment, or finds it taken by the same one.

    Raises:
      InputError: it is another's.
    """
    record = work / "experiment.json"
    if not record.exists():
        if any(entry.name != f".{record.name}.partial" for entry in entries(work)):
            raise InputError(f"{work}: is not empty, and nothing in it is from this command; give an empty or a new "
                             "work directory.")
        replace_file(record, json.dumps(_with_defaults(experiment), indent=1).encode())
    elif differing(json.loads(record.read_text()), experiment):
        raise InputError(f"{work}: holds an experiment with other data or settings (see its experiment.json); "
                         "remove it, or choose another work directory.")


def differing(one: dict, other: dict) -> list[str]:
    """In what two experiments, as `claim` records them, are not the same."""
    one, other = _with_defaults(one), _with_defaults(other)
    return [name for name in one | other if one.get(name) != other.get(name)]


def _with_defaults(experiment):
    """A record, as JSON has it, with the fields that it lacks: what came later was by default as before."""
    known = {"config": configs.with_defaults,
             "options": lambda values: dataclasses.asdict(Options(**values))}
    whole = dict(experiment)
    for name in known.keys() & whole.keys():
        with suppress(InputError, TypeError):  # of a later version: it stays as it is, and differs
            whole[name] = known[name](whole[name])
    return json.loads(json.dumps(whole))


def _give_back(work):
    """Leaves the directory as if it had not been claimed, unless more than the data is there."""
    if not any((work / name).exists() for step in STEPS[1:] for name in _LEFT_BY[step]):
        for name in _LEFT_BY["data"]:
            _remove(work / name)
        (work / "experiment.json").unlink()


def _going_on(work, start):
    """Whether what stands is already of doing a step again."""
    record = work / _AGAIN
    return record.exists() and json.loads(record.read_text())["from"] == start


def _begin_again(work, start, write):
    """Removes what a step and those after it left; new data are there before the old ones go, and all made of them."""
    again = work / "data.again"
    if start == "data":
        write(again)
    # The last first: were this cut off, nothing would stand on what is gone.
    for step in reversed(STEPS[STEPS.index(start):]):
        for name in _LEFT_BY[step]:
            _remove(work / name)
    if start == "data":
        if is_remote(work):  # nothing is renamed there
            write(work / "data")
            _remove(again)
        else:
            again.rename(work / "data")
    replace_file(work / _AGAIN, json.dumps({"from": start}).encode())


def _clean(work, options):
    """Removes what a process left that was killed while it removed something."""
    for left in entries(work):
        if left.name.startswith(".") and left.name.endswith(".removed"):
            remove(left)
    for name in ("data.again", "data.again.unfinished"):
        _remove(work / name)
    if is_complete(work / "completed") and not options.keep_folder:
        _remove(work / "completed_frames")
        _remove(work / "completed_details")


def _remove(path):
    if is_remote(path):
        remove(path / INFO_FILE)  # what says of a set that it is whole; nothing is renamed there
        remove(path)
    elif path.is_dir():
        going = path.with_name(f".{path.name}.removed")  # a half that were left would pass for the whole
        shutil.rmtree(going, ignore_errors=True)
        shutil.rmtree(path.rename(going))
    else:
        path.unlink(missing_ok=True)
