"""Times the forms of temporal attention (`attention_forms`) in turns, and compares their results."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from tools import attention_forms as forms
from tools.attention_forms import BOUND, COMPILED, EAGER, FORMS, LITERAL, PARTS, Case, LeftOut, Program
from tools.attention_results import Row

FURTHEST = {"float32": 1e-4, "bfloat16": 5e-2}
"""The largest difference over the largest magnitude at which two results are of the same computation."""
_SAMPLE_SECONDS, _LEAST_ROUNDS = 0.02, 3

SMOKE = [Case(2, 8, 4, 8, 1), Case(1, 8, 4, 8, 2)]
ISSUE = [Case(8, 32, 16, 256, 1), Case(1, 64, 32, 256, 8)]
"""8 pairs of 32×16 positions, and 64×32 positions against 8 frames."""


@dataclass(frozen=True)
class Limits:
    """What one case may take.

    Attributes:
      memory: bytes of temporary memory above which a form is left out.
      longest_call: estimated seconds of a call above which a form is left out (never ours).
      repeats: rounds; fewer, but 3 at least, if they would take more than `case_seconds`.
      same: whether results that differ end the measurement; otherwise their difference is recorded.
    """

    memory: float
    longest_call: float = 4.0
    repeats: int = 15
    case_seconds: float = 25.0
    same: bool = True


def seconds(program: Program, calls: int) -> float:
    """Seconds of one call, in a row of `calls`."""
    start, out = time.perf_counter(), ()
    for _ in range(calls):
        out = program.call()
    program.wait(out)
    return (time.perf_counter() - start) / calls


def interleave(programs: Sequence[Program], limits: Limits) -> None:
    """Fills in every program's samples, round by round. Short programs are called several times in a row."""
    first = [seconds(program, 1) for program in programs]
    calls = [max(1, round(_SAMPLE_SECONDS / s)) for s in first]
    one_round = sum(s * n for s, n in zip(first, calls))
    for _ in range(min(limits.repeats, max(_LEAST_ROUNDS, int(limits.case_seconds / one_round)))):
        for program, n in zip(programs, calls):
            time.sleep(0.005)  # lets the busily waiting threads of the program before go to sleep
            program.samples.append(seconds(program, n))


def difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference over largest magnitude."""
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def measure(case: Case, dtype: str, limits: Limits, *, eager: str | None, compiled: str | None,
            only: Sequence[str] = FORMS) -> list[Row]:
    """One case's rows, in the order of FORMS and PARTS.

    Args:
      dtype: of the features, in every form.
      eager, compiled: why PyTorch is left out, eager and through torch.compile, or None.
      only: the forms to measure; PyTorch's and the literal one need the bound.

    Raises:
      SystemExit: the results of two forms differ, where `limits.same` requires them to be the same.
    """
    arrays, why_not = forms.features(case, dtype), {EAGER: eager, COMPILED: compiled}
    in_jax, in_torch = forms.JaxForms(case, arrays, limits.memory), None
    rows: list[Row] = []
    programs: list[tuple[Program, Row]] = []
    values, alone = {}, {}  # by part: the first form and its results; seconds of the products alone
    for form in only:
        for part in PARTS:
            row: Row = {"form": form, "part": part, "left_out": None}
            rows.append(row)
            try:
                if form in (LITERAL, EAGER, COMPILED):
                    estimate = forms.PATCH ** 2 * alone[part]  # these forms handle k·k times the numbers
                    if estimate > limits.longest_call:
                        raise LeftOut(f"takes about {estimate:.0f} s")
                if form in (EAGER, COMPILED):
                    if why := why_not[form]:
                        raise LeftOut(why)
                    in_torch = in_torch or forms.TorchForms(case, arrays, limits.memory)
                    program = in_torch.program(form, part)
                else:
                    program = in_jax.program(form, part)
            except LeftOut as error:
                row["left_out"] = str(error)
                continue
            out = program.call()
            if form == BOUND:
                alone[part] = seconds(program, 1)
            else:
                _compare(row, program.values(out), values, FURTHEST[dtype] if limits.same else None)
            programs.append((program, row))
    interleave([program for program, _ in programs], limits)
    for program, row in programs:
        samples = [1e3 * s for s in program.samples]
        row |= {"milliseconds": statistics.median(samples), "fastest": min(samples), "slowest": max(samples),
                "rounds": len(samples), "temporary_bytes": program.temporary}
    return rows


def _compare(row: Row, got: list[np.ndarray], values: dict[str, tuple[str, list[np.ndarray]]],
             furthest: float | None) -> None:
    """Records the difference to the first form's results, which `values` holds by part."""
    first, wanted = values.setdefault(row["part"], (row["form"], got))
    if first == row["form"]:
        return
    row["compared_with"], row["difference"] = first, max(map(difference, got, wanted))
    if furthest is not None and not row["difference"] <= furthest:  # also where it is NaN
        raise SystemExit(f"{row['part']} of '{row['form']}' differs from '{first}' by "
                         f"{row['difference']:.1e} of the largest value, so they are not timed.")


def device_memory_limit() -> float:
    """Bytes of temporary memory for a form: half of the device's; 2 GiB on CPU."""
    device = jax.devices()[0]
    stats = {} if device.platform == "cpu" else device.memory_stats() or {}
    return stats.get("bytes_limit", 4 * 2 ** 30) / 2
