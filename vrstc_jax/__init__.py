"""Occlusion-free video person re-identification: VRSTC (Hou et al., CVPR 2019) in JAX.

The public names are here. Those that need more than the networks' libraries are imported when they are
first used, so that the op and the layer come light.
"""

from importlib import import_module

from vrstc_jax.attention import TemporalAttention, attention_weights, temporal_attention
from vrstc_jax.runtime.errors import InputError

_LATER = {"load_model": "vrstc_jax.models.model_file", "save_model": "vrstc_jax.models.model_file", "Model": "vrstc_jax.models.model_file",
          "load_reid": "vrstc_jax.models.model_file", "save_reid": "vrstc_jax.models.model_file", "ReidModel": "vrstc_jax.models.model_file",
          "tracklet_features": "vrstc_jax.inference.features",
          "complete_tracklet": "vrstc_jax.inference.complete", "CompletedTracklet": "vrstc_jax.inference.complete"}

__all__ = ["InputError", "TemporalAttention", "attention_weights", "temporal_attention", *_LATER]
__version__ = "0.1.0"


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module 'vrstc_jax' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


def __dir__():
    return sorted({*globals(), *__all__})
