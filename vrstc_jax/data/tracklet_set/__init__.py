"""A set of tracklets on disk, as a TFDS data set in array_record files; TensorFlow is not needed."""

from vrstc_jax.data.tracklet_set.layout import INFO_FILE, is_complete, require_replaceable
from vrstc_jax.data.tracklet_set.reader import TrackletSet, read_set, set_splits, sources_of
from vrstc_jax.data.tracklet_set.tracklet_set_dataset_builder import Builder
from vrstc_jax.data.tracklet_set.writer import prepare_set, write_set

__all__ = ["INFO_FILE", "Builder", "TrackletSet", "is_complete", "prepare_set", "read_set", "require_replaceable",
           "set_splits", "sources_of", "write_set"]
