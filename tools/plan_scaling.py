"""Predicts a training's step time on pods of 1 to 1,024 chips, from what the compiled step does.

    python -m tools.plan_scaling

The steps of the paper's recipe (the re-ID network, STCnet, the final network with its non-local blocks), or of one of
them, and the hours of all. A step is compiled here, for CPU, for two parts of a batch and for two devices. XLA's own
analysis says how many operations it has and how many bytes it moves; two sizes tell what grows with the batch from
what does not; what is all-reduced is read off the compiled program. With each chip's published rates that gives the
time of computing, of memory and of the all-reduce, and the slowest of the first two plus the third is the step. The
global batch is the config's and stays it on many chips (strong scaling) while each has an example; on more, each has
one. Or it is that many for each chip (`--batch-per-chip`).

A prediction for this CPU, from rates measured here, stands beside the step as it is measured here.
"""

import dataclasses
import json
import math
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from vrstc_jax import config as configs
from vrstc_jax.models.reid import initial_variables
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.storage import replace_file
from vrstc_jax.runtime.text_tables import text_table
from vrstc_jax.training import reid, stcnet
from vrstc_jax.training.devices import jit_without_optimisation


@dataclass(frozen=True)
class Chip:
    """A chip's published rates.

    Attributes:
      bfloat16, float32: operations a second of the matrix units; float32 on TPUs as three bfloat16 passes, on
        NVIDIA's as TF32.
      memory: bytes a second.
      near, far: bytes a second that a chip sends to others, within a group of `group` chips and beyond it.
      hop: seconds that a message takes to a neighbour.
    """

    bfloat16: float
    float32: float
    memory: float
    near: float
    far: float
    group: int
    hop: float


# Google's pages on v5e, v5p and v6e (their inter-chip links, both ways together, halved); NVIDIA's data sheets of
# the H100 SXM and the A100 80 GB SXM, eight in a server, with 400 and 200 Gbit/s of network for each.
CHIPS = {
    "v5e": Chip(197e12, 197e12 / 3, 819e9, 100e9, 100e9, 256, 1e-6),
    "v5p": Chip(459e12, 459e12 / 3, 2765e9, 300e9, 300e9, 8960, 1e-6),
    "v6e": Chip(918e12, 918e12 / 3, 1640e9, 224e9, 224e9, 256, 1e-6),
    "h100": Chip(989e12, 495e12, 3350e9, 450e9, 50e9, 8, 2e-6),
    "a100": Chip(312e12, 156e12, 2039e9, 300e9, 25e9, 8, 2e-6),
}
_BETWEEN_TPU_SLICES = 12.5e9  # bytes a second for each chip, beyond one slice: the data-centre network
_TPUS = ("v5e", "v5p", "v6e")
# By what JAX calls them; of v5p it says "TPU v5" too. PCIe cards of the H100 have other rates.
_DEVICES = {"h100 80gb hbm3": "h100", "h200": "h100", "a100": "a100", "tpu v5 lite": "v5e", "tpu v5e": "v5e",
            "tpu v5": "v5p", "tpu v6": "v6e"}
PODS = tuple(2**k for k in range(11))
NETWORKS = ("reid", "stcnet", "final")


@dataclass(frozen=True)
class Arguments:
    """What to plan."""

    network: Literal["recipe", "reid", "stcnet", "final"] = "recipe"
    """The re-ID network, STCnet with its discriminators and guider, the final network, or all three."""
    size: Literal["paper", "small", "smoke"] = "paper"
    """Of the networks."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the matrix units are given."""
    batch_per_chip: int | None = None
    """Examples for each chip; if left out, the config's batch is shared between all, of whom each has one at least."""
    reached: float = 0.4
    """The share of the published rates that is reached, of operations and of memory."""
    measure: bool = True
    """Also measure the step here, beside its prediction."""
    output: Path | None = None
    """A JSON file for all figures."""


@dataclass(frozen=True)
class Work:
    """What one step does on one chip: a fixed part, and a part for each example.

    Attributes:
      operations, moved: (fixed, for each example): floating-point operations, and bytes moved.
      reduced: bytes that are all-reduced, whatever the batch.
    """

    operations: tuple[float, float]
    moved: tuple[float, float]
    reduced: int

    def of(self, examples: float) -> tuple[float, float]:
        """(operations, bytes) of a step with this many examples on the chip."""
        return tuple(fixed + each * examples for fixed, each in (self.operations, self.moved))


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
        """What takes most of it."""
        parts = {"computing": self.computing, "memory": self.memory, "all-reduce": self.reducing}
        return max(parts, key=parts.get)


def main(arguments: Arguments) -> dict:
    """Prints the plan; returns {network: {'work', 'predictions', 'here'}, 'recipe': [{'chip', 'chips', 'hours'}]}."""
    _check(arguments)
    config = configs.get(arguments.size)
    networks = NETWORKS if arguments.network == "recipe" else (arguments.network,)
    result = {network: _planned(network, config, arguments) for network in networks}
    print(ASSUMPTIONS.format(reached=arguments.reached, precision=arguments.precision))
    for network in networks:
        if here := result[network]["here"]:
            print(f"\n{network} on this CPU: {here['rate'] / 1e9:.0f} GFLOP/s in a matrix product, "
                  f"{here['memory'] / 1e9:.1f} GB/s in a copy; predicted {here['predicted']:.2f} s for a step of "
                  f"{here['batch']}, measured {here['measured']:.2f} s "
                  f"({here['measured'] / here['predicted']:.1f} times as long)")
    if len(networks) > 1:
        hours = {}
        for network in networks:
            for row in result[network]["predictions"]:
                hours[row["chip"], row["chips"]] = hours.get((row["chip"], row["chips"]), 0) + row["hours"]
        result["recipe"] = [{"chip": chip, "chips": chips, "hours": sum_} for (chip, chips), sum_ in hours.items()]
        print(format_hours(hours))
    if arguments.output:
        replace_file(arguments.output, json.dumps(result, indent=1).encode())
    return result


def _planned(network, config, arguments):
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
overlap, the all-reduce (a ring within a group, then one between groups) overlaps with neither, and is one, though the
sums of batch norms are several. The bytes are those of the program compiled for CPU, where fewer operations are fused
than on an accelerator: memory is overstated. Input keeps up. The step does the same wherever it runs: a chip has at
least one whole example, and where that makes the batch larger, there are fewer steps, for as many examples."""


def published(device_kind: str) -> Chip | None:
    """The rates of a device by the name that JAX has for it; None: it is not in the table."""
    return next((CHIPS[chip] for part, chip in _DEVICES.items() if part in device_kind.lower()), None)


def _check(arguments):
    if not 0 < arguments.reached <= 1:
        raise InputError(f"--reached must be above 0 and at most 1. Got {arguments.reached}.")
    if arguments.batch_per_chip is not None and arguments.batch_per_chip <= 0:
        raise InputError(f"--batch-per-chip must be more than 0. Got {arguments.batch_per_chip}.")


def analysed(task: configs.ReidTask | configs.STCnetTask) -> Work:
    """What a step does, from XLA's analysis of the step with one and with two examples on a device."""
    found = []
    for examples in (1, 2):
        lowered = _lowered(task, examples, devices=1)
        compiled = lowered.compile()
        # Operations before XLA's passes for CPU, which hide some in library calls; bytes after them, fused.
        found.append((analysis(lowered)["flops"], analysis(compiled)["bytes accessed"]))
    (ops, moved), (more_ops, more_moved) = found
    both = _lowered(task, 1, devices=2) if len(jax.devices()) > 1 else None
    reduced = all_reduced(both.compile().as_text()) if both else 0
    return Work((max(0.0, 2 * ops - more_ops), more_ops - ops), (max(0.0, 2 * moved - more_moved), more_moved - moved),
                reduced)


def analysis(program) -> dict:
    """XLA's cost analysis of a lowered or compiled program: 'flops', 'bytes accessed' and more."""
    found = program.cost_analysis()
    return found[0] if isinstance(found, list) else found


def _lowered(task, examples, devices):
    step, state, batch = example_step(task, examples * devices, jax.devices()[:devices])
    split = {name: value.reshape(devices, examples, *value.shape[1:]) for name, value in batch.items()}
    return step.lower(*state, split)


def example_step(task: configs.ReidTask | configs.STCnetTask, count: int, devices):
    """(pmapped step, what it is given before the batch, a batch of `count` examples)."""
    identities = 10
    pictures = lambda *shape: np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    labels = np.zeros(count, np.int32)
    if isinstance(task, configs.ReidTask):
        c = task.network
        batch = {"clips": pictures(count, c.clip, c.height, c.width, 3), "labels": labels}
        if c.locating_loss:
            batch["hidden"] = np.zeros((count, c.clip, 3), np.float32)
        return reid.pmap_step(task, identities, devices), (reid.initial_state(task, identities),), batch
    c = task.stcnet
    side = count, c.frames_per_side, c.height, c.width, 3
    masks = np.zeros((count, c.height, c.width, 1), bool)
    masks[:, :c.height // 3] = True
    batch = {"frames": pictures(count, c.height, c.width, 3), "masks": masks, "previous": pictures(*side),
             "following": pictures(*side), "labels": labels}
    make = jit_without_optimisation(lambda key: initial_variables(task.guider, identities, key))
    guider = jax.tree.map(np.asarray, make(jax.random.key(0)))
    return stcnet.pmap_step(task, identities, devices), (stcnet.initial_state(task), guider), batch


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
    # Steps for the same number of examples as the config's training sees.
    steps = training.steps * training.batch / batch
    alone = work.of(batch)
    one = max(alone[0] / rate, alone[1] / (rates.memory * arguments.reached))
    step = max(computing, memory) + reducing
    return Prediction(chip, chips, batch, computing, memory, reducing, steps * step / 3600, one / (chips * step))


def all_reduce_time(size: float, chip: str, chips: int) -> float:
    """Seconds of a ring over `chips` chips: each sends (n−1)/n of the bytes twice, in 2(n−1) messages; within a
    group first, then between the groups, where a group's share is spread over its chips."""
    rates = CHIPS[chip]
    inside = min(chips, rates.group)
    groups = math.ceil(chips / rates.group)
    far = _BETWEEN_TPU_SLICES if chip in _TPUS else rates.far
    time_ = _ring(size, inside, rates.near, rates.hop)
    return time_ + _ring(size / inside, groups, far, 10e-6)


def _ring(size, members, rate, hop):
    return 0.0 if members < 2 else 2 * (members - 1) * (size / members / rate + hop)


def measured(task: configs.ReidTask | configs.STCnetTask, work: Work, batch: int = 2, rounds: int = 3) -> dict:
    """The step here, and what its work and this CPU's rates predict for it."""
    rate, memory = matrix_rate(), _copy_rate()
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
            "measured": statistics.median(times[1:])}


def matrix_rate(size: int = 1024, dtype=jnp.float32) -> float:
    """Operations a second of a matrix product, measured here."""
    first = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a, b: a @ b)
    return 2 * size**3 / quickest(lambda: product(first, first))


def _copy_rate(count: int = 2**25) -> float:
    array = jnp.ones(count)
    add = jax.jit(lambda a: a + 1)
    return 8 * count / quickest(lambda: add(array))


def quickest(call, rounds: int = 5) -> float:
    """Seconds of the quickest of some calls, the first left out, which may compile."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    return min(times[1:])


def format_plan(predictions: Sequence[Prediction], steps: int) -> str:
    """A row for each pod."""
    rows = [[p.chip, p.chips, p.batch, f"{1000 * p.step:.2f}", p.limit, f"{p.batch / p.step:,.0f}",
             f"{p.efficiency:.0%}", f"{p.hours:.2f}"] for p in predictions]
    table = text_table(["", "chips", "batch", "step, ms", "limit", "examples/s", "efficiency", "hours"], rows)
    return f"{table}\nhours: of {steps:,} steps of the config's batch"


def format_hours(hours: dict[tuple[str, int], float]) -> str:
    """Hours of the whole recipe, a row for each number of chips."""
    chips = sorted({count for _, count in hours})
    return "\n" + text_table(["hours of the recipe", *CHIPS], [
        [f"{count} chips", *(f"{hours[name, count]:.2f}" for name in CHIPS)] for count in chips])


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
