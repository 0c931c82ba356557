"""Measures one part of the report in this process: `python -m tools.accelerator_report.child PART SIZE FILE`.

FILE, JSON, is written again whenever there is more of the result: {'status', 'why', 'seconds', 'result', 'memory'}.
"""

import json
import os
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

import jax

from tools.accelerator_report.plan import SIZES
from tools.attention_forms import LeftOut
from vrstc_jax.runtime.compilation_cache import enable_compilation_cache
from vrstc_jax.runtime.storage import write_whole

MEASURES: dict[str, tuple[str, str, dict[str, str]]] = {
    "device": ("facts", "measure", {}),
    "peaks": ("peaks", "measure", {}),
    "attention-float32": ("attention", "measure", {"dtype": "float32"}),
    "attention-bfloat16": ("attention", "measure", {"dtype": "bfloat16"}),
    "parity-op": ("parity", "measure_op", {}),
    "parity-networks": ("parity", "measure_networks", {}),
    "parity-step": ("parity", "measure_step", {}),
    "training-bfloat16": ("training", "measure", {"compute": "bfloat16"}),
    "training-float32": ("training", "measure", {"compute": "float32"}),
    "training-as_published": ("training", "measure_as_published", {}),
    "step-parts": ("training", "measure_parts", {}),
    "twin-bfloat16": ("training", "measure_twin", {"compute": "bfloat16"}),
    "twin-float32": ("training", "measure_twin", {"compute": "float32"}),
    "completing": ("completing", "measure", {}),
}
"""(module, function, its options) of each part; the function yields the part's result, which grows from one item to the
next. A part imports its module alone, so that a library that one part lacks costs no other part."""


def main(part: str, size: str, path: Path) -> None:
    """Measures a part; its failure is in the file, and is no failure of the process."""
    began, result, status, why = time.perf_counter(), {}, "stopped", None
    module, function, options = MEASURES[part]

    def write() -> None:
        record = {"status": status, "why": why, "seconds": time.perf_counter() - began, "result": result,
                  "memory": _memory()}
        write_whole(path, json.dumps(record, indent=1).encode())

    try:
        enable_compilation_cache()
        jax.config.update("jax_disable_most_optimizations", SIZES[size].quick)
        measure = getattr(import_module(f"tools.accelerator_report.{module}"), function)
        for found in measure(SIZES[size], **options):
            result = found
            write()
        status = "done"
    except LeftOut as error:
        status, why = "left out", str(error)
    except (Exception, SystemExit) as error:  # whatever it is, the other parts go on
        lines = str(error).strip().splitlines() or [""]
        status, why = "failed", f"{type(error).__name__}: {lines[0][:300]}"
        traceback.print_exc()  # all of it into the log
    write()


def _memory() -> dict[str, int] | None:
    """{'peak_bytes', 'limit_bytes'} of this process on the device; None where the device does not count them."""
    try:
        found = jax.devices()[0].memory_stats() or {}
    except RuntimeError:  # no device
        return None
    if "peak_bytes_in_use" not in found:
        return None
    return {"peak_bytes": found["peak_bytes_in_use"], "limit_bytes": found.get("bytes_limit", 0)}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # PyTorch's compilers may keep threads alive
