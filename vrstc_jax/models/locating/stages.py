"""The first stages of a ResNet that has learned from ImageNet, frozen, with batch norm folded into its convolutions.

Frozen, because what the stages know of real pictures is what the painted walkers of the training cannot teach; folded,
because batch norm at rest is a scale and a shift.
"""

from collections.abc import Callable, Mapping
from functools import partial

import flax.linen as nn
import jax
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.models.imagenet.layouts import Weights
from vrstc_jax.models.resnet import Bottleneck, normalise
from vrstc_jax.ops.convolution import convolution
from vrstc_jax.ops.pixel_values import to_float
from vrstc_jax.runtime.errors import InputError


class Stages(nn.Module):
    """Bottleneck stages of a ResNet: frames uint8 [B, H, W, 3] to each stage's maps, [B, H/4, W/4, 4 C] first."""

    config: configs.Locating

    @nn.compact
    def __call__(self, frames: jax.Array) -> list[jax.Array]:
        c = self.config
        x = nn.relu(_conv(c.base_width, 7, 2, name="stem")(normalise(to_float(frames))))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))  # type: ignore[arg-type]  # Flax declares a string alone
        maps = []
        for stage, count in enumerate(c.blocks):
            for i in range(count):
                stride = 2 if stage and not i else 1
                x = Bottleneck(c.base_width * 2 ** stage, stride, partial(_conv), partial(_no_norm), c.stride_on,
                               name=f"stage{stage + 1}_block{i + 1}")(x)
            maps.append(x)
        return maps


def _conv(features: int, size: int, stride: int = 1, *, name: str) -> nn.Conv:
    return nn.Conv(features, (size, size), (stride, stride), padding=size // 2, conv_general_dilated=convolution,
                   name=name)


def _no_norm(name: str) -> Callable[[jax.Array], jax.Array]:
    """In place of batch norm, which the convolutions hold."""
    return lambda x: x


def folded_stages(weights: Weights, config: configs.Locating) -> dict:
    """Parameters of `Stages` from published weights (`models.imagenet.read_weights`).

    Raises:
      InputError: the weights are of another network.
    """
    fields = weights.fields
    wrong = {name: fields[name] for name in ("base_width", "stride_on", "bottleneck")
             if fields[name] != getattr(config, name, True)}
    if wrong or tuple(fields["blocks"][:len(config.blocks)]) != config.blocks:
        raise InputError(f"These ImageNet weights are of another network ({fields}) than the config's stages, which "
                         f"have blocks {config.blocks}, base width {config.base_width} and the stride on the "
                         f"{config.stride_on} convolution.")
    params, statistics = weights.variables["params"], weights.variables["batch_stats"]
    folded: dict[str, dict] = {"stem": _folded(params, statistics, "stem_conv", "stem_norm", fields["norm_epsilon"])}
    for stage, count in enumerate(config.blocks):
        for i in range(count):
            name = f"stage{stage + 1}_block{i + 1}"
            convs = ["conv1", "conv2", "conv3", *(["shortcut_conv"] if i == 0 else [])]
            folded[name] = {conv: _folded(params[name], statistics[name], conv, conv.replace("conv", "norm"),
                                          fields["norm_epsilon"]) for conv in convs}
    return folded


def _folded(params: Mapping, statistics: Mapping, conv: str, norm: str, epsilon: float) -> dict[str, np.ndarray]:
    """One convolution with the batch norm behind it: γ (k∗x − μ) / √(σ² + ε) + β."""
    scale = np.asarray(params[norm]["scale"]) / np.sqrt(np.asarray(statistics[norm]["var"]) + epsilon)
    return {"kernel": np.asarray(params[conv]["kernel"] * scale, np.float32),
            "bias": np.asarray(params[norm]["bias"] - statistics[norm]["mean"] * scale, np.float32)}
