"""Times a training step of STCnet beside the parity tests' PyTorch twin, and the parts of the step.

    python -m tools.benchmark_training --json out-training.json

Both do the same work from the same weights on the same batch: forward, backward and Adam of generators and
discriminators, without the guider and with it (ResNet-50 at size `full`). Their losses are compared before anything is
timed. The twin is `tests/support/torch_twin.py`, eager and through torch.compile. Times are medians of steps that are
taken in turns. The guider's share is the difference of the two steps; convolutions, deconvolutions and attention are
timed alone, forward and backward, at the shapes that the step has them in (`tools.step_parts`), so the shares need not
add up to the whole. The input pipeline is timed alone too, on made-up walkers.

On GPUs float32 is TF32 in both. bfloat16, there by default, is `Config.compute` here and autocast in PyTorch.

Expected of size `full` with `--steps 3` on two CPU cores (AMD EPYC): 15.8 s a step without the guider and 20.7 s with
it, PyTorch eager 1.41 and 1.31 times that. `--size smoke` tries it out.
"""

import dataclasses
import itertools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import tyro

from tools.chips import published
from tools.machine import describe, warn_if_busy
from tools.plan_scaling import analysis, example_step, matrix_rate
from tools.step_parts import input_rate, parts_of
from vrstc_jax import config as configs
from vrstc_jax.runtime.errors import require_range
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.storage import replace_file
from vrstc_jax.training.devices import Device, replicated
from vrstc_jax.training.stcnet import training_step

OURS, EAGER, COMPILED = "ours", "PyTorch, eager", "PyTorch, compiled"
IDENTITIES = 10  # as in `example_step`
WANTED_INPUT = 3  # the input pipeline's rate, in steps' rates, that leaves a margin
FURTHEST = {"float32": 1e-3, "bfloat16": 3e-2}
"""The largest difference of two losses, over the larger of 1 and the magnitude, at which the work is the same."""


@dataclass(frozen=True)
class Options:
    """The step to time, and the number of steps."""

    size: configs.SizeName = "full"
    """Size of the networks."""
    batch: int | None = None
    """Examples of a step; default: the size's."""
    steps: int = 5
    """Timed steps of each form, after one that compiles."""
    compute: tuple[configs.Compute, ...] = ()
    """Types that the networks compute in; default: float32, and on other devices than CPUs bfloat16 too."""
    torch: bool = True
    """Also time PyTorch, if it is installed."""
    torch_compile: bool = True
    """Also time PyTorch through torch.compile."""
    json: Path | None = None
    """A file for all figures."""


@dataclass
class Form:
    """One implementation of the step; `step` runs it to its end and returns its metrics."""

    name: str
    step: Callable[[], dict[str, float]]
    samples: list[float] = dataclasses.field(default_factory=list)


def main(options: Options) -> dict[str, Any]:
    """Measures, prints each result, writes the JSON file and returns what it holds."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory of the device too
    config = config_of(options)
    start_jax_for_training(config.batches)
    about, torch_why = describe(options.torch)
    types = options.compute or (("float32",) if about["platform"] == "cpu" else get_args(configs.Compute))
    batch, devices = config.stcnet_training.batch, devices_for(config)
    print(f"size {options.size}, batch {batch} on {len(devices)} × {about['device']} ({about['cpu']}, "
          f"{about['cores']} cores); JAX {about['jax']}, PyTorch {torch_why or about['torch']}")
    warn_if_busy(about)
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
    parts = {compute: parts_of(dataclasses.replace(config, compute=compute), devices) for compute in types}
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
    """The size's config, its guider without the head that locates, which the step does not use."""
    require_range(options, "batch", "steps")
    config = configs.get(options.size)
    training = dataclasses.replace(config.stcnet_training, batch=options.batch or config.stcnet_training.batch)
    return dataclasses.replace(config, stcnet_training=training,
                               reid=dataclasses.replace(config.reid, locating_loss=0.0, locating_width=0))


def devices_for(config: configs.Config) -> list[Device]:
    """As many devices as divide the batch."""
    return jax.devices()[:math.gcd(config.stcnet_training.batch, len(jax.devices()))]


def measured(config: configs.Config, start: Any, guider: dict | None, batch: dict, options: Options,
             torch_why: str | None) -> dict[str, Any]:
    """Times all forms of one step, and compares their first losses.

    Args:
      start: the initial state.
      guider: the guider's variables; None: no guider.
      torch_why: why PyTorch is left out, or None.
    """
    ours, operations = our_step(config, start, guider, batch)
    forms, left_out, differences, wanted = [ours], {}, {}, ours.step()
    for name in (EAGER, COMPILED):
        left_out[name] = torch_why or (None if name == EAGER or options.torch_compile else "not asked for")
        if left_out[name]:
            continue
        try:
            form = torch_step(name, config, start, guider, batch)
            got = form.step()
        except Exception as error:  # torch.compile fails in many ways, for example without a C compiler
            if name == EAGER:
                raise
            left_out[name] = str(error).splitlines()[0][:100]
            continue
        differences[name] = require_same(got, wanted, FURTHEST[config.compute], name)
        forms.append(form)
    for _ in range(options.steps):
        for form in forms:
            time.sleep(0.005)  # lets the busily waiting threads of the form before go to sleep
            began = time.perf_counter()
            form.step()
            form.samples.append(time.perf_counter() - began)
    seconds = {form.name: statistics.median(form.samples) for form in forms}
    rows = {form.name: {"seconds": seconds[form.name], "fastest": min(form.samples), "slowest": max(form.samples),
                        "times_ours": seconds[form.name] / seconds[OURS],
                        "difference": differences.get(form.name, 0.0)} for form in forms}
    return {"compute": config.compute, "guider": guider is not None, "operations": operations, "metrics": wanted,
            "left_out": {name: why for name, why in left_out.items() if why}, "forms": rows}


def our_step(config: configs.Config, start: Any, guider: dict | None, batch: dict) -> tuple[Form, float]:
    """(the package's step, its number of operations)."""
    devices = devices_for(config)
    step: Any = training_step(config.stcnet_task, IDENTITIES, devices)
    shared = {k: v.reshape(len(devices), -1, *v.shape[1:]) for k, v in batch.items()}
    state, variables = replicated((start, guider), devices)  # as the step returns it, so that it compiles once

    def take() -> dict[str, float]:
        nonlocal state
        state, metrics = step(state, variables, shared)
        jax.block_until_ready(state)
        return {name: float(value) for name, value in metrics.items()}

    return Form(OURS, take), len(devices) * analysis(step.lower(state, variables, shared))["flops"]


def torch_step(name: str, config: configs.Config, start: Any, guider: dict | None, batch: dict) -> Form:
    """The twin's step from the same weights on the same batch, on the device that JAX uses."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    import torch
    import torch_twin  # pyright: ignore[reportMissingImports]
    import torch_weights  # pyright: ignore[reportMissingImports]

    on = "cuda" if jax.default_backend() == "gpu" else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    size = config.stcnet.height, config.stcnet.width
    twins = torch_twin.Generators(config.stcnet), torch_twin.DiscriminatorPair(config.discriminators, size)
    generators, discriminators = (torch_weights.load(module, start.params[network])
                                  for module, network in zip(twins, ("generators", "discriminators")))
    frozen = None
    if guider is not None:
        frozen = torch_weights.load(torch_twin.ReidNet(config.reid, IDENTITIES).eval(), *guider.values())
        frozen.requires_grad_(False)
    modules = [module.float().to(on) for module in (generators, discriminators, frozen) if module is not None]
    if name == COMPILED:
        torch.compiler.reset()
        for module in modules:
            module.compile(dynamic=False)
    adams = [torch.optim.Adam(module.parameters(), config.stcnet_training.learning_rate)
             for module in (generators, discriminators)]

    def take() -> dict[str, float]:
        with torch.autocast(on, torch.bfloat16, enabled=config.compute == "bfloat16"):
            metrics = torch_twin.stcnet_backward(config, generators, discriminators, frozen, batch, torch.float32, on)
        for adam in adams:
            adam.step()
        if on == "cuda":
            torch.cuda.synchronize()
        return metrics

    return Form(name, take)


def require_same(got: dict[str, float], wanted: dict[str, float], furthest: float, name: str) -> float:
    """The largest difference of two steps' metrics, over the larger of 1 and the magnitude; exits if it is more than
    `furthest`, or NaN."""
    apart = {key: abs(got[key] - wanted[key]) / max(1.0, abs(wanted[key])) for key in wanted}
    worst = max(apart, key=apart.__getitem__)
    if not apart[worst] <= furthest:
        raise SystemExit(f"{worst} of '{name}' is {got[worst]:.6g}, ours {wanted[worst]:.6g}: the steps "
                         "do different work, so they are not timed.")
    return apart[worst]


def format_case(case: dict[str, Any]) -> str:
    """A line for each form of a step."""
    lines = [f"\n{case['compute']}, {'with' if case['guider'] else 'without'} the guider: "
             f"{case['operations'] / 1e9:.3g} GFLOP, {case['share_of_peak']:.0%} of the matrix peak in ours"]
    for name, row in case["forms"].items():
        ratio = f", {row['times_ours']:.2f} times ours, losses within {row['difference']:.0e}" if name != OURS else ""
        lines.append(f"  {name:18}{row['seconds']:9.4g} s ({row['fastest']:.4g} to {row['slowest']:.4g}){ratio}")
    return "\n".join(lines + [f"  {name:18}left out: {why}" for name, why in case["left_out"].items()])


def format_parts(parts: dict[str, dict[str, float]], step: float, compute: str, peak: float) -> str:
    """Each part's share of the step with the guider, and the part that takes longest."""
    lines = [f"\n{compute}: of {step:.4g} s a step with the guider"]
    for name, part in parts.items():
        rate = part.get("operations", 0) / part["seconds"] if part["seconds"] > 0 else 0
        speed = f", {rate / 1e9:.3g} GFLOP/s, {rate / peak:.0%} of the matrix peak" if rate else ""
        beside = " (beside the step, on other threads)" if name == "input" else ""
        lines.append(f"  {name:15}{part['seconds']:9.4g} s{part['seconds'] / step:7.0%}{speed}{beside}")
    rest = step - sum(part["seconds"] for name, part in parts.items() if name != "input")
    lines.append(f"  {'the rest':15}{rest:9.4g} s{rest / step:7.0%}, activations, losses, Adam, copies")
    seconds = {name: part["seconds"] for name, part in parts.items()} | {"the rest": rest}
    return "\n".join([*lines, f"  limited by: {max(seconds, key=seconds.__getitem__)}"])


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Options, description=__doc__)))
