"""Maps [..., h, w, C] on other grids, and a 3×3 convolution of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp

_BINS = 8


def coarser(maps: jax.Array) -> jax.Array:
    """Half the grid; the 2×2 cells of each become channels: […, h, w, C] to […, h/2, w/2, 4 C]."""
    *outer, height, width, channels = maps.shape
    blocks = maps.reshape(*outer, height // 2, 2, width // 2, 2, channels)
    return jnp.moveaxis(blocks, -4, -3).reshape(*outer, height // 2, width // 2, 4 * channels)


def expanded(maps: jax.Array) -> jax.Array:
    """The inverse of `coarser`: […, h, w, 4 C] to […, 2 h, 2 w, C]."""
    *outer, height, width, channels = maps.shape
    blocks = maps.reshape(*outer, height, width, 2, 2, channels // 4)
    return jnp.moveaxis(blocks, -3, -4).reshape(*outer, 2 * height, 2 * width, channels // 4)


def block_means(maps: jax.Array, factor: int) -> jax.Array:
    """The mean of each factor × factor cells: […, h, w, C] to float32 […, h/factor, w/factor, C]."""
    *outer, height, width, channels = maps.shape
    blocks = maps.reshape(*outer, height // factor, factor, width // factor, factor, channels)
    return blocks.astype(jnp.float32).mean((-4, -2))


def repeated(maps: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """A finer grid, of a multiple of the cells: each cell's values again."""
    *_, height, width, _ = maps.shape
    if (height, width) == grid:
        return maps
    return jnp.repeat(jnp.repeat(maps, grid[0] // height, -3), grid[1] // width, -2)


def to_grid(maps: jax.Array, grid: tuple[int, ...]) -> jax.Array:
    """The maps on a grid, whether theirs is finer (`coarser`) or not (`repeated`)."""
    while maps.shape[-3] > grid[0]:
        maps = coarser(maps)
    return repeated(maps, (grid[0], grid[1]))


def colours(frames: jax.Array) -> jax.Array:
    """The colours of each 8×8 pixels and those around: frames float [B, H, W, 3] in [−1, 1] to unit vectors
    [B, H/8, W/8, 2, G], of near surroundings and of wider ones.

    Square roots of histograms, whose product says how much they have in common (Bhattacharyya): of brightness, and of
    red against green and yellow against blue, finest where colours are pale, as most clothes are.
    """
    red, green, blue = jnp.moveaxis(frames, -1, 0)
    axes = (red + green + blue) / 3, jnp.tanh(4 * (red - green)), jnp.tanh(4 * ((red + green) / 2 - blue))
    bins = [jnp.maximum(0, 1 - jnp.abs(axis[..., None] - jnp.linspace(-1, 1, _BINS)) * (_BINS - 1) / 2)
            for axis in axes]
    shares = block_means(jnp.concatenate(bins, -1), 8)
    near = _blurred(shares)
    return unit(jnp.sqrt(jnp.stack([near, _blurred(_blurred(near))], -2) + 1e-6))


def _blurred(maps: jax.Array) -> jax.Array:
    """Means of 3×3 cells, the middle ones weighted twice along each axis."""
    for axis in (1, 2):
        pad = [(1, 1) if k == axis else (0, 0) for k in range(maps.ndim)]
        size, padded = maps.shape[axis], jnp.pad(maps, pad, mode="edge")
        before, there, after = (jax.lax.slice_in_dim(padded, k, k + size, axis=axis) for k in range(3))
        maps = (before + 2 * there + after) / 4
    return maps


def shifted(maps: jax.Array, dilation: int = 1) -> list[jax.Array]:
    """The maps [B, h, w, C] as each of the 3×3 cells around a place sees them; zeros beyond the border."""
    _, height, width, _ = maps.shape
    padded = jnp.pad(maps, ((0, 0), (dilation, dilation), (dilation, dilation), (0, 0)))
    return [padded[:, down:down + height, right:right + width]
            for down in (0, dilation, 2 * dilation) for right in (0, dilation, 2 * dilation)]


def unit(vectors: jax.Array) -> jax.Array:
    """Vectors of length 1; zeros stay zeros."""
    return vectors * jax.lax.rsqrt((vectors * vectors).sum(-1, keepdims=True) + 1e-6)


class Conv3x3(nn.Module):
    """A 3×3 convolution of maps [B, h, w, C] as one product of nine shifted copies.

    On CPUs the gradients of XLA's convolutions over such small maps take three times as long.
    """

    features: int
    dilation: int = 1
    zeros: bool = False  # at first

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        init = nn.initializers.zeros if self.zeros else nn.initializers.he_normal()
        return nn.Dense(self.features, kernel_init=init, name="taps")(jnp.concatenate(shifted(maps, self.dilation), -1))
