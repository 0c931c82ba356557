"""The three bands of a person, masks made of them, copy-back and crops to a hole.

A frame is three equal bands: upper, middle, lower. Neither 128 rows of pixels nor 16 rows of features divide by three,
so one rule serves both: a row that a border cuts counts in each band by its share. A mask, which is true or false,
gives a row to the band that contains its centre.
"""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

BANDS = 3


def band_weights(rows: int, *, bands: int = BANDS) -> np.ndarray:
    """The share of each row in each band: float32 [bands, rows], in [0, 1]; each column sums to 1."""
    edges = np.arange(bands + 1) * rows / bands
    top, row = edges[:-1, None], np.arange(rows)
    overlap = np.minimum(row + 1, edges[1:, None]) - np.maximum(row, top)
    return np.clip(overlap, 0.0, 1.0).astype(np.float32)


def band_of_row(rows: int) -> np.ndarray:
    """The band of each row's centre: int [rows], 0 (upper), 1, 2 (lower)."""
    return ((np.arange(rows) + 0.5) * BANDS / rows).astype(int)


def band_means(features: jax.Array) -> jax.Array:
    """The mean of each band of a feature map: [..., H, W, C] to [..., 3, C] (v_t^k of equation 11)."""
    weights = band_weights(features.shape[-3])
    weights = weights / weights.sum(axis=1, keepdims=True)
    return jnp.einsum("kh,...hwc->...kc", weights, features) / features.shape[-2]


def cell_means(pictures: jax.Array, height: int, width: int) -> jax.Array:
    """The mean of each cell of a grid over pictures: [..., H, W] to [..., height, width]."""
    down, across = (band_weights(size, bands=cells) for size, cells in zip(pictures.shape[-2:], (height, width)))
    cell = pictures.shape[-2] * pictures.shape[-1] / (height * width)
    return jnp.einsum("ih,...hw,jw->...ij", down, pictures, across) / cell


def cosines(features: jax.Array, others: jax.Array) -> jax.Array:
    """cos of vectors [..., C] and [..., C] (equation 12 of bands and a mean); 0 where a vector is zero."""
    lengths = jnp.sum(features**2, -1) * jnp.sum(others**2, -1)
    nonzero = lengths > 0
    # The inner selection keeps 1/√0 out of the gradient.
    return jnp.where(nonzero, (features * others).sum(-1) / jnp.sqrt(jnp.where(nonzero, lengths, 1)), 0)


def bands_mask(hidden: ArrayLike, height: int, width: int) -> np.ndarray:
    """The joint mask of hidden bands: bool [3] to bool [height, width], true = hidden."""
    rows = np.asarray(hidden, bool)[band_of_row(height)]
    return np.repeat(rows[:, None], width, axis=1)


def hidden_share(mask: ArrayLike) -> np.ndarray:
    """The share of each band that a mask hides: bool, or float in [0, 1], [H, W] to float [3]."""
    mask = np.asarray(mask)
    weights = band_weights(mask.shape[0])
    return weights @ mask.mean(axis=1) / weights.sum(axis=1)


def copy_back(generated: jax.Array, frame: jax.Array, mask: jax.Array) -> jax.Array:
    """M⊙generated + (1−M)⊙frame (equations 5, 6): where the mask is 0, the frame's values bit for bit.

    It is a selection, not a sum, because x·1 + g·0 differs from x where g is not finite, and in the sign of zero.
    """
    return jnp.where(mask > 0.5, generated, frame)


def crop_to_mask(frames: jax.Array, masks: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The box around each hole, enlarged to one size.

    Args:
      frames: [B, H, W, C].
      masks: [B, H, W, 1], above 0.5 = hidden. Without a hidden pixel the whole frame is the box.
      size: height and width of the result.

    Returns:
      [B, *size, C], sampled bilinearly; differentiable in `frames`.
    """
    def one(frame: jax.Array, mask: jax.Array) -> jax.Array:
        offset, scale = zip(*(_extent((mask[..., 0] > 0.5).any(axis=1 - axis), size[axis]) for axis in (0, 1)))
        scale, offset = jnp.stack(scale), jnp.stack(offset)
        return jax.image.scale_and_translate(frame, (*size, frame.shape[-1]), (0, 1), scale,
                                             -offset * scale, method="linear", antialias=False)

    return jax.vmap(one)(frames, masks)


def _extent(hidden: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The first hidden position along an axis, and the scale from the hidden extent to `size`."""
    # `argmax` is 0 where nothing is hidden, which takes the whole axis.
    first = jnp.argmax(hidden)
    last = hidden.shape[0] - jnp.argmax(hidden[::-1])
    return first.astype(jnp.float32), size / (last - first).astype(jnp.float32)
