"""How unlike pictures are in the first stages of an ImageNet network: a distance that sees blur.

After Zhang et al. 2018 (LPIPS), but with the stages that come with a model that locates pixel by pixel, and without
weights learned from people's judgements, so its numbers are not those of LPIPS.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.models.locating.stages import Stages
from vrstc_jax.models.model_file import Model
from vrstc_jax.ops.pictures import resize

_LEAST = 1e-6


class PerceptualDistance:
    """Distances of completions to the truth, over the hole.

    Args:
      config: of the network whose stages these are.
      stages: their parameters.
    """

    def __init__(self, config: configs.Locating, stages: dict):
        self._size = config.height, config.width
        self._distances = partial(jax.jit(partial(_distances, config)), jax.device_put(stages))

    def __call__(self, pictures: Sequence[np.ndarray], truth: np.ndarray, mask: np.ndarray) -> list[float]:
        """Of each picture, uint8 [H, W, 3], from 0 for the truth to 2.

        At every cell of each stage's maps, 1 minus the cosine of the two pictures' features; averaged over the cells,
        each weighted by how much of it is in the hole, and over the stages. Pictures are resized to the network's size.
        """
        together = np.stack([resize(np.ascontiguousarray(picture), *self._size) for picture in [truth, *pictures]])
        return np.asarray(self._distances(together, resize(mask.astype(np.float32), *self._size))).tolist()


def perceptual_distance_of(model: Model) -> PerceptualDistance | None:
    """The distance in the stages that come with a model; None of a model without such stages."""
    if model.config.locating is None or model.locator is None:
        return None
    return PerceptualDistance(model.config.locating, model.locator["stages"])


def _distances(config: configs.Locating, stages: dict, pictures: jax.Array, hole: jax.Array) -> jax.Array:
    """Of pictures [1 + N, H, W, 3], the first of which is the truth, and a hole [H, W]: [N]."""
    found = []
    all_maps: list[jax.Array] = Stages(config).apply({"params": stages}, pictures)  # type: ignore[assignment]
    for maps in all_maps:
        maps /= jnp.linalg.norm(maps, axis=-1, keepdims=True) + _LEAST
        cells = jax.image.resize(hole, maps.shape[1:3], "linear")
        unlike = 1 - (maps[1:] * maps[:1]).sum(-1)
        found.append((unlike * cells).sum((1, 2)) / (cells.sum() + _LEAST))
    return jnp.stack(found).mean(0)
