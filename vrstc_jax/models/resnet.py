"""ResNet (He et al. 2016) as re-ID uses it: a feature map of a picture, with a last stage of stride 1, and optionally
non-local blocks, in which the frames of a clip attend to each other.

The layout is torchvision's: the 3×3 convolution of a bottleneck has the stride, or, as an option, the first 1×1 one,
as in the authors' Caffe models. Padding is symmetric, as in PyTorch; 'SAME' pads on one side only at stride 2.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from vrstc_jax import config as configs
from vrstc_jax.models.non_local import NonLocal
from vrstc_jax.ops.convolution import convolution

EXPANSION = 4  # a bottleneck's output over its width
_ONE_AROUND: Any = ((1, 1), (1, 1))  # Flax declares padding as a string alone
_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNet(nn.Module):
    """Pictures [B, H, W, 3], normalised, to features [B, h, w, C].

    With the paper's 256×128 pixels, 50 layers and last stride 1: [B, 16, 8, 2048].

    Attributes:
      config: depth, width, strides, non-local blocks.
      axis_name: name of the device axis over which batch statistics are averaged, or None.
      dtype: what it is computed in, as of Flax's layers; batch statistics and results are float32 at least.
    """

    config: configs.Reid
    axis_name: str | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, frames: int = 1, valid: jax.Array | None = None, train: bool = False,
                 every_stage: bool = False) -> Any:
        """x [B, H, W, 3] to [B, h, w, C], or with `every_stage` to the last maps of each stage.

        Args:
          frames: T: every T consecutive pictures are a clip to the non-local blocks.
          valid: bool [B/T, T], false where a picture is padding, to which the others then do not attend.
        """
        c, conv = self.config, partial(_conv, dtype=self.dtype)
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=c.norm_epsilon,
                       dtype=self.dtype, axis_name=self.axis_name if train else None)
        x = conv(c.base_width, 7, 2, name="stem_conv")(x)
        x = nn.relu(norm(name="stem_norm")(x))
        if c.stem_pool:
            x = nn.max_pool(x, (3, 3), (2, 2), _ONE_AROUND)
        stages = []
        block = partial(Bottleneck, stride_on=c.stride_on) if c.bottleneck else BasicBlock
        for stage, count in enumerate(c.blocks):
            after = non_local_positions(count, c.non_local[stage] if stage < len(c.non_local) else 0)
            first = 1 if stage == 0 else c.last_stride if stage == len(c.blocks) - 1 else 2
            for i in range(count):
                x = block(c.base_width * 2 ** stage, first if i == 0 else 1, conv, norm,
                          name=f"stage{stage + 1}_block{i + 1}")(x)
                if i + 1 in after:
                    name = f"stage{stage + 1}_non_local{after.index(i + 1) + 1}"
                    clips = x.reshape(-1, frames, *x.shape[1:])
                    non_local = NonLocal(norm, c.non_local_deviation, self.dtype, name=name)
                    x = non_local(clips, valid=valid).reshape(x.shape)
            stages.append(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
        return stages if every_stage else stages[-1]


def non_local_positions(blocks: int, count: int) -> tuple[int, ...]:
    """After which residual blocks of a stage, counted from 1, a non-local one follows: `count` of them, evenly spread.

    The paper has 2 in res3 and 3 in res4, after every other block: after 2, 4 of 4 and after 2, 4, 6 of 6.

    Raises:
      ValueError: there are more of them than residual blocks.
    """
    if not 0 <= count <= blocks:
        raise ValueError(f"a stage of {blocks} blocks has room for 0 to {blocks} non-local ones. Got {count}.")
    return tuple((i + 1) * blocks // count for i in range(count))


class Bottleneck(nn.Module):
    """Convolutions 1×1, 3×3, and 1×1 to four times the width, and the shortcut; `stride_on` has the stride."""

    width: int
    stride: int
    conv: partial
    norm: partial
    stride_on: configs.StrideOn = "3x3"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        first, second = {"1x1": (self.stride, 1), "3x3": (1, self.stride)}[self.stride_on]
        y = nn.relu(self.norm(name="norm1")(self.conv(self.width, 1, first, name="conv1")(x)))
        y = nn.relu(self.norm(name="norm2")(self.conv(self.width, 3, second, name="conv2")(y)))
        y = self.norm(name="norm3")(self.conv(self.width * EXPANSION, 1, name="conv3")(y))
        return nn.relu(y + _shortcut(x, y, self.stride, self.conv, self.norm))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, the first with the stride, and the shortcut."""

    width: int
    stride: int
    conv: partial
    norm: partial

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(self.norm(name="norm1")(self.conv(self.width, 3, self.stride, name="conv1")(x)))
        y = self.norm(name="norm2")(self.conv(self.width, 3, name="conv2")(y))
        return nn.relu(y + _shortcut(x, y, self.stride, self.conv, self.norm))


def _shortcut(x: jax.Array, y: jax.Array, stride: int, conv: partial, norm: partial) -> jax.Array:
    if x.shape == y.shape:
        return x
    return norm(name="shortcut_norm")(conv(y.shape[-1], 1, stride, name="shortcut_conv")(x))


def _conv(features: int, size: int, stride: int = 1, *, dtype: DTypeLike | None, name: str) -> nn.Conv:
    return nn.Conv(features, (size, size), (stride, stride), padding=size // 2, use_bias=False, dtype=dtype,
                   kernel_init=_INIT, conv_general_dilated=convolution, name=name)


def normalise(frames: jax.Array) -> jax.Array:
    """Frames in [−1, 1] by ImageNet's mean and deviation, as torchvision's weights expect them."""
    mean, deviation = (jnp.array(x, frames.dtype).reshape((1,) * (frames.ndim - 1) + (3,))
                       for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return ((frames + 1) / 2 - mean) / deviation
