"""How well what hides people is found: on made-up walkers, and on videos with boxes.

    python -m experiments.locating --models out-locator/model.safetensors
    python -m experiments.locating --models out-locator/model.safetensors --video v.mp4 --boxes tracks.txt

It takes models that locate pixel by pixel, as `experiments.locator` makes them; the default model locates by bands. On
walkers that no training saw (plain, of every variety, and hidden most of the time) the truth is known. On a video, the
boxes of people who stand nearer are taken for the truth, which is rough: a box is larger than a person. Frames that no
nearer box touches should be left as they are, but for what is fixed in the picture, such as a sign.

A row of the table is a kind of frames, and each kind is measured together with the frames that nothing covers:

    found       share of what is covered that is repainted
    beside      share of the rest of these frames that is repainted too
    needless    share of the frames that nothing covers in which something is repainted
    precision, recall, F1   of bands, of which a third or more is repainted, and covered
    IoU         of all that is repainted with all that is covered
    hidden IoU  of the person's hidden parts, said and true
    AUC         of telling frames with a hidden band from those that nothing covers

--without leaves out kinds of evidence, one after the other, with the same model: `boxes` (of a video), `context`
(frames from all over the tracklet), `margin` (frames around a window), `future` (frames after the one that is looked
at, as in live use). Several models are compared, such as ones that were trained in other ways.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro
from tqdm import tqdm

from experiments.settings import require_known
from vrstc_jax.data.images import write_png
from vrstc_jax.data.inputs.sources import open_source
from vrstc_jax.data.nearer_boxes import GRID
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.data.walkers import EVERY_KIND, Variety, WalkerConfig, make_tracklet, people
from vrstc_jax.evaluation.hidden_pixels import LocatedFrame, PixelScore, by_kind, compare_frame, format_pixel_scores
from vrstc_jax.inference.hidden_parts import HiddenParts
from vrstc_jax.inference.pixel_locator import PixelLocator, located
from vrstc_jax.models.model_file import load_model
from vrstc_jax.ops.pictures import resize
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax
from vrstc_jax.runtime.storage import temporary_folder

EVIDENCE = "boxes", "context", "margin", "future"
_WALKERS = (("plain walkers", Variety(), 0.1), ("varied walkers", EVERY_KIND, 0.1),
            ("varied walkers, mostly hidden", EVERY_KIND, 1.0))  # the last: share of tracklets hidden most of the time
_SHOWN = 12  # frames of a sheet of pictures


@dataclass(frozen=True)
class Arguments:
    """What to locate in, and with what."""

    models: tuple[Path, ...]
    """Model files."""
    video: Path | None = None
    """A video, in place of walkers."""
    boxes: Path | None = None
    """Its people's boxes (MOTChallenge text)."""
    people: int = 40
    """Walkers of each kind."""
    frames: int = 32
    """Frames of a walker."""
    without: Annotated[tuple[str, ...], tyro.conf.arg(help=f"Kinds of evidence to leave out: {', '.join(EVIDENCE)}.")
                       ] = ()
    pictures: Path | None = None
    """Folder for pictures: frames, what is said of them, and the truth."""


def main(arguments: Arguments) -> dict[str, dict[str, PixelScore]]:
    """Prints the tables; returns {table: {kind of frames: score}}."""
    require_flags(arguments)
    require_known("kind of evidence", arguments.without, EVIDENCE)
    if (arguments.video is None) != (arguments.boxes is None):
        raise InputError("--video and --boxes go together: give both, or neither for walkers.")
    start_jax()
    distributed.require_single_process("experiments.locating")
    tables = {}
    for path in arguments.models:
        model = load_model(path)
        if model.config.locating is None or model.locator is None:
            raise InputError(f"{path}: locates by bands, which `experiments.fixed_occluder` and "
                             "`experiments.default_model` judge; give a model that locates pixel by pixel.")
        for left_out in ("", *arguments.without):
            config = model.config.locating
            if left_out in ("context", "margin"):
                config = dataclasses.replace(config, **{left_out: 0})
            locator = PixelLocator(config, model.locator, causal=left_out == "future")
            for name, tracklets in _material(arguments):
                title = f"{path}{left_out and f', without {left_out}'}: {name}"
                tables[title] = _table(title, locator, tracklets, use_boxes=left_out != "boxes",
                                       pictures=arguments.pictures)
    return tables


def _material(arguments: Arguments) -> Iterator[tuple[str, list[Tracklet]]]:
    """(name, tracklets with `masks`, the truth) of each table."""
    if arguments.video is not None:
        with temporary_folder() as spool:  # the crops are read from it
            source = open_source(arguments.video, boxes=arguments.boxes, spool=spool)
            yield arguments.video.name, [_hidden_by_boxes(tracklet) for tracklet in source.tracklets]
        return
    for name, variety, persistent in _WALKERS:
        look = WalkerConfig(frames=arguments.frames, occlusion=0.8, persistent=persistent, variety=variety)
        yield name, [make_tracklet(who, who, config=look) for who in people("test", arguments.people)]


def _hidden_by_boxes(tracklet: Tracklet) -> Tracklet:
    """A video's tracklet with the boxes of nearer people as masks."""
    nearer = tracklet.nearer or [np.zeros(GRID, bool)] * len(tracklet)
    masks = [resize(covered.astype(np.float32), *frame.shape[:2]) > 0.5
             for covered, frame in zip(nearer, tracklet.frames)]
    return dataclasses.replace(tracklet, masks=masks)


def _table(title: str, locator: PixelLocator, tracklets: Sequence[Tracklet], *, use_boxes: bool,
           pictures: Path | None) -> dict[str, PixelScore]:
    found, cells = [], []
    for tracklet in tqdm(tracklets, desc=title, unit="tracklet", dynamic_ncols=True):
        parts = located(locator, tracklet.frames, tracklet.nearer if use_boxes else None)
        rows = [_compared(tracklet, parts, index) for index in range(len(tracklet))]
        found.append(rows)
        worst = max(range(len(rows)), key=lambda i: rows[i].overlap[1] - rows[i].overlap[0], default=None)
        if worst is not None and len(cells) < _SHOWN:
            cells.append(_picture(tracklet, parts, worst))
    scores = by_kind(found)
    print(f"{title}\n{format_pixel_scores(scores)}\n", flush=True)
    if pictures is not None and cells:
        name = "".join(letter if letter.isalnum() else "-" for letter in title)
        write_png(pictures / f"{name}.png", np.concatenate(cells, 1))
    return scores


def _compared(tracklet: Tracklet, parts: HiddenParts, index: int) -> LocatedFrame:
    assert tracklet.masks is not None
    covered = tracklet.masks[index]
    size = covered.shape
    hidden = parts.amodal(index, *size) & ~parts.modal(index, *size)
    silhouette = None if tracklet.silhouettes is None else tracklet.silhouettes[index]
    return compare_frame(parts.mask(index, *size), covered, float(parts.shares[index]), hidden=hidden,
                         silhouette=silhouette)


def _picture(tracklet: Tracklet, parts: HiddenParts, index: int) -> np.ndarray:
    """A column: the frame; what is repainted in red, what is hidden in white, the rest of the person in green; and the
    truth in red."""
    assert tracklet.masks is not None
    frame = resize(tracklet.frames[index], 128, 64)
    mask, amodal, modal = (find(index, 128, 64) for find in (parts.mask, parts.amodal, parts.modal))
    said, truth = np.zeros_like(frame), np.zeros_like(frame)
    said[mask], said[modal], said[amodal & ~modal] = (255, 0, 0), (0, 160, 0), (255, 255, 255)
    truth[resize(tracklet.masks[index].astype(np.float32), 128, 64) > 0.5] = (255, 0, 0)
    if tracklet.silhouettes is not None:
        outline, _ = cv2.findContours(resize(tracklet.silhouettes[index].astype(np.uint8), 128, 64),
                                      cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(truth, outline, -1, (255, 255, 255), 1)
    return np.concatenate([frame, said, truth], 0)


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, prog="python -m experiments.locating", description=__doc__)))
