"""What each kind of variety in the made-up walkers is worth on footage: short trainings, one kind left out in turn.

    python -m experiments.variety video.mp4 --boxes tracks.txt --workdir out-variety

STCnet of size `small` is trained on walkers of every kind, on walkers without one of them, and on plain ones, each
time for the same steps and from nothing (the guider is left out, for its identities are others'), and judged on
held-out runs of footage that none has seen and on plain test walkers. What is hidden there is located by one model,
the default one unless `--model` names another, so that all are judged on the same frames. The table is printed and
written to WORKDIR/table.json; what stands is not done again. About 5 minutes a row on two CPU cores.

    python -m experiments.variety video.mp4 --boxes tracks.txt --workdir out-variety --occluder 414 203 32 41

With `--occluder` (`experiments.fixed_occluder`) what locates is made from each row's walkers too, and judged by the
share it finds of the bands that the occluder hides by a third or more, at the threshold at which it also calls 10 % of
the bands that the occluder does not touch. About 8 minutes more a row.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from experiments import default_model, fixed_occluder
from experiments.default_model import Amount, write_walkers
from vrstc_jax import config as configs
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.data.tracklet_set import read_set
from vrstc_jax.data.walkers import EVERY_KIND, KINDS, Variety, WalkerConfig, make_tracklets, people
from vrstc_jax.evaluation.judging import held_out_by
from vrstc_jax.evaluation.locating import HIDDEN_SHARE
from vrstc_jax.inference.complete import Completer
from vrstc_jax.inference.locate import Locator
from vrstc_jax.models.model_file import Model, load_model, save_model
from vrstc_jax.recipes import five_steps
from vrstc_jax.recipes.judge import judge
from vrstc_jax.report import write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.storage import require_local, require_writable_directory
from vrstc_jax.training.stcnet import train_stcnet

ROWS = {"every kind": EVERY_KIND, "none": Variety(),
        **{f"without {kind}": dataclasses.replace(EVERY_KIND, **{kind: False}) for kind in KINDS}}
AMOUNTS = {"small": Amount(people=150, validation=1, frames=32, reid_steps=300, head_steps=300, stcnet_steps=600),
           "smoke": Amount(people=4, validation=1, frames=8, reid_steps=2, head_steps=2, stcnet_steps=2)}
FALSE_CALLS = 0.1


@dataclass(frozen=True)
class Arguments:
    """What to judge on, and how much to train."""

    input: tyro.conf.Positional[Path]
    """A video, or a folder of pictures."""
    workdir: Path
    """For everything that is made on the way, and table.json."""
    boxes: Path | None = None
    """For a video: the people's boxes (MOTChallenge text)."""
    model: Path | None = None
    """What locates; the default model if left out."""
    rows: tuple[Literal[tuple(ROWS)], ...] = ()
    """Rows to do; all if left out."""
    occluder: tuple[fixed_occluder.Rectangle, ...] = ()
    """Of the video: rectangles that hide who is under them, left, top, width, height. Then locating is judged too."""
    steps: int | None = None
    """Of STCnet's trainings; the size's own number if left out."""
    size: Literal["small", "smoke"] = "small"
    """Of the networks, and how much they see."""
    hold_out: int = 9
    """Length of the held-out runs."""
    seed: int = 0
    """Of everything random."""


def main(arguments: Arguments) -> dict[str, dict]:
    """{row: {'footage' and 'walkers': {method: {'psnr', 'ssim', …}}, 'located': {'footage' and 'walkers': share}}}."""
    if arguments.hold_out <= 0 or arguments.steps is not None and arguments.steps <= 0:
        raise InputError("--hold-out and --steps must be more than 0. "
                         f"Got {arguments.hold_out} and {arguments.steps}.")
    if arguments.occluder:
        fixed_occluder.require_rectangles(arguments.occluder)
    require_local(arguments.workdir, "what this experiment makes")
    amount = AMOUNTS[arguments.size]
    amount = dataclasses.replace(amount, stcnet_steps=arguments.steps or amount.stcnet_steps)
    locating = load_model(arguments.model)
    config = _config(arguments, amount, locating)
    start_jax_for_training(config.batches)
    distributed.require_single_process("experiments.variety")
    work = arguments.workdir
    require_writable_directory(work)
    five_steps.claim(work, {"config": configs.to_dict(config), "amount": dataclasses.asdict(amount),
                            "locating": locating.digest})
    source = open_source(arguments.input, boxes=arguments.boxes, spool=work / "spool")
    held_out = held_out_by(Completer(locating), source.tracklets, arguments.hold_out)
    if not held_out:
        raise InputError(f"{arguments.input}: no tracklet has a clean run of {arguments.hold_out} frames with as many "
                         "before and after it; give a smaller --hold-out.")
    look = WalkerConfig(height=config.stcnet.height, width=config.stcnet.width, frames=amount.frames)
    walkers = make_tracklets(people("test", 16), seed=config.seed, config=look)
    under = fixed_occluder.masks_under(arguments.occluder, source.tracklets) if arguments.occluder else None
    table = {}
    for name in arguments.rows or ROWS:
        model = _trained(work / name.replace(" ", "_"), name, config, amount, locating)
        completer = Completer(dataclasses.replace(model, provenance={"held_out": held_out}))
        footage = judge(completer, source.tracklets, seed=arguments.seed).tables["held-out runs"].overall()
        test = judge(completer, walkers).tables["true masks"].overall()
        table[name] = {"footage": footage, "walkers": test}
        if under is not None:
            table[name]["located"] = _located(work / name.replace(" ", "_"), arguments, amount, {
                "footage": (source.tracklets, under), "walkers": (walkers, [t.masks for t in walkers])})
        print(format_table(table), flush=True)
        write_json(work / "table.json", table)
    return table


def _config(arguments, amount, locating):
    config = configs.get(arguments.size)
    return dataclasses.replace(
        config, seed=arguments.seed, reid=locating.config.reid, tau=locating.tau,
        losses=dataclasses.replace(config.losses, identity=0.0),
        stcnet_training=dataclasses.replace(config.stcnet_training, steps=amount.stcnet_steps))


def _trained(work, name, config, amount, locating) -> Model:
    path = work / "model.safetensors"
    if path.exists():
        return load_model(path)
    require_writable_directory(work)
    if not (work / "data").exists():
        print(f"{name}: walkers", flush=True)
        write_walkers(work / "data", amount, ROWS[name], config)
    train = read_set(work / "data", "train")
    identities, usable = default_model.unoccluded_frames(train)
    generators, discriminators = train_stcnet(train, usable, config.stcnet_task, locating.reid, len(identities),
                                              work / "stcnet")
    save_model(path, Model(config=config, generators=generators, discriminators=discriminators, reid=locating.reid,
                           identities=locating.identities, tau=locating.tau))
    return load_model(path)


def _located(work, arguments, amount, judged) -> dict[str, float]:
    """`found_at` of a network that locates and learned from the row's walkers: {where: share}."""
    config = default_model.config_of(default_model.Arguments(
        work, size=arguments.size, seed=arguments.seed, reid_steps=amount.reid_steps))
    _, network = default_model.locating_networks(read_set(work / "data", "train"), config, amount, work)
    locator = Locator(network.config, network.variables, len(network.identities))
    return {where: found_at([locator.scores(tracklet.frames) for tracklet in tracklets],
                            fixed_occluder.shares_of(masks)) for where, (tracklets, masks) in judged.items()}


def found_at(scores: Sequence[np.ndarray], shares: Sequence[np.ndarray], *, false_calls: float = FALSE_CALLS) -> float:
    """The share of hidden bands that score below what so many of the bands score that nothing is known to hide.

    Args:
      scores: of each tracklet, [T, 3]; low where a band looks hidden.
      shares: of each tracklet, [T, 3]: how much of a band is hidden.
    """
    scores, shares = np.concatenate(scores), np.concatenate(shares)
    return float(np.mean(scores[shares >= HIDDEN_SHARE] < np.quantile(scores[shares == 0], false_calls)))


def format_table(table: dict[str, dict]) -> str:
    """PSNR and SSIM in the hole, how far stcnet is above the mean of the neighbours, and what share of the hidden bands
    is found, where that was asked for."""
    lines = [f"{'':22}{'footage: stcnet':>18}{'over mean':>11}{'SSIM':>7}{'walkers: stcnet':>18}{'over mean':>11}"]
    if any("located" in row for row in table.values()):
        lines[0] += f"{'footage: found':>17}{'walkers: found':>17}"
    for name, row in table.items():
        cells = [(row[where]["stcnet"]["psnr"], row[where]["stcnet"]["psnr"] - row[where]["mean"]["psnr"],
                  row[where]["stcnet"]["ssim"]) for where in ("footage", "walkers")]
        (footage, over, ssim), (walkers, above, _) = cells
        lines.append(f"{name:22}{footage:15.2f} dB{over:+8.2f} dB{ssim:7.3f}{walkers:15.2f} dB{above:+8.2f} dB")
        if "located" in row:
            lines[-1] += "".join(f"{100 * row['located'][where]:15.1f} %" for where in ("footage", "walkers"))
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
