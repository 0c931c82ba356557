"""VRSTC from raw tracklets to a ranking: the paper's five steps on one data set (DESIGN, section 2).

    python -m experiments.vrstc --dataset walkers --workdir out-vrstc

Made-up walkers, size `small`: about 40 minutes on two CPU cores. Each step leaves its result in WORKDIR and is
skipped when that stands; `--from STEP` does it and all after it again (data, reid, locate, stcnet, complete,
rank). At the end it prints rank-1 and mAP before and after completion; results.json, ranked.png and, with
matplotlib, cmc.png lie in WORKDIR. `--size smoke` shows that it runs.

The public sets must be had from their owners; `--manual-dir` is where they lie:

    python -m experiments.vrstc --dataset mars --manual-dir mars/ --size mars_paper \\
        --imagenet resnet50.safetensors --workdir out-mars

`mars_paper` is the paper's recipe to the letter: ResNet-50 from ImageNet weights (`tools/import_resnet50.py`),
last stride 1, average pooling over clips of 4 frames at 256×128, cross-entropy alone, batch 32, flips alone,
Adam 3e-4 with weight decay 5e-4 added to the gradient, 150 epochs, ×0.1 every 50; τ 0.89; STCnet at 128×64 with
one random band hidden, softmax scale 1, λ1 0.001, λ2 0.1, Adam 1e-4; the final network with 5 non-local blocks.
What the paper does not say (STCnet's batch, 32, and its steps, 200,000) is as in `paper`. Expected, rank-1
(mAP), gallery with the queries: before completion 86.1 (79.9), after 88.5 (82.3). Not run here: no MARS images.
"""

import dataclasses
import math
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vrstc_jax import config as configs
from vrstc_jax import five_steps, retrieval
from vrstc_jax.cli import run_as_command, use_cores
from vrstc_jax.data import datasets
from vrstc_jax.data.tracklet_set import write_set
from vrstc_jax.data.walkers import WalkerProtocol, walker_splits
from vrstc_jax.errors import InputError
from vrstc_jax.imagenet import load_backbone, require_config
from vrstc_jax.locating_quality import LocatingScore, format_locating

# How long walkers are trained, and how many of them there are.
_WALKERS = {
    "small": (WalkerProtocol(), {"reid_training": 1000, "stcnet_training": 1600, "final_training": 300}),
    "smoke": (WalkerProtocol(train_people=6, test_people=4, distractors=2, frames=8, height=32, width=16),
              {"reid_training": 4, "stcnet_training": 4, "final_training": 4}),
}
# Where queries join the gallery unless told otherwise: the official practice of the set.
_JOINED = {"mars", "ls_vid"}


@dataclass(frozen=True)
class Arguments:
    """What to run, and on what."""

    workdir: Path
    """For every step's result; the same command goes on where it stopped."""
    dataset: str = "walkers"
    """walkers, or one of the data sets in vrstc_jax.data.datasets: mars, …"""
    manual_dir: Path | None = None
    """Where the data set's official folders lie."""
    split: int = 1
    """Of iLIDS-VID's ten."""
    split_file: Path | None = None
    """For the data set `folder`: which tracklets are for training, queries and gallery."""
    check_counts: bool = True
    """Refuse a folder in which the data set's known numbers are not met."""
    size: Literal["small", "paper", "paper_literal", "mars_paper", "smoke"] = "small"
    """Of the networks, and how long they are trained."""
    start: Annotated[Literal[five_steps.STEPS] | None, tyro.conf.arg(name="from")] = None
    """Do this step and all after it again."""
    imagenet: Path | None = None
    """Weights to start from, made by tools/import_resnet50.py."""
    tau_quantile: float | None = None
    """The share of the training bands to call hidden, where the size has no tau; if left out, 0.12 for walkers."""
    occlusion: str = "usual"
    """Of the walkers: none, light, usual, heavy or persistent."""
    hidden: Literal["located", "given"] = "located"
    """What is hidden: as step 2 finds it, or as the data's masks say."""
    compare: bool = True
    """Also train the final network on the data as they are, for the ranking before completion."""
    queries_in_gallery: bool | None = None
    """Rank in a gallery that the queries have joined; if left out, as is official practice of the data set."""
    keep_folder: bool | None = None
    """Leave the completed frames as a folder of PNGs too; if left out, where the data came from such a folder."""
    reid_steps: int | None = None
    """Training steps of step 1; the size's own number if left out."""
    stcnet_steps: int | None = None
    """Training steps of STCnet, likewise."""
    final_steps: int | None = None
    """Training steps of the final network, likewise."""
    seed: int = 0
    """Of everything random."""


def main(arguments: Arguments) -> dict:
    """Takes the five steps, prints the table, and returns what results.json holds."""
    _check(arguments)
    config = config_of(arguments)
    use_cores(config)
    walkers = arguments.dataset == "walkers"
    if not walkers and arguments.dataset not in datasets.names():
        raise InputError(f"There is no data set '{arguments.dataset}'; choose walkers or one of "
                         f"{', '.join(datasets.names())}.")
    if walkers:
        protocol = protocol_of(arguments)
        inputs = {"dataset": "walkers"} | dataclasses.asdict(protocol)
        write = lambda path: write_set(path, walker_splits(protocol))
    else:
        of_set = {"ilids_vid": {"split": arguments.split},
                  "folder": {"split_file": arguments.split_file}}.get(arguments.dataset, {})
        inputs = {"dataset": arguments.dataset, "manual_dir": arguments.manual_dir and str(arguments.manual_dir)}
        inputs |= {name: str(value) for name, value in of_set.items()}
        write = lambda path: datasets.build(arguments.dataset, path, manual_dir=arguments.manual_dir,
                                            **of_set, **({} if arguments.check_counts else {"check_counts": False}))
    if arguments.imagenet:
        inputs["imagenet"] = str(arguments.imagenet)
    joined, folder = arguments.queries_in_gallery, arguments.keep_folder
    options = five_steps.Options(
        hidden=arguments.hidden, compare=arguments.compare,
        queries_in_gallery=arguments.dataset in _JOINED if joined is None else joined,
        keep_folder=arguments.dataset == "folder" if folder is None else folder)
    results = five_steps.run(arguments.workdir, config, write, options=options, inputs=inputs,
                             command=shlex.join(["python", "-m", "experiments.vrstc", *sys.argv[1:]]),
                             start=arguments.start, backbone=_backbone(arguments.imagenet, config))
    print(format_results(results))
    return results


def _check(arguments):
    for name in ("reid_steps", "stcnet_steps", "final_steps"):
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            raise InputError(f"--{name.replace('_', '-')} must be more than 0. Got {value}.")
    if arguments.tau_quantile is not None and not 0 < arguments.tau_quantile < 1:
        raise InputError(f"--tau-quantile must lie between 0 and 1. Got {arguments.tau_quantile}.")
    if not 1 <= arguments.split <= 10:
        raise InputError(f"--split is one of iLIDS-VID's, from 1 to 10. Got {arguments.split}.")
    if arguments.seed < 0:
        raise InputError(f"--seed must be 0 or more. Got {arguments.seed}.")


def config_of(arguments: Arguments) -> configs.Config:
    """The size's config with what the arguments change."""
    config = configs.get(arguments.size)
    steps = _WALKERS[arguments.size][1] if arguments.dataset == "walkers" and arguments.size in _WALKERS else {}
    given = {"reid_training": arguments.reid_steps, "stcnet_training": arguments.stcnet_steps,
             "final_training": arguments.final_steps}
    steps = steps | {part: number for part, number in given.items() if number is not None}
    if arguments.dataset == "walkers":
        config = for_walkers(config)
    return dataclasses.replace(
        config, seed=arguments.seed, tau_quantile=arguments.tau_quantile or config.tau_quantile,
        **{part: dataclasses.replace(getattr(config, part), steps=number) for part, number in steps.items()})


def for_walkers(config: configs.Config) -> configs.Config:
    """The config with what locating needs where something comes past most people.

    Without the loss on bands that are hidden on purpose, a network that learns from occluded people learns to
    overlook what hides them, and finds few of the hidden bands.
    """
    return dataclasses.replace(
        config, tau_quantile=0.12,
        reid=dataclasses.replace(config.reid, locating_loss=1.0, reference_sharpness=10.0))


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
    return "\n".join([*parts, f"gallery {results['gallery']}",
                      retrieval.format_figures(results["evaluations"])])


def _score(row):
    """JSON has null for what is not a number."""
    return LocatingScore(**{name: math.nan if value is None else value for name, value in row.items()})


def _backbone(path, config):
    if path is None:
        return None
    fields, variables = load_backbone(path)
    require_config(config.reid, fields, source=path)
    return {collection: {"backbone": tree} for collection, tree in variables.items()}


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
