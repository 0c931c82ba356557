"""VRSTC from raw tracklets to a ranking: the paper's five steps on one data set (DESIGN, section 2).

    python -m experiments.vrstc --dataset walkers --workdir out-vrstc

Made-up walkers, size `small`: about 11 minutes on two cores of a recent CPU. Each step leaves its result in WORKDIR
and is skipped when that stands; `--from STEP` does it and all after it again (data, reid, locate, stcnet, complete,
rank). At the end it prints rank-1 and mAP before and after completion; results.json, ranked.png and cmc.png lie in
WORKDIR. `--size smoke` shows that it runs.

The public sets must be had from their owners; `--manual-dir` is where they lie:

    python -m experiments.vrstc --dataset mars --manual-dir mars/ --size mars_paper \\
        --imagenet resnet50.safetensors --workdir out-mars

`mars_paper` is the paper's recipe to the letter: ResNet-50 from ImageNet weights (`tools/import_resnet50.py`),
last stride 1, average pooling over clips of 4 frames at 256×128, cross-entropy alone, batch 32, flips alone,
Adam 3e-4 with weight decay 5e-4 added to the gradient, 150 epochs, ×0.1 every 50; τ 0.89; STCnet at 128×64 with
one random band hidden, softmax scale 1, λ1 0.001, λ2 0.1, Adam 1e-4; the final network with 5 non-local blocks.
What the paper does not say (STCnet's batch, 32, and its steps, 200,000) is as in `paper`. Expected, rank-1
(mAP), gallery with the queries: before completion 86.1 (79.9), after 88.5 (82.3). Not run here: no MARS images.
MARS and LS-VID are ranked in both galleries that are in use, with the queries in it (official) and without.

What is published of iLIDS-VID are means over its ten splits:

    python -m experiments.vrstc --dataset ilids_vid --manual-dir ilids/ --split all --workdir out-ilids

runs them one after another, each in WORKDIR/split1 and so on as if by itself, then prints mean and standard
deviation (of the sample) and writes them to WORKDIR/results.json.
"""

import dataclasses
import hashlib
import json
import math
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vrstc_jax import config as configs
from vrstc_jax.data import datasets
from vrstc_jax.data.tracklet_set import write_set
from vrstc_jax.data.walkers import WalkerProtocol, walker_splits
from vrstc_jax.evaluation import retrieval
from vrstc_jax.evaluation.locating import LocatingScore, format_locating
from vrstc_jax.models.imagenet import load_backbone, require_config
from vrstc_jax.models.model_file import default_model_path, load_model
from vrstc_jax.models.pooling import pooling
from vrstc_jax.models.tensor_file import tensors_digest
from vrstc_jax.recipes import five_steps
from vrstc_jax.report import ranking_tables, write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.storage import as_path, replace_file, require_local, require_writable_directory

# How long walkers are trained, and how many of them there are.
_WALKERS = {
    "small": (WalkerProtocol(), {"reid_training": 1000, "stcnet_training": 1600, "final_training": 300}),
    "smoke": (WalkerProtocol(train_people=6, test_people=4, distractors=2, frames=8, height=32, width=16),
              {"reid_training": 4, "stcnet_training": 4, "final_training": 4}),
}
SPLITS = range(1, 11)  # of iLIDS-VID
CLIPS_OF_A_PERSON = 4  # in a batch, for the triplet loss


@dataclass(frozen=True)
class Arguments:
    """What to run, and on what."""

    workdir: Path
    """For every step's result, gs:// too; the same command goes on where it stopped."""
    dataset: str = "walkers"
    """walkers, or one of the data sets in vrstc_jax.data.datasets: mars, …"""
    manual_dir: Path | None = None
    """Where the data set's official folders lie."""
    split: int | Literal["all"] | None = None
    """Of iLIDS-VID's ten, 1 if left out; or all of them, for the mean."""
    split_file: Path | None = None
    """For the data set `folder`: which tracklets are for training, queries and gallery."""
    check_counts: bool = True
    """Refuse a folder in which the data set's known numbers are not met."""
    size: Literal["small", "paper", "paper_literal", "mars_paper", "smoke"] = "small"
    """Of the networks, and how long they are trained."""
    start: Annotated[Literal[five_steps.STEPS] | None, tyro.conf.arg(name="from")] = None
    """Do this step and all after it again."""
    fresh: bool = False
    """Step 1 from nothing; else size small begins with the default model's network, which made-up walkers trained, and
    mars_paper must have --imagenet."""
    imagenet: Path | None = None
    """Weights to start from, made by tools/import_resnet50.py."""
    tau_quantile: float | None = None
    """The share of the training bands to call hidden, in place of the size's tau."""
    occlusion: str = "usual"
    """Of the walkers: none, light, usual, heavy or persistent."""
    hidden: Literal["located", "given"] = "located"
    """What is hidden: as step 2 finds it, or as the data's masks say."""
    compare: bool = True
    """Also train the final network on the data as they are, for the ranking before completion."""
    queries_in_gallery: bool | None = None
    """Rank in a gallery that the queries have joined; if left out, as is official practice of the data set. MARS
    and LS-VID are ranked both ways; this then says of which features.npz and the pictures are."""
    keep_folder: bool | None = None
    """Leave the completed frames as a folder of PNGs too, WORKDIR/completed_frames/TRACKLET/FRAME.png, with masks/
    and scores/ in completed_details/ (trees for each split, where two use one name); if left out, where the data came
    from such a folder."""
    pooling: str | None = None
    """Of the final network over a clip: average (the paper's), maximum, temporal_attention, diverse_attention or
    astpn_one_sequence; the size's own if left out."""
    label_smoothing: float | None = None
    """Share of each label that is spread over all people, in the cross-entropy of both re-ID networks; the
    size's own, 0, if left out."""
    triplet: float | None = None
    """Weight of the batch-hard triplet loss that joins the cross-entropy of both re-ID networks; the size's own,
    0, if left out. Above 0 their batches are of 4 clips of each person, drawn by person."""
    reid_steps: int | None = None
    """Training steps of step 1; the size's own number if left out."""
    stcnet_steps: int | None = None
    """Training steps of STCnet, likewise."""
    final_steps: int | None = None
    """Training steps of the final network, likewise."""
    bfloat16: bool = False
    """Train in bfloat16; parameters and losses stay float32."""
    seed: int = 0
    """Of everything random."""


def main(arguments: Arguments) -> dict:
    """Takes the five steps, prints the table, and returns what results.json holds."""
    _check(arguments)
    if arguments.split == "all":
        return _all_splits(arguments)
    results = _run(arguments)
    distributed.print_on_first(format_results(results))
    return results


def _run(arguments):
    config = config_of(arguments)
    start_jax_for_training(config.batches)
    name = arguments.dataset
    if name == "walkers":
        protocol = protocol_of(arguments)
        inputs = {"dataset": name} | dataclasses.asdict(protocol)
        write = lambda path: write_set(path, walker_splits(protocol))
    else:
        of_set = {"ilids_vid": {"split": arguments.split or 1},
                  "folder": {"split_file": _absolute(arguments.split_file)}}.get(name, {})
        inputs = {"dataset": name, "manual_dir": _absolute(arguments.manual_dir)} | of_set
        write = lambda path: datasets.build(name, path, manual_dir=arguments.manual_dir, **of_set,
                                            **({} if arguments.check_counts else {"check_counts": False}))
    if arguments.imagenet:
        inputs["imagenet"] = _weights(arguments.imagenet, arguments.workdir)
        config = _as_the_weights_are(config, arguments.imagenet, arguments.workdir, inputs["imagenet"])
    official = datasets.queries_in_official_gallery(name)
    joined, folder = arguments.queries_in_gallery, arguments.keep_folder
    options = five_steps.Options(
        hidden=arguments.hidden, compare=arguments.compare,
        queries_in_gallery=bool(official) if joined is None else joined, queries_in_official_gallery=official,
        keep_folder=name == "folder" if folder is None else folder)
    config, start, begins_with = beginning(config, fresh=arguments.fresh or arguments.imagenet is not None)
    if begins_with:
        inputs["begins_with"] = begins_with
        if arguments.tau_quantile:  # which is asked for, in place of its τ
            config = dataclasses.replace(config, tau=None)
    if arguments.imagenet:
        start = lambda: _backbone(arguments.imagenet, config)
    return five_steps.run(arguments.workdir, config, write, options=options, inputs=inputs, command=_command(),
                          start=arguments.start, backbone=start)


def beginning(config: configs.Config, *, fresh: bool = False,
              ) -> tuple[configs.Config, Callable[[], dict] | None, str | None]:
    """(the config, what reads the variables that step 1 begins with, their digest).

    They are the default model's where the config's network is of its shape. It then locates as it does, with its
    τ, and of it the classifier alone learns: masks taught it, and the data at hand need not have any. (the config
    as it is, None, None) where the shape is another, where there is no default model, or with `fresh`.
    """
    if fresh or not default_model_path().is_file():
        return config, None, None
    model = load_model()
    how = {name: getattr(config.reid, name) for name in ("locating_loss", "locating_masks")}
    if dataclasses.replace(model.config.reid, **how) != config.reid:
        return config, None, None
    training = dataclasses.replace(config.reid_training, only=("classifier",))
    return (dataclasses.replace(config, reid_training=training, tau=model.tau), lambda: model.reid,
            tensors_digest(model.reid))


def _all_splits(arguments):
    """The ten splits of iLIDS-VID one after another, each an experiment of its own, and their mean."""
    work = as_path(arguments.workdir)
    again = work / "again.json"

    def take():
        require_writable_directory(work)
        five_steps.claim(work, {"inputs": {"dataset": arguments.dataset, "splits": list(SPLITS)}})
        if arguments.start and not (again.exists() and json.loads(again.read_text())["from"] == arguments.start):
            (work / "results.json").unlink(missing_ok=True)
            replace_file(again, json.dumps({"from": arguments.start, "splits": list(SPLITS)}).encode())

    start_jax_for_training(config_of(arguments).batches)
    distributed.run_on_first(take)
    pending = distributed.run_on_first(lambda: json.loads(again.read_text()) if again.exists() else {"from": None, "splits": []})
    left, found = pending["splits"], []
    for split in SPLITS:
        distributed.print_on_first(f"split {split} of {len(SPLITS)}")
        try:
            found.append(_run(dataclasses.replace(arguments, split=split, workdir=work / f"split{split}",
                                                  start=pending["from"] if split in left else None)))
        except InputError:
            # Where nothing was done, another attempt may have the directory.
            if distributed.is_first() and not any(work.glob("split*/*")):
                (work / "experiment.json").unlink()
                for place in work.glob("split*"):
                    place.rmdir()
            raise
        distributed.print_on_first(format_results(found[-1]))
        if split in left:
            left.remove(split)
            distributed.run_on_first(lambda: replace_file(again, json.dumps(pending).encode()))
    results = {"splits": len(found), "gallery": found[0]["gallery"], "command": _command(),
               "evaluations": retrieval.over_splits([each["evaluations"] for each in found])}

    def store():
        write_json(work / "results.json", results)
        again.unlink(missing_ok=True)

    distributed.run_on_first(store)
    distributed.print_on_first(f"gallery {results['gallery']}\n{ranking_tables.format_spreads(results['evaluations'], len(found))}")
    return results


def _command():
    return shlex.join(["python", "-m", "experiments.vrstc", *sys.argv[1:]])


def _check(arguments):
    """Refuses what cannot be meant, before anything is done."""
    for given in (arguments.manual_dir, arguments.split_file, arguments.imagenet):
        require_local(given, "what step 0 and --imagenet read")
    if arguments.dataset != "walkers" and arguments.dataset not in datasets.names():
        raise InputError(f"There is no data set '{arguments.dataset}'; choose walkers or one of "
                         f"{', '.join(datasets.names())}.")
    for name, of, asked in (("occlusion", "walkers", arguments.occlusion != "usual"),
                            ("split_file", "folder", arguments.split_file is not None)):
        if asked and arguments.dataset != of:
            raise InputError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: is for the data set '{of}', and "
                             f"this is '{arguments.dataset}'; leave it out.")
    if arguments.dataset == "walkers" and arguments.manual_dir is not None:
        raise InputError(f"--manual-dir {arguments.manual_dir}: walkers are made up, and read from nowhere; say with "
                         f"--dataset what lies there: {', '.join(datasets.names())}.")
    if arguments.size == "mars_paper" and not (arguments.imagenet or arguments.fresh):
        raise InputError("--size mars_paper is the paper's recipe to the letter, which begins with ImageNet weights: "
                         "give --imagenet (see tools/import_resnet50.py), or --fresh to begin with none.")
    for name in ("reid_steps", "stcnet_steps", "final_steps"):
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            raise InputError(f"--{name.replace('_', '-')} must be more than 0. Got {value}.")
    if arguments.tau_quantile is not None and not 0 < arguments.tau_quantile < 1:
        raise InputError(f"--tau-quantile must lie between 0 and 1. Got {arguments.tau_quantile}.")
    if arguments.split is not None:
        if arguments.dataset != "ilids_vid":
            raise InputError(f"--split {arguments.split}: is one of iLIDS-VID's, and the data set is "
                             f"{arguments.dataset}; leave it out.")
        if arguments.split != "all" and arguments.split not in SPLITS:
            raise InputError(f"--split is one of iLIDS-VID's, from 1 to 10, or all. Got {arguments.split}.")
    if arguments.seed < 0:
        raise InputError(f"--seed must be 0 or more. Got {arguments.seed}.")
    if arguments.label_smoothing is not None and not 0 <= arguments.label_smoothing < 1:
        raise InputError(f"--label-smoothing must be from 0 to less than 1. Got {arguments.label_smoothing}.")
    if arguments.triplet is not None and not 0 <= arguments.triplet < math.inf:
        raise InputError(f"--triplet must be 0 or more, and finite. Got {arguments.triplet}.")
    config = config_of(arguments)
    try:
        pooling(config.final)
    except ValueError as error:
        raise InputError(f"--{error}") from None
    for training in (config.reid_training, config.final_training):
        people, rest = divmod(training.batch, training.clips_per_identity)
        if config.reid_losses.triplet and (rest or people < 2):
            raise InputError(f"--triplet {arguments.triplet}: needs batches of {training.clips_per_identity} clips of "
                             f"each of two people or more, and the size {arguments.size} has batches of "
                             f"{training.batch}; choose another size.")


def config_of(arguments: Arguments) -> configs.Config:
    """The size's config with what the arguments change."""
    config = configs.get(arguments.size)
    steps = _WALKERS[arguments.size][1] if arguments.dataset == "walkers" and arguments.size in _WALKERS else {}
    given = {"reid_training": arguments.reid_steps, "stcnet_training": arguments.stcnet_steps,
             "final_training": arguments.final_steps}
    steps = steps | {part: number for part, number in given.items() if number is not None}
    config = dataclasses.replace(
        config, seed=arguments.seed, compute="bfloat16" if arguments.bfloat16 else config.compute,
        tau=None if arguments.tau_quantile else config.tau,
        tau_quantile=arguments.tau_quantile or config.tau_quantile,
        final=dataclasses.replace(config.final, pooling=arguments.pooling or config.final.pooling),
        **{part: dataclasses.replace(getattr(config, part), steps=number) for part, number in steps.items()})
    losses = {name: getattr(arguments, name) for name in ("label_smoothing", "triplet")}
    losses = dataclasses.replace(config.reid_losses, **{k: v for k, v in losses.items() if v is not None})
    if losses.triplet:
        config = dataclasses.replace(config, **{
            part: dataclasses.replace(getattr(config, part), clips_per_identity=CLIPS_OF_A_PERSON)
            for part in ("reid_training", "final_training")})
    return dataclasses.replace(config, reid_losses=losses)


def protocol_of(arguments: Arguments) -> WalkerProtocol:
    """The walkers that go with a size."""
    protocol, _ = _WALKERS.get(arguments.size, _WALKERS["small"])
    return dataclasses.replace(protocol, occlusion=arguments.occlusion, seed=arguments.seed)


def format_results(results: dict) -> str:
    """Figures of locating and of ranking, as text."""
    parts = []
    if "quality" in results["locating"]:
        parts += ["locating (precision and recall of hidden bands, test tracklets)",
                  format_locating([_score(row) for row in results["locating"]["quality"]]), ""]
    parts.append(_format_gallery(results))
    if "other_gallery" in results:
        parts += ["", _format_gallery(results["other_gallery"])]
    return "\n".join(parts)


def _format_gallery(results):
    title = f"gallery {results['gallery']}{' (official)' if results.get('official') else ''}"
    if not results["evaluations"]:
        return f"{title}: no query has a match in it"
    return f"{title}\n{ranking_tables.format_figures(results['evaluations'])}"


def _score(row):
    """JSON has null for what is not a number."""
    return LocatingScore(**{name: math.nan if value is None else value for name, value in row.items()})


def _absolute(path):
    return None if path is None else os.path.abspath(path)


def _recorded(work):
    record = as_path(work) / "experiment.json"
    return json.loads(record.read_text()) if record.exists() else {}


def _as_the_weights_are(config, path, work, weights):
    """The config with what differs between makers of weights for one network: which convolution of a block strides
    (Caffe's and Keras' the first), and batch norm's epsilon. On record it is that of `weights` already."""
    recorded = _recorded(work)
    known = recorded.get("inputs", {}).get("imagenet") == weights
    fields = recorded["config"]["reid"] if known else load_backbone(path)[0]
    theirs = {name: fields[name] for name in ("stride_on", "norm_epsilon") if name in fields}
    return dataclasses.replace(config, reid=dataclasses.replace(config.reid, **theirs),
                               final=dataclasses.replace(config.final, **theirs))


def _weights(path, work):
    """What identifies the weights to start from, {'path', 'sha256'}: their content, wherever the file lies.

    Of a file that is gone it is what the work directory has on record, so that results can stand without it.
    """
    path, recorded = _absolute(path), _recorded(work).get("inputs", {}).get("imagenet")
    recorded = recorded if isinstance(recorded, dict) else {}
    if not os.path.isfile(path):
        if recorded.get("path") == path:
            return recorded
        raise InputError(f"--imagenet {path}: no such file; make one with tools/import_resnet50.py.")
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return recorded if recorded.get("sha256") == digest else {"path": path, "sha256": digest}


def _backbone(path, config):
    """Variables to begin with, if all networks that begin with them are such as the weights are of."""
    fields, variables = load_backbone(path)
    for network in (config.reid,) if config.final_from_first else (config.reid, config.final):
        require_config(network, fields, source=path)
    return {collection: {"backbone": tree} for collection, tree in variables.items()}


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
