"""Tracklets from a video and its boxes.

The video is decoded once. Every box is cut out as it passes and laid into a spool on disk (see
`vrstc_jax.data.inputs.spool`), from where the tracklets read their frames.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vrstc_jax.data.images import read_image, read_mask
from vrstc_jax.data.inputs.boxes import Boxes, clip_box, read_boxes
from vrstc_jax.data.inputs.decoding import VideoReader
from vrstc_jax.data.inputs.folders import picture_files, picture_sequence, require_size
from vrstc_jax.data.inputs.spool import Spool, open_spool
from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.runtime.errors import InputError

__all__ = ["Boxes", "VideoReader", "VideoTracklets", "clip_box", "read_boxes", "read_video"]


@dataclass(frozen=True, eq=False)
class VideoTracklets:
    """What a video and its boxes gave.

    Attributes:
      tracklets: one for each track that is seen, by number.
      warnings: what was odd about the video as a whole, one sentence each.
      picture_size: height and width in pixels.
      frame_rate: frames a second.
      frames_read: how many frames could be decoded.
    """

    tracklets: list[Tracklet]
    warnings: tuple[str, ...]
    picture_size: tuple[int, int]
    frame_rate: Fraction
    frames_read: int


def read_video(path: str | Path, boxes: Boxes, *, spool: str | Path | None, masks: str | Path | None = None,
               truth: str | Path | None = None) -> VideoTracklets:
    """The tracklets of a video, one for each track of the boxes.

    A box partly outside the picture is clipped. One wholly outside is left out, and the tracklet's
    `warnings` say so. Names are track numbers, frame names the frame's number in 6 digits, `person` the
    track's number. If the video breaks off in the middle, the frames before are used, and a warning says so.

    Args:
      path: anything that FFmpeg decodes.
      boxes: from `read_boxes`.
      spool: the folder for the crops, made where it is not there; None: a temporary one, which goes away
        with the tracklets.
      masks: a folder with masks, white = hidden: either `<track>/<frame, 6 digits>.png` of the size of the
        (clipped) crop, or `<frame, 6 digits>.png` of the picture's size.
      truth: a folder with the pictures without the occluder, laid out as masks are.

    Raises:
      InputError: no such file; no video; a box beyond the last frame of a whole video; no box that touches
        a picture; a spool that cannot be written; masks or truth missing, too many or of another size.
    """
    for kind, folder in (("mask", masks), ("truth", truth)):
        if folder is not None and not Path(folder).is_dir():
            raise InputError(f"{folder}: no such folder; give the folder of the {kind} pictures.")
    crops = open_spool(spool, path, boxes)
    nothing = dict.fromkeys(crops.crops)
    masks = nothing if masks is None else _companions(Path(masks), "mask", read_mask, boxes, crops)
    truth = nothing if truth is None else _companions(Path(truth), "truth", read_image, boxes, crops)
    tracklets = [
        Tracklet(name=name, person=name, frames=crops.frames(name), boxes=table.astype(np.float64),
                 frame_names=tuple(f"{frame:06d}" for frame in table[:, 0]),
                 masks=masks[name], truth=truth[name], warnings=crops.track_warnings[name])
        for name, table in crops.crops.items()]
    return VideoTracklets(tracklets, crops.warnings, crops.picture_size, crops.frame_rate, crops.frames_read)


# Masks and truth beside a video.


@dataclass(frozen=True, eq=False)
class _PictureCrops:
    """Cuts the crop at an index out of a file of the whole picture's size."""

    paths: tuple[Path, ...]
    crops: np.ndarray
    read: Callable[[Path], np.ndarray]

    def __call__(self, index: int) -> np.ndarray:
        _, left, top, width, height = self.crops[index]
        return self.read(self.paths[index])[top:top + height, left:left + width].copy()


def _companions(folder: Path, kind: str, read: Callable, boxes: Boxes,
                spool: Spool) -> dict[str, LazySequence]:
    """For each track the pictures that belong to its crops, from either layout (see `read_video`)."""
    known = {str(track) for track in boxes.tracks} | {str(track) for track, _ in boxes.ignored}
    of_pictures = picture_files(folder)
    of_tracks = sorted(entry.name for entry in os.scandir(folder)
                       if entry.is_dir() and not entry.name.startswith("."))
    if bool(of_pictures) == bool(of_tracks):
        what = "both pictures and folders" if of_pictures else "neither pictures nor folders"
        raise InputError(f"{folder}: holds {what}; {kind} pictures are either <track>/<frame, 6 digits>.png "
                         "of the crops' size or <frame, 6 digits>.png of the picture's size.")
    if of_pictures:
        return _companions_of_pictures(folder, of_pictures, kind, read, spool)
    for name in of_tracks:
        if name not in known:
            raise InputError(f"{folder / name}: {kind} pictures of a track that {boxes.path} does not have.")
    return {name: _companions_of_track(folder / name, kind, read, boxes, table)
            for name, table in spool.crops.items()}


def _companions_of_track(folder: Path, kind: str, read: Callable, boxes: Boxes,
                         crops: np.ndarray) -> LazySequence:
    track = int(folder.name)
    files = picture_files(folder) if folder.is_dir() else {}
    listed = set(boxes.frames[boxes.tracks == track].tolist())
    counts = f"{len(files)} {kind} pictures for {len(listed)} boxes of track {track}"
    for frame, _, _, width, height in crops:
        stem = f"{frame:06d}"
        if stem not in files:
            raise InputError(f"{folder / stem}.png: missing; {counts}.")
        require_size(files[stem], (height, width), f"{kind} of the crop of track {track} in frame {frame}")
    allowed = {f"{frame:06d}" for frame in listed}
    allowed |= {f"{frame:06d}" for number, frame in boxes.ignored if number == track}
    for stem, file in files.items():
        if stem not in allowed:
            raise InputError(f"{file}: belongs to no box of track {track} in {boxes.path}; {counts}.")
    return picture_sequence([files[f"{frame:06d}"] for frame in crops[:, 0]], read)


def _companions_of_pictures(folder: Path, files: dict[str, Path], kind: str, read: Callable,
                            spool: Spool) -> dict[str, LazySequence]:
    needed = sorted({int(frame) for table in spool.crops.values() for frame in table[:, 0]})
    counts = f"{len(files)} {kind} pictures for {len(needed)} frames with boxes"
    for frame in needed:
        stem = f"{frame:06d}"
        if stem not in files:
            raise InputError(f"{folder / stem}.png: missing; {counts}.")
        require_size(files[stem], spool.picture_size, f"{kind} of the whole picture {frame}")
    for stem, file in files.items():
        number = int(stem) if stem.isascii() and stem.isdigit() else 0
        beyond = number > spool.frames_read and not spool.broken
        if stem != f"{number:06d}" or number < 1 or beyond:
            raise InputError(f"{file}: belongs to no frame of the video ({spool.frames_read} frames); "
                             f"{counts}.")
    sequences = {}
    for name, table in spool.crops.items():
        paths = tuple(files[f"{frame:06d}"] for frame in table[:, 0])
        sequences[name] = LazySequence(len(table), _PictureCrops(paths, table, read))
    return sequences
