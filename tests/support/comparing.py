"""What the parity tests share: random weights and pictures, and one measure of difference."""

from functools import partial

import jax
import numpy as np
from flax import traverse_util


def difference(got, wanted) -> float:
    """Largest difference over largest magnitude, of one array."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape, (got.shape, wanted.shape)
    return np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-30)


def root_mean_square(got, wanted) -> float:
    """Root mean square of the difference over largest magnitude, of one array."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape, (got.shape, wanted.shape)
    return np.sqrt(np.mean((got - wanted) ** 2)) / max(np.abs(wanted).max(), 1e-30)


def assert_trees_close(got, wanted, bound, *, measure=difference) -> None:
    """Each leaf of a tree within `bound` by `difference`, or another measure."""
    got, wanted = traverse_util.flatten_dict(got), traverse_util.flatten_dict(wanted)
    assert got.keys() == wanted.keys()
    differences = {"/".join(path): measure(got[path], wanted[path]) for path in got}
    too_far = {path: value for path, value in differences.items() if not value <= bound}
    assert not too_far, too_far


def largest_difference(got, wanted) -> float:
    """The largest `difference` among the leaves of a tree."""
    got, wanted = traverse_util.flatten_dict(got), traverse_util.flatten_dict(wanted)
    assert got.keys() == wanted.keys()
    return max(difference(got[path], wanted[path]) for path in got)


def randomised(shapes, seed) -> dict:
    """Float32 values for a tree of shapes: no bias is zero, no scale is one, and no layer dies out."""
    random = np.random.default_rng(seed)

    def leaf(path, shape):
        if path[-1] == "kernel":
            # Dense and convolutions sum over all axes but the last; deconvolutions, [4, 4, O, I], over 4·I.
            summed = 4 * shape[3] if "deconv" in path[-2] else np.prod(shape[:-1])
            return random.standard_normal(shape) * np.sqrt(1.5 / summed)
        if path[-1] in ("scale", "var"):
            return random.uniform(0.5, 1.5, shape)
        if path[-1] == "softmax_scale":
            return np.asarray(7.0)
        return 0.2 * random.standard_normal(shape)

    return traverse_util.unflatten_dict({path: leaf(path, value.shape).astype(np.float32)
                                         for path, value in traverse_util.flatten_dict(shapes).items()})


def random_variables(network, seed, *inputs, **options) -> dict:
    """Float32 values as `randomised` for every collection of a network's variables."""
    shapes = jax.eval_shape(partial(network.init, **options), jax.random.key(0), *inputs)
    return {part: randomised(tree, seed) for part, tree in shapes.items()}


def pictures(seed, *shape) -> np.ndarray:
    """Frames in [−1, 1], float32."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def some_masks(batch, height, width) -> np.ndarray:
    """Float32 [batch, height, width, 1]: the upper band first, then boxes that respect no band."""
    masks = np.zeros((batch, height, width, 1), np.float32)
    masks[0, :height // 3] = 1
    for i in range(1, batch):
        masks[i, height // 4:height // 2 + i, width // 4:-1 - i % 3] = 1
    return masks
