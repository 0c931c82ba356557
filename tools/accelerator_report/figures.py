"""What follows from the measured parts: the step's share of the peak and what limits it, and the aims."""

from collections.abc import Iterator, Mapping
from typing import Any

from tools.attention_forms import BOUND, COMPILED, EAGER, WHOLE

Record = Mapping[str, Any]
AIMS = {(EAGER, WHOLE): ("at least", 10.0), (COMPILED, WHOLE): ("at least", 3.0), (WHOLE, BOUND): ("at most", 2.0)}
"""Of the op: (form, other): the form's time as a multiple of the other's."""
STEP_AIM = 0.4
"""Share of the matrix peak that a step in bfloat16 should reach."""
_TRAININGS = ("training-bfloat16", "training-float32", "training-as_published")


def report_of(about: Mapping[str, Any], size: str, records: Mapping[str, Record]) -> dict[str, Any]:
    """All of the report, as report.json has it.

    Args:
      about: as `facts.measure` yields it.
      records: of the parts; {'status', 'why', 'seconds', 'result', 'memory'} each.
    """
    steps = [step for part in _TRAININGS for step in _steps(part, records)]
    rows = [row for part, record in records.items() if part.startswith("parity-")
            for row in record["result"].get("rows", ())]
    return {"command": "python -m tools.accelerator_report", **about, "size": size,
            "missing": {part: f"{record['status']}: {record['why']}" for part, record in records.items()
                        if record["status"] != "done"},
            "parity": {"passed": sum(row["pass"] for row in rows), "failed": sum(not row["pass"] for row in rows)},
            "aims": [*_attention_aims(records), *_step_aims(steps)], "steps": steps, "parts": dict(records)}


def _attention_aims(records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    for part, record in records.items():
        if not part.startswith("attention-"):
            continue
        for case in record["result"].get("cases", ()):
            times = {(row["form"], row["to"], row["part"]): row["times"] for row in case["ratios"]}
            for (form, other, direction), got in times.items():
                if (form, other) in AIMS:
                    how, wanted = AIMS[form, other]
                    yield {"what": f"op, {case['case']}, {record['result']['dtype']}, {direction}: "
                                   f"{form} / {other}", "how": how, "wanted": wanted, "got": got,
                           "met": got >= wanted if how == "at least" else got <= wanted}


def _step_aims(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for step in steps:
        if step["compute"] == "bfloat16" and (share := step["share_of_peak"]) is not None:
            guider = "with" if step["guider"] else "without"
            yield {"what": f"step, {step['size']}, bfloat16, {guider} the guider: share of the matrix peak",
                   "how": "at least", "wanted": STEP_AIM, "got": share, "met": share >= STEP_AIM}


def _steps(part: str, records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    """The timed steps of a part: with their share of the measured peak, what limits them, and the twin's times."""
    found = records.get(part, {}).get("result", {})
    peaks = records.get("peaks", {}).get("result", {})
    cases = found.get("cases", [])
    for case in cases:
        compute = found["compute"]
        peak, bandwidth = peaks.get("operations_per_second", {}).get(compute), peaks.get("bytes_per_second")
        computing = case["operations"] / peak if peak else None
        memory = case["bytes"] / bandwidth if bandwidth and case["bytes"] else None
        step = {"part": part, "size": found["size"], "compute": compute, "batch": found["batch"],
                **{name: value for name, value in case.items() if name != "metrics"},
                "share_of_peak": computing and computing / case["seconds"],
                "computing_seconds": computing, "memory_seconds": memory, "limit": None, "twin": [], "parts": None}
        if computing and memory:
            step["limit"] = "computing" if computing >= memory else "memory"
        if part != "training-as_published":
            step["twin"] = [_beside(twin, case) for twin in records.get(f"twin-{compute}", {}).get(
                "result", {}).get("cases", ()) if twin["guider"] == case["guider"]]
            step["parts"] = _parts(case, cases, records.get("step-parts", {}).get("result", {}).get(compute))
        yield step


def _beside(twin: Mapping[str, Any], case: Mapping[str, Any]) -> dict[str, Any]:
    """The twin's time as a multiple of ours, and the largest difference of a loss of the first step."""
    if "seconds" not in twin:
        return {"form": twin["form"], "left_out": twin["left_out"]}
    apart = [abs(twin["metrics"][name] - value) / max(1.0, abs(value)) for name, value in case["metrics"].items()]
    return {"form": twin["form"], "seconds": twin["seconds"], "times_ours": twin["seconds"] / case["seconds"],
            "difference": max(apart)}


def _parts(case: Mapping[str, Any], cases: list[Mapping[str, Any]], alone: Mapping | None) -> dict[str, float] | None:
    """{part: its share of the step}; the rest is activations, losses, Adam and copies."""
    if not alone:
        return None
    seconds = {name: part["seconds"] for name, part in alone.items()}
    if case["guider"]:
        without = next(other["seconds"] for other in cases if not other["guider"])
        seconds["guider"] = case["seconds"] - without
    seconds["the rest"] = case["seconds"] - sum(seconds.values())
    return {name: value / case["seconds"] for name, value in seconds.items()}
