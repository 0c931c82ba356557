"""Draws the README's picture from what `vrstc demo` left: python tools/readme_picture.py out-demo docs/demo.png

Each group of rows is one tracklet of somebody that training never saw: the camera's frames with the hidden
part outlined, what the network is given, the completion, and what was really there.
"""

import argparse
from pathlib import Path

import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.images import write_png
from vrstc_jax.inference.complete import Completer
from vrstc_jax.models.model_file import load_model
from vrstc_jax.recipes.demo import test_walkers
from vrstc_jax.report.figures import completion_rows, stacked

_FRAMES, _GROUPS = 10, 2


def main() -> None:
    """Parses and draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="the demo's folder")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--tracklets", default="", help="names, comma-separated; else the first fitting ones")
    arguments = parser.parse_args()
    completer = Completer(load_model(arguments.demo / "model.safetensors"))
    chosen = [name for name in arguments.tracklets.split(",") if name]
    groups = []
    for tracklet in test_walkers(configs.get(completer.model.config.name)):
        hidden = [mask.mean() for mask in tracklet.masks]
        fits = tracklet.name in chosen if chosen else 2 <= sum(h > 0.1 for h in hidden) <= 8
        if fits and len(groups) < _GROUPS:
            plan = completer.plan(tracklet)
            first = max(0, min(int(np.argmax(hidden)) - _FRAMES // 2, len(tracklet) - _FRAMES))
            groups.append(completion_rows(tracklet, list(completer.stream(tracklet, plan))[first:first + _FRAMES]))
            print(tracklet.name)
    write_png(arguments.picture, stacked(groups))


if __name__ == "__main__":
    main()
