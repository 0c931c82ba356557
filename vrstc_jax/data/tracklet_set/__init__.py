"""A set of tracklets on disk, as a TFDS data set in array_record files; TensorFlow is not needed."""

from vrstc_jax.data.tracklet_set.tracklet_set_dataset_builder import (
           LAST,
           Builder,
           EncodedFrames,
           TrackletSet,
           is_complete,
           prepare_set,
           read_set,
           require_replaceable,
           set_splits,
           write_set,
)

__all__ = ["LAST", "Builder", "EncodedFrames", "TrackletSet", "prepare_set", "read_set", "require_replaceable",
           "is_complete", "set_splits", "write_set"]
