"""The network that finds what hides people, pixel by pixel: frozen ImageNet stages, then a small network of clips."""

from vrstc_jax.models.locating.network import LocatingNet, calibrated, initial_parameters
from vrstc_jax.models.locating.stages import folded_stages

__all__ = ["LocatingNet", "calibrated", "folded_stages", "initial_parameters"]
