"""Parts of STCnet's training step timed alone."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tools.rates import analysis, quickest
from vrstc_jax import config as configs
from vrstc_jax.attention import temporal_attention
from vrstc_jax.models.discriminators import DiscriminatorPair
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.layers import Deconvolution
from vrstc_jax.training.devices import AXIS, Device


def parts_of(config: configs.Config, devices: Sequence[Device]) -> dict[str, dict[str, float]]:
    """{'convolutions', 'deconvolutions', 'attention': {'seconds' of one step, 'operations'}}, forward and backward."""
    c = config.stcnet
    each = config.stcnet_training.batch // len(devices)
    mesh = jax.sharding.Mesh(np.array(devices), (AXIS,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))
    found = {kind: {"seconds": 0.0, "operations": 0.0} for kind in ("convolutions", "deconvolutions", "attention")}

    def add(kind: str, times: int, function: Callable, *shapes: tuple[int, ...]) -> None:
        arrays = [np.linspace(-1, 1, math.prod(shape), dtype=np.float32).reshape(1, *shape) for shape in shapes]
        # On the devices before the clock starts, so that copies are not timed.
        arrays = [jax.device_put(np.repeat(x, len(devices), axis=0), split) for x in arrays]
        program = jax.pmap(lambda *given: _both(function, *given), devices=devices)
        found[kind]["seconds"] += times * quickest(lambda: program(*arrays), rounds=3)
        found[kind]["operations"] += times * len(devices) * analysis(program.lower(*arrays))["flops"]

    for (layer, shape), times in layers(config, each).items():
        params = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros(shape))["params"]
        add("deconvolutions" if isinstance(layer, Deconvolution) else "convolutions", times,
            lambda x, kernel, bias, layer=layer: layer.apply({"params": {"kernel": kernel, "bias": bias}}, x),
            shape, params["kernel"].shape, params["bias"].shape)
    if c.form.attention:
        scale = math.prod(c.temporal.strides)
        here, channels = (c.height // scale, c.width // scale), c.temporal.dilated_width
        sides = each, c.frames_per_side, *here

        def attend(*maps: jax.Array) -> jax.Array:
            return jax.vmap(lambda f, r, payload: temporal_attention(
                f, r, patch_size=c.patch_size, softmax_scale=c.softmax_scale, payload=payload))(
                    *(x.astype(config.compute) for x in maps))

        add("attention", 2, attend, (each, *here, channels), (*sides, channels),
            (*sides, channels + (3 * scale**2 if c.transport else 0)))
    return found


def _both(function: Callable, *given: jax.Array) -> tuple:
    out, pullback = jax.vjp(function, *given)
    return out, pullback(out)


def layers(config: configs.Config, each: int) -> Counter[tuple[Any, tuple[int, ...]]]:
    """{(convolution or deconvolution, shape of its input): its number} in a step of `each` examples, without guider."""
    c, found = config.stcnet, Counter()

    def note(call: Callable, given: tuple, options: dict, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        if context.method_name == "__call__" and isinstance(layer, (nn.Conv, Deconvolution)):
            found[layer.clone(parent=None, name=None), given[0].shape] += 1
        return call(*given, **options)

    frames, masks = (jnp.zeros((each, c.height, c.width, channels)) for channels in (3, 1))
    sides = jnp.zeros((each, c.frames_per_side, c.height, c.width, 3))
    with nn.intercept_methods(note):
        key = jax.random.key(0)
        jax.eval_shape(Generators(c, config.compute).init, key, frames, masks, sides, sides)
        for _ in ("real", "completed"):
            jax.eval_shape(DiscriminatorPair(config.discriminators, config.compute).init, key, frames, masks)
    return found
