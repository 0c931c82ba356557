"""Predicts a training's step time on pods of 1 to 1,024 chips, from XLA's analysis of the compiled step.

    python -m tools.plan_scaling

It plans the steps of the paper's recipe (the re-ID network, STCnet, the final network with its non-local blocks), or
of one of them, and the hours of all. A step is compiled for CPU with one and two examples and for two devices. XLA's
analysis gives its operations and the bytes that it moves; the two numbers of examples separate what grows with the
batch from what does not; the all-reduced bytes are read from the compiled program. With each chip's published rates
that gives the times of computing, of memory and of the all-reduce; the step takes the longer of the first two, plus
the third. The global batch is the config's (strong scaling) while each chip has an example; on more chips, each has
one. `--batch-per-chip` sets it for each chip instead.

It also prints a prediction for this CPU, from rates measured here, beside the measured step. `--size smoke` tries it
out. The assumptions are printed with the result. Not verified on a pod.
"""

import dataclasses
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from tools.chips import CHIPS, all_reduce_time
from tools.example_steps import Task, example_step
from tools.rates import analysis, copy_rate, matrix_rate
from vrstc_jax import config as configs
from vrstc_jax.runtime import lock
from vrstc_jax.runtime.errors import require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.storage import replace_file
from vrstc_jax.runtime.text_tables import text_table

PODS = tuple(2**k for k in range(11))
NETWORKS = ("reid", "stcnet", "final")


@dataclass(frozen=True)
class Arguments:
    """The training to plan."""

    network: Literal["recipe", "reid", "stcnet", "final"] = "recipe"
    """The re-ID network, STCnet with its discriminators and guider, the final network, or all three."""
    size: configs.SizeName = "full"
    """Size of the networks."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Input of the matrix units."""
    batch_per_chip: int | None = None
    """Examples for each chip; default: the config's batch divided among the chips, at least one for each."""
    reached: float = 0.4
    """Share of the published rates that is reached, of operations and of memory."""
    measure: bool = True
    """Also measure the step here, beside its prediction."""
    output: Path | None = None
    """A JSON file for all figures."""


@dataclass(frozen=True)
class Work:
    """One step's work on one chip: a fixed part, and a part for each example.

    Attributes:
      operations, moved: (fixed, for each example): floating-point operations, and bytes moved.
      reduced: bytes that are all-reduced, the same for any batch.
    """

    operations: tuple[float, float]
    moved: tuple[float, float]
    reduced: int

    def of(self, examples: float) -> tuple[float, float]:
        """(operations, bytes) of a step with this many examples on the chip."""
        operations, moved = (fixed + each * examples for fixed, each in (self.operations, self.moved))
        return operations, moved


@dataclass(frozen=True)
class Prediction:
    """A step on a pod; times in seconds."""

    chip: str
    chips: int
    batch: int
    computing: float
    memory: float
    reducing: float
    hours: float
    efficiency: float

    @property
    def step(self) -> float:
        """Seconds of the whole step."""
        return max(self.computing, self.memory) + self.reducing

    @property
    def limit(self) -> str:
        """The part that takes longest."""
        parts = {"computing": self.computing, "memory": self.memory, "all-reduce": self.reducing}
        return max(parts, key=parts.__getitem__)


def main(arguments: Arguments) -> dict[str, Any]:
    """Prints the plan; returns {network: {'work', 'predictions', 'here'}, 'recipe': [{'chip', 'chips', 'hours'}]}."""
    require_flags(arguments)
    require_range(arguments, "reached", most=1)
    require_range(arguments, "batch_per_chip")
    if arguments.output:
        lock.take(arguments.output, beside=True)
    config = configs.get(arguments.size)
    networks = NETWORKS if arguments.network == "recipe" else (arguments.network,)
    result: dict[str, Any] = {network: _planned(network, config, arguments) for network in networks}
    print(ASSUMPTIONS.format(reached=arguments.reached, precision=arguments.precision))
    for network in networks:
        if here := result[network]["here"]:
            print(f"\n{network} on this CPU: {here['rate'] / 1e9:.0f} GFLOP/s in a matrix product, "
                  f"{here['memory'] / 1e9:.1f} GB/s in a copy; predicted {here['predicted']:.2f} s for a step of "
                  f"{here['batch']}, measured {here['measured']:.2f} s "
                  f"({here['measured'] / here['predicted']:.1f} times as long)")
    if len(networks) > 1:
        hours = {(chip, chips): 0.0 for chip in CHIPS for chips in PODS}
        for network in networks:
            for row in result[network]["predictions"]:
                hours[row["chip"], row["chips"]] += row["hours"]
        result["recipe"] = [{"chip": chip, "chips": chips, "hours": total} for (chip, chips), total in hours.items()]
        print(format_hours(hours))
    if arguments.output:
        replace_file(arguments.output, json.dumps(result, indent=1).encode())
    return result


def _planned(network: str, config: configs.Config, arguments: Arguments) -> dict[str, Any]:
    task = {"reid": config.first_reid, "stcnet": config.stcnet_task, "final": config.final_reid}[network]
    training, work = task.training, analysed(task)
    print(f"\n{network}, size {arguments.size}: {work.operations[1] / 1e9:.2f} GFLOP and "
          f"{work.moved[1] / 1e6:.1f} MB for each example, {work.operations[0] / 1e9:.3f} GFLOP and "
          f"{work.moved[0] / 1e6:.1f} MB besides; {work.reduced / 1e6:.1f} MB all-reduced a step")
    predictions = [predict(work, name, chips, training, arguments) for name in CHIPS for chips in PODS]
    print(format_plan(predictions, training.steps), flush=True)
    return {"work": dataclasses.asdict(work), "here": measured(task, work) if arguments.measure else None,
            "predictions": [dataclasses.asdict(p) | {"step": p.step, "limit": p.limit} for p in predictions]}


ASSUMPTIONS = """
Assumed: {reached:.0%} of the published rates is reached; {precision}, but bytes as in float32. Computing and memory
overlap; the all-reduce (a ring within a group, then one between groups) overlaps with neither, and is a single one,
though the sums of batch norms are several. The bytes are those of the program compiled for CPU, which fuses fewer
operations than an accelerator's: memory is overstated. Input keeps up. The step does the same work on every device: a
chip has at least one whole example, and where that makes the batch larger, there are fewer steps, for as many
examples."""


def analysed(task: Task, step: Callable[..., tuple[Any, tuple, dict]] = example_step) -> Work:
    """A step's work, from XLA's analysis of the step with one and with two examples on a device.

    Args:
      step: makes the step and its arguments, as `example_step`.
    """
    found = []
    for examples in (1, 2):
        lowered = _lowered(step, task, examples, devices=1)
        compiled = lowered.compile()
        # Count operations before XLA's passes for CPU, which hide some in library calls; bytes after them, fused.
        found.append((analysis(lowered)["flops"], analysis(compiled)["bytes accessed"]))
    (ops, moved), (more_ops, more_moved) = found
    both = _lowered(step, task, 1, devices=2) if len(jax.devices()) > 1 else None
    reduced = all_reduced(both.compile().as_text()) if both else 0
    # Linear in the examples: the second example's cost is that of each, and the rest is fixed.
    return Work((max(0.0, 2 * ops - more_ops), more_ops - ops), (max(0.0, 2 * moved - more_moved), more_moved - moved),
                reduced)


def _lowered(make: Callable[..., tuple[Any, tuple, dict]], task: Task, examples: int, devices: int) -> Any:
    step, state, batch = make(task, examples * devices, jax.devices()[:devices])
    split = {name: value.reshape(devices, examples, *value.shape[1:]) for name, value in batch.items()}
    return step.lower(*state, split)


def all_reduced(program: str) -> int:
    """Bytes of all results of all-reduces in a compiled program's text."""
    sizes = {"f64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1, "s8": 1, "u8": 1}
    total = 0
    for line in program.splitlines():
        found = re.match(r"\s*(?:ROOT )?\S+ = (.*?) all-reduce(?:-start)?\(", line)
        for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", found[1]) if found else ():
            total += sizes[kind] * math.prod(int(n) for n in shape.split(",") if n)
    return total


def predict(work: Work, chip: str, chips: int, training: configs.Training, arguments: Arguments) -> Prediction:
    """The step on `chips` chips."""
    rates = CHIPS[chip]
    each = arguments.batch_per_chip or max(1.0, training.batch / chips)
    batch = round(each * chips)
    operations, moved = work.of(each)
    rate = getattr(rates, arguments.precision) * arguments.reached
    computing, memory = operations / rate, moved / (rates.memory * arguments.reached)
    reducing = all_reduce_time(work.reduced, chip, chips)
    # As many examples as in the config's training.
    steps = training.steps * training.batch / batch
    alone = work.of(batch)  # the same batch on one chip, to which the efficiency compares
    one = max(alone[0] / rate, alone[1] / (rates.memory * arguments.reached))
    step = max(computing, memory) + reducing
    return Prediction(chip, chips, batch, computing, memory, reducing, steps * step / 3600, one / (chips * step))


def measured(task: Task, work: Work, batch: int = 2, rounds: int = 3) -> dict[str, float]:
    """The step's time here, and the prediction from its work and this CPU's rates."""
    rate, memory = matrix_rate(), copy_rate()
    step, state, examples = example_step(task, batch, jax.devices()[:1])
    examples = {name: value[None] for name, value in examples.items()}
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        changed, _ = jax.block_until_ready(step(*state, examples))
        times.append(time.perf_counter() - began)
        state = (changed, *state[1:])
    operations, moved = work.of(batch)
    return {"batch": batch, "rate": rate, "memory": memory, "predicted": max(operations / rate, moved / memory),
            "measured": statistics.median(times[1:])}  # the first compiles


def format_plan(predictions: Sequence[Prediction], steps: int) -> str:
    """A row for each pod."""
    rows = [(p.chip, str(p.chips), str(p.batch), f"{1000 * p.step:.2f}", p.limit, f"{p.batch / p.step:,.0f}",
             f"{p.efficiency:.0%}", f"{p.hours:.2f}") for p in predictions]
    header = ("chip", "chips", "batch", "step, ms", "limit", "examples/s", "efficiency", "hours")
    return f"{text_table(header, rows)}\nhours: of {steps:,} steps of the config's batch"


def format_hours(hours: Mapping[tuple[str, int], float]) -> str:
    """Hours of the whole recipe, a row for each number of chips."""
    rows = [(f"{chips} chips", *(f"{hours[name, chips]:.2f}" for name in CHIPS))
            for chips in sorted({chips for _, chips in hours})]
    return "\n" + text_table(("hours of the recipe", *CHIPS), rows)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
