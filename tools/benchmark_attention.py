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
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

from tools import attention_forms as forms
from tools.attention_forms import BOUND, COMPILED, EAGER, FORMS, LITERAL, PARTS, Case, LeftOut, Program
from tools.attention_results import RATIOS, Row, draw, ratios, table
from tools.machine import describe, warn_if_busy
from vrstc_jax.runtime.errors import require_range
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.storage import replace_file, require_writable_directory

FURTHEST = {"float32": 1e-4, "bfloat16": 5e-2}
"""The largest difference over the largest magnitude at which two results are of the same computation."""
_SAMPLE_SECONDS, _CASE_SECONDS, _LEAST_ROUNDS = 0.02, 25, 3

ISSUE = [Case(8, 32, 16, 256, 1), Case(1, 64, 32, 256, 8)]
CASES = {
    "smoke": [Case(2, 8, 4, 8, 1), Case(1, 8, 4, 8, 2)],
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


def seconds(program: Program, calls: int) -> float:
    """Seconds of one call, in a row of `calls`."""
    start, out = time.perf_counter(), ()
    for _ in range(calls):
        out = program.call()
    program.wait(out)
    return (time.perf_counter() - start) / calls


def interleave(programs: Sequence[Program], repeats: int) -> None:
    """Fills in every program's samples, round by round. Short programs are called several times in a row."""
    first = [seconds(program, 1) for program in programs]
    calls = [max(1, round(_SAMPLE_SECONDS / s)) for s in first]
    one_round = sum(s * n for s, n in zip(first, calls))
    for _ in range(min(repeats, max(_LEAST_ROUNDS, int(_CASE_SECONDS / one_round)))):
        for program, n in zip(programs, calls):
            time.sleep(0.005)  # lets the busily waiting threads of the program before go to sleep
            program.samples.append(seconds(program, n))


def difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference over largest magnitude."""
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def measure(case: Case, options: Options, torch_why: str | None, limit: float) -> list[Row]:
    """One case's rows, in the order of FORMS and PARTS.

    Args:
      torch_why: why PyTorch is left out, or None.
      limit: bytes of temporary memory above which a form is left out.
    """
    arrays = forms.features(case, options.dtype)
    in_jax, in_torch = forms.JaxForms(case, arrays, limit), None
    rows: list[Row] = []
    programs: list[tuple[Program, Row]] = []
    values, alone = {}, {}  # by part: the first form and its results; seconds of the products alone
    for form in FORMS:
        for part in PARTS:
            row: Row = {"form": form, "part": part, "left_out": None}
            rows.append(row)
            try:
                if form in (LITERAL, EAGER, COMPILED):
                    estimate = forms.PATCH ** 2 * alone[part]  # these forms handle k·k times the numbers
                    if estimate > options.longest_call:
                        raise LeftOut(f"takes about {estimate:.0f} s")
                if form in (EAGER, COMPILED):
                    _check_torch(form, case, options, torch_why)
                    in_torch = in_torch or forms.TorchForms(case, arrays, limit)
                    program = in_torch.program(form, part)
                else:
                    program = in_jax.program(form, part)
            except LeftOut as why:
                row["left_out"] = str(why)
                continue
            out = program.call()
            if form == BOUND:
                alone[part] = seconds(program, 1)
            else:
                _compare(row, program.values(out), values, FURTHEST[options.dtype])
            programs.append((program, row))
    interleave([program for program, _ in programs], options.repeats)
    for program, row in programs:
        samples = [1e3 * s for s in program.samples]
        row |= {"milliseconds": statistics.median(samples), "fastest": min(samples), "slowest": max(samples),
                "rounds": len(samples), "temporary_bytes": program.temporary}
    return rows


def _compare(row: Row, got: list[np.ndarray], values: dict[str, tuple[str, list[np.ndarray]]], furthest: float) -> None:
    """Records the difference to the first form's results, which `values` holds by part."""
    first, wanted = values.setdefault(row["part"], (row["form"], got))
    if first == row["form"]:
        return
    row["compared_with"], row["difference"] = first, max(map(difference, got, wanted))
    if not row["difference"] <= furthest:  # also where it is NaN
        raise SystemExit(f"{row['part']} of '{row['form']}' differs from '{first}' by "
                         f"{row['difference']:.1e} of the largest value, so they are not timed.")


def _check_torch(form: str, case: Case, options: Options, why: str | None) -> None:
    if why:
        raise LeftOut(why)
    if form == COMPILED and not options.torch_compile:
        raise LeftOut("not asked for")
    if form == COMPILED and jax.default_backend() == "cpu" and case != CASES[options.sizes][0]:
        raise LeftOut("first case only")


def main(arguments: list[str] | None = None) -> None:
    """Parses and calls `run`; bad options are one line and exit code 2."""
    run_as_command(lambda: run(tyro.cli(Options, prog="benchmark_attention", args=arguments, description=__doc__)))


def run(options: Options) -> None:
    """Measures the cases, prints each, and writes all at the end."""
    require_range(options, "repeats", least=1)
    if options.output:
        require_writable_directory(options.output)
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
    limit = options.memory_limit * 2 ** 30 if options.memory_limit else _memory_limit()

    results = []
    for case in CASES[options.sizes]:
        rows = measure(case, options, torch_why, limit)
        times = ratios(rows)
        results.append({"case": str(case), **case._asdict(), "block_size": case.block_size, "rows": rows,
                        "ratios": [{"form": form, "to": other, "part": part, "times": value}
                                   for (form, other, part), value in times.items()]})
        print(f"\n{case}; blocks of {case.block_size} rows; medians of {rows[0]['rounds']} rounds\n")
        print(table(rows), end="\n\n", flush=True)
        for form, other in RATIOS:
            parts = [f"{value:.2f} {part}" for (*pair, part), value in times.items() if pair == [form, other]]
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


def _memory_limit() -> float:
    device = jax.devices()[0]
    stats = {} if device.platform == "cpu" else device.memory_stats() or {}
    return stats.get("bytes_limit", 4 * 2 ** 30) / 2


if __name__ == "__main__":
    main()
