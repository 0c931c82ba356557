"""Small made-up material for tests: figures that move, and models with random weights.

A figure's frames differ by a white stripe, so that a test can tell which frame it was given.
"""

import dataclasses
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from vrstc_jax import config as configs
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.models.discriminators import DiscriminatorPair
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.model_file import Model, ReidModel
from vrstc_jax.models.reid import PairScorer, ReidNet, initial_variables

SMOKE = configs.get("smoke")


def changed(config, **parts):
    """A config with some fields of its parts changed: part={field: value}; other values replace whole fields."""
    return dataclasses.replace(config, **{
        name: dataclasses.replace(getattr(config, name), **new) if isinstance(new, dict) else new
        for name, new in parts.items()})


def figure(index, height=40, width=20, seed=0):
    """A figure in clothes of three colours in front of grass, uint8 [height, width, 3]."""
    clothes = np.random.default_rng(seed).integers(60, 200, (3, 3)).astype(np.uint8)
    frame = np.full((height, width, 3), (90, 120, 90), np.uint8)
    left = int(width * 0.25 + width * 0.1 * np.sin(index / 2))
    for band in range(3):
        frame[height * band // 3:height * (band + 1) // 3, left:left + max(1, width // 2)] = clothes[band]
    frame[(height * 2 // 3 + index) % height] = 255
    return frame


def figures(count, sizes=((40, 20),), seed=0):
    """`count` frames of one figure, which cycle through the sizes."""
    return [figure(i, *sizes[i % len(sizes)], seed=seed) for i in range(count)]


def box_mask(height, width, share=0.5):
    """A mask that hides the lower `share` of a frame: bool [height, width]."""
    mask = np.zeros((height, width), bool)
    mask[height - max(1, round(share * height)):] = True
    return mask


def masks_at(frames, hidden, share=0.5):
    """A mask for each frame, which hides something in the frames `hidden` (indices)."""
    return [box_mask(*frame.shape[:2], share) if i in set(hidden) else np.zeros(frame.shape[:2], bool)
            for i, frame in enumerate(frames)]


def tracklet(frames, masks=None, name="1", **known):
    return Tracklet(name=name, frames=frames, masks=masks,
                    frame_names=tuple(f"{i:06d}" for i in range(len(frames))), **known)


@cache
def random_model(config=SMOKE, *, tau=0.0, identities=("a", "b", "c"), seed=0):
    """A model with random weights, none of them zero, made without compiling anything."""
    c, key = config.stcnet, jax.random.key(0)
    frames, masks = jnp.zeros((1, c.height, c.width, 3)), jnp.zeros((1, c.height, c.width, 1))
    side = jnp.zeros((1, c.frames_per_side, c.height, c.width, 3))
    generators = jax.eval_shape(Generators(c).init, key, frames, masks, side, side)
    discriminators = jax.eval_shape(DiscriminatorPair(config.discriminators).init, key, frames, masks)
    return Model(config=config, tau=tau, identities=identities, generators=_random(generators, seed)["params"],
                 discriminators=_random(discriminators, seed)["params"],
                 reid=random_reid(config.reid, identities=identities, seed=seed).variables)


@cache
def random_reid(config=SMOKE.reid, *, network=ReidNet, identities=("a", "b", "c"), seed=0):
    """A re-ID network with random weights, or another `network` such as `PairScorer`."""
    clips, key = jnp.zeros((1, 1, config.height, config.width, 3)), jax.random.key(0)
    shapes = jax.eval_shape(lambda: network(config, len(identities)).init(key, clips, clips) if network is PairScorer
                            else initial_variables(config, len(identities), key))
    return ReidModel(config, _random(shapes, seed), identities, network=network.__name__)


def _random(tree, seed):
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1] == "var" or path[-1] == "scale":
            return rng.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
        if path[-1] == "softmax_scale":
            return np.asarray(10, leaf.dtype)
        fan_in = max(1, int(np.prod(leaf.shape[:-1])))
        size = 0.1 if leaf.ndim < 2 else fan_in ** -0.5
        return (rng.standard_normal(leaf.shape) * size).astype(leaf.dtype)

    return traverse_util.path_aware_map(draw, tree)
