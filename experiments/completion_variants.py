"""What helps completion on somebody's footage: one choice changed at a time, judged on held-out runs.

    python -m experiments.completion_variants video.mp4 --boxes tracks.txt --workdir variants --steps 400

Each variant is size `small` with one thing changed, trained for the same number of steps from the same
located frames; the re-ID network is trained once. It is sized for two CPU cores and some minutes a variant,
more for `three frames a side`. `--size smoke` tries it out. The table goes to
the terminal and to WORKDIR/table.json; the same command goes on where it stopped.
"""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vrstc_jax import config as configs
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.evaluation.judging import held_out_of
from vrstc_jax.inference.complete import Completer
from vrstc_jax.models.model_file import load_model, save_model
from vrstc_jax.recipes.fit import fit
from vrstc_jax.recipes.judge import judge
from vrstc_jax.report import write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax
from vrstc_jax.runtime.storage import require_local

# name: {part of the config: {field: value}}
VARIANTS = {
    "as it is": {},
    "no transport": {"stcnet": {"transport": False}},
    "fixed softmax scale 10": {"stcnet": {"learned_scale": False}},
    "softmax scale 1 (the paper's letter)": {"stcnet": {"learned_scale": False, "softmax_scale": 1.0}},
    "the nearest neighbours": {"stcnet": {"neighbour_reach": 1}},
    "three frames a side": {"stcnet": {"frames_per_side": 3}},
    "bands alone": {"masks": {"kind": "bands"}},
    "neighbours next to it": {"masks": {"longest_run": 1}},
    "no shifts": {"stcnet_training": {"shift": 0.0}},
    "no running mean": {"stcnet_training": {"average": 0.0}},
    "L_r alone": {"losses": {"adversarial": 0.0, "identity": 0.0}},
    "squared L_r": {"losses": {"reconstruction": "l2"}},
}


@dataclass(frozen=True)
class Arguments:
    """What to run, and on what."""

    input: tyro.conf.Positional[Path]
    """A video, or a folder of pictures."""
    workdir: Path
    """For everything that is made on the way, and table.json."""
    boxes: Path | None = None
    """For a video: the people's boxes (MOTChallenge text)."""
    only: tuple[str, ...] = ()
    """Names of variants; all if left out."""
    steps: int = 400
    """Of STCnet's training, for each variant."""
    size: Literal["small", "smoke"] = "small"
    """What the variants are variants of."""
    hold_out: int = 9
    """Length of the held-out runs."""


def main(arguments: Arguments) -> dict:
    """Runs the variants and returns {variant: {method: scores}}."""
    require_local(arguments.workdir, "what this experiment makes")
    start_jax()
    distributed.require_single_process("experiments.completion_variants")
    spool = arguments.workdir / "spool" if arguments.boxes else None
    source = open_source(arguments.input, boxes=arguments.boxes, spool=spool)
    table = {}
    for name in arguments.only or VARIANTS:
        config = changed(configs.get(arguments.size), VARIANTS[name])
        config = changed(config, {"stcnet_training": {"steps": arguments.steps}})
        work = arguments.workdir / name.replace(" ", "_").replace("(", "").replace(")", "").replace("'", "")
        _share(arguments.workdir / "as_it_is", work)
        path = work / "model.safetensors"
        if not path.exists():
            save_model(path, fit(source.tracklets, work, config=config, hold_out=arguments.hold_out))
        model = load_model(path)
        table[name] = judge(Completer(model), source.tracklets, held_out=held_out_of(model)).metrics()["judge"]
        write_json(arguments.workdir / "table.json", table)
        best = max(table[name][method]["psnr"] for method in ("copy", "mean", "telea"))
        scores = table[name]["stcnet"]
        print(f"{name:40} PSNR {scores['psnr']:.2f} dB ({scores['psnr'] - best:+.2f} over the best simple "
              f"filling)  SSIM {scores['ssim']:.3f}", flush=True)
    return table


def changed(config: configs.Config, changes: dict) -> configs.Config:
    """The config with some fields of some of its parts replaced."""
    return dataclasses.replace(config, **{part: dataclasses.replace(getattr(config, part), **fields)
                                          for part, fields in changes.items()})


def _share(first: Path, work: Path) -> None:
    """What does not depend on the variant: stored frames, the re-ID network, scores."""
    if first == work or not (first / "scores.npz").exists():
        return
    for part in ("tracklets", "reid"):
        if not (work / part).exists():
            shutil.copytree(first / part, work / part)
    shutil.copy(first / "scores.npz", work / "scores.npz")


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
