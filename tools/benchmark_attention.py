"""Times the temporal attention op, other ways to the same result, and the matrix products that all of them need.

    python -m tools.benchmark_attention --output out-attention

In one process, for maps of several sizes: the op whole and in blocks of rows; equations (1) to (3) taken literally in
JAX; PyTorch's unfold and fold, eager and compiled; and a lower bound, the matrix products alone. Before anything is
timed, all results are compared. Times are medians of rounds in which each form has its turn; temporary memory is what
a form needs beside its inputs and results, as XLA and PyTorch count it. float32 is float32 on GPUs too (no TF32).

docs/attention.md has the figures to expect: for 8 pairs of 32×16 maps the op whole takes 1.0 times the products' time
forward, 1.6 with the backward pass. `--sizes smoke` tries it out.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from tools.attention_forms import Case
from tools.attention_results import RATIOS, draw, result_of, table
from tools.attention_timing import ISSUE, SMOKE, Limits, device_memory_limit, measure
from tools.machine import describe, warn_if_busy
from vrstc_jax.runtime import lock
from vrstc_jax.runtime.errors import require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.storage import replace_file

CASES = {
    "smoke": SMOKE,
    "issue": ISSUE,
    "all": [ISSUE[0], Case(8, 16, 8, 64, 1), Case(1, 32, 16, 256, 4), Case(1, 64, 32, 128, 1), ISSUE[1],
            Case(1, 128, 64, 256, 1)]}


@dataclass(frozen=True)
class Options:
    """The maps to time, the number of rounds, and the limits.

    Attributes:
      sizes: which maps; `issue` is 8 pairs of 32×16 at 256 channels, and 64×32 against 8 frames.
      dtype: of the features, in every form; sums are in float32 in JAX, and as PyTorch chooses there.
      repeats: rounds of each case; fewer, but 3 at least, if they would take more than 25 seconds.
      output: folder for benchmark.json and benchmark.png.
      torch: whether to time PyTorch, if it is installed.
      torch_compile: whether to time torch.compile too; on CPU only in the first case, because compiling is slow.
      memory_limit: GiB of temporary memory above which a form is left out. Default: 2 on CPU, half of the device's
        on others.
      longest_call: estimated seconds of a call above which a form is left out (never ours).
    """

    sizes: Literal["smoke", "issue", "all"] = "all"
    dtype: Literal["float32", "bfloat16"] = "float32"
    repeats: int = 15
    output: Path | None = None
    torch: bool = True
    torch_compile: bool = True
    memory_limit: float | None = None
    longest_call: float = 4.0


def main(arguments: list[str] | None = None) -> None:
    """Parses and calls `run`; bad options are one line and exit code 2."""
    run_as_command(lambda: run(tyro.cli(Options, prog="benchmark_attention", args=arguments, description=__doc__)))


def run(options: Options) -> None:
    """Measures the cases, prints each, and writes all at the end."""
    require_flags(options)
    require_range(options, "repeats", least=1)
    if options.output:
        lock.take(options.output)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory of the device too
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else PyTorch's profiler logs each start and stop
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", "highest")
    about, torch_why = describe(options.torch)
    title = _title(about, options)
    print(title)
    if torch_why:
        print(f"PyTorch is left out: {torch_why}.")
    warn_if_busy(about)
    memory = options.memory_limit * 2 ** 30 if options.memory_limit else device_memory_limit()

    results = []
    for case in CASES[options.sizes]:
        why_not = None
        if not options.torch_compile or (about["platform"] == "cpu" and results):
            why_not = "first case only" if options.torch_compile else "not asked for"
        rows = measure(case, options.dtype, Limits(memory, options.longest_call, options.repeats), eager=torch_why,
                       compiled=torch_why or why_not)
        results.append(result_of(case, rows))
        print(f"\n{case}; blocks of {case.block_size} rows; medians of {rows[0]['rounds']} rounds\n")
        print(table(rows), end="\n\n", flush=True)
        for form, other in RATIOS:
            parts = [f"{row['times']:.2f} {row['part']}" for row in results[-1]["ratios"]
                     if (row["form"], row["to"]) == (form, other)]
            if parts:
                print(f"{form} / {other}: {', '.join(parts)}")
    if options.output:
        written = {"device": about, "options": asdict(options) | {"output": str(options.output)}, "cases": results}
        replace_file(options.output / "benchmark.json", json.dumps(written, indent=1, ensure_ascii=False).encode())
        replace_file(options.output / "benchmark.png", draw(results, title))


def _title(about: dict[str, Any], options: Options) -> str:
    device = f"{about['cpu']}, {about['cores']} cores"
    if about["platform"] != "cpu":
        device = f"{about['device']} ({device})"
    torch = f"PyTorch {about['torch']} on {about['torch_device']}" if about["torch"] else "no PyTorch"
    return f"{options.dtype} on {device}; JAX {about['jax']}, {torch}"


if __name__ == "__main__":
    main()
