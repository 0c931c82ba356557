"""TFDS builder for tracklets from anywhere: one record a frame, so that any frame is read by itself.

Pictures are stored as PNG, without loss, at their own resolution. Records keep the order of the tracklets
and of their frames, so that record numbers are positions in that order.
"""

import contextlib
import io
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import tensorflow_datasets as tfds

from vrstc_jax.data.images import decode_image, encode_png
from vrstc_jax.data.neighbours import thumbnail
from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.errors import InputError

SPLIT = "train"
_KEPT = 256 * 2**20


class Builder(tfds.core.GeneratorBasedBuilder):
    """Tracklets given in Python, written as a TFDS data set with the one split 'train'."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "One record a frame."}
    name = "tracklet_set"

    def __init__(self, *, tracklets: Iterable[Tracklet] = (), progress=None, **kwargs):
        self._tracklets = tracklets
        self._progress = progress or (lambda frames: None)
        super().__init__(file_format="array_record", **kwargs)

    def _info(self):
        text = tfds.features.Text()
        return self.dataset_info_from_configs(
            description="Tracklets of walking people, one record a frame.",
            disable_shuffling=True,  # a record's number is its frame's position
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(encoding_format="png"),
                "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                "has_mask": np.int64,
                "tracklet": text,
                "frame": text,
                "person": text,
                "camera": text,
            }))

    def _split_generators(self, dl_manager):
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self):
        record = 0
        for tracklet in self._tracklets:
            for i, frame in enumerate(tracklet.frames):
                mask = None if tracklet.masks is None else tracklet.masks[i]
                yield record, {
                    "image": encode_png(frame),
                    "mask": encode_png(np.zeros((1, 1), bool) if mask is None else mask),
                    "has_mask": int(mask is not None),
                    "tracklet": tracklet.name,
                    "frame": tracklet.frame_names[i],
                    "person": tracklet.person or "",
                    "camera": tracklet.camera or "",
                }
                record += 1
            self._progress(len(tracklet))


@dataclass(frozen=True, eq=False)
class TrackletSet:
    """An opened set: `frame(record)` and `mask(record)` read one record.

    Attributes:
      source: the records, as TFDS' random-access data source with encoded pictures.
      tracklets: the tracklets in order, reading from `source`.
      first: number of each tracklet's first record; its frames follow.
    """

    source: object
    tracklets: tuple[Tracklet, ...]
    first: tuple[int, ...]
    decoded: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    thumbnails: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def frame(self, record: int) -> np.ndarray:
        """uint8 [H, W, 3]. Small sets are decoded once: what fits into `_KEPT` bytes is kept."""
        frame = self.decoded.get(record)
        if frame is None:
            frame = decode_image(self.source[record]["image"])
            if len(self.decoded) * frame.nbytes < _KEPT:
                self.decoded[record] = frame
        return frame

    def thumbnail(self, record: int) -> np.ndarray:
        """uint8 [16, 8, 3] (`neighbours.thumbnail`); some hundred bytes a frame are kept."""
        if record not in self.thumbnails:
            self.thumbnails[record] = thumbnail(self.frame(record))
        return self.thumbnails[record]

    def mask(self, record: int) -> np.ndarray:
        """bool [H, W]."""
        return decode_image(self.source[record]["mask"])[..., 0] > 127


def write_set(directory, tracklets: Iterable[Tracklet], *, progress=None) -> None:
    """Writes tracklets to `directory` as a TFDS data set, under another name first.

    Args:
      directory: where the set will stand; what is there is replaced.
      progress: called with the number of frames after each tracklet.

    Raises:
      InputError: there is no frame in any of the tracklets.
    """
    tracklets = list(tracklets)
    if not any(map(len, tracklets)):
        raise InputError(f"{directory}: there is no frame in any tracklet; nothing was written.")
    unfinished = f"{os.fspath(directory)}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    builder = Builder(tracklets=tracklets, progress=progress, data_dir=unfinished)
    with _quiet():
        builder.download_and_prepare()
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(builder.data_dir, directory)
    shutil.rmtree(unfinished)


def require_replaceable(directory) -> None:
    """Checks that a set may be written to `directory`.

    Raises:
      InputError: something that is not a set is there.
    """
    if os.path.lexists(directory) and not _is_set(directory) and not _is_empty(directory):
        raise InputError(f"{directory}: is not empty, and no data set; give a new folder for the set.")


def _is_set(directory):
    return os.path.exists(os.path.join(directory, "dataset_info.json"))


def _is_empty(directory):
    return os.path.isdir(directory) and not os.listdir(directory)


def read_set(directory) -> TrackletSet:
    """Opens a set that `write_set` wrote.

    Raises:
      InputError: there is no set in `directory`.
    """
    if not _is_set(directory):
        raise InputError(f"{directory}: no data set is here (there is no dataset_info.json).")
    with _quiet():
        source = tfds.builder_from_directory(os.fspath(directory)).as_data_source(
            split=SPLIT, decoders={"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()})
    rows = []
    for record in range(len(source)):
        row = source[record]
        rows.append((row["tracklet"].decode(), row["frame"].decode(), row["person"].decode(),
                     row["camera"].decode(), bool(row["has_mask"])))
    first = [i for i, row in enumerate(rows) if i == 0 or row[0] != rows[i - 1][0]]
    ends = [*first[1:], len(rows)]
    opened = TrackletSet(source, (), tuple(first))
    tracklets = tuple(_tracklet(opened, rows[a:b], a) for a, b in zip(first, ends))
    return TrackletSet(source, tracklets, tuple(first), opened.decoded, opened.thumbnails)


def _tracklet(opened, rows, first):
    name, _, person, camera, has_mask = rows[0]
    masks = LazySequence(len(rows), lambda i: opened.mask(first + i)) if has_mask else None
    return Tracklet(name=name, frames=LazySequence(len(rows), lambda i: opened.frame(first + i)),
                    frame_names=tuple(row[1] for row in rows), person=person or None,
                    camera=camera or None, masks=masks)


@contextlib.contextmanager
def _quiet():
    """TFDS tells on the terminal what is told better by our own progress bar."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        tfds.enable_progress_bar()
