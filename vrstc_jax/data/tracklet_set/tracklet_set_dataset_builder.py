"""TFDS builder for tracklets from anywhere: one record a frame, so that any frame is read by itself.

A set has one split or several. Pictures are stored without loss, at their own resolution: as PNG, or as the
bytes that they have already (`EncodedFrames`). Records keep the order of the tracklets and of their frames,
so that record numbers are positions in that order. What is known of the tracklets beside their pictures
stands once more in `tracklets.json`, so that a set of a million frames opens without reading them.
"""

import contextlib
import io
import json
import logging
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.writer import ExampleWriter
from tensorflow_datasets.proto import tf_example_pb2

from vrstc_jax.data.images import decode_image, encode_png
from vrstc_jax.data.tracklets import LazySequence, Tracklet
from vrstc_jax.ops.pictures import thumbnail
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import as_path, is_remote, remove, require_local, upload

SPLIT = "train"
INDEX = "tracklets.json"
LAST = "dataset_info.json"  # of a set in a bucket: with it, it is whole
_NO_MASK = np.zeros((1, 1), bool)
_KEPT = 256 * 2**20
_SHARD = 16_384  # frames in a file, or one tracklet that is longer: some 100 MB to 1 GB


class EncodedFrames(LazySequence):
    """Frames that exist as the bytes of PNG or JPEG files; a set stores these bytes as they are.

    TFDS keeps what an `Image` feature is given encoded; the feature's own format is for arrays.
    """

    def __init__(self, length: int, read: Callable[[int], np.ndarray], encoded: Callable[[int], bytes]):
        super().__init__(length, read)
        self.encoded = encoded


class Builder(tfds.core.ShardBasedBuilder):
    """Tracklets given in Python, written as a TFDS data set.

    Shard by shard, since TFDS' other builders gather a split's records in memory to put them in order.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.0.0": "One record a frame.", "1.1.0": "Several splits; an index of the tracklets."}
    name = "tracklet_set"

    def __init__(self, *, tracklets: Mapping[str, Sequence[Tracklet]] | None = None, progress=None, **kwargs):
        self._tracklets = tracklets or {}
        self._progress = progress or (lambda frames: None)
        super().__init__(file_format="array_record", **kwargs)

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, description="Tracklets of walking people, one record a "
                                     "frame.", features=_features(), disable_shuffling=True)

    def _example_writer(self):
        return _FieldsInOrder(self.info.file_format)

    def _tracklets_of_splits(self, dl_manager) -> Mapping[str, Sequence[Tracklet]]:
        """The tracklets of each split; what another builder puts in its place."""
        return self._tracklets

    def _shard_iterators_per_split(self, dl_manager):
        splits = {name: [tracklet for tracklet in tracklets if len(tracklet)]
                  for name, tracklets in self._tracklets_of_splits(dl_manager).items()}
        for name, tracklets in splits.items():
            _check_names(name, tracklets)
        with open(os.path.join(self.data_dir, INDEX), "w") as file:
            json.dump({name: list(map(_row, tracklets)) for name, tracklets in splits.items()}, file)
        return {name: [_Shard(shard, self._progress) for shard in _shards(tracklets)]
                for name, tracklets in splits.items() if tracklets}


class _FieldsInOrder(ExampleWriter):
    """Makes the same set the same bytes: a record's fields are a map, which each process writes in its own order."""

    def write(self, path, examples):
        return super().write(path, ((key, tf_example_pb2.Example.FromString(record).SerializeToString(
            deterministic=True)) for key, record in examples))


def _features():
    text = tfds.features.Text()
    return tfds.features.FeaturesDict({
        "image": tfds.features.Image(encoding_format="png"),
        "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
        "has_mask": np.int64,
        "tracklet": text,
        "frame": text,
        "person": text,
        "camera": text,
    })


def _check_names(split, tracklets):
    if not re.fullmatch(r"[a-z][a-z0-9_]*", split) or split == "all":
        raise ValueError(f"a split's name must be small letters, digits and _, and not 'all'. Got {split!r}.")
    name, count = next(iter(Counter(tracklet.name for tracklet in tracklets).most_common(1)), ("", 0))
    if count > 1:
        raise InputError(f"{count} tracklets of the split {split} are called {name}; give each its own name.")


def _shards(tracklets):
    """The tracklets in runs of at most `_SHARD` frames."""
    shards, frames = [], _SHARD
    for tracklet in tracklets:
        if frames + len(tracklet) > _SHARD:
            shards.append([])
            frames = 0
        shards[-1].append(tracklet)
        frames += len(tracklet)
    return shards


def _row(tracklet):
    return {"name": tracklet.name, "person": tracklet.person or None, "camera": tracklet.camera or None,
            "masks": tracklet.masks is not None, "frames": tracklet.frame_names}


@dataclass(frozen=True)
class _Shard:
    """The records of some tracklets, for TFDS."""

    tracklets: Sequence[Tracklet]
    progress: Callable[[int], None]

    def __call__(self):
        record = 0
        for tracklet in self.tracklets:
            for i, name in enumerate(tracklet.frame_names):
                yield record, {
                    "image": _ReadOnce(_encoded(tracklet.frames, i)),
                    "mask": _ReadOnce(encode_png(_NO_MASK if tracklet.masks is None else tracklet.masks[i])),
                    "has_mask": int(tracklet.masks is not None),
                    "tracklet": tracklet.name,
                    "frame": name,
                    "person": tracklet.person or "",
                    "camera": tracklet.camera or "",
                }
                record += 1
            self.progress(len(tracklet))


class _ReadOnce:
    """A file's bytes, for TFDS to read: it keeps a shard's examples until the shard's end, but then without
    their pictures."""

    def __init__(self, data: bytes):
        self._data = data

    def read(self) -> bytes:
        data, self._data = self._data, b""
        return data


def _encoded(pictures, index):
    if isinstance(pictures, EncodedFrames):
        return pictures.encoded(index)
    return encode_png(pictures[index])


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
    masked: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

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

    def masked_frame(self, record: int) -> np.ndarray:
        """uint8 [H, W, 4]: the frame, and 255 where it is hidden; kept as `frame` keeps it."""
        both = self.masked.get(record)
        if both is None:
            both = np.dstack([self.frame(record), np.uint8(255) * self.mask(record)])
            if len(self.masked) * both.nbytes < _KEPT:
                self.masked[record] = both
        return both


def write_set(directory, tracklets: Iterable[Tracklet] | Mapping[str, Iterable[Tracklet]], *,
              progress=None) -> None:
    """Writes tracklets to `directory` as a TFDS data set, under another name first.

    The tracklets are listed before the first is written; their frames are read one by one.

    Args:
      directory: where the set will stand; what is there is replaced.
      tracklets: of the one split 'train'; or the tracklets of several splits, by the splits' names. A split
        may be empty if another is not. A tracklet without frames is left out.
      progress: called with the number of frames after each tracklet.

    Raises:
      InputError: there is no frame in any of the tracklets, or two in a split have the same name.
      ValueError: a split's name that TFDS does not take.
    """
    splits = tracklets if isinstance(tracklets, Mapping) else {SPLIT: tracklets}
    splits = {name: list(given) for name, given in splits.items()}
    if not any(len(tracklet) for given in splits.values() for tracklet in given):
        raise InputError(f"{directory}: there is no frame in any tracklet; nothing was written.")
    prepare_set(directory, Builder, tracklets=splits, progress=progress)


def prepare_set(directory, builder: type[Builder], *, manual_dir=None, **options) -> None:
    """Lets a builder write its set to `directory`, under another name first.

    Args:
      directory: where the set will stand, gs:// will do; what is there is replaced.
      manual_dir: the folder that the builder reads, if it reads one.
      options: of the builder.
    """
    directory = as_path(directory)
    if is_remote(directory):  # TFDS' writers of array_record know local files, and nothing is renamed there
        with tempfile.TemporaryDirectory() as near:
            made = _made(builder, f"{near}/set", manual_dir, options)
            remove(directory / LAST)
            remove(directory)
            upload(Path(made), directory, last=LAST)
        return
    unfinished = f"{directory}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        made = _made(builder, unfinished, manual_dir, options)
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(made, directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _made(builder, directory, manual_dir, options):
    """Where a builder put its set, in `directory` or below it."""
    with _quiet():
        made = builder(data_dir=directory, **options)
        made.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    return made.data_dir


def is_complete(directory) -> bool:
    """Whether there is anything at a set's place; in a bucket, whether the last file of a set is there."""
    directory = as_path(directory)
    return (directory / LAST if is_remote(directory) else directory).exists()


def require_replaceable(directory) -> None:
    """Checks that a set may be written to `directory`.

    Raises:
      InputError: something that is not a set is there.
    """
    require_local(directory, "a set to be written")
    if os.path.lexists(directory) and not _is_set(directory) and not _is_empty(directory):
        raise InputError(f"{directory}: is not empty, and no data set; give a new folder for the set.")


def _is_set(directory):
    return (as_path(directory) / LAST).exists()


def _is_empty(directory):
    return os.path.isdir(directory) and not os.listdir(directory)


def set_splits(directory) -> tuple[str, ...]:
    """The names of a set's splits, in the order in which they were given, empty ones too.

    Raises:
      InputError: there is no set in `directory`.
    """
    index = _index(directory)
    return tuple(_opened(directory).info.splits) if index is None else tuple(index)


def read_set(directory, split: str = SPLIT) -> TrackletSet:
    """Opens one split of a set that `write_set` wrote.

    Raises:
      InputError: there is no set in `directory`, it has no such split, or is damaged.
    """
    if split not in set_splits(directory):
        raise InputError(f"{directory}: has no split {split!r}; it has {', '.join(set_splits(directory))}.")
    index = _index(directory)
    if index is not None and not index[split]:
        return TrackletSet((), (), ())
    with _quiet():
        source = _opened(directory).as_data_source(
            split=split, decoders={"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()})
    rows = _rows_of_records(source) if index is None else index[split]
    ends = np.cumsum([len(row["frames"]) for row in rows])
    if ends[-1] != len(source):
        raise InputError(f"{directory}: {split} has {len(source)} frames, but {ends[-1]} in {INDEX}; "
                         "write the set again.")
    first = tuple(int(end) - len(row["frames"]) for end, row in zip(ends, rows))
    opened = TrackletSet(source, (), first)
    tracklets = tuple(_tracklet(opened, row, start) for row, start in zip(rows, first))
    return TrackletSet(source, tracklets, first, opened.decoded, opened.thumbnails)


def _tracklet(opened, row, first):
    count = len(row["frames"])
    frames = EncodedFrames(count, lambda i: opened.frame(first + i),
                           lambda i: opened.source[first + i]["image"])
    masks = LazySequence(count, lambda i: opened.mask(first + i)) if row["masks"] else None
    return Tracklet(name=row["name"], frames=frames, frame_names=tuple(row["frames"]), person=row["person"],
                    camera=row["camera"], masks=masks)


def _opened(directory):
    with _quiet():
        return tfds.builder_from_directory(os.fspath(as_path(directory)))


def _index(directory) -> dict[str, list[dict]] | None:
    """What `tracklets.json` says, or None for a set of version 1.0.0, which has none."""
    if not _is_set(directory):
        raise InputError(f"{directory}: no data set is here (there is no dataset_info.json).")
    try:
        return json.loads((as_path(directory) / INDEX).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{os.path.join(directory, INDEX)}: is damaged ({error}); "
                         "write the set again.") from None


def _rows_of_records(source) -> list[dict]:
    rows = []
    for record in range(len(source)):
        found = source[record]
        name, frame, person, camera = (found[key].decode()
                                       for key in ("tracklet", "frame", "person", "camera"))
        if not rows or rows[-1]["name"] != name:
            rows.append({"name": name, "person": person or None, "camera": camera or None,
                         "masks": bool(found["has_mask"]), "frames": []})
        rows[-1]["frames"].append(frame)
    return rows


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
