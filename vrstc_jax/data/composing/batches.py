"""Batches of composed clips, as the training of the network that locates takes them."""

from collections.abc import Iterator

import numpy as np

from vrstc_jax.config import LocatingTask
from vrstc_jax.data.batches import made_up_batches
from vrstc_jax.data.composing.clips import compose
from vrstc_jax.data.composing.material import Material
from vrstc_jax.runtime.errors import InputError


def locating_batches(material: Material, task: LocatingTask, *, start: int = 0) -> Iterator[dict]:
    """Batches of clips composed of the material.

    Args:
      start: batches to skip, those of the steps done.

    Returns:
      Iterator of {'frames' uint8 [B, T, H, W, 3], 'person' and 'occluder' bool [B, T, H, W], 'nearer' float32
      [B, T, H/4, W/4, 2] and 'offsets' float32 and 'seen' bool [B, T, T], as of `LocatingNet.logits`}; B as in
      `stcnet_batches`.

    Raises:
      InputError: there is no walker to compose of, or the batch does not divide by the number of processes.
    """
    if not len(material.walkers):
        raise InputError("There is nobody to compose training clips of; give tracklets in which frames are visible.")

    def example(rng: np.random.Generator) -> dict[str, np.ndarray]:
        clip = compose(rng, material, task.clip)
        count, height, width = clip.person.shape
        share = clip.nearer.reshape(count, height // 4, 4, width // 4, 4).mean((2, 4), dtype=np.float32)
        offsets = clip.times[None] - clip.times[:, None]
        return {"frames": np.ascontiguousarray(clip.frames), "person": np.ascontiguousarray(clip.person),
                "occluder": np.ascontiguousarray(clip.occluder),
                "nearer": np.stack([share, np.full_like(share, clip.boxes_known)], -1),
                "offsets": offsets, "seen": _seen(rng, offsets)}

    return made_up_batches(example, task.seed, task.training.batch, start)


def _seen(rng: np.random.Generator, offsets: np.ndarray) -> np.ndarray:
    """Which frames each frame looks at: mostly all others, sometimes a part of them, or earlier ones alone."""
    seen, draw = ~np.eye(len(offsets), dtype=bool), rng.random()
    if draw < 0.12:
        seen &= offsets < 0
    elif draw < 0.5:
        seen &= rng.random((1, len(offsets))) < rng.uniform(0.3, 1)
    return seen
