"""The rate of STCnet's input pipeline alone."""

import tempfile
import time
from pathlib import Path

import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.batches import TrainingFrames, stcnet_batches
from vrstc_jax.data.images import decode_image
from vrstc_jax.data.tracklet_set import TrackletSet, read_set, write_set
from vrstc_jax.data.walkers import WalkerConfig, make_tracklets, people


def input_rate(config: configs.Config, batches: int = 12) -> float:
    """Batches a second of the input pipeline alone, on made-up walkers, without the first ones, which start it.

    Every frame is read and decoded each time, as in a data set that does not fit the cache.
    """
    look = WalkerConfig(height=config.stcnet.height, width=config.stcnet.width, frames=16)
    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder) / "data", make_tracklets(people("train", 8), config=look))
        stored = read_set(Path(folder) / "data")
        data = _Uncached(stored.source, stored.tracklets, stored.first)
        frames = [TrainingFrames(first, np.arange(len(tracklet)), label)
                  for label, (tracklet, first) in enumerate(zip(data.tracklets, data.first))]
        incoming = stcnet_batches(data, frames, config.stcnet_task)
        for _ in range(6):  # those that may have been prepared before the clock starts
            next(incoming)
        began = time.perf_counter()
        for _ in range(batches):
            next(incoming)
        return batches / (time.perf_counter() - began)


class _Uncached(TrackletSet):
    def frame(self, record: int) -> np.ndarray:
        return decode_image(self.source[record]["image"])
