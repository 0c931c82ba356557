"""The smallest network that locates pixel by pixel, and made-up material to compose clips of."""

import jax
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.data.composing import CutOut, Ground, Material
from vrstc_jax.models.locating import initial_parameters

TINY = configs.Locating(height=32, width=16, blocks=(1, 1), base_width=4, edge_width=4, maps_width=8, match_width=4,
                        hidden=8, window=4, margin=1, context=2)


def random_parameters(config=TINY, seed=0):
    """Parameters in which every part matters: those of `initial_parameters`, none of them zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.asarray(x) + rng.normal(0, 0.1, x.shape).astype(np.float32),
                        initial_parameters(config, jax.random.key(seed)))


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
