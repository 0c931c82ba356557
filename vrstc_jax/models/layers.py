"""Layers that generators and discriminators share."""

import flax.linen as nn
import jax
from jax.typing import DTypeLike

from vrstc_jax.ops.convolution import convolution, deconvolution
from vrstc_jax.ops.precision import promote_all_but_bias

_KERNEL_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")


class Deconvolution(nn.Module):
    """`convolution.deconvolution` with a kernel [4, 4, features, I] and a bias."""

    features: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # An output position sums 2×2 of the 4×4 kernel's entries for each input channel, a quarter of the fan-in.
        init = nn.initializers.variance_scaling(4.0, "fan_in", "truncated_normal", in_axis=3, out_axis=2)
        kernel = self.param("kernel", init, (4, 4, self.features, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = promote_all_but_bias(x, kernel, bias, dtype=self.dtype)
        return deconvolution(x, kernel) + bias[None, None, None]


def conv3x3(features: int, *, stride: int = 1, dilation: int = 1, dtype: DTypeLike | None = None,
            name: str | None = None, init: nn.initializers.Initializer = _KERNEL_INIT) -> nn.Conv:
    """A 3×3 convolution padded so that only its stride changes the size."""
    return nn.Conv(features, (3, 3), (stride, stride), padding=dilation, kernel_dilation=dilation, dtype=dtype,
                   promote_dtype=promote_all_but_bias, kernel_init=init, conv_general_dilated=convolution, name=name)
