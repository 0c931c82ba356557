"""Made-up walkers: people who walk past cameras and behind occluders, with the ground truth known."""

from vrstc_jax.data.walkers.parallel import PaintedInParallel
from vrstc_jax.data.walkers.protocol import OCCLUSION, WalkerProtocol, unoccluded, walker_splits
from vrstc_jax.data.walkers.scene import write_walkers
from vrstc_jax.data.walkers.tracks import TEST_FIRST, WalkerConfig, make_tracklet, make_tracklets, people
from vrstc_jax.data.walkers.variety import EVERY_KIND, KINDS, Kind, Variety

__all__ = ["EVERY_KIND", "KINDS", "OCCLUSION", "TEST_FIRST", "Kind", "PaintedInParallel", "Variety", "WalkerConfig",
           "WalkerProtocol", "make_tracklet", "make_tracklets", "people", "unoccluded", "walker_splits",
           "write_walkers"]
