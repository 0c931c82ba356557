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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import tyro

from tools.chips import published
from tools.example_steps import example_step
from tools.input_rate import input_rate
from tools.machine import describe, warn_if_busy
from tools.rates import matrix_rate
from tools.step_parts import parts_of
from tools.training_forms import (
    COMPILED,
    EAGER,
    FURTHEST,
    OURS,
    our_step,
    require_same,
    seconds_of,
    take_turns,
    torch_step,
    without_locating,
)
from vrstc_jax import config as configs
from vrstc_jax.runtime import lock
from vrstc_jax.runtime.errors import require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.storage import replace_file
from vrstc_jax.training.devices import Device

WANTED_INPUT = 3  # the input pipeline's rate, in steps' rates, that leaves a margin


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


def main(options: Options) -> dict[str, Any]:
    """Measures, prints each result, writes the JSON file and returns what it holds."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory of the device too
    config = config_of(options)
    if options.json:
        lock.take(options.json, beside=True)
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
    require_flags(options)
    require_range(options, "batch", "steps")
    config = configs.get(options.size)
    training = dataclasses.replace(config.stcnet_training, batch=options.batch or config.stcnet_training.batch)
    return without_locating(dataclasses.replace(config, stcnet_training=training))


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
    ours, work = our_step(config, start, guider, batch, devices_for(config))
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
    take_turns(forms, options.steps)
    rows: dict[str, dict[str, float]] = {form.name: seconds_of(form) for form in forms}
    for name, row in rows.items():
        row |= {"times_ours": row["seconds"] / rows[OURS]["seconds"], "difference": differences.get(name, 0.0)}
    return {"compute": config.compute, "guider": guider is not None, "operations": work["operations"],
            "metrics": wanted, "left_out": {name: why for name, why in left_out.items() if why}, "forms": rows}


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
