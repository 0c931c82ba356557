"""The default model: its made-up walkers, the network that locates, and STCnet, trained from random weights.

    python -m experiments.default_model --workdir out-default

No real footage is used. Five steps, each skipped if its result exists; a training resumes from its last checkpoint, so
the command may be stopped and started at any time:

    data     WORK/data                walkers of every kind of variety, in the splits train and validation
    reid     WORK/reid.safetensors    the network that guides; masks are known, and it learns to locate from them
    head     WORK/head.safetensors    on that network, which stays as it is, the head that locates
    locate   WORK/locating.json       τ: the best F1 on the validation walkers
    stcnet   WORK/model.safetensors   the whole model, in half precision, with its scores on test walkers

Size `small` with seed 0, the default, is shipped as `vrstc_jax/weights/small.safetensors`: 1,200 people in two cameras
each, 76,800 frames. On two CPU cores, at the median rate of the steps' logs, `reid` (4,000 steps) takes 0.6 hours,
`head` (3,000) 0.9 and `stcnet` 2.1: 20,000 steps from one frame of each side, and 5,000 from two. Expected on 40 people
that no training saw, as `vrstc model show` prints it:

                          plain walkers                     walkers of every variety
    hidden pixels, PSNR   stcnet 22.37 dB, spatial 19.09,   stcnet 20.62 dB, spatial 17.29,
    (true masks)          mean of two neighbours 19.56      mean of two neighbours 18.03
    bands a third hidden  F1 0.82 (AP 0.90)                 F1 0.78 (AP 0.86)

`--size full` makes the paper's networks, which are not shipped; it was not run here (it needs a GPU). `--size smoke`
tries it out.
"""

import dataclasses
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from tqdm import tqdm

from experiments.settings import changed, given, masks_of, require_known, with_steps
from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames
from vrstc_jax.data.tracklet_set import TrackletSet, read_set, write_set
from vrstc_jax.data.walkers import EVERY_KIND, KINDS, PaintedInParallel, Variety, WalkerConfig, make_tracklet, people
from vrstc_jax.evaluation.locating import called_bands, format_locating, judge_locating
from vrstc_jax.inference.completer import Completer
from vrstc_jax.inference.locate import Locator
from vrstc_jax.inference.plan import Plan
from vrstc_jax.models.model_file import Model, ReidModel, load_model, load_reid, save_model, save_reid
from vrstc_jax.recipes import fit, five_steps
from vrstc_jax.recipes.judge import judge
from vrstc_jax.report import write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.storage import require_local
from vrstc_jax.runtime.workdir import Workdir
from vrstc_jax.training.metrics_log import curves
from vrstc_jax.training.stcnet import train_stcnet


@dataclass(frozen=True)
class Amount:
    """The numbers of people, frames and training steps.

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


AMOUNTS = {
    "small": Amount(1200, 60, 32, reid_steps=4000, head_steps=3000, stcnet_steps=20000, wider_steps=5000),
    "full": Amount(3000, 60, 32, reid_steps=40000, head_steps=10000, stcnet_steps=200000),
    "smoke": Amount(6, 2, 8, reid_steps=4, head_steps=4, stcnet_steps=4, wider_steps=2)}
_COUNTS = ("people", "reid_steps", "head_steps", "stcnet_steps", "wider_steps")  # that arguments change
_CAMERAS = 2
_HEAD_CLIP = 8  # frames: the mean of equation 11 is over a whole tracklet where the head is used
_PEOPLE_OF_A_CAMERA = 4  # few, so that there are nearly as many cameras as people


@dataclass(frozen=True)
class Arguments:
    """The sizes of the data, of the networks and of the trainings."""

    workdir: Path
    """Directory of all intermediate results and model.safetensors."""
    size: Literal["small", "full", "smoke", "paper"] = "small"
    """Size of the networks and length of the trainings; paper is an earlier name of full."""
    people: int | None = None
    """Training people; default: the size's."""
    reid_steps: int | None = None
    """Training steps of the network that guides; default: the size's."""
    head_steps: int | None = None
    """Training steps of the head that locates; default: the size's."""
    stcnet_steps: int | None = None
    """Training steps of STCnet; default: the size's."""
    wider_steps: int | None = None
    """Further steps of STCnet, completing from two frames of each side; default: the size's."""
    without: Annotated[tuple[str, ...], tyro.conf.arg(help=f"Kinds of variety to leave out: {', '.join(KINDS)}.")] = ()
    bfloat16: bool = False
    """Train in bfloat16; parameters and losses stay float32."""
    seed: int = 0
    """Seed of everything random."""


def main(arguments: Arguments) -> Path:
    """Runs the steps and returns the model file."""
    require_local(arguments.workdir, "the work directory of this experiment")
    require_known("kind of variety", arguments.without, KINDS)
    amount, config = _amount(arguments), config_of(arguments)
    variety = Variety(**{kind: kind not in arguments.without for kind in KINDS})
    start_jax_for_training(config.batches)
    work, path = arguments.workdir, arguments.workdir / "model.safetensors"

    def take() -> bool:
        Workdir(work).claim({"config": configs.to_dict(config), "amount": dataclasses.asdict(amount),
                             "variety": dataclasses.asdict(variety)}, complete=five_steps.complete_record)
        if not path.exists() and not (work / "data").exists():
            write_walkers(work / "data", amount, variety, config)
        return path.exists()

    if distributed.run_on_first(take):
        distributed.print_on_first(f"{path}: exists already; nothing is left to do.")
        return path
    train, validation = (read_set(work / "data", split) for split in ("train", "validation"))
    first, head = locating_networks(train, config, amount, work)
    locating = Workdir(work).get_or_write("locating.json", lambda path: write_json(path, _locating(head, validation)),
                                          load=read_record)
    model = _stcnet(train, config, amount, work, guider=first, head=head, locating=locating)
    provenance = {"command": shlex.join(["python", "-m", "experiments.default_model", *sys.argv[1:]]),
                  "commit": commit(), "made of": "made-up walkers", "variety": dataclasses.asdict(variety)}
    model = dataclasses.replace(model, provenance=provenance | model.provenance)
    distributed.run_on_first(lambda: _save_judged(path, model, amount))
    return path


def write_walkers(path: Path, amount: Amount, variety: Variety, config: configs.Config) -> None:
    """Writes the data: splits train and validation, of varied walkers with masks."""
    look = WalkerConfig(height=config.stcnet.height, width=config.stcnet.width, frames=amount.frames, occlusion=0.8,
                        persistent=0.1, variety=variety)
    everybody = people("train", amount.people + amount.validation)
    # Neighbours in number share two cameras, so that no camera is that of all training people.
    tracks = [(who, who // _PEOPLE_OF_A_CAMERA * _CAMERAS + camera) for who in everybody for camera in range(_CAMERAS)]
    with PaintedInParallel(tracks, seed=config.seed, config=look) as tracklets:
        # A stored set has no truth and no silhouettes: drop them here, so that they take no memory.
        seen = [dataclasses.replace(tracklet, truth=None, silhouettes=None) for tracklet in tracklets]
        cut = amount.people * _CAMERAS
        write_set(path, {"train": seen[:cut], "validation": seen[cut:]})


def _stcnet(train: TrackletSet, config: configs.Config, amount: Amount, work: Path, *, guider: ReidModel,
            head: ReidModel, locating: dict[str, Any]) -> Model:
    """The model: STCnet, trained with the guider, and the network with the head, which locates with `locating`'s τ."""
    seed = config.seed
    identities, frames = unoccluded_frames(train)
    trained = train_stcnet(train, frames, config.stcnet_task, guider.variables, len(identities), work / "stcnet")
    measured = {"STCnet": curves(work / "stcnet")}
    if amount.wider_steps:
        config = wider(config, amount)
        trained = train_stcnet(train, frames, config.stcnet_task, guider.variables, len(identities),
                               work / "stcnet_wider", start_from=trained)
        measured["STCnet, two frames a side"] = curves(work / "stcnet_wider")
    return Model(
        dataclasses.replace(config, seed=seed, reid=head.config), *trained, head.variables, identities, locating["tau"],
        provenance={
            "tracklets": len(train.tracklets), "frames": int(sum(map(len, train.tracklets))),
            "unoccluded_frames": int(sum(len(each.frames) for each in frames)),
            "reid_steps": amount.reid_steps, "head_steps": amount.head_steps, "stcnet_steps": amount.stcnet_steps,
            "wider_steps": amount.wider_steps, "locating": locating,
            "curves": guider.provenance["curves"] | head.provenance["curves"] | measured})


def _save_judged(path: Path, model: Model, amount: Amount) -> None:
    """Saves the model in half precision, with its scores."""
    # Judge what users load: the parameters as the file has them, rounded to half precision.
    unjudged = path.with_name("unjudged.safetensors")
    save_model(unjudged, model, half=True)
    save_model(path, dataclasses.replace(model, provenance=model.provenance | {
        "reached": judged(load_model(unjudged), amount)}), half=True)
    unjudged.unlink()
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB; copy it to vrstc_jax/weights/{model.config.name}"
          ".safetensors to ship it.")


def _amount(arguments: Arguments) -> Amount:
    require_flags(arguments)
    require_range(arguments, *_COUNTS)
    return dataclasses.replace(AMOUNTS[configs.get(arguments.size).name], **given(arguments, *_COUNTS))


def config_of(arguments: Arguments) -> configs.Config:
    """The size's config, in which the network that guides learns from the walkers' masks too, by a first head."""
    config, amount = configs.get(arguments.size), _amount(arguments)
    config = dataclasses.replace(
        config, seed=arguments.seed, repairing=configs.Repairing(),
        compute="bfloat16" if arguments.bfloat16 else config.compute,
        # The classes of more than a thousand people are learned slowly; a high weight lets locating learn meanwhile.
        reid=dataclasses.replace(config.reid, locating_loss=5.0, locating_masks=True, locating_stages=False,
                                 locating_width=config.reid.locating_width or 64))
    return with_steps(config, reid_training=amount.reid_steps, stcnet_training=amount.stcnet_steps)


def wider(config: configs.Config, amount: Amount) -> configs.Config:
    """The config of STCnet's last steps, which complete from two frames of each side.

    The layers are the same for any number of frames, and with one a side most is learned in less time.
    """
    training = {"steps": amount.wider_steps, "learning_rate": config.stcnet_training.learning_rate / 2}
    # Another seed, so that the batches are not those of the first steps again.
    return changed(dataclasses.replace(config, seed=config.seed + 1),
                   {"stcnet": {"frames_per_side": 2}, "stcnet_training": training})


def unoccluded_frames(train: TrackletSet) -> tuple[tuple[str, ...], list[TrainingFrames]]:
    """(identities, the frames of each tracklet that STCnet trains on: those with an empty mask)."""
    identities, labels = fit.identities_of(train.tracklets)
    return identities, [TrainingFrames(first, np.flatnonzero(Plan.from_masks(masks_of(tracklet)).visible), label)
                        for tracklet, first, label in zip(train.tracklets, train.first, labels)]


def locating_networks(train: TrackletSet, config: configs.Config, amount: Amount, work: Path,
                      ) -> tuple[ReidModel, ReidModel]:
    """(the network that guides, the same with the head that locates), from their files in WORK or trained."""
    folder, files = Workdir(work), {"save": save_reid, "load": load_reid}
    first = folder.get_or_make("reid.safetensors", lambda: five_steps.first_network(
        train, config.first_reid, work / "reid"), **files)
    return first, folder.get_or_make("head.safetensors", lambda: _with_head(
        first, train, config, amount, work / "head"), **files)


def _with_head(first: ReidModel, train: TrackletSet, config: configs.Config, amount: Amount, directory: Path,
               ) -> ReidModel:
    """The network with another head, over all stages, which learns from masks cell by cell and in longer clips."""
    reid = dataclasses.replace(config.reid, locating_stages=True)
    # Without the first head, whose parameters do not fit the new one.
    variables = {collection: {name: part for name, part in tree.items() if name != "hidden_bands"}
                 for collection, tree in first.variables.items()}
    config = changed(dataclasses.replace(config, reid=dataclasses.replace(reid, clip=_HEAD_CLIP)), {
        "reid_training": {"steps": amount.head_steps, "only": ("hidden_bands",)}})
    network = five_steps.first_network(train, config.first_reid, directory, start_from=variables,
                                       name="head that locates")
    return dataclasses.replace(network, config=reid)


def _locating(network: ReidModel, validation: TrackletSet) -> dict[str, Any]:
    """{'tau', 'validation': score}: the τ with the best F1 on walkers that no training saw."""
    locator = Locator(network.config, network.variables, len(network.identities))
    scores = [locator.scores(tracklet.frames) for tracklet in
              tqdm(validation.tracklets, desc="locating", unit="tracklet", dynamic_ncols=True)]
    masks = [masks_of(tracklet)[:] for tracklet in validation.tracklets]
    candidates = [judge_locating(scores, masks, tau) for tau in np.linspace(-0.6, 0.9, 61)]
    best = max(candidates, key=lambda row: -1 if np.isnan(row.f1) else row.f1)
    return {"tau": best.tau, "validation": dataclasses.asdict(best) | {"f1": best.f1}}


def judged(model: Model, amount: Amount, people_judged: int = 40) -> dict[str, dict[str, Any]]:
    """A model's scores on walkers that no training saw, plain ones and ones of every variety.

    Returns:
      {'plain' and 'varied': {'true masks' and 'located masks': {method: scores}, 'locating': score}}.
    """
    completer, found = Completer(model), {}
    number = min(people_judged, 4 * amount.people)
    for name, variety in (("plain", Variety()), ("varied", EVERY_KIND)):
        look = WalkerConfig(height=model.config.stcnet.height, width=model.config.stcnet.width,
                            frames=amount.frames, occlusion=0.8, variety=variety)
        tracklets = [make_tracklet(who, who, config=look) for who in people("test", number)]
        # Paint each walker once: several methods read every frame.
        tracklets = [dataclasses.replace(t, **{part: np.stack(getattr(t, part)[:]) for part in (
            "frames", "truth", "masks", "silhouettes")}) for t in tracklets]
        judgement = judge(completer, tracklets)
        plans = [completer.plan(dataclasses.replace(t, masks=None)) for t in tracklets]
        locating = judge_locating([plan.scores for plan in plans], [masks_of(t) for t in tracklets], model.tau,
                                  called=[called_bands(plan, t.frames, model.tau) for plan, t in zip(plans, tracklets)])
        found[name] = {setting: table.overall() for setting, table in judgement.tables.items()} | {
            "locating": dataclasses.asdict(locating) | {"f1": locating.f1}}
        print(f"{name} walkers\n{judgement.format()}\n{format_locating([locating])}\n", flush=True)
    return found


def commit() -> str:
    """The commit that this runs from, with '+' if files differ from it; '' if Git does not know."""
    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):  # no Git, or no checkout
        return ""


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
