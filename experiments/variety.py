"""What each kind of variety in the made-up walkers is worth on footage: short trainings that leave out one kind.

    python -m experiments.variety video.mp4 --boxes tracks.txt --workdir out-variety

Each row trains STCnet of size `small` on walkers of every kind, of all kinds but one, or of no kind (plain ones), for
the same number of steps and from random weights. There is no guider, because its network knows other identities. Rows
are judged on held-out runs of the footage and on plain test walkers. One model, the default one or `--model`, locates
for all rows, so that all are judged on the same frames. About 5 minutes a row on two CPU cores; `--size smoke` tries
it out. The table is printed and written to WORKDIR/table.json; expected on the clip of docs/results.md: 16.09 to
16.16 dB, SSIM 0.464 to 0.477. The same command resumes an interrupted run.

    python -m experiments.variety video.mp4 --boxes tracks.txt --workdir out-variety \\
        --occluder 414 203 32 41 429 40 8 350

With `--occluder` (see `experiments.fixed_occluder`) each row also trains a locating network on its walkers. It is
judged by the bands that the occluder hides by a third or more: the share that it finds, at the threshold at which it
calls 10 % of the untouched bands hidden. About 8 minutes more a row. Expected on that clip: 75 % with every kind, 47 %
with none.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from experiments import default_model, fixed_occluder
from experiments.default_model import Amount, write_walkers
from experiments.settings import changed, masks_of, require_known, with_steps
from vrstc_jax import config as configs
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.data.tracklet_set import read_set
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.data.walkers import EVERY_KIND, KINDS, Variety, WalkerConfig, make_tracklets, people
from vrstc_jax.evaluation.judging import held_out_by
from vrstc_jax.evaluation.locating import HIDDEN_SHARE
from vrstc_jax.inference.completer import Completer
from vrstc_jax.inference.locate import Locator
from vrstc_jax.models.model_file import Model, load_model, save_model
from vrstc_jax.recipes import five_steps
from vrstc_jax.recipes.judge import judge
from vrstc_jax.report import write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError, require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.paths import Written, require_apart
from vrstc_jax.runtime.storage import require_local, require_writable_directory
from vrstc_jax.runtime.text_tables import text_table
from vrstc_jax.runtime.workdir import Workdir
from vrstc_jax.training.stcnet import train_stcnet

ROWS = {"every kind": EVERY_KIND, "none": Variety(),
        **{f"without {kind}": dataclasses.replace(EVERY_KIND, **{kind: False}) for kind in KINDS}}
AMOUNTS = {"small": Amount(people=150, validation=1, frames=32, reid_steps=300, head_steps=300, stcnet_steps=600),
           "smoke": Amount(people=4, validation=1, frames=8, reid_steps=2, head_steps=2, stcnet_steps=2)}
FALSE_CALLS = 0.1


@dataclass(frozen=True)
class Arguments:
    """The footage, the rows, and how much each trains."""

    input: tyro.conf.Positional[Path]
    """A video, or a folder of pictures."""
    workdir: Path
    """Directory of all intermediate results and table.json."""
    boxes: Path | None = None
    """For a video: the people's boxes (MOTChallenge text)."""
    model: Path | None = None
    """Model that locates; default: the one that comes with the package."""
    rows: Annotated[tuple[str, ...], tyro.conf.arg(help=f"Rows to make: {'; '.join(ROWS)}; default: all.")] = ()
    occluder: tuple[fixed_occluder.Rectangle, ...] = ()
    """Rectangles that hide people: left, top, width, height in pixels of the picture. With them, locating is judged
    too."""
    steps: int | None = None
    """Steps of STCnet's trainings; default: the size's."""
    size: Literal["small", "smoke"] = "small"
    """Size of the networks and length of the trainings."""
    hold_out: int = 9
    """Length of the held-out runs, in frames."""
    seed: int = 0
    """Seed of everything random."""


def main(arguments: Arguments) -> dict[str, dict[str, Any]]:
    """Trains and judges the rows, and prints the table.

    Returns:
      {row: {'footage' and 'walkers': {method: {'psnr', 'ssim', …}}, 'located': {'footage' and 'walkers': share}}},
      'located' only with an occluder.
    """
    require_range(arguments, "hold_out", "steps")
    require_flags(arguments)
    require_known("row", arguments.rows, ROWS)
    if arguments.occluder:
        fixed_occluder.require_rectangles(arguments.occluder)
    require_local(arguments.workdir, "the work directory of this experiment")
    require_apart({"the input": arguments.input, "--boxes": arguments.boxes, "--model": arguments.model},
                  {"--workdir": Written(arguments.workdir)})
    amount = AMOUNTS[arguments.size]
    amount = dataclasses.replace(amount, stcnet_steps=arguments.steps or amount.stcnet_steps)
    locating = load_model(arguments.model)
    config = _config(arguments, amount, locating)
    start_jax_for_training(config.batches)
    distributed.require_single_process("experiments.variety")
    work = arguments.workdir
    Workdir(work).claim({"config": configs.to_dict(config), "amount": dataclasses.asdict(amount),
                         "locating": locating.digest}, complete=five_steps.complete_record)
    footage = open_source(arguments.input, boxes=arguments.boxes, spool=work / "spool").tracklets
    held_out = held_out_by(Completer(locating), footage, arguments.hold_out)
    if not held_out:
        raise InputError(f"{arguments.input}: no tracklet has a clean run of {arguments.hold_out} frames with as many "
                         "before and after it; give a smaller --hold-out.")
    look = WalkerConfig(height=config.stcnet.height, width=config.stcnet.width, frames=amount.frames)
    walkers = make_tracklets(people("test", 16), seed=config.seed, config=look)
    under = fixed_occluder.masks_under(arguments.occluder, footage) if arguments.occluder else None
    table = {}
    for name in arguments.rows or ROWS:
        row_work = work / name.replace(" ", "_")
        completer = Completer(_trained(row_work, name, config, amount, locating))
        on_runs = judge(completer, footage, held_out=held_out, seed=arguments.seed)
        table[name] = {"footage": on_runs.tables["held-out runs"].overall(),
                       "walkers": judge(completer, walkers).tables["true masks"].overall()}
        if under is not None:
            table[name]["located"] = located_shares(row_work, arguments, amount, {
                "footage": (footage, under), "walkers": (walkers, [masks_of(walker) for walker in walkers])})
        print(format_table(table), flush=True)
        write_json(work / "table.json", table)
    return table


def _config(arguments: Arguments, amount: Amount, locating: Model) -> configs.Config:
    config = dataclasses.replace(configs.get(arguments.size), seed=arguments.seed, reid=locating.config.reid,
                                 tau=locating.tau)
    return with_steps(changed(config, {"losses": {"identity": 0.0}}), stcnet_training=amount.stcnet_steps)


def _trained(work: Path, name: str, config: configs.Config, amount: Amount, locating: Model) -> Model:
    """A row's model, from its file or trained."""
    path = work / "model.safetensors"
    if path.exists():
        return load_model(path)
    require_writable_directory(work)
    if not (work / "data").exists():
        print(f"{name}: walkers", flush=True)
        write_walkers(work / "data", amount, ROWS[name], config)
    train = read_set(work / "data", "train")
    # True masks say which frames are unoccluded, so rows do not differ by what is located in their walkers.
    identities, frames = default_model.unoccluded_frames(train)
    networks = train_stcnet(train, frames, config.stcnet_task, locating.reid, len(identities), work / "stcnet")
    save_model(path, Model(config, *networks, locating.reid, locating.identities, locating.tau))
    return load_model(path)  # with its digest


def located_shares(work: Path, arguments: Arguments, amount: Amount,
                   judged: Mapping[str, tuple[Sequence[Tracklet], Sequence[Sequence[np.ndarray]]]]) -> dict[str, float]:
    """`found_at` of a locating network that is trained on a row's walkers.

    Args:
      work: the row's directory, with its walkers.
      judged: {name: (tracklets, their masks)}.

    Returns:
      {name: share}.
    """
    config = default_model.config_of(default_model.Arguments(
        work, size=arguments.size, seed=arguments.seed, reid_steps=amount.reid_steps))
    _, network = default_model.locating_networks(read_set(work / "data", "train"), config, amount, work)
    locator = Locator(network.config, network.variables, len(network.identities))
    return {name: found_at([locator.scores(tracklet.frames) for tracklet in tracklets],
                           fixed_occluder.shares_of(masks)) for name, (tracklets, masks) in judged.items()}


def found_at(scores: Sequence[np.ndarray], shares: Sequence[np.ndarray], *, false_calls: float = FALSE_CALLS) -> float:
    """The share of the hidden bands that a threshold finds which also calls some of the free bands hidden.

    Args:
      scores: of each tracklet, [T, 3]; low where a band looks hidden.
      shares: of each tracklet, [T, 3]: the hidden share of each band. From `HIDDEN_SHARE` a band counts as hidden, at
        0 as free.
      false_calls: the share of the free bands that score below the threshold; it determines the threshold.
    """
    values, hidden = np.concatenate(list(scores)), np.concatenate(list(shares))
    return float(np.mean(values[hidden >= HIDDEN_SHARE] < np.quantile(values[hidden == 0], false_calls)))


def format_table(table: Mapping[str, Mapping[str, Any]]) -> str:
    """Text: PSNR and SSIM in the hole, the PSNR over the mean of the neighbours, and the share of the hidden bands
    that is found, if it was judged."""
    located = any("located" in row for row in table.values())
    header = ["", "footage: stcnet", "over mean", "SSIM", "walkers: stcnet", "over mean"]
    rows = []
    for name, row in table.items():
        footage, walkers = ((row[where]["stcnet"]["psnr"], row[where]["stcnet"]["psnr"] - row[where]["mean"]["psnr"])
                            for where in ("footage", "walkers"))
        rows.append([name, f"{footage[0]:.2f} dB", f"{footage[1]:+.2f} dB", f"{row['footage']['stcnet']['ssim']:.3f}",
                     f"{walkers[0]:.2f} dB", f"{walkers[1]:+.2f} dB",
                     *(f"{100 * row['located'][where]:.1f} %" for where in ("footage", "walkers") if located)])
    return text_table(header + ["footage: found", "walkers: found"] * located, rows)


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
