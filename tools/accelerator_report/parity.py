"""The device beside the CPU: the op, each network's forward pass, and a training step, on the same inputs.

What the CPU computes in float32 is the reference. The device computes in float32 with products at the highest
precision, in float32 at JAX's default precision, and in bfloat16. Differences are of the largest magnitude of the
reference; of gradients of networks, the difference's norm over the norm.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from tools.accelerator_report.plan import Size
from tools.attention_forms import PATCH, SCALE, features
from tools.example_steps import IDENTITIES, example_step
from vrstc_jax import config as configs
from vrstc_jax.attention import temporal_attention
from vrstc_jax.config import Compute
from vrstc_jax.models.discriminators import DiscriminatorPair
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.reid import PairScorer, ReidNet
from vrstc_jax.ops.pixel_values import to_float
from vrstc_jax.training.devices import jit_without_optimisation
from vrstc_jax.training.stcnet_step import gradients

Trees = dict[str, Any]


class Kind(NamedTuple):
    """A way to compute on the device: the type, and the precision of float32's products."""

    compute: Compute
    precision: str


KINDS = {"float32": Kind("float32", "highest"), "float32, default precision": Kind("float32", "default"),
         "bfloat16": Kind("bfloat16", "default")}
# By what is compared: the bound of float32, and of the other two kinds. bfloat16 keeps 8 bits, 4e-3 of a number, and a
# TPU's default precision multiplies float32 numbers in it; errors add up over layers and, in attention, over softmax.
BOUNDS = {"values": (1e-4, 5e-2), "gradients": (1e-4, 5e-2), "losses": (1e-4, 5e-2), "gradients, norm": (1e-3, 2e-1)}


def compared(make: Callable[[Compute], Callable[..., Trees]], *arguments: Any) -> Iterator[tuple[str, Trees]]:
    """(kind, {name: the device's result, the CPU's}) for each kind.

    Args:
      make: from the type to the function of the arguments, which returns {name: tree}.
    """
    device, cpu = jax.devices()[0], jax.devices("cpu")[0]
    make = cache(make)  # so that one function is compiled once for a device and a precision
    wanted = _on(cpu, "highest", make("float32"), arguments)
    for name, kind in KINDS.items():
        precision = "highest" if device.platform == "cpu" else kind.precision  # CPUs have no other
        got = _on(device, precision, make(kind.compute), arguments)
        yield name, {each: (got[each], wanted[each]) for each in wanted}


def _on(device: Any, precision: str, function: Callable[..., Trees], arguments: tuple) -> Trees:
    with jax.default_matmul_precision(precision), jax.default_device(device):
        out = jax.jit(function)(*jax.device_put(arguments, device))
        return jax.tree.map(lambda x: np.asarray(x, np.float64), out)


def row(what: str, kind: str, measured: str, difference: float) -> dict[str, Any]:
    """A line of the report; it passes if the difference is within the bound, which NaN is not."""
    bound = BOUNDS[measured][kind != "float32"]
    return {"what": what, "kind": kind, "measured": measured, "difference": difference, "bound": bound,
            "pass": bool(difference <= bound)}


def largest(got: Any, wanted: Any) -> float:
    """Largest difference over largest magnitude, of the worst array of a tree."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True)
    return float(np.max([np.abs(a - b).max() / (np.abs(b).max() or 1.0) for a, b in pairs]))


def norms(got: Any, wanted: Any) -> float:
    """The difference's norm over the norm, of a tree's numbers together."""
    a, b = (np.concatenate([x.ravel() for x in jax.tree.leaves(tree)]) for tree in (got, wanted))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def of_losses(got: Any, wanted: Any) -> float:
    """The largest difference of losses, over the larger of 1 and the magnitude."""
    return float(np.max([abs(got[name] - wanted[name]) / max(1.0, abs(wanted[name])) for name in wanted]))


def measure_op(size: Size) -> Iterator[dict[str, Any]]:
    """{'rows'}: values and gradients of the op, whole and in blocks of rows."""
    rows: list[dict] = []
    for case in size.parity_cases:
        for form, block in (("whole", case.height), ("in blocks", case.block_size)):
            attend = jax.vmap(partial(temporal_attention, patch_size=PATCH, softmax_scale=SCALE, block_size=block))

            def make(compute: Compute, attend: Callable = attend) -> Callable[..., Trees]:
                def both(current: jax.Array, adjacent: jax.Array, gradient: jax.Array) -> Trees:
                    out, pullback = jax.vjp(attend, *(x.astype(compute) for x in (current, adjacent)))
                    return {"values": out, "gradients": pullback(gradient.astype(compute))}

                return both

            # Numbers that bfloat16 holds exactly, so that only the computing differs.
            inputs = [x.astype(np.float32) for x in features(case, "bfloat16")]
            for kind, trees in compared(make, *inputs):
                rows += [row(f"op {form}, {case}", kind, name, largest(*pair)) for name, pair in trees.items()]
            yield {"rows": rows}


def measure_networks(size: Size) -> Iterator[dict[str, Any]]:
    """{'rows'}: outputs of each network with random weights, on random pictures; the smaller size comes first."""
    rows: list[dict] = []
    for config in dict.fromkeys((size.parity_config, size.config)):
        for name, make, arguments in _networks(configs.get(config)):
            for kind, trees in compared(make, *arguments):
                rows.append(row(f"{name}, `{config}`", kind, "values", largest(*trees["values"])))
            yield {"rows": rows}


def _networks(config: configs.Config) -> Iterator[tuple[str, Callable[[Compute], Callable[..., Trees]], tuple]]:
    """(name, from the type to the function, its arguments: variables and inputs) of each network."""
    random, count = np.random.default_rng(0), 2

    def pictures(*shape: int) -> np.ndarray:
        return np.asarray(to_float(random.integers(0, 256, (count, *shape, 3)).astype(np.uint8)))

    def network(module: Callable[[Compute], Any], *inputs: np.ndarray) -> tuple:
        with jax.default_device(jax.devices("cpu")[0]):
            init = jit_without_optimisation(lambda key: module("float32").init(key, *inputs))
            variables = jax.tree.map(np.asarray, init(jax.random.key(0)))
        return (lambda compute: lambda *given: {"values": module(compute).apply(*given)}), (variables, *inputs)

    c, reid = config.stcnet, config.reid
    frames, sides = pictures(c.height, c.width), pictures(c.frames_per_side, c.height, c.width)
    masks = np.zeros((count, c.height, c.width, 1), np.float32)
    masks[:, :c.height // 3] = 1
    clips = pictures(2, reid.height, reid.width)
    yield "generators", *network(lambda compute: Generators(c, compute), frames, masks, sides, sides[::-1])
    yield "discriminators", *network(lambda compute: DiscriminatorPair(config.discriminators, compute), frames, masks)
    yield "re-ID network", *network(lambda compute: ReidNet(reid, IDENTITIES, dtype=compute), clips)
    yield "re-ID network with non-local blocks", *network(
        lambda compute: ReidNet(config.final, IDENTITIES, dtype=compute), clips)
    yield "pair scorer", *network(lambda compute: PairScorer(reid, IDENTITIES, dtype=compute), clips, clips[::-1])


def measure_step(size: Size) -> Iterator[dict[str, Any]]:
    """{'size', 'batch', 'rows'}: losses of a training step with the guider, and gradients of both players."""
    config, batch = configs.get(size.parity_config), 4
    with jax.default_device(jax.devices("cpu")[0]):
        _, (state, guider), examples = example_step(config.stcnet_task, batch, jax.devices()[:1])
    rows: list[dict] = []

    def make(compute: Compute) -> Callable[..., Trees]:
        task = dataclasses.replace(config.stcnet_task, compute=compute)

        def step(state: Any, guider: dict, batch: dict) -> Trees:
            grads, _, metrics = gradients(task, IDENTITIES, state, guider, batch)
            return {"losses": metrics} | grads

        return step

    for kind, trees in compared(make, state, guider, examples):
        rows.append(row("training step", kind, "losses", of_losses(*trees.pop("losses"))))
        rows += [row(f"training step, {player}", kind, "gradients, norm", norms(*pair))
                 for player, pair in trees.items()]
        yield {"size": size.parity_config, "batch": batch, "rows": rows}
