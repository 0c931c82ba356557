"""The smallest network that locates pixel by pixel, and made-up material to compose clips of."""

import numpy as np
from flax import traverse_util

from vrstc_jax import config as configs
from vrstc_jax.data.composing import CutOut, Ground, Material
from vrstc_jax.models.expected import locating_shapes

TINY = configs.Locating(height=32, width=16, blocks=(1, 1), base_width=4, edge_width=4, maps_width=8, match_width=4,
                        hidden=8, window=4, margin=1, context=2)


def random_parameters(config=TINY, seed=0):
    """Parameters in which every part matters: none is zero, and no layer makes numbers much larger or smaller."""
    rng = np.random.default_rng(seed)
    shapes = {tuple(name.split("/")): shape for name, shape in locating_shapes(config).items()}
    return traverse_util.unflatten_dict({
        name: rng.normal(0, np.sqrt(2 / max(1, np.prod(shape[:-1]))) if len(shape) > 1 else 0.1, shape).astype(
            np.float32) for name, shape in shapes.items()})


def material(count=4, frames=24, cut_outs=1):
    """Grounds of 128×64: a person in the middle who is all of one colour, in half of the
    grounds hidden by a grey square in some frames."""
    rng = np.random.default_rng(0)
    person = np.zeros((frames, 128, 64), bool)
    person[:, 16:120, 20:44] = True
    occluder = np.zeros_like(person)
    occluder[5:15, 40:80, 10:50] = True
    grounds = []
    for number in range(count):
        clear = rng.integers(0, 60, (frames, 128, 64, 3)).astype(np.uint8)
        clear[person] = rng.integers(60, 200, 3)
        seen = clear.copy()
        hides = occluder if number % 2 else np.zeros_like(occluder)
        seen[hides] = 128
        grounds.append(Ground(seen, clear, hides, person, np.arange(frames, dtype=np.float32)))
    cuts = []
    for _ in range(cut_outs):
        alpha = np.zeros((frames, 192, 144), np.uint8)
        alpha[:, 32:160, 50:94] = 255
        cuts.append(CutOut(rng.integers(0, 256, (frames, 192, 144, 3)).astype(np.uint8), alpha))
    return Material(grounds, cuts)
