"""Occlusion-free video person re-identification: VRSTC (Hou et al., CVPR 2019) in JAX.

The public names are here. The attention op and its layer are imported at once. The names below `lazy_api_imports`
need more libraries, and are imported at their first use, so that the op alone stays light.
"""

from vrstc_jax.runtime import signals

signals.prepare()  # in our own commands: the imports below take a second

from etils import epy  # noqa: E402

from vrstc_jax.attention import TemporalAttention, attention_weights, temporal_attention  # noqa: E402
from vrstc_jax.runtime.errors import InputError  # noqa: E402

del signals

with epy.lazy_api_imports(globals()):
    from vrstc_jax.inference.complete import CompletedTracklet, complete_tracklet
    from vrstc_jax.inference.completer import CompletedFrame
    from vrstc_jax.inference.features import tracklet_features
    from vrstc_jax.inference.origin import Origin
    from vrstc_jax.inference.stream import Stream
    from vrstc_jax.models.model_file import Model, ReidModel, load_model, load_reid, save_model, save_reid

__all__ = ["CompletedFrame", "CompletedTracklet", "InputError", "Model", "Origin", "ReidModel", "Stream",
           "TemporalAttention", "attention_weights", "complete_tracklet", "load_model", "load_reid", "save_model",
           "save_reid", "temporal_attention", "tracklet_features"]
__version__ = "0.1.0"
