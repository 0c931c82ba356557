"""Training's own checkpoints, by Orbax. What a user keeps is the model file (`vrstc_jax.model`)."""

import logging
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp


class Checkpoints:
    """The last few states of a training run in a directory, by number of steps; a context manager."""

    def __init__(self, directory, *, keep: int = 2):
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._manager = ocp.CheckpointManager(
            Path(directory).absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._manager.close()

    def latest(self) -> int | None:
        """The number of the newest checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state) -> None:
        """Saves `state`; it is on the host when this returns, and on disk a little later."""
        self._manager.save(step, args=ocp.args.StandardSave(jax.tree.map(np.asarray, state)))

    def restore(self, state):
        """(the newest checkpoint's state, its step), or (`state`, 0) where there is none."""
        latest = self.latest()
        if latest is None:
            return state, 0
        like = jax.tree.map(np.asarray, state)
        return self._manager.restore(latest, args=ocp.args.StandardRestore(like)), latest
