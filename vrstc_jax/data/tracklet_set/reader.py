"""Opens sets of tracklets. Sets of version 1.0.0, which have one split and no index, open too."""

import contextlib
import dataclasses
import io
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vrstc_jax.data.images import decode_image
from vrstc_jax.data.made_from import digest
from vrstc_jax.data.tracklet_set.layout import DEFAULT_SPLIT, INDEX_FILE, INFO_FILE, is_set
from vrstc_jax.data.tracklets import EncodedFrames, LazySequence, Tracklet
from vrstc_jax.ops.pictures import thumbnail
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.paths import require_name
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.storage import as_path, describe_error, is_remote

_REMEDY = "write the set again, or remove it, and run the same command again"
_CACHED = 256 * 2**20  # bytes of decoded frames: a training decodes a small set only once

_Index = dict[str, list[dict[str, Any]]]  # for each split, a row for each tracklet


@dataclass(frozen=True, eq=False)
class TrackletSet:
    """An opened split of a set. Frames are numbered by record, through all tracklets.

    Attributes:
      source: the records, as TFDS's random-access data source with encoded pictures.
      tracklets: the tracklets in order, reading from `source`.
      first: number of each tracklet's first record; its frames follow.
      thumbnails: the cached thumbnails, by record.
    """

    source: Sequence[dict[str, Any]]
    tracklets: tuple[Tracklet, ...]
    first: tuple[int, ...]
    _frames: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    thumbnails: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
    _masked_frames: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def frame(self, record: int) -> np.ndarray:
        """The frame of a record, uint8 [H, W, 3]; up to 256 MB of frames are cached."""
        return _cached(self._frames, record, lambda: self._decoded(record, "image"))

    def thumbnail(self, record: int) -> np.ndarray:
        """The thumbnail of a record's frame, uint8 [16, 8, 3] (`ops.pictures.thumbnail`); all are cached."""
        if record not in self.thumbnails:
            self.thumbnails[record] = thumbnail(self.frame(record))
        return self.thumbnails[record]

    def mask(self, record: int) -> np.ndarray:
        """The mask of a record, bool [H, W], true = hidden; [1, 1] where its tracklet has no masks."""
        return self._decoded(record, "mask")[..., 0] > 127

    def _decoded(self, record: int, part: str) -> np.ndarray:
        where = getattr(self.source, "directory", "a data set")
        return decode_image(self.source[record][part], name=f"{where}: record {record}, {part}")

    def masked_frame(self, record: int) -> np.ndarray:
        """The frame and, in the last channel, 255 where it is hidden: uint8 [H, W, 4]; cached as frames are."""
        return _cached(self._masked_frames, record,
                       lambda: np.dstack([self.frame(record), np.uint8(255) * self.mask(record)]))


def _cached(cache: dict[int, np.ndarray], record: int, make: Callable[[], np.ndarray]) -> np.ndarray:
    # No lock: two threads may decode a frame twice, which only costs time.
    value = cache.get(record)
    if value is None:
        value = make()
        # Estimated from this frame's size: frames of a set have similar sizes.
        if len(cache) * value.nbytes < _CACHED:
            cache[record] = value
    return value


def set_splits(directory: str | Path) -> tuple[str, ...]:
    """The names of a set's splits, empty ones too, in the order of writing.

    Raises:
      InputError: there is no set in `directory`.
    """
    return _splits(directory, _read_index(directory))


def sources_of(directory: str | Path) -> dict[str, dict[str, str | None]]:
    """{split: {tracklet: `Tracklet.made_from` of what was stored}} of a set; None where the set has no record of it.

    Raises:
      InputError: there is no set in `directory`, or it is damaged.
    """
    return {split: {row["name"]: row.get("made_from") for row in rows}
            for split, rows in (_read_index(directory) or {}).items()}


def read_set(directory: str | Path, split: str = DEFAULT_SPLIT) -> TrackletSet:
    """Opens one split of a set that `write_set` or `datasets.build` wrote; gs:// paths too.

    Raises:
      InputError: there is no set in `directory`, it has no such split, or is damaged.
    """
    index = _read_index(directory)
    splits = _splits(directory, index)
    if split not in splits:
        raise InputError(f"{directory}: has no split {split!r}; it has {', '.join(splits)}.")
    if index is not None and not index[split]:
        return TrackletSet((), (), ())
    # Pictures stay encoded: `decode_image` decodes them, and another set may store the bytes again.
    skip = {name: tfds.decode.SkipDecoding() for name in ("image", "mask")}
    with _damage_as_input_error(directory), quiet_tfds():
        stored = _read_only_builder(directory).as_data_source(split=split, decoders=skip)
        source = _Records(stored, len(stored), os.fspath(directory))
    rows = _rows_of_records(source) if index is None else index[split]
    for row in rows:
        _require_names(f"{directory}, split {split}", row)
    ends = np.cumsum([len(row["frames"]) for row in rows])
    if ends[-1] != len(source):
        raise InputError(f"{directory}: {split} has {len(source)} frames, but {ends[-1]} in {INDEX_FILE}; {_REMEDY}.")
    first = tuple(int(end) - len(row["frames"]) for end, row in zip(ends, rows))
    opened = TrackletSet(source, (), first)
    # The tracklets read through `opened`, so that both share its cache.
    tracklets = tuple(_tracklet(opened, row, start) for row, start in zip(rows, first))
    return dataclasses.replace(opened, tracklets=tracklets)


def _require_names(where: str, row: Mapping[str, Any]) -> None:
    """Checks that results of a tracklet and of its frames will be written below their folder."""
    require_name(row["name"], where)
    for frame in row["frames"]:
        if "/" in frame or "\0" in frame or frame in ("", ".", ".."):
            raise InputError(f"{where}: the frame {frame!r} of tracklet {row['name']} must be the name of a file "
                             "without a folder; write the set again.")


def _tracklet(opened: TrackletSet, row: dict[str, Any], first: int) -> Tracklet:
    count = len(row["frames"])
    frames = EncodedFrames(count, lambda i: opened.frame(first + i), lambda i: opened.source[first + i]["image"])
    masks = LazySequence(count, lambda i: opened.mask(first + i)) if row["masks"] else None
    # Sets of earlier versions have no digests.
    made_from = digest([row["person"], row["camera"], row["frames"], row["content"]]) if row.get("content") else None
    return Tracklet(name=row["name"], frames=frames, frame_names=tuple(row["frames"]), person=row["person"],
                    camera=row["camera"], masks=masks, made_from=made_from)


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Silences TFDS's log and progress bars; our own progress bar reports the same in one line. It may be nested."""
    # A filter of TFDS's records, not a log level: other code of the host program logs through absl as before.
    logger = logging.getLogger("absl")
    # One for each entry: an inner exit removes its own filter alone.
    only_errors = _OnlyErrorsOfTfds()
    logger.addFilter(only_errors)
    tfds.disable_progress_bar()
    try:
        # Some of TFDS's messages are printed, not logged.
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.removeFilter(only_errors)
        if not any(isinstance(other, _OnlyErrorsOfTfds) for other in logger.filters):
            tfds.enable_progress_bar()


class _OnlyErrorsOfTfds(logging.Filter):
    """Drops TFDS's records below errors, and no others."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or "tensorflow_datasets" not in record.pathname


class _Records(Sequence[dict[str, Any]]):
    """The records of a split; one that cannot be read is an `InputError` that names the set."""

    def __init__(self, stored: Any, count: int, directory: str):
        self._stored, self._count, self.directory = stored, count, directory

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        with _damage_as_input_error(self.directory):
            return self._stored[index]


@contextlib.contextmanager
def _damage_as_input_error(directory: str | Path) -> Iterator[None]:
    """Turns the errors of a set's files into an `InputError`: TFDS, protobuf and array_record raise many kinds."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{directory}: this data set is damaged ({describe_error(error)[:200]}); {_REMEDY}.") from None


def _read_only_builder(directory: str | Path) -> Any:
    if not is_remote(directory):
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if not os.path.isfile(path) and not os.path.isdir(path):  # TFDS would wait for a pipe's writer
                raise InputError(f"{path}: is no file, and this folder should be a data set; {_REMEDY}.")
    with _damage_as_input_error(directory), quiet_tfds():
        return tfds.builder_from_directory(os.fspath(as_path(directory)))


def _splits(directory: str | Path, index: _Index | None) -> tuple[str, ...]:
    return tuple(_read_only_builder(directory).info.splits) if index is None else tuple(index)


def _read_index(directory: str | Path) -> _Index | None:
    """The tracklets of each split, from the index file; None for a set of version 1.0.0, which has no index."""
    if not is_set(directory):
        raise InputError(f"{directory}: no data set is here (there is no {INFO_FILE}); give the folder of a set, or "
                         "remove it, and run the same command again.")
    index = as_path(directory) / INDEX_FILE
    if not (index.exists() or os.path.islink(index)):
        return None
    return read_record(index, remedy=_REMEDY, fits=lambda found: found and all(
        isinstance(row["name"], str) and isinstance(row["frames"], list) and isinstance(row["masks"], bool)
        and all(isinstance(name, str) for name in row["frames"])
        and all(row[key] is None or isinstance(row[key], str) for key in ("person", "camera"))
        for rows in found.values() for row in rows))


def _rows_of_records(source: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of an index, from the records: neighbouring records of one name are a tracklet."""
    rows = []
    for record in range(len(source)):
        found = source[record]
        name, frame, person, camera = (found[key].decode() for key in ("tracklet", "frame", "person", "camera"))
        if not rows or rows[-1]["name"] != name:
            rows.append({"name": name, "person": person or None, "camera": camera or None,
                         "masks": bool(found["has_mask"]), "frames": []})
        rows[-1]["frames"].append(frame)
    return rows
