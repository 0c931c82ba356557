"""Draws the README's picture from what `vrstc demo` left: python tools/readme_picture.py out-demo docs/demo.png

Each group of rows is one tracklet of somebody that training never saw: the camera's frames with the hidden
part outlined, what the network is given, the completion, and what was really there.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.complete import Completer
from vrstc_jax.data.images import write_png
from vrstc_jax.demo import test_walkers
from vrstc_jax.model import load_model

_GAP, _FRAMES, _GROUPS, _LARGER = 4, 10, 2, 2


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
            groups.append(_group(tracklet, list(completer.stream(tracklet, plan))[first:first + _FRAMES]))
            print(tracklet.name)
    gap = np.full((3 * _GAP, groups[0].shape[1], 3), 255, np.uint8)
    write_png(arguments.picture, np.concatenate([row for group in groups for row in (group, gap)][:-1]))


def _group(tracklet, done):
    rows = [[_outlined(tracklet.frames[d.index], d.mask) for d in done],
            [np.where(d.mask[..., None], np.uint8(128), tracklet.frames[d.index]) for d in done],
            [d.frame for d in done], [tracklet.truth[d.index] for d in done]]
    return np.concatenate([np.concatenate([_framed(p) for p in row], axis=1) for row in rows])


def _outlined(frame, mask):
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(frame.copy(), contours, -1, (255, 210, 0), 1)


def _framed(picture):
    picture = cv2.resize(picture, None, fx=_LARGER, fy=_LARGER, interpolation=cv2.INTER_CUBIC)
    return cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(255, 255, 255))


if __name__ == "__main__":
    main()
