"""The paper's five steps on one data set, from raw tracklets to a ranking.

    python -m experiments.vrstc --dataset walkers --workdir out-vrstc

Size `small` on made-up walkers takes 10.5 to 13 minutes on two cores of an AMD EPYC. Expected: rank-1 61.3 and mAP
72.9 before completion, 63.7 and 75.5 after it (80 queries, one seed). `--size smoke` tries it out.

Each step writes its result to WORKDIR and is skipped if that exists; `--from STEP` repeats a step and all later ones
(data, reid, locate, stcnet, complete, rank). The command prints rank-1 and mAP before and after completion and writes
results.json, ranked.png and cmc.png to WORKDIR.

The public data sets come from their owners; `--manual-dir` is the folder with their files:

    python -m experiments.vrstc --dataset mars --manual-dir mars/ --size as_published_mars \\
        --imagenet resnet50.safetensors --workdir out-mars

`as_published_mars` follows the paper in every detail: ResNet-50 from ImageNet weights (`tools/import_resnet50.py`),
last stride 1, average pooling over clips of 4 frames at 256×128, cross-entropy alone, batch 32, flips alone,
Adam 3e-4 with weight decay 5e-4 added to the gradient, 150 epochs, ×0.1 every 50; τ 0.89; STCnet at 128×64 with
one random band hidden, softmax scale 1, λ1 0.001, λ2 0.1, Adam 1e-4; the final network with 5 non-local blocks.
The paper does not state STCnet's batch and steps; they are those of `full`, 32 and 200,000. Expected, rank-1 (mAP),
gallery with the queries: before completion 86.1 (79.9), after 88.5 (82.3). Not run here: no MARS images.
MARS and LS-VID are ranked twice: in the official gallery, which includes the queries, and in one without them.

Published figures of iLIDS-VID are means over its ten splits:

    python -m experiments.vrstc --dataset ilids_vid --manual-dir ilids/ --split all --workdir out-ilids

runs each split in WORKDIR/split1 to WORKDIR/split10, prints mean and sample standard deviation, and writes them to
WORKDIR/results.json.
"""

import dataclasses
import json
import math
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments import starting_weights
from experiments.settings import FEW_WALKERS, changed, given, with_steps
from vrstc_jax import config as configs
from vrstc_jax.data import datasets
from vrstc_jax.data.tracklet_set import write_set
from vrstc_jax.data.walkers import WalkerProtocol, walker_splits
from vrstc_jax.evaluation import retrieval
from vrstc_jax.evaluation.locating import LocatingScore, format_locating
from vrstc_jax.recipes import five_steps
from vrstc_jax.report import ranking_tables, write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError, flag, require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.paths import Written, require_apart
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.storage import as_path, replace_file, require_local
from vrstc_jax.runtime.workdir import Workdir

# How many walkers a size has, and for how many steps each network trains on them.
_WALKERS = {
    "small": (WalkerProtocol(), {"reid_training": 1000, "stcnet_training": 1600, "final_training": 300}),
    "smoke": (FEW_WALKERS, {"reid_training": 4, "stcnet_training": 4, "final_training": 4})}
SPLITS = range(1, 11)  # of iLIDS-VID
CLIPS_OF_A_PERSON = 4  # in a batch, for the triplet loss


@dataclass(frozen=True)
class Arguments:
    """The data set, the config's changes, and where results go."""

    workdir: Path
    """Directory of every step's result, gs:// too; the same command resumes an interrupted run."""
    dataset: Annotated[str, tyro.conf.arg(help=f"walkers, {', '.join(datasets.names())}.")] = "walkers"
    manual_dir: Path | None = None
    """Folder with the data set's official files."""
    split: int | Literal["all"] | None = None
    """iLIDS-VID's split, 1 to 10 (default 1), or all of them, for the mean."""
    split_file: Path | None = None
    """For the data set `folder`: which tracklets are for training, queries and gallery."""
    check_counts: bool = True
    """Refuse a folder whose numbers of tracklets differ from the data set's known numbers."""
    size: configs.SizeName = "small"
    """Size of the networks and length of the trainings; paper, paper_literal and mars_paper are earlier names of full,
    as_published and as_published_mars."""
    start: Annotated[five_steps.Step | None, tyro.conf.arg(name="from")] = None
    """Repeat this step and all later ones."""
    fresh: bool = False
    """Train step 1 from random weights. By default size small begins with the default model's re-ID network, trained
    on walkers, and as_published_mars requires --imagenet."""
    imagenet: Path | None = None
    """Weights to begin with, made by tools/import_resnet50.py."""
    tau_quantile: float | None = None
    """Share of the training bands to treat as hidden, in place of the size's tau."""
    occlusion: str = "usual"
    """Occlusion of the walkers: none, light, usual, heavy or persistent."""
    hidden: Literal["located", "given"] = "located"
    """What is hidden: the bands that step 2 locates, or the data set's masks."""
    compare: bool = True
    """Also train the final network on the raw data, for the ranking before completion."""
    queries_in_gallery: bool | None = None
    """Rank in a gallery that includes the queries; default: the data set's official practice. MARS and LS-VID are
    ranked both ways; this then selects the gallery of features.npz and the pictures."""
    keep_folder: bool | None = None
    """Also keep the completed frames as PNGs, WORKDIR/completed_frames/TRACKLET/FRAME.png, with masks/ and scores/ in
    completed_details/ (a tree for each split if two use one name); default: only if the data came from such a
    folder."""
    pooling: configs.Pooling | None = None
    """Pooling of the final network over a clip: average (the paper's), maximum, temporal_attention,
    diverse_attention or astpn_one_sequence; default: the size's."""
    label_smoothing: float | None = None
    """Share of each label that is spread over all people, in the cross-entropy of both re-ID networks; default: the
    size's, 0."""
    triplet: float | None = None
    """Weight of a batch-hard triplet loss in both re-ID networks; default: the size's, 0. Above 0 a batch has 4 clips
    of each person."""
    reid_steps: int | None = None
    """Training steps of step 1; default: the size's."""
    stcnet_steps: int | None = None
    """Training steps of STCnet; default: the size's."""
    final_steps: int | None = None
    """Training steps of the final network; default: the size's."""
    bfloat16: bool = False
    """Train in bfloat16; parameters and losses stay float32."""
    parallel: configs.Parallel = "pmap"
    """How a training step is divided between devices: pmap, or mesh (jit and shard_map). Results and checkpoints are
    the same; a run may change between them."""
    seed: int = 0
    """Seed of everything random."""


def main(arguments: Arguments) -> dict[str, Any]:
    """Runs the five steps, prints the table, and returns what results.json holds."""
    _check(arguments)
    if arguments.split == "all":
        return _run_all_splits(arguments)
    results = _run(arguments)
    distributed.print_on_first(format_results(results))
    return results


def _run(arguments: Arguments) -> dict[str, Any]:
    config = config_of(arguments)
    start_jax_for_training(config.batches)
    name, weights = arguments.dataset, arguments.imagenet
    inputs, write = _data(arguments)
    if weights:
        inputs["imagenet"] = starting_weights.identity_of(weights, arguments.workdir)
        config = starting_weights.as_the_weights_are(config, weights, arguments.workdir, inputs["imagenet"])
    official = datasets.queries_in_official_gallery(name)
    joined, folder = arguments.queries_in_gallery, arguments.keep_folder
    options = five_steps.Options(
        hidden=arguments.hidden, compare=arguments.compare, queries_in_official_gallery=official,
        queries_in_gallery=bool(official) if joined is None else joined,
        keep_folder=name == "folder" if folder is None else folder)
    config, start, digest = starting_weights.beginning(config, fresh=arguments.fresh or weights is not None)
    if digest:
        inputs["begins_with"] = digest
        if arguments.tau_quantile:  # an explicit quantile takes precedence over the default model's τ
            config = dataclasses.replace(config, tau=None)
    if weights:  # they take precedence over the default model's network
        start = lambda: starting_weights.read_backbone(weights, config)
    return five_steps.run(arguments.workdir, config, write, options=options, inputs=inputs, command=_command(),
                          start=arguments.start, backbone=start)


def _data(arguments: Arguments) -> tuple[dict[str, Any], Callable[[Path], None]]:
    """(what identifies the data set, for the record; function that writes it to a path)."""
    name = arguments.dataset
    if name == "walkers":
        protocol = protocol_of(arguments)
        return ({"dataset": name} | dataclasses.asdict(protocol), lambda path: write_set(path, walker_splits(protocol)))
    options: dict[str, Any] = {"ilids_vid": {"split": arguments.split or 1},
                               "folder": {"split_file": _absolute(arguments.split_file)}}.get(name, {})
    counts: dict[str, Any] = {} if arguments.check_counts else {"check_counts": False}
    chosen: dict[str, Any] = {"manual_dir": arguments.manual_dir} | options | counts
    return ({"dataset": name, "manual_dir": _absolute(arguments.manual_dir)} | options, five_steps.DataSource(
        write=lambda path: datasets.build(name, path, **chosen), read=lambda: datasets.read(name, **chosen)))


def _run_all_splits(arguments: Arguments) -> dict[str, Any]:
    """Runs iLIDS-VID's ten splits one after another, each in its own work directory, and writes their mean.

    again.json lists the splits that `--from` has still to repeat, so that a run that was stopped repeats only those.
    """
    work = as_path(arguments.workdir)
    again = work / "again.json"

    def take() -> None:
        Workdir(work).claim({"inputs": {"dataset": arguments.dataset, "splits": list(SPLITS)}})
        if arguments.start and not (again.exists() and _again(again)["from"] == arguments.start):
            (work / "results.json").unlink(missing_ok=True)
            replace_file(again, json.dumps({"from": arguments.start, "splits": list(SPLITS)}).encode())

    start_jax_for_training(config_of(arguments).batches)
    distributed.run_on_first(take)
    pending = distributed.run_on_first(
        lambda: _again(again) if again.exists() else {"from": None, "splits": []})
    left, found = pending["splits"], []
    for split in SPLITS:
        distributed.print_on_first(f"split {split} of {len(SPLITS)}")
        try:
            found.append(_run(dataclasses.replace(arguments, split=split, workdir=work / f"split{split}",
                                                  start=pending["from"] if split in left else None)))
        except InputError:
            # If no split has left anything, release the directory for a corrected command.
            if distributed.is_first() and not any(work.glob("split*/*")):
                (work / "experiment.json").unlink()
                for directory in work.glob("split*"):
                    directory.rmdir()
            raise
        distributed.print_on_first(format_results(found[-1]))
        if split in left:
            left.remove(split)
            distributed.run_on_first(lambda: replace_file(again, json.dumps(pending).encode()))
    results = {"splits": len(found), "gallery": found[0]["gallery"], "command": _command(),
               "evaluations": retrieval.over_splits([each["evaluations"] for each in found])}

    def store() -> None:
        write_json(work / "results.json", results)
        again.unlink(missing_ok=True)

    distributed.run_on_first(store)
    distributed.print_on_first(
        f"gallery {results['gallery']}\n{ranking_tables.format_spreads(results['evaluations'], len(found))}")
    return results


def _again(path: Path) -> dict[str, Any]:
    """The splits that are still to be repeated, and from which step."""
    return read_record(path, fits=lambda found: "from" in found and set(found["splits"]) <= set(SPLITS))


def _command() -> str:
    return shlex.join(["python", "-m", "experiments.vrstc", *sys.argv[1:]])


def _check(arguments: Arguments) -> None:
    """Raises InputError for arguments that contradict each other or are out of range, before anything is written."""
    for path in (arguments.manual_dir, arguments.split_file, arguments.imagenet):
        require_local(path, "what --manual-dir, --split-file and --imagenet name")
    require_apart({"--manual-dir": arguments.manual_dir, "--split-file": arguments.split_file,
                   "--imagenet": arguments.imagenet}, {"--workdir": Written(arguments.workdir)})
    _check_data_set(arguments)
    if configs.get(arguments.size).name == "as_published_mars" and not (arguments.imagenet or arguments.fresh):
        raise InputError(f"--size {arguments.size} is the paper's recipe to the letter, which begins with ImageNet "
                         "weights: give --imagenet (see tools/import_resnet50.py), or --fresh to begin with none.")
    require_flags(arguments)
    require_range(arguments, "reid_steps", "stcnet_steps", "final_steps")
    require_range(arguments, "tau_quantile", below=1)
    require_range(arguments, "seed", "triplet", least=0)
    require_range(arguments, "label_smoothing", least=0, below=1)
    config = config_of(arguments)
    for training in (config.reid_training, config.final_training):
        people, rest = divmod(training.batch, training.clips_per_identity)
        if config.reid_losses.triplet and (rest or people < 2):
            raise InputError(f"--triplet {arguments.triplet}: needs batches of {training.clips_per_identity} clips of "
                             f"each of two people or more, and the size {arguments.size} has batches of "
                             f"{training.batch}; choose another size.")


def _check_data_set(arguments: Arguments) -> None:
    name = arguments.dataset
    if name != "walkers" and name not in datasets.names():
        raise InputError(f"There is no data set '{name}'; choose walkers or one of {', '.join(datasets.names())}.")
    for argument, owner, default in (("occlusion", "walkers", "usual"), ("split_file", "folder", None)):
        value = getattr(arguments, argument)
        if value != default and name != owner:
            raise InputError(f"{flag(argument)} {value}: is for the data set '{owner}', and this is '{name}'; leave it "
                             "out.")
    if name == "walkers" and arguments.manual_dir is not None:
        raise InputError(f"--manual-dir {arguments.manual_dir}: walkers are made up and read from no folder; name "
                         f"the data set there by --dataset: {', '.join(datasets.names())}.")
    split = arguments.split
    if split is not None and name != "ilids_vid":
        raise InputError(f"--split {split}: is one of iLIDS-VID's, and the data set is {name}; leave it out.")
    if split not in (None, "all", *SPLITS):
        raise InputError(f"--split is one of iLIDS-VID's, from 1 to 10, or all. Got {split}.")


def config_of(arguments: Arguments) -> configs.Config:
    """The size's config with what the arguments change."""
    config = configs.get(arguments.size)
    # The sizes' own trainings are as long as real data sets need; walkers need fewer steps.
    steps = _WALKERS[arguments.size][1] if arguments.dataset == "walkers" and arguments.size in _WALKERS else {}
    config = with_steps(config, **steps)
    config = with_steps(config, reid_training=arguments.reid_steps, stcnet_training=arguments.stcnet_steps,
                        final_training=arguments.final_steps)
    config = dataclasses.replace(
        config, seed=arguments.seed, parallel=arguments.parallel,
        compute="bfloat16" if arguments.bfloat16 else config.compute,
        tau=None if arguments.tau_quantile else config.tau, tau_quantile=arguments.tau_quantile or config.tau_quantile)
    config = changed(config, {"final": given(arguments, "pooling"),
                              "reid_losses": given(arguments, "label_smoothing", "triplet")})
    if config.reid_losses.triplet:  # the hardest positive of a clip is among the others of its person in the batch
        clips = {"clips_per_identity": CLIPS_OF_A_PERSON}
        config = changed(config, {"reid_training": clips, "final_training": clips})
    return config


def protocol_of(arguments: Arguments) -> WalkerProtocol:
    """The walkers that go with a size."""
    protocol, _ = _WALKERS.get(arguments.size, _WALKERS["small"])
    return dataclasses.replace(protocol, occlusion=arguments.occlusion, seed=arguments.seed)


def format_results(results: dict[str, Any]) -> str:
    """The scores of locating and of ranking, as text."""
    parts = []
    if "quality" in results["locating"]:
        parts += ["locating (precision and recall of hidden bands, test tracklets)",
                  format_locating([_score(row) for row in results["locating"]["quality"]]), ""]
    parts.append(_format_gallery(results))
    if "other_gallery" in results:
        parts += ["", _format_gallery(results["other_gallery"])]
    return "\n".join(parts)


def _format_gallery(results: dict[str, Any]) -> str:
    title = f"gallery {results['gallery']}{' (official)' if results.get('official') else ''}"
    if not results["evaluations"]:
        return f"{title}: no query has a match in it"
    return f"{title}\n{ranking_tables.format_figures(results['evaluations'])}"


def _score(row: dict[str, Any]) -> LocatingScore:
    """A row of results.json, where null is NaN."""
    values: dict[str, Any] = {name: math.nan if value is None else value for name, value in row.items()}
    return LocatingScore(**values)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else os.path.abspath(path)


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
