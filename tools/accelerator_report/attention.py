"""The op's table, as `tools.benchmark_attention` measures it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax

from tools.accelerator_report.plan import Size
from tools.attention_forms import BOUND, COMPILED, WHOLE
from tools.attention_results import result_of
from tools.attention_timing import Limits, device_memory_limit
from tools.attention_timing import measure as timed
from tools.machine import describe

_LATER = "not reached"


def measure(size: Size, dtype: str) -> Iterator[dict[str, Any]]:
    """{'dtype', 'cases'}, each case as in the benchmark's file; torch.compile, which takes longest, comes last.

    float32 is float32 on all devices (no TF32).
    """
    jax.config.update("jax_default_matmul_precision", "highest")
    about, why = describe(with_torch=True)
    limits = Limits(device_memory_limit(), case_seconds=8, same=False)
    if size.quick:
        limits = replace(limits, repeats=3)
    cases = []
    for case in size.cases:
        cases.append((case, timed(case, dtype, limits, eager=why, compiled=why or _LATER)))
        yield _result(dtype, cases)
    if why:
        return
    for i, (case, rows) in enumerate(cases):
        # torch.compile takes a minute on CPUs.
        skipped = "not at this size" if size.quick else (
            "first case only" if about["platform"] == "cpu" and i else None)
        again = [] if skipped else timed(case, dtype, limits, eager=None, compiled=None,
                                         only=(BOUND, WHOLE, COMPILED))
        compiled = [row for row in again if row["form"] == COMPILED] or [
            row | {"left_out": skipped} for row in rows if row["form"] == COMPILED]
        cases[i] = case, [row for row in rows if row["form"] != COMPILED] + compiled
        yield _result(dtype, cases)


def _result(dtype: str, cases: list) -> dict[str, Any]:
    return {"dtype": dtype, "cases": [result_of(case, rows) for case, rows in cases]}
