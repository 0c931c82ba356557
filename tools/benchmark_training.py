"""One training step of STCnet, ours beside the parity tests' PyTorch twin, and what ours spends its time on.

    python -m tools.benchmark_training --json out-training.json

Both do the same work from the same weights on the same batch, forward, backward and Adam of both players, without
the guider and with it (ResNet-50 at size paper); their losses are compared before anything is timed. The twin is
`tests/torch_twin.py`, eager and through torch.compile. Times are medians of steps that are taken in turns. The
guider's share is the difference of the two steps; convolutions, deconvolutions and attention are compiled, forward
and backward, and timed alone, at the shapes that the step has them in, so that shares need not add up to the whole.
The input pipeline is timed alone too, on made-up walkers.

On GPUs float32 is TF32 in both. bfloat16, there by default, is `Config.compute` here and autocast in PyTorch.
"""

import dataclasses
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro

from tools.benchmark_attention import device as describe
from tools.plan_scaling import analysis, example_step, matrix_rate, published, quickest
from vrstc_jax import config as configs
from vrstc_jax.attention import temporal_attention
from vrstc_jax.data.batches import TrainingFrames, stcnet_batches
from vrstc_jax.data.tracklet_set import read_set, write_set
from vrstc_jax.data.walkers import WalkerConfig, make_tracklets, people
from vrstc_jax.models.discriminators import DiscriminatorPair
from vrstc_jax.models.generators import Generators
from vrstc_jax.models.layers import Deconvolution
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.storage import replace_file
from vrstc_jax.training.devices import AXIS
from vrstc_jax.training.stcnet import pmap_step

OURS, EAGER, COMPILED = "ours", "PyTorch, eager", "PyTorch, compiled"
IDENTITIES = 10  # as `example_step` has them
WANTED_INPUT = 3  # times the step's rate
# Losses further apart than this, largest difference over largest magnitude, are not the same work.
FURTHEST = {"float32": 1e-3, "bfloat16": 3e-2}


@dataclass(frozen=True)
class Options:
    """What to time, and how long."""

    size: Literal["paper", "small", "smoke"] = "paper"
    """Of the networks."""
    batch: int | None = None
    """Examples of a step; the size's own number if left out."""
    steps: int = 5
    """Timed steps of each form, after one that compiles."""
    compute: tuple[configs.Compute, ...] = ()
    """What the networks compute in; if left out, float32, and on other devices than CPUs bfloat16 too."""
    torch: bool = True
    """Also time PyTorch, if it is there, and"""
    torch_compile: bool = True
    """also through torch.compile."""
    json: Path | None = None
    """A file for all figures."""


@dataclass
class Form:
    """One way to take the step; `step` takes it, and returns its metrics when it is done."""

    name: str
    step: Callable[[], dict[str, float]]
    samples: list[float] = dataclasses.field(default_factory=list)


def main(options: Options) -> dict:
    """Measures, prints as it comes, writes and returns what the JSON file holds."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory of the device too
    config = config_of(options)
    start_jax_for_training(config.batches)
    about, torch_why = describe(options.torch)
    types = options.compute or (("float32",) if about["platform"] == "cpu" else get_args(configs.Compute))
    batch, devices = config.stcnet_training.batch, devices_for(config)
    print(f"size {options.size}, batch {batch} on {len(devices)} × {about['device']} ({about['cpu']}, "
          f"{about['cores']} cores); JAX {about['jax']}, PyTorch {torch_why or about['torch']}")
    if about["load_average"] > about["cores"] / 4:
        print(f"Something else is running (load average {about['load_average']:.1f}): times mean little.")
    _, (start, guider), examples = example_step(config.stcnet_task, batch, devices)
    chip = published(about["device"])  # a CPU's matrix product is measured, and all of its devices share it
    peaks = {compute: len(devices) * getattr(chip, compute) if chip else matrix_rate(dtype=jnp.dtype(compute))
             for compute in types}
    cases = []
    for compute, guided in itertools.product(types, (False, True)):
        case = measured(dataclasses.replace(config, compute=compute), start, guider if guided else None, examples,
                        options, torch_why)
        case["share_of_peak"] = case["operations"] / case["forms"][OURS]["seconds"] / peaks[compute]
        cases.append(case)
        print(format_case(case), flush=True)
    parts = {compute: parts_of(dataclasses.replace(config, compute=compute)) for compute in types}
    pipeline = input_rate(config)
    for compute in types:
        without, guided = (case["forms"][OURS]["seconds"] for case in cases if case["compute"] == compute)
        parts[compute] |= {"guider": {"seconds": guided - without}, "input": {"seconds": 1 / pipeline}}
        print(format_parts(parts[compute], guided, compute, peaks[compute]))
    times = pipeline * min(case["forms"][OURS]["seconds"] for case in cases)
    print(f"\ninput pipeline alone: {pipeline:.3g} batches/s, {times:.1f} times what the quickest step takes "
          f"({'enough' if times >= WANTED_INPUT else 'too little'}: at least {WANTED_INPUT} are wanted)")
    result = {"device": about, "size": options.size, "batch": batch, "devices": len(devices), "peak": peaks,
              "cases": cases, "parts": parts, "input": {"batches_per_second": pipeline, "times_the_step": times}}
    if options.json:
        replace_file(options.json, json.dumps(result, indent=1).encode())
    return result


def config_of(options: Options) -> configs.Config:
    """The size's config; its guider without the head that locates, which takes no part in the step."""
    for name in ("batch", "steps"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise InputError(f"--{name} must be more than 0. Got {value}.")
    config = configs.get(options.size)
    training = dataclasses.replace(config.stcnet_training, batch=options.batch or config.stcnet_training.batch)
    return dataclasses.replace(config, stcnet_training=training,
                               reid=dataclasses.replace(config.reid, locating_loss=0.0, locating_width=0))


def devices_for(config: configs.Config) -> list:
    """As many devices as the batch divides by."""
    return jax.devices()[:math.gcd(config.stcnet_training.batch, len(jax.devices()))]


def measured(config: configs.Config, start, guider: dict | None, batch: dict, options: Options,
             torch_why: str | None) -> dict:
    """All forms of one step, from a state, on a batch: seconds, and how far apart the first losses are."""
    ours, operations = our_step(config, start, guider, batch)
    forms, left_out, differences, wanted = [ours], {}, {}, ours.step()
    for name in (EAGER, COMPILED):
        left_out[name] = torch_why or (None if name == EAGER or options.torch_compile else "not asked for")
        if left_out[name]:
            continue
        try:
            form = torch_step(name, config, start, guider, batch)
            got = form.step()
        except Exception as error:  # torch.compile fails in many ways, for want of a compiler among others
            if name == EAGER:
                raise
            left_out[name] = str(error).splitlines()[0][:100]
            continue
        differences[name] = require_same(got, wanted, FURTHEST[config.compute], name)
        forms.append(form)
    for _ in range(options.steps):
        for form in forms:
            time.sleep(0.005)  # idle threads of the one before, which wait busily for more, go to sleep
            began = time.perf_counter()
            form.step()
            form.samples.append(time.perf_counter() - began)
    seconds = {form.name: statistics.median(form.samples) for form in forms}
    return {"compute": config.compute, "guider": guider is not None, "operations": operations,
            "left_out": {name: why for name, why in left_out.items() if why},
            "metrics": wanted, "forms": {
                form.name: {"seconds": seconds[form.name], "fastest": min(form.samples), "slowest": max(form.samples),
                            "times_ours": seconds[form.name] / seconds[OURS],
                            "difference": differences.get(form.name, 0.0)} for form in forms}}


def our_step(config: configs.Config, start, guider: dict | None, batch: dict) -> tuple[Form, float]:
    """The package's step, and how many operations it has."""
    devices = devices_for(config)
    step = pmap_step(config.stcnet_task, IDENTITIES, devices)
    shared = {k: v.reshape(len(devices), -1, *v.shape[1:]) for k, v in batch.items()}
    state, variables = _placed((start, guider), devices)  # as the step gives it back: it compiles once

    def take():
        nonlocal state
        state, metrics = step(state, variables, shared)
        jax.block_until_ready(state)
        return {name: float(value) for name, value in metrics.items()}

    return Form(OURS, take), len(devices) * analysis(step.lower(state, variables, shared))["flops"]


def _placed(tree, devices, *split):
    mesh = jax.sharding.Mesh(np.array(devices), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*split)))


def torch_step(name: str, config: configs.Config, start, guider: dict | None, batch: dict) -> Form:
    """The twin's step from the same weights on the same batch, on the device that JAX uses."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
    import torch
    import torch_twin
    import torch_weights

    on = "cuda" if jax.default_backend() == "gpu" else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    size = config.stcnet.height, config.stcnet.width
    twins = torch_twin.Generators(config.stcnet), torch_twin.DiscriminatorPair(config.discriminators, size)
    generators, players = (torch_weights.load(module, start.params[network])
                           for module, network in zip(twins, ("generators", "discriminators")))
    frozen = None
    if guider is not None:
        frozen = torch_weights.load(torch_twin.ReidNet(config.reid, IDENTITIES).eval(), *guider.values())
        frozen.requires_grad_(False)
    modules = [module.float().to(on) for module in (generators, players, frozen) if module is not None]
    if name == COMPILED:
        torch.compiler.reset()
        for module in modules:
            module.compile(dynamic=False)
    adams = [torch.optim.Adam(module.parameters(), config.stcnet_training.learning_rate)
             for module in (generators, players)]

    def take():
        with torch.autocast(on, torch.bfloat16, enabled=config.compute == "bfloat16"):
            metrics = torch_twin.stcnet_backward(config, generators, players, frozen, batch, torch.float32, on)
        for adam in adams:
            adam.step()
        if on == "cuda":
            torch.cuda.synchronize()
        return metrics

    return Form(name, take)


def require_same(got: dict, wanted: dict, furthest: float, name: str) -> float:
    """The largest difference of two steps' metrics, over the larger of 1 and the magnitude; exits where it is more
    than `furthest`."""
    apart = {key: abs(got[key] - wanted[key]) / max(1.0, abs(wanted[key])) for key in wanted}
    worst = max(apart, key=apart.get)
    if not apart[worst] <= furthest:
        raise SystemExit(f"{worst} of '{name}' is {got[worst]:.6g}, ours {wanted[worst]:.6g}: it is not the same "
                         "work, and there is nothing to time.")
    return apart[worst]


# Parts alone.


def parts_of(config: configs.Config) -> dict[str, dict]:
    """{part: {'seconds' of one step, 'operations'}} of what can be timed alone, forward and backward."""
    c, devices = config.stcnet, devices_for(config)
    each = config.stcnet_training.batch // len(devices)
    found = {kind: {"seconds": 0.0, "operations": 0.0} for kind in ("convolutions", "deconvolutions", "attention")}

    def add(kind, times, function, *shapes):
        arrays = [np.linspace(-1, 1, math.prod(shape), dtype=np.float32).reshape(1, *shape) for shape in shapes]
        arrays = [_placed(np.repeat(x, len(devices), axis=0), devices, AXIS) for x in arrays]
        program = jax.pmap(lambda *given: _both(function, *given), devices=devices)
        found[kind]["seconds"] += times * quickest(lambda: program(*arrays), rounds=3)
        found[kind]["operations"] += times * len(devices) * analysis(program.lower(*arrays))["flops"]

    for (layer, shape), times in _layers(config, each).items():
        params = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros(shape))["params"]
        add("deconvolutions" if isinstance(layer, Deconvolution) else "convolutions", times,
            lambda x, kernel, bias, layer=layer: layer.apply({"params": {"kernel": kernel, "bias": bias}}, x),
            shape, params["kernel"].shape, params["bias"].shape)
    if c.form.attention:
        scale = math.prod(c.temporal.strides)
        here, channels = (c.height // scale, c.width // scale), c.temporal.dilated_width
        sides = each, c.frames_per_side, *here

        def attend(*maps):
            return jax.vmap(lambda f, r, payload: temporal_attention(
                f, r, patch_size=c.patch_size, softmax_scale=c.softmax_scale, payload=payload))(
                    *(x.astype(config.compute) for x in maps))

        add("attention", 2, attend, (each, *here, channels), (*sides, channels),
            (*sides, channels + (3 * scale**2 if c.transport else 0)))
    return found


def _both(function, *given):
    out, pullback = jax.vjp(function, *given)
    return out, pullback(out)


def _layers(config, each):
    """How often a step has each (convolution or deconvolution, shape of its input), the guider's left out."""
    c, found = config.stcnet, Counter()

    def note(call, given, options, context):
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


def input_rate(config: configs.Config, batches: int = 12) -> float:
    """Batches a second of the input pipeline alone, on made-up walkers; the first, which start it, left out.

    Every frame is read and decoded each time, as in a data set of which little can be kept.
    """
    look = WalkerConfig(height=config.stcnet.height, width=config.stcnet.width, frames=16)
    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder) / "data", make_tracklets(people("train", 8), config=look))
        data = dataclasses.replace(read_set(Path(folder) / "data"), decoded=_KeepsNothing())
        usable = [TrainingFrames(first, np.arange(len(tracklet)), label)
                  for label, (tracklet, first) in enumerate(zip(data.tracklets, data.first))]
        incoming = stcnet_batches(data, usable, config.stcnet_task)
        for _ in range(6):  # as many as may lie ready
            next(incoming)
        began = time.perf_counter()
        for _ in range(batches):
            next(incoming)
        return batches / (time.perf_counter() - began)


class _KeepsNothing(dict):
    def __setitem__(self, key, value):
        pass


# Telling.


def format_case(case: dict) -> str:
    """A line for each form of a step."""
    lines = [f"\n{case['compute']}, {'with' if case['guider'] else 'without'} the guider: "
             f"{case['operations'] / 1e9:.3g} GFLOP, {case['share_of_peak']:.0%} of the matrix peak in ours"]
    for name, row in case["forms"].items():
        told = f", {row['times_ours']:.2f} times ours, losses within {row['difference']:.0e}" if name != OURS else ""
        lines.append(f"  {name:18}{row['seconds']:9.4g} s ({row['fastest']:.4g} to {row['slowest']:.4g}){told}")
    return "\n".join(lines + [f"  {name:18}left out: {why}" for name, why in case["left_out"].items()])


def format_parts(parts: dict, step: float, compute: str, peak: float) -> str:
    """Each part's share of the step with the guider, and what limits the step."""
    lines = [f"\n{compute}: of {step:.4g} s a step with the guider"]
    for name, part in parts.items():
        rate = part.get("operations", 0) / part["seconds"] if part["seconds"] > 0 else 0
        told = f", {rate / 1e9:.3g} GFLOP/s, {rate / peak:.0%} of the matrix peak" if rate else ""
        beside = " (beside the step, on other threads)" if name == "input" else ""
        lines.append(f"  {name:15}{part['seconds']:9.4g} s{part['seconds'] / step:7.0%}{told}{beside}")
    rest = step - sum(part["seconds"] for name, part in parts.items() if name != "input")
    lines.append(f"  {'the rest':15}{rest:9.4g} s{rest / step:7.0%}, activations, losses, Adam, copies")
    seconds = {name: part["seconds"] for name, part in parts.items()} | {"the rest": rest}
    return "\n".join([*lines, f"  limited by: {max(seconds, key=seconds.get)}"])


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Options, description=__doc__)))
