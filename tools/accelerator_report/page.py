"""The report as Markdown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tools.accelerator_report.parity import KINDS
from tools.attention_results import RATIOS, cells

Report = Mapping[str, Any]


def page(report: Report) -> str:
    """The whole text, from what `figures.report_of` returns."""
    device = report["device"]
    sections = [f"# Accelerator report: {device['kind']}",
                f"`{report['command']}`, size `{report['size']}`. Times of steps and of the op are medians."]
    if device["platform"] == "cpu":
        sections.append("The device is the CPU: float32 is compared with itself, and no figure says anything of an "
                        "accelerator.")
    for title, content in (("Device and versions", _facts(report)), ("Missing parts", _missing(report)),
                           ("Aims", _aims(report)), ("Peaks", _peaks(report)), ("Parity with the CPU", _parity(report)),
                           ("The op", _op(report)), ("STCnet's training step", _steps(report)),
                           ("Locating and completing", _completing(report)), ("Memory and time", _memory(report))):
        text = "\n\n".join(content)
        if text:
            sections += [f"## {title}", text]
    return "\n\n".join(sections) + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; its first column to the left, the others to the right."""
    # Not `text_table`, which needs tabulate.
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _facts(report: Report) -> Iterator[str]:
    device = report["device"]
    memory = f"{device['memory_bytes'] / 2**30:.1f} GiB for JAX" if device["memory_bytes"] else "not counted"
    rows = [("devices", f"{device['count']} × {device['kind']} ({device['platform']}); one is measured"),
            ("memory", memory), ("runtime, as JAX reports it", device["runtime"]),
            ("host", f"{device['cpu']}, {device['cores']} cores"), *report["versions"].items(),
            *report["settings"].items()]
    yield markdown_table(("", ""), rows)


def _missing(report: Report) -> Iterator[str]:
    if report["missing"]:
        yield "\n".join(f"- `{part}` {why}" for part, why in report["missing"].items())
        yield "The same command on the same folder measures these, and keeps the rest."


def _aims(report: Report) -> Iterator[str]:
    rows = [(aim["what"], f"{aim['how']} {aim['wanted']:g}", f"{aim['got']:.2f}", "yes" if aim["met"] else "no")
            for aim in report["aims"]]
    if rows:
        yield markdown_table(("aim", "wanted", "measured", "met"), rows)


def _peaks(report: Report) -> Iterator[str]:
    found = _result(report, "peaks")
    rates = found.get("operations_per_second", {})
    names = {"bfloat16": "bfloat16", "float32": "float32, default precision", "float32_highest": "float32, highest"}
    rows = [(f"matrix product of {found['matrix']}², {names[name]}", f"{rate / 1e12:.4g} TFLOP/s")
            for name, rate in rates.items()]
    if "bytes_per_second" in found:
        rows.append(("copy", f"{found['bytes_per_second'] / 1e9:.4g} GB/s"))
    if rows:
        yield markdown_table(("", "measured"), rows)


def _parity(report: Report) -> Iterator[str]:
    found: dict[tuple[str, str], dict[str, str]] = {}
    for part in ("parity-op", "parity-networks", "parity-step"):
        for row in _result(report, part).get("rows", ()):
            mark = "pass" if row["pass"] else "**FAIL**"
            cell = f"{row['difference']:.1e} ≤ {row['bound']:g} {mark}" if row["pass"] else (
                f"{row['difference']:.1e} > {row['bound']:g} {mark}")
            found.setdefault((row["what"], row["measured"]), {})[row["kind"]] = cell
    if found:
        parity = report["parity"]
        yield (f"{parity['passed']} passed, {parity['failed']} failed. The reference is the CPU in float32. Largest "
               "difference over the largest magnitude; of the step's gradients, the difference's norm over the norm; "
               "of losses, over the larger of 1 and the magnitude.")
        yield markdown_table(("", "", *KINDS), [
            (what, measured, *(kinds.get(kind, "") for kind in KINDS)) for (what, measured), kinds in found.items()])


def _op(report: Report) -> Iterator[str]:
    for dtype in ("float32", "bfloat16"):
        for case in _result(report, f"attention-{dtype}").get("cases", ()):
            yield f"**{dtype}, {case['case']}**, blocks of {case['block_size']} rows" + (
                " (float32 without TF32)" if dtype == "float32" else "")
            yield markdown_table(*cells(case["rows"]))
            lines = []
            for form, other in RATIOS:
                times = [f"{row['times']:.2f} {row['part']}" for row in case["ratios"]
                         if (row["form"], row["to"]) == (form, other)]
                lines += [f"- {form} / {other}: {', '.join(times)}"] if times else []
            yield "\n".join(lines)


def _steps(report: Report) -> Iterator[str]:
    steps = report["steps"]
    if not steps:
        return
    yield ("float32 is at JAX's default precision, which is TF32 on NVIDIA's GPUs (in PyTorch too). The limit is what "
           "would take longer at the measured peaks: the operations, or the bytes, as XLA counts them.")
    yield markdown_table(
        ("step", "s", "examples/s", "GFLOP", "of the peak", "operations at the peak, s", "bytes at the peak, s",
         "limit", "temporary MB"),
        [(_name(step), _number(step["seconds"]), f"{step['examples_per_second']:.1f}",
          f"{step['operations'] / 1e9:.4g}", _share(step["share_of_peak"]), _number(step["computing_seconds"]),
          _number(step["memory_seconds"]), step["limit"] or "", f"{step['temporary_bytes'] / 1e6:.0f}")
         for step in steps])
    twins = [(_name(step), twin) for step in steps for twin in step["twin"]]
    if twins:
        yield markdown_table(("beside", "", "s", "times ours", "losses differ by"), [
            (name, twin["form"], twin["left_out"], "", "") if "left_out" in twin else
            (name, twin["form"], _number(twin["seconds"]), f"{twin['times_ours']:.2f}", f"{twin['difference']:.0e}")
            for name, twin in twins])
    shares = [step for step in steps if step["parts"]]
    if shares:
        names = list(dict.fromkeys(name for step in shares for name in step["parts"]))
        yield ("Parts of the step timed alone, so that the shares need not add up; the rest is activations, losses, "
               "Adam and copies:")
        yield markdown_table(("of the step", *names, "longest"), [
            (_name(step), *(_share(step["parts"].get(name)) for name in names),
             max(step["parts"], key=step["parts"].__getitem__)) for step in shares])


def _completing(report: Report) -> Iterator[str]:
    found = _result(report, "completing")
    rows = [(f"{what}, model `{model}`", row["crops"], f"{row['crops_per_second']:.1f}")
            for model, kinds in found.items() for what, row in kinds.items()]
    if rows:
        yield markdown_table(("", "crops", "crops/s"), rows)


def _memory(report: Report) -> Iterator[str]:
    rows = []
    for part, record in report["parts"].items():
        memory = record["memory"]
        peak = f"{memory['peak_bytes'] / 1e6:.0f}" if memory else "not counted"
        rows.append((f"`{part}`", record["status"], f"{record['seconds']:.0f}", peak))
    yield markdown_table(("part", "", "s", "JAX's peak of device memory, MB"), rows)


def _result(report: Report, part: str) -> Mapping[str, Any]:
    return report["parts"].get(part, {}).get("result", {})


def _name(step: Mapping[str, Any]) -> str:
    return (f"`{step['size']}`, {step['compute']}, {'with' if step['guider'] else 'without'} the guider, "
            f"batch {step['batch']}")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"
