"""Draws the README's picture from the folder that `vrstc demo` wrote.

    python tools/readme_picture.py out-demo docs/demo.png

Each group of rows is one tracklet of a person that training never saw: the camera's frames with the hidden part
outlined, the network's input, the completion, and the truth. The folder of `vrstc demo --size smoke` tries it out.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from vrstc_jax import config as configs
from vrstc_jax.data.images import write_png
from vrstc_jax.inference.completer import Completer
from vrstc_jax.models.model_file import load_model
from vrstc_jax.recipes.demo import test_walkers
from vrstc_jax.report.figures import completion_rows, stacked
from vrstc_jax.runtime import lock
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.storage import require_writable_directory

_FRAMES, _GROUPS = 10, 2


@dataclass(frozen=True)
class Arguments:
    """The demo, the picture, and the tracklets in it."""

    demo: tyro.conf.Positional[Path]
    """The demo's folder."""
    picture: tyro.conf.Positional[Path]
    """The PNG to write."""
    tracklets: str = ""
    """Names of one or two tracklets, separated by a comma; default: the first ones hidden in 2 to 8 frames."""


def main(arguments: Arguments) -> None:
    """Writes the picture.

    Raises:
      InputError: there is no demo, its tracklets do not fit, or the picture cannot be written.
    """
    completer = Completer(load_model(arguments.demo / "model.safetensors"))
    if arguments.picture.is_dir():
        raise InputError(f"{arguments.picture}: is a folder; give the name of the PNG to write.")
    require_writable_directory(arguments.picture.absolute().parent)
    lock.take(arguments.picture, beside=True)
    chosen, groups = [name for name in arguments.tracklets.split(",") if name], []
    walkers = test_walkers(configs.get(completer.model.config.name))
    names = [tracklet.name for tracklet in walkers]
    if unknown := [name for name in chosen if name not in names]:
        raise InputError(f"--tracklets {arguments.tracklets}: there is no tracklet '{unknown[0]}'; choose from "
                         f"{', '.join(names)}.")
    for tracklet in walkers:
        hidden = [mask.mean() for mask in tracklet.masks or ()]
        fits = tracklet.name in chosen if chosen else 2 <= sum(h > 0.1 for h in hidden) <= 8
        if fits and len(groups) < _GROUPS:
            plan = completer.plan(tracklet)
            first = max(0, min(int(np.argmax(hidden)) - _FRAMES // 2, len(tracklet) - _FRAMES))
            groups.append(completion_rows(tracklet, list(completer.stream(tracklet, plan))[first:first + _FRAMES]))
            print(tracklet.name)
    if not groups:
        raise InputError(f"{arguments.demo}: no tracklet of this size is hidden in 2 to 8 frames; name some with "
                         "--tracklets.")
    write_png(arguments.picture, stacked(groups))


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
