"""The default model, from nothing: made-up walkers of every variety, the network that locates, and STCnet.

    python -m experiments.default_model --workdir out-default

No real footage goes into it. Five steps, each skipped when its result stands; trainings go on from their last
checkpoint, so the same command may be stopped and started at will:

    data     WORK/data                walkers of every kind of variety, in the splits train and validation
    reid     WORK/reid.safetensors    the network that guides; masks are known, and it learns to tell what they hide
    head     WORK/head.safetensors    on that network, which stays as it is, the head that locates
    locate   WORK/locating.json       τ: the best F1 on the validation walkers
    stcnet   WORK/model.safetensors   the whole model, in half precision, with what it reached on test walkers

Size `small` is what ships as `vrstc_jax/weights/small.safetensors`, with seed 0, the default: 1,200 people in two
cameras each, 76,800 frames. On two CPU cores, at the median rate of the steps' logs, `reid` (4,000 steps) takes 0.6
hours, `head` (3,000) 0.9 and `stcnet` 2.1: 20,000 steps from one frame of each side, and 5,000 from two. To expect, on
40 people that no training saw, as `vrstc model show` prints it:

                          plain walkers                     walkers of every variety
    hidden pixels, PSNR   stcnet 22.37 dB, spatial 19.09,   stcnet 20.62 dB, spatial 17.29,
    (true masks)          mean of two neighbours 19.56      mean of two neighbours 18.03
    bands a third hidden  F1 0.82 (AP 0.90)                 F1 0.78 (AP 0.86)

`--size paper` makes the paper's networks, which do not ship; it was not run here (it is for a GPU). `--size smoke`
shows that it runs.
"""

import dataclasses
import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from tqdm import tqdm

from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames
from vrstc_jax.data.tracklet_set import TrackletSet, read_set, write_set
from vrstc_jax.data.walkers import EVERY_KIND, KINDS, PaintedInParallel, Variety, WalkerConfig, make_tracklet, people
from vrstc_jax.evaluation.locating import format_locating, judge_locating
from vrstc_jax.inference.complete import Completer
from vrstc_jax.inference.locate import Locator
from vrstc_jax.inference.plan import Plan
from vrstc_jax.models.model_file import Model, ReidModel, load_model, save_model
from vrstc_jax.recipes import fit, five_steps
from vrstc_jax.recipes.judge import judge
from vrstc_jax.report import write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.storage import require_local, require_writable_directory
from vrstc_jax.training.metrics_log import curves
from vrstc_jax.training.stcnet import train_stcnet


@dataclass(frozen=True)
class Amount:
    """How much is made and trained.

    Attributes:
      people: training people, each in two cameras that few others share.
      validation: further people, to choose τ by.
      frames: of a tracklet.
      wider_steps: of STCnet, after the others, completing from two frames of each side.
    """

    people: int
    validation: int
    frames: int
    reid_steps: int
    head_steps: int
    stcnet_steps: int
    wider_steps: int = 0


AMOUNTS = {"small": Amount(people=1200, validation=60, frames=32, reid_steps=4000, head_steps=3000, stcnet_steps=20000,
                           wider_steps=5000),
           "paper": Amount(people=3000, validation=60, frames=32, reid_steps=40000, head_steps=10000,
                           stcnet_steps=200000),
           "smoke": Amount(people=6, validation=2, frames=8, reid_steps=4, head_steps=4, stcnet_steps=4,
                          wider_steps=2)}
_CAMERAS = 2
_HEAD_CLIP = 8  # frames: the mean of equation 11 is over a whole tracklet where the head is used
_SEEN_BY_ONE = 4  # people who pass one camera: cameras are as many as people, nearly


def write_walkers(path: Path, amount: Amount, variety: Variety, config: configs.Config) -> None:
    """The data: splits train and validation, of varied walkers with masks."""
    look = WalkerConfig(height=config.stcnet.height, width=config.stcnet.width, frames=amount.frames, occlusion=0.8,
                        persistent=0.1, variety=variety)
    everybody = people("train", amount.people + amount.validation)
    places = [(who, who // _SEEN_BY_ONE * _CAMERAS + camera) for who in everybody for camera in range(_CAMERAS)]
    with PaintedInParallel(places, seed=config.seed, config=look) as tracklets:
        seen = [dataclasses.replace(tracklet, truth=None, silhouettes=None) for tracklet in tracklets]
        cut = amount.people * _CAMERAS
        write_set(path, {"train": seen[:cut], "validation": seen[cut:]})


@dataclass(frozen=True)
class Arguments:
    """What to make."""

    workdir: Path
    """For everything on the way, and model.safetensors."""
    size: Literal["small", "paper", "smoke"] = "small"
    """Of the networks, and how much they see."""
    people: int | None = None
    """Training people; the size's own number if left out."""
    reid_steps: int | None = None
    """Training steps of the network that guides, likewise."""
    head_steps: int | None = None
    """Training steps of the head that locates, likewise."""
    stcnet_steps: int | None = None
    """Training steps of STCnet, likewise."""
    wider_steps: int | None = None
    """Further ones, completing from two frames of each side, likewise."""
    without: tuple[Literal[KINDS], ...] = ()
    """Kinds of variety to leave out."""
    bfloat16: bool = False
    """Train in bfloat16; parameters and losses stay float32."""
    seed: int = 0
    """Of everything random."""


def main(arguments: Arguments) -> Path:
    """Takes the steps; returns the model file."""
    require_local(arguments.workdir, "what this experiment makes")
    amount, config = _amount(arguments), config_of(arguments)
    variety = Variety(**{kind: kind not in arguments.without for kind in KINDS})
    start_jax_for_training(config.batches)
    work = arguments.workdir

    def take():
        require_writable_directory(work)
        five_steps.claim(work, {"config": configs.to_dict(config), "amount": dataclasses.asdict(amount),
                                "variety": dataclasses.asdict(variety)})
        if not path.exists() and not (work / "data").exists():
            write_walkers(work / "data", amount, variety, config)
        return path.exists()

    path = work / "model.safetensors"
    if distributed.run_on_first(take):
        distributed.print_on_first(f"{path}: stands; nothing is left to do.")
        return path
    train, validation = (read_set(work / "data", split) for split in ("train", "validation"))
    first, head = locating_networks(train, config, amount, work)
    distributed.run_on_first(lambda: (work / "locating.json").exists()
               or write_json(work / "locating.json", _locating(head, validation)))
    locating = json.loads((work / "locating.json").read_text())
    identities, usable = unoccluded_frames(train)
    trained = train_stcnet(train, usable, config.stcnet_task, first.variables, len(identities), work / "stcnet")
    measured = {"STCnet": curves(work / "stcnet")}
    if amount.wider_steps:
        config = wider(config, amount)
        trained = train_stcnet(train, usable, config.stcnet_task, first.variables, len(identities),
                               work / "stcnet_wider", start_from=trained)
        measured["STCnet, two frames a side"] = curves(work / "stcnet_wider")
    model = Model(
        config=dataclasses.replace(config, seed=arguments.seed, reid=head.config),
        generators=trained[0], discriminators=trained[1],
        reid=head.variables, identities=identities,
        tau=locating["tau"],
        provenance={
            "command": shlex.join(["python", "-m", "experiments.default_model", *sys.argv[1:]]),
            "commit": commit(), "made of": "made-up walkers", "variety": dataclasses.asdict(variety),
            "tracklets": len(train.tracklets), "frames": int(sum(map(len, train.tracklets))),
            "unoccluded_frames": int(sum(len(each.frames) for each in usable)),
            "reid_steps": amount.reid_steps, "head_steps": amount.head_steps, "stcnet_steps": amount.stcnet_steps,
            "wider_steps": amount.wider_steps,
            "locating": locating,
            "curves": first.provenance["curves"] | head.provenance["curves"] | measured})
    distributed.run_on_first(lambda: _save_judged(path, model, amount))
    return path


def _save_judged(path, model, amount):
    unjudged = path.with_name("unjudged.safetensors")
    save_model(unjudged, model, half=True)
    save_model(path, dataclasses.replace(model, provenance=model.provenance | {
        "reached": judged(load_model(unjudged), amount)}), half=True)
    unjudged.unlink()
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB; copy it to vrstc_jax/weights/{model.config.name}"
          ".safetensors to ship it.")


def _amount(arguments):
    names = ("people", "reid_steps", "head_steps", "stcnet_steps", "wider_steps")
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            raise InputError(f"--{name.replace('_', '-')} must be more than 0. Got {value}.")
    given = {name: getattr(arguments, name) for name in names}
    return dataclasses.replace(AMOUNTS[arguments.size], **{name: n for name, n in given.items() if n is not None})


def config_of(arguments: Arguments) -> configs.Config:
    """The size's config; the network that guides learns from the walkers' masks too, by a first head."""
    config, amount = configs.get(arguments.size), _amount(arguments)
    return dataclasses.replace(
        config, seed=arguments.seed, compute="bfloat16" if arguments.bfloat16 else config.compute,
        # More than a thousand people are learned slowly; locating, which masks teach, must not wait for that.
        reid=dataclasses.replace(config.reid, locating_loss=5.0, locating_masks=True, locating_stages=False,
                                 locating_width=config.reid.locating_width or 64),
        reid_training=dataclasses.replace(config.reid_training, steps=amount.reid_steps),
        stcnet_training=dataclasses.replace(config.stcnet_training, steps=amount.stcnet_steps))


def wider(config: configs.Config, amount: Amount) -> configs.Config:
    """For STCnet's last steps. The layers are the same for any number of frames, and most is learned from one a side,
    in less time."""
    return dataclasses.replace(
        config, seed=config.seed + 1, stcnet=dataclasses.replace(config.stcnet, frames_per_side=2),
        stcnet_training=dataclasses.replace(config.stcnet_training, steps=amount.wider_steps,
                                            learning_rate=config.stcnet_training.learning_rate / 2))


def unoccluded_frames(train: TrackletSet) -> tuple[tuple[str, ...], list[TrainingFrames]]:
    """(identities, what STCnet may learn from of each tracklet: the frames of which the masks hide nothing)."""
    identities, labels = fit.identities_of(train.tracklets)
    return identities, [TrainingFrames(first, np.flatnonzero(Plan.from_masks(tracklet.masks).visible), label)
                        for tracklet, first, label in zip(train.tracklets, train.first, labels)]


def locating_networks(train: TrackletSet, config: configs.Config, amount: Amount, work) -> tuple[ReidModel, ReidModel]:
    """(the network that guides, the same with the head that locates), from WORK or trained there."""
    first = five_steps.kept_reid(work / "reid.safetensors",
                                 lambda: five_steps.first_network(train, config.first_reid, work / "reid"))
    return first, five_steps.kept_reid(work / "head.safetensors",
                                       lambda: _with_head(first, train, config, amount, work / "head"))


def _with_head(first, train, config, amount, directory):
    """The network with another head: over all stages, which masks teach cell by cell, and longer clips."""
    reid = dataclasses.replace(config.reid, locating_stages=True)
    variables = {collection: {name: part for name, part in tree.items() if name != "hidden_bands"}
                 for collection, tree in first.variables.items()}
    network = five_steps.first_network(
        train, dataclasses.replace(
            config.first_reid, network=dataclasses.replace(reid, clip=_HEAD_CLIP),
            training=dataclasses.replace(config.reid_training, steps=amount.head_steps, only=("hidden_bands",))),
        directory, start_from=variables, name="head that locates")
    return dataclasses.replace(network, config=reid)


def _locating(network, validation):
    """τ of the best F1 on walkers that were not trained on, and how good locating is with it."""
    locator = Locator(network.config, network.variables, len(network.identities))
    scores = [locator.scores(tracklet.frames) for tracklet in
              tqdm(validation.tracklets, desc="locating", unit="tracklet", dynamic_ncols=True)]
    masks = [tracklet.masks[:] for tracklet in validation.tracklets]
    candidates = [judge_locating(scores, masks, tau) for tau in np.linspace(-0.6, 0.9, 61)]
    best = max(candidates, key=lambda row: row.f1 if row.f1 == row.f1 else -1)
    return {"tau": best.tau, "validation": dataclasses.asdict(best) | {"f1": best.f1}}


def judged(model: Model, amount: Amount, people_judged: int = 40) -> dict:
    """What a model reaches on walkers that no training saw: plain ones, and ones of every variety.

    {'plain' and 'varied': {'true masks' and 'located masks': {method: scores}, 'locating': figures}}.
    """
    completer, found = Completer(model), {}
    number = min(people_judged, 4 * amount.people)
    for name, variety in (("plain", Variety()), ("varied", EVERY_KIND)):
        look = WalkerConfig(height=model.config.stcnet.height, width=model.config.stcnet.width,
                            frames=amount.frames, occlusion=0.8, variety=variety)
        tracklets = [make_tracklet(who, who, config=look) for who in people("test", number)]
        tracklets = [dataclasses.replace(t, **{part: np.stack(getattr(t, part)[:]) for part in (
            "frames", "truth", "masks", "silhouettes")}) for t in tracklets]
        verdict = judge(completer, tracklets)
        scores = [completer.plan(dataclasses.replace(t, masks=None)).scores for t in tracklets]
        locating = judge_locating(scores, [t.masks for t in tracklets], model.tau)
        found[name] = {setting: table.overall() for setting, table in verdict.tables.items()} | {
            "locating": dataclasses.asdict(locating) | {"f1": locating.f1}}
        print(f"{name} walkers\n{verdict.format()}\n{format_locating([locating])}\n", flush=True)
    return found


def commit() -> str:
    """The commit that this is run from, with '+' where files differ from it; '' where Git does not say."""
    def git(*words):
        done = subprocess.run(["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except OSError:
        return ""


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
