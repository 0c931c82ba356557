"""Training clips for the network that locates: wholly known people, and what is pasted in front of and behind them."""

from vrstc_jax.data.composing.clips import ComposedClip, compose
from vrstc_jax.data.composing.material import CutOut, Ground, Material

__all__ = ["ComposedClip", "CutOut", "Ground", "Material", "compose"]
