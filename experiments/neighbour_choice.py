"""Which frames to complete from: the PSNR of the plain mean of chosen frames in a hole, without any network.

    python -m experiments.neighbour_choice video.mp4 --boxes tracks.txt

Runs of frames are held out as `vrstc fit --hold-out` does, a band is hidden in all frames of a run, and it is filled
with the mean of frames before and after the run: the nearest, or those of the nearest few whose visible part is most
similar (`neighbour_reach` in the config). PSNR is over the hole, as in `vrstc judge`, at the crops' resolution. The
last line is the PSNR of the single best frame of the tracklet, chosen by the hidden pixels: an upper bound of copying,
which no method can reach.

Nothing is trained or written, but many frames are read for each hole. A folder with a few dozen small pictures tries
it out. There are no expected figures, because they depend on the footage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import tyro

from vrstc_jax.data.held_out import hold_out_runs
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.data.neighbours import around, choose_sides, unlikeness
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation.quality import psnr
from vrstc_jax.ops.pictures import thumbnail
from vrstc_jax.ops.regions import BANDS, bands_mask
from vrstc_jax.runtime.errors import InputError, require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.storage import temporary_folder

CHOICES = ((1, 1), (5, 1), (10, 1), (20, 1), (10, 3), (20, 3))
"""(reach, frames a side): the number of nearest frames to choose from, and how many are chosen."""
Choice = tuple[int, int] | Literal["best"]


@dataclass(frozen=True)
class Arguments:
    """The footage."""

    input: tyro.conf.Positional[Path]
    """A video, or a folder of pictures."""
    boxes: Path | None = None
    """For a video: the people's boxes (MOTChallenge text)."""
    hold_out: int = 9
    """Length of the held-out runs, in frames."""
    seed: int = 0
    """Seed of the choice of bands."""


def main(arguments: Arguments) -> dict[Choice, float]:
    """Prints the table; returns {(reach, frames a side) or 'best': mean PSNR in dB}."""
    require_range(arguments, "hold_out")
    require_flags(arguments)
    rng = np.random.default_rng(arguments.seed)
    scores: dict[Choice, list[float]] = {choice: [] for choice in (*CHOICES, "best")}
    with temporary_folder() as spool:
        source = open_source(arguments.input, boxes=arguments.boxes, spool=spool if arguments.boxes else None)
        runs = hold_out_runs([len(tracklet) for tracklet in source.tracklets], arguments.hold_out).runs
        if not any(runs):
            raise InputError(f"{arguments.input}: no tracklet has {3 * arguments.hold_out} frames or more; give a "
                             f"smaller --hold-out. Got {arguments.hold_out}.")
        for tracklet, of_tracklet in zip(source.tracklets, runs):
            kept = np.ones(len(tracklet), bool)
            for run in of_tracklet:
                kept[slice(*run)] = False
            for first, end in of_tracklet:
                hidden = np.arange(BANDS) == rng.integers(BANDS)
                for index in range(first, end):
                    _score(tracklet, np.flatnonzero(kept), index, (first, end - 1), hidden, scores)
    table: dict[Choice, float] = {choice: float(np.mean(values)) for choice, values in scores.items()}
    print(f"{len(scores['best'])} held-out frames")
    for choice, value in table.items():
        name = ("the best frame, chosen by what is hidden" if choice == "best"
                else f"mean of {choice[1]} a side, of the nearest {choice[0]}")
        print(f"{name:45} {value:.2f} dB")
    return table


def _score(tracklet: Tracklet, kept: np.ndarray, index: int, run: tuple[int, int], hidden: np.ndarray,
           scores: Mapping[Choice, list[float]]) -> None:
    """Appends the PSNR of each choice for one frame.

    Args:
      kept: int [K], the frames that are not held out.
      run: (first, last) frame of the held-out run.
      hidden: bool [3], the band to fill.
    """
    frame = tracklet.frames[index]
    height, width = frame.shape[:2]
    mask = bands_mask(hidden, height, width)

    @cache  # choices share frames
    def other(i: int) -> np.ndarray:
        return cv2.resize(tracklet.frames[i], (width, height), interpolation=cv2.INTER_AREA)

    def unlike(others: np.ndarray) -> np.ndarray:
        return unlikeness(thumbnail(frame), mask, np.stack([thumbnail(tracklet.frames[i]) for i in others]))

    before, after = around(kept, *run)
    for reach, count in CHOICES:
        if min(len(before), len(after)) < count:
            continue
        picked = choose_sides(kept, *run, count=count, reach=reach, unlike=unlike)
        if picked is not None:
            # Rounded, since a picture's pixels are whole numbers.
            mean = np.mean([other(i) for side in picked for i in side], 0).round().astype(np.uint8)
            scores[reach, count].append(psnr(mean, frame, mask))
    scores["best"].append(max(psnr(other(i), frame, mask) for i in kept))


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
