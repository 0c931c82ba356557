"""What a training step is tested with: batches of noise, and states at step 0 of random weights, none of them zero,
without compiling the trainer's own."""

import jax
import numpy as np
import optax
from comparing import randomised, some_masks

from vrstc_jax import config as configs
from vrstc_jax.models.discriminators import DiscriminatorPair
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.reid import initial_variables
from vrstc_jax.training import optimiser
from vrstc_jax.training.state import TrainState

IDENTITIES = 5
SMOKE = configs.get("smoke")


def stcnet_batch(config, seed, size=8):
    """A batch as the trainer takes it."""
    c, random = config.stcnet, np.random.default_rng(seed)
    sides = (size, c.frames_per_side, c.height, c.width, 3)
    return {"frames": random.integers(0, 256, (size, c.height, c.width, 3), np.uint8),
            "previous": random.integers(0, 256, sides, np.uint8),
            "following": random.integers(0, 256, sides, np.uint8),
            "masks": some_masks(size, c.height, c.width) > 0.5,
            "labels": random.integers(0, IDENTITIES, size, np.int32)}


def reid_batch(config, seed, size=8):
    c, random = config.reid, np.random.default_rng(seed)
    return {"clips": random.integers(0, 256, (size, c.clip, c.height, c.width, 3), np.uint8),
            "labels": random.integers(0, IDENTITIES, size, np.int32)}


def on(devices, batch):
    """[B, …] to [devices, B/devices, …]."""
    return {k: v.reshape(devices, v.shape[0] // devices, *v.shape[1:]) for k, v in batch.items()}


def stcnet_state(config):
    """Of generators and discriminators."""
    c = config.stcnet
    frames, masks = np.zeros((1, c.height, c.width, 3)), np.ones((1, c.height, c.width, 1))
    sides = np.zeros((1, c.frames_per_side, c.height, c.width, 3))
    generators = random_parameters(Generators(c), 1, frames, masks, sides, sides)
    discriminators = random_parameters(DiscriminatorPair(config.discriminators), 2, frames, masks)
    params = {"generators": generators, "discriminators": discriminators}
    return TrainState(step=np.zeros((), np.int32), params=params, batch_stats={},
                      adam=fresh_adam(config.stcnet_training, params), main="generators",
                      mean=generators if config.stcnet_training.average else None)


def reid_state(config):
    """Of the re-ID network."""
    variables = random_reid(config, 3)
    return TrainState(step=np.zeros((), np.int32), params=variables["params"],
                      batch_stats=variables["batch_stats"],
                      adam=fresh_adam(config.reid_training, variables["params"]))


def random_parameters(network, seed, *inputs):
    return randomised(jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"], seed)


def random_reid(config, seed):
    shapes = jax.eval_shape(lambda: initial_variables(config.reid, IDENTITIES, jax.random.key(0)))
    return {"params": randomised(shapes["params"], seed),
            "batch_stats": randomised(shapes["batch_stats"], seed + 1)}


def fresh_adam(training, params):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype),
                        jax.eval_shape(optimiser.adam(training).init, params))


def first_gradients(adam_state):
    """The first step's gradients, decay included: Adam's first moment is a tenth of them by then."""
    (moments,) = [part for part in adam_state if isinstance(part, optax.ScaleByAdamState)]
    return jax.tree.map(lambda m: np.asarray(m) / 0.1, moments.mu)
