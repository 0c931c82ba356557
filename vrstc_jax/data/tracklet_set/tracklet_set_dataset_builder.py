"""TFDS builder for tracklets from any source: one record for each frame.

Pictures are stored without loss, at their own resolution: as PNG, or as the bytes of their own files (`EncodedFrames`).
The names of this module and of its folder are TFDS's convention for finding a builder.
"""

import hashlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.writer import ExampleWriter
from tensorflow_datasets.proto import tf_example_pb2

from vrstc_jax.data.images import encode_png
from vrstc_jax.data.tracklet_set.layout import INDEX_FILE
from vrstc_jax.data.tracklets import EncodedFrames, Tracklet
from vrstc_jax.runtime.errors import InputError

_NO_MASK = np.zeros((1, 1), bool)


class Builder(tfds.core.ShardBasedBuilder):
    """Writes given tracklets as a TFDS data set.

    A `ShardBasedBuilder`, because TFDS's other builders collect a split's records in memory to sort them.

    Args:
      tracklets: of each split.
      progress: called with the number of frames after each tracklet.
      shard_frames: frames in a file, unless one tracklet has more; the default gives files of some 100 MB to 1 GB.

    Attributes:
      contents: {split: {tracklet: digest of what was stored}}, when the records are written.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.0.0": "One record a frame.", "1.1.0": "Several splits; an index of the tracklets."}
    name = "tracklet_set"

    def __init__(self, *, tracklets: Mapping[str, Sequence[Tracklet]] | None = None,
                 progress: Callable[[int], object] | None = None, shard_frames: int = 16_384, **kwargs: Any):
        self._tracklets = tracklets or {}
        self._progress = progress or (lambda frames: None)
        self._shard_frames = shard_frames
        self.contents: dict[str, dict[str, str]] = {}
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict({
            "image": tfds.features.Image(encoding_format="png"),
            "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"), "has_mask": np.int64,
            **dict.fromkeys(("tracklet", "frame", "person", "camera"), tfds.features.Text())})
        return tfds.core.DatasetInfo(builder=self, description="Tracklets of walking people, one record a frame.",
                                     features=features, disable_shuffling=True)

    def _example_writer(self) -> ExampleWriter:
        return _DeterministicWriter(self.info.file_format)  # pyright: ignore[reportArgumentType]  # set in __init__

    def _tracklets_of_splits(self, dl_manager: tfds.download.DownloadManager) -> Mapping[str, Sequence[Tracklet]]:
        """The tracklets of each split; builders of other data sets override it."""
        return self._tracklets

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> dict[str, list]:
        splits = {name: [tracklet for tracklet in tracklets if len(tracklet)]
                  for name, tracklets in self._tracklets_of_splits(dl_manager).items()}
        for name, tracklets in splits.items():
            _check_names(name, tracklets)
        # Into TFDS's own unfinished folder, which it renames together with the records.
        with open(os.path.join(self.data_dir, INDEX_FILE), "w") as file:
            json.dump({name: list(map(_index_row, tracklets)) for name, tracklets in splits.items()}, file)
        # TFDS calls each item for a shard's records.
        self.contents = {name: {} for name in splits}
        return {name: [partial(_records, shard, self._progress, self.contents[name])
                       for shard in _shards(tracklets, self._shard_frames)]
                for name, tracklets in splits.items() if tracklets}


class _DeterministicWriter(ExampleWriter):
    """Writes equal sets as equal bytes."""

    def write(self, path: str | os.PathLike, examples: Iterable[tuple[int | str | bytes, bytes]]) -> Any:
        example = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]  # defined at run time
        # By default protobuf serialises a record's map of fields in an order that varies by process.
        return super().write(path, ((key, example.FromString(record).SerializeToString(deterministic=True))
                                    for key, record in examples))


def _check_names(split: str, tracklets: Sequence[Tracklet]) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", split) or split == "all":
        raise ValueError(f"a split's name must be small letters, digits and _, and not 'all'. Got {split!r}.")
    # Results are written by name, so equal names would overwrite each other.
    name, count = next(iter(Counter(tracklet.name for tracklet in tracklets).most_common(1)), ("", 0))
    if count > 1:
        raise InputError(f"{count} tracklets of the split {split} are called {name}; give each a different name.")


def _shards(tracklets: Iterable[Tracklet], most: int) -> list[list[Tracklet]]:
    """The tracklets in runs of at most `most` frames; a longer tracklet is a run."""
    # A tracklet is never split: its frames are neighbours in one file.
    shards, frames = [], most
    for tracklet in tracklets:
        if frames + len(tracklet) > most:
            shards.append([])
            frames = 0
        shards[-1].append(tracklet)
        frames += len(tracklet)
    return shards


def _index_row(tracklet: Tracklet) -> dict[str, Any]:
    return {"name": tracklet.name, "person": tracklet.person or None, "camera": tracklet.camera or None,
            "masks": tracklet.masks is not None, "frames": tracklet.frame_names,
            **({} if tracklet.made_from is None else {"made_from": tracklet.made_from})}


def _records(tracklets: Sequence[Tracklet], progress: Callable[[int], object],
             contents: dict[str, str]) -> Iterator[tuple[int, dict[str, Any]]]:
    record = itertools.count()
    for tracklet in tracklets:
        masks, content = tracklet.masks, hashlib.blake2b(digest_size=16)
        for i, name in enumerate(tracklet.frame_names):
            image = _encoded(tracklet.frames, i)
            # Without masks one pixel: TFDS features cannot be absent.
            mask = encode_png(_NO_MASK if masks is None else masks[i])
            for data in (image, mask):
                content.update(data)
            yield next(record), {
                "image": _ReleasedAfterReading(image), "mask": _ReleasedAfterReading(mask),
                "has_mask": int(masks is not None), "tracklet": tracklet.name, "frame": name,
                "person": tracklet.person or "", "camera": tracklet.camera or ""}
            del image, mask
        contents[tracklet.name] = content.hexdigest()
        progress(len(tracklet))


class _ReleasedAfterReading:
    """A file object for TFDS whose bytes are freed when read.

    TFDS holds a shard's examples until the shard's end, which could be all frames of a set.
    """

    def __init__(self, data: bytes):
        self._data = data

    def read(self) -> bytes:
        data, self._data = self._data, b""
        return data


def _encoded(pictures: Sequence[np.ndarray], index: int) -> bytes:
    return pictures.encoded(index) if isinstance(pictures, EncodedFrames) else encode_png(pictures[index])
