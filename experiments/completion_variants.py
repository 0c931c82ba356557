"""STCnet with one choice changed at a time, fitted to given footage and judged on held-out runs.

    python -m experiments.completion_variants video.mp4 --boxes tracks.txt --workdir variants --steps 400

Each variant is size `small` with one change, trained for the same number of steps from the same located frames; the
re-ID network is trained once. `--size smoke` tries it out. The table is printed and written to WORKDIR/table.json:
PSNR and SSIM of each variant in the hole, and by how much its PSNR exceeds that of the best simple filling. There are
no expected figures, because they depend on the footage. The same command resumes an interrupted run.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.settings import Changes, changed, require_known, with_steps
from vrstc_jax import config as configs
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.evaluation.fillings import SIMPLE
from vrstc_jax.evaluation.judging import held_out_of
from vrstc_jax.inference.completer import Completer
from vrstc_jax.models.model_file import load_model, save_model
from vrstc_jax.recipes.fit import fit, require_unchanged
from vrstc_jax.recipes.judge import judge
from vrstc_jax.report import write_json
from vrstc_jax.runtime import distributed, lock
from vrstc_jax.runtime.errors import require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax
from vrstc_jax.runtime.paths import Written, require_apart
from vrstc_jax.runtime.storage import require_local
from vrstc_jax.runtime.workdir import Workdir

VARIANTS: dict[str, Changes] = {
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
    "squared L_r": {"losses": {"reconstruction": "l2"}}}


@dataclass(frozen=True)
class Arguments:
    """The footage and the variants."""

    input: tyro.conf.Positional[Path]
    """A video, or a folder of pictures."""
    workdir: Path
    """Directory of all intermediate results and table.json."""
    boxes: Path | None = None
    """For a video: the people's boxes (MOTChallenge text)."""
    only: Annotated[tuple[str, ...], tyro.conf.arg(help=f"Variants to make: {'; '.join(VARIANTS)}; default: all.")] = ()
    steps: int = 400
    """Steps of STCnet's training, for each variant."""
    size: Literal["small", "smoke"] = "small"
    """The config that the variants change."""
    hold_out: int = 9
    """Length of the held-out runs, in frames."""


def main(arguments: Arguments) -> dict[str, dict[str, Any]]:
    """Trains and judges the variants; returns {variant: {method: scores}}."""
    require_range(arguments, "steps", "hold_out")
    require_flags(arguments)
    require_known("variant", arguments.only, VARIANTS)
    require_local(arguments.workdir, "the work directory of this experiment")
    require_apart({"the input": arguments.input, "--boxes": arguments.boxes},
                  {"--workdir": Written(arguments.workdir)})
    start_jax()
    distributed.require_single_process("experiments.completion_variants")
    lock.take(arguments.workdir)
    spool = arguments.workdir / "spool" if arguments.boxes else None
    tracklets = open_source(arguments.input, boxes=arguments.boxes, spool=spool).tracklets
    footage = Workdir(arguments.workdir, "footage.json", "variants of other footage")
    made_from = {tracklet.name: tracklet.made_from for tracklet in tracklets}
    require_unchanged(footage, made_from)
    footage.claim({"made_from": made_from}, shared=True)
    table = {}
    for name in arguments.only or VARIANTS:
        config = with_steps(changed(configs.get(arguments.size), VARIANTS[name]), stcnet_training=arguments.steps)
        work = arguments.workdir / name.replace(" ", "_").replace("(", "").replace(")", "").replace("'", "")
        # Only STCnet differs between variants: start each with the stored frames and the re-ID network of the first.
        _share(arguments.workdir / "as_it_is", work)
        path = work / "model.safetensors"
        if not path.exists():
            save_model(path, fit(tracklets, work, config=config, hold_out=arguments.hold_out))
        model = load_model(path)
        table[name] = judge(Completer(model), tracklets, held_out=held_out_of(model)).metrics()["judge"]
        write_json(arguments.workdir / "table.json", table)
        best = max(table[name][method]["psnr"] for method in SIMPLE if method in table[name])
        scores = table[name]["stcnet"]
        print(f"{name:40} PSNR {scores['psnr']:.2f} dB ({scores['psnr'] - best:+.2f} over the best simple "
              f"filling)  SSIM {scores['ssim']:.3f}", flush=True)
    return table


def _share(first: Path, work: Path) -> None:
    """Copies what does not depend on the variant: stored frames, the re-ID network, scores."""
    if first == work or not (first / "scores.npz").exists():
        return
    for part in ("tracklets", "reid"):
        if not (work / part).exists():
            shutil.copytree(first / part, work / part)
    shutil.copy(first / "scores.npz", work / "scores.npz")


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
