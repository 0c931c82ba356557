"""Draws the README's picture from the folder that `vrstc demo` wrote.

    python tools/readme_picture.py out-demo docs/demo.png

Each group of rows is one tracklet of a person that training never saw: the camera's frames with the hidden part
outlined, the network's input, the completion, and the truth. It takes a minute on two CPU cores; the folder of
`vrstc demo --size smoke` tries it out.
"""

import argparse
from pathlib import Path

import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.images import write_png
from vrstc_jax.inference.completer import Completer
from vrstc_jax.models.model_file import load_model
from vrstc_jax.recipes.demo import test_walkers
from vrstc_jax.report.figures import completion_rows, stacked

_FRAMES, _GROUPS = 10, 2


def main() -> None:
    """Parses and calls `draw`."""
    parser = argparse.ArgumentParser(description="Draws the README's picture from the folder that `vrstc demo` wrote.")
    parser.add_argument("demo", type=Path, help="the demo's folder")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--tracklets", default="", help="names, comma-separated; default: the first fitting ones")
    arguments = parser.parse_args()
    draw(arguments.demo, arguments.picture, [name for name in arguments.tracklets.split(",") if name])


def draw(demo: Path, picture: Path, chosen: list[str]) -> None:
    """Writes the picture of some tracklets by name; of the first that are hidden for a while, if none is chosen."""
    completer = Completer(load_model(demo / "model.safetensors"))
    groups = []
    for tracklet in test_walkers(configs.get(completer.model.config.name)):
        hidden = [mask.mean() for mask in tracklet.masks or ()]
        fits = tracklet.name in chosen if chosen else 2 <= sum(h > 0.1 for h in hidden) <= 8
        if fits and len(groups) < _GROUPS:
            plan = completer.plan(tracklet)
            first = max(0, min(int(np.argmax(hidden)) - _FRAMES // 2, len(tracklet) - _FRAMES))
            groups.append(completion_rows(tracklet, list(completer.stream(tracklet, plan))[first:first + _FRAMES]))
            print(tracklet.name)
    write_png(picture, stacked(groups))


if __name__ == "__main__":
    main()
