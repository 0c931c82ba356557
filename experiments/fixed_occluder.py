"""How well locating finds people who are hidden by something fixed in the picture: a sign, a pole, a parked car.

    python -m experiments.fixed_occluder video.mp4 --boxes tracks.txt --occluder 414 203 32 41 429 40 8 350

If neither the camera nor the occluder moves, people's boxes tell where they are hidden, and no masks need be drawn. The
occluder is one rectangle or several (left, top, width, height in pixels of the picture). A band counts as hidden if a
third or more of it is under them. The command prints, for each track with hidden bands, how many are found and in which
frames some are missed; how many bands are called hidden, by their share under the rectangles, and of those that are not
under them, by whether the box of somebody who stands nearer touches them; and precision, recall and F1. Precision is a
lower bound: other walkers hide people too, and people who pass in front of the occluder are not hidden by it.

Nothing is trained: the default model locates in all frames. A short video tries it out. Expected on the clip of
docs/results.md: 242 of 280 hidden bands found; of those not under it, called hidden 18.0 % where a nearer box touches
them, and 9.5 % where none does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.evaluation.locating import (
    HIDDEN_SHARE,
    LocatingScore,
    called_bands,
    format_locating,
    judge_locating,
)
from vrstc_jax.inference.completer import Completer
from vrstc_jax.models.model_file import load_model
from vrstc_jax.ops.regions import BANDS, hidden_share
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax
from vrstc_jax.runtime.storage import temporary_folder
from vrstc_jax.runtime.text_tables import text_table

EDGES = (0.0, 0.15, HIDDEN_SHARE, 0.5, 1.0)
Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class Arguments:
    """The footage and the occluder."""

    input: tyro.conf.Positional[Path]
    """A video."""
    boxes: Path
    """The people's boxes (MOTChallenge text)."""
    occluder: tuple[Rectangle, ...]
    """Rectangles that hide people: left, top, width, height in pixels of the picture."""
    model: Path | None = None
    """Model that locates; default: the one that comes with the package."""


def main(arguments: Arguments) -> LocatingScore:
    """Prints the tables; returns the score over all tracks."""
    require_rectangles(arguments.occluder)
    start_jax()
    distributed.require_single_process("experiments.fixed_occluder")
    model = load_model(arguments.model)
    completer = Completer(model)
    # The crops are read from the spool, so locating must end before it is removed.
    with temporary_folder() as spool:
        tracklets = open_source(arguments.input, boxes=arguments.boxes, spool=spool).tracklets
        masks = masks_under(arguments.occluder, tracklets)
        plans = [completer.plan(tracklet)
                 for tracklet in tqdm(tracklets, desc="locating", unit="tracklet", dynamic_ncols=True)]
        called = [called_bands(plan, tracklet.frames, model.tau) for plan, tracklet in zip(plans, tracklets)]
    shares, nearer = shares_of(masks), [_near(tracklet) for tracklet in tracklets]
    print(f"{_tracks(tracklets, shares, called)}\n\n{_by_share(shares, nearer, called)}\n")
    figures = judge_locating([plan.scores for plan in plans], masks, model.tau, called=called)
    print(format_locating([figures]))
    return figures


def require_rectangles(occluder: Sequence[Rectangle]) -> None:
    """Raises InputError unless there is a rectangle, and each has an area."""
    if not occluder or any(not np.less(np.abs(r), 1e6).all() or r[2] <= 0 or r[3] <= 0 for r in occluder):
        raise InputError("--occluder takes left, top, width and height of each rectangle, width and height above 0. "
                         f"Got {_text(occluder) or 'nothing'}.")


def under(occluder: Sequence[Rectangle], tracklet: Tracklet, index: int) -> np.ndarray:
    """The pixels of a video's crop whose centres are under the rectangles, bool [H_t, W_t]."""
    assert tracklet.boxes is not None
    height, width = tracklet.frames[index].shape[:2]
    left, top, across, down = tracklet.boxes[index][1:]
    x, y = left + (np.arange(width) + 0.5) / width * across, top + (np.arange(height) + 0.5) / height * down
    mask = np.zeros((height, width), bool)
    for x0, y0, w, h in occluder:
        mask |= ((y0 <= y) & (y < y0 + h))[:, None] & ((x0 <= x) & (x < x0 + w))
    return mask


def masks_under(occluder: Sequence[Rectangle], tracklets: Sequence[Tracklet]) -> list[list[np.ndarray]]:
    """`under` of every crop of every tracklet.

    Raises:
      InputError: a tracklet has no boxes, or no box touches the rectangles.
    """
    if any(tracklet.boxes is None for tracklet in tracklets):
        raise InputError("--occluder is in pixels of a video's picture; give a video and its --boxes.")
    masks = [[under(occluder, tracklet, index) for index in range(len(tracklet))] for tracklet in tracklets]
    if not any(mask.any() for of_tracklet in masks for mask in of_tracklet):
        raise InputError(f"No box touches the occluder {_text(occluder)}; give its rectangles as left, top, width, "
                         "height in pixels of the picture.")
    return masks


def shares_of(masks: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """The hidden share of each band, [T, 3] in [0, 1], of each tracklet."""
    return [np.stack([hidden_share(mask) for mask in of_tracklet]) for of_tracklet in masks]


def _tracks(tracklets: Sequence[Tracklet], shares: Sequence[np.ndarray], called: Sequence[np.ndarray]) -> str:
    rows = []
    for tracklet, share, found in zip(tracklets, shares, called):
        hidden = share >= HIDDEN_SHARE
        if hidden.any() and tracklet.boxes is not None:
            missed = tracklet.boxes[(hidden & ~found).any(axis=1), 0].astype(int)
            rows.append([tracklet.name, len(tracklet), hidden.sum(), (hidden & found).sum(), spans(missed) or "-"])
    return text_table(["track", "frames", "hidden bands", "found", "missed in frames"], rows)


def _near(tracklet: Tracklet) -> np.ndarray:
    """The bands that a nearer box touches, bool [T, 3]."""
    maps = tracklet.nearer or [np.zeros((BANDS, 1))] * len(tracklet)
    return np.reshape([hidden_share(covered) > 0 for covered in maps], (-1, BANDS))


def _by_share(shares: Sequence[np.ndarray], nearer: Sequence[np.ndarray], called: Sequence[np.ndarray]) -> str:
    share, near, found = (np.concatenate(list(parts)) for parts in (shares, nearer, called))
    rows = [("nothing", (share == 0) & ~near), ("nothing, a nearer box on it", (share == 0) & near)]
    rows += [(f"{100 * low:.0f} to {100 * high:.0f} %", (share > 0) & (share >= low) & (share < high))
             for low, high in zip(EDGES[:-2], EDGES[1:-1])]
    rows.append((f"{100 * EDGES[-2]:.0f} % and more", share >= EDGES[-2]))
    cells = [[name, which.sum(), found[which].sum(), f"{100 * found[which].mean():.1f} %"]
             for name, which in rows if which.any()]
    return text_table(["of a band under it", "bands", "called hidden", "share"], cells)


def spans(numbers: Sequence[int] | np.ndarray) -> str:
    """Ascending whole numbers as text: '3-5, 9'."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}"
                     for run in np.split(np.asarray(numbers, int), breaks) if len(run))


def _text(occluder: Sequence[Rectangle]) -> str:
    return " and ".join(" ".join(f"{value:g}" for value in rectangle) for rectangle in occluder)


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
