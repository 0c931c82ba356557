"""Which frames to complete from: how well the plain mean of chosen frames fills a hole, without any network.

    python -m experiments.neighbour_choice video.mp4 --boxes tracks.txt

Runs of frames are held out as `vrstc fit --hold-out` does, a band is hidden in all frames of a run at once, and
it is filled with the mean of frames before and after the run: the nearest, or of the nearest few those whose
visible part is most alike (`neighbour_reach` in the config). PSNR is over the hole, as `vrstc judge` has it, at
the crops' own resolution. The last line is how good the single best frame of the whole tracklet is, chosen by
what is hidden, which nobody can do: what copying could reach. It takes minutes, since it reads many frames for
each; nothing is trained and nothing is written.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import tyro

from vrstc_jax.data.held_out import hold_out_runs
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.data.neighbours import around, choose_sides, unlikeness
from vrstc_jax.evaluation.quality import psnr
from vrstc_jax.ops.pictures import thumbnail
from vrstc_jax.ops.regions import BANDS, bands_mask

# (reach, frames a side)
CHOICES = ((1, 1), (5, 1), (10, 1), (20, 1), (10, 3), (20, 3))


@dataclass(frozen=True)
class Arguments:
    """On what."""

    input: tyro.conf.Positional[Path]
    """A video, or a folder of pictures."""
    boxes: Path | None = None
    """For a video: the people's boxes (MOTChallenge text)."""
    hold_out: int = 9
    """Length of the held-out runs."""
    seed: int = 0
    """Which bands are hidden."""


def main(arguments: Arguments) -> dict:
    """Prints the table; returns {(reach, frames a side) or 'best': mean PSNR in dB}."""
    rng = np.random.default_rng(arguments.seed)
    scores = {choice: [] for choice in (*CHOICES, "best")}
    with TemporaryDirectory() as spool:
        source = open_source(arguments.input, boxes=arguments.boxes, spool=spool if arguments.boxes else None)
        runs = hold_out_runs([len(tracklet) for tracklet in source.tracklets], arguments.hold_out).runs
        for tracklet, of_tracklet in zip(source.tracklets, runs):
            kept = np.ones(len(tracklet), bool)
            for run in of_tracklet:
                kept[slice(*run)] = False
            for first, end in of_tracklet:
                hidden = np.arange(BANDS) == rng.integers(BANDS)
                for index in range(first, end):
                    _score(tracklet, np.flatnonzero(kept), index, (first, end - 1), hidden, scores)
    table = {choice: float(np.mean(values)) for choice, values in scores.items()}
    print(f"{len(scores['best'])} held-out frames")
    for choice, value in table.items():
        name = (f"mean of {choice[1]} a side, of the nearest {choice[0]}" if choice in CHOICES
                else "the best frame, chosen by what is hidden")
        print(f"{name:45} {value:.2f} dB")
    return table


def _score(tracklet, usable, index, run, hidden, scores):
    frame = tracklet.frames[index]
    height, width = frame.shape[:2]
    mask = bands_mask(hidden, height, width)

    @lru_cache(None)
    def other(i):
        return cv2.resize(tracklet.frames[i], (width, height), interpolation=cv2.INTER_AREA)

    def unlike(others):
        return unlikeness(thumbnail(frame), mask, np.stack([thumbnail(tracklet.frames[i]) for i in others]))

    for reach, count in CHOICES:
        before, after = around(usable, *run)
        if len(before) >= count and len(after) >= count:
            picked = choose_sides(usable, *run, count=count, reach=reach, unlike=unlike)
            mean = np.mean([other(i) for side in picked for i in side], 0).round().astype(np.uint8)
            scores[reach, count].append(psnr(mean, frame, mask))
    scores["best"].append(max(psnr(other(i), frame, mask) for i in usable))


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
