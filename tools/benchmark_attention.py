"""Times the temporal attention op, beside other ways to the same result and the least that there is to do.

    python -m tools.benchmark_attention --output out-attention

In one process and one run, for maps of several sizes: the op whole and in blocks of rows; equations (1) to
(3) taken literally in JAX, patches cut out; PyTorch's unfold and fold, eager and compiled; and the bound, the
matrix products alone. Before anything is timed, all results are compared. Times are medians of rounds in
which every form has its turn; temporary memory is what a form needs beside its inputs and results, as XLA
and PyTorch count it. All sizes take some minutes on two CPU cores. float32 is float32 on GPUs too (no
TF32).
"""

import io
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro

from tools.attention_forms import (
    BLOCKED,
    BOUND,
    COMPILED,
    EAGER,
    FORMS,
    LITERAL,
    PARTS,
    PATCH,
    WHOLE,
    Case,
    JaxForms,
    LeftOut,
    TorchForms,
    features,
)
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import replace_file, require_writable_directory

# Which form's time is told as how many times which other's.
RATIOS = ((WHOLE, BOUND), (BLOCKED, BOUND), (BLOCKED, WHOLE),
          (EAGER, WHOLE), (COMPILED, WHOLE), (LITERAL, WHOLE))

# Results further apart than this, largest difference over largest magnitude, are not the same computation.
FURTHEST = {"float32": 1e-4, "bfloat16": 5e-2}
_SAMPLE_SECONDS, _CASE_SECONDS, _LEAST_ROUNDS = 0.02, 25, 3

ISSUE = [Case(8, 32, 16, 256, 1), Case(1, 64, 32, 256, 8)]
CASES = {
    "smoke": [Case(2, 8, 4, 8, 1), Case(1, 8, 4, 8, 2)],
    "issue": ISSUE,
    "all": [ISSUE[0], Case(8, 16, 8, 64, 1), Case(1, 32, 16, 256, 4), Case(1, 64, 32, 128, 1), ISSUE[1],
            Case(1, 128, 64, 256, 1)],
}


@dataclass(frozen=True)
class Options:
    """What to time, and how long.

    Attributes:
      sizes: which maps; `issue` is 8 pairs of 32×16 at 256 channels, and 64×32 against 8 frames.
      dtype: of features, in every form; sums are in float32 in JAX, and as PyTorch has them there.
      repeats: rounds of each case; fewer, but 3 at least, where they would take more than 25 seconds.
      output: folder for benchmark.json and benchmark.png.
      torch: whether PyTorch is timed, if it is there.
      torch_compile: whether torch.compile is too; on CPU only in the first case, as it takes a minute.
      memory_limit: GiB of temporary memory that a form may need, else it is left out. Default: 2 on CPU, half
        of the device's on others.
      longest_call: seconds that one call may take by estimate, else the form is left out (never ours).
    """

    sizes: Literal["smoke", "issue", "all"] = "all"
    dtype: Literal["float32", "bfloat16"] = "float32"
    repeats: int = 15
    output: Path | None = None
    torch: bool = True
    torch_compile: bool = True
    memory_limit: float | None = None
    longest_call: float = 4.0


# Timing.


def seconds(program, calls):
    """Of one call, in a row of `calls`."""
    start = time.perf_counter()
    for _ in range(calls):
        out = program.call()
    program.wait(out)
    return (time.perf_counter() - start) / calls


def interleave(programs, repeats):
    """Fills in every program's samples, round by round. Short programs are called several times in a row."""
    once = [seconds(program, 1) for program in programs]
    calls = [max(1, round(_SAMPLE_SECONDS / s)) for s in once]
    one_round = sum(s * n for s, n in zip(once, calls))
    for _ in range(min(repeats, max(_LEAST_ROUNDS, int(_CASE_SECONDS / one_round)))):
        for program, n in zip(programs, calls):
            time.sleep(0.005)  # idle threads of the one before, which wait busily for more, go to sleep
            program.samples.append(seconds(program, n))


def difference(got, wanted):
    """Largest difference over largest magnitude."""
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def measure(case, options, torch_why, limit):
    """One case's rows, a dict for each form and part, in order of FORMS and PARTS."""
    arrays = features(case, options.dtype)
    in_jax, in_torch = JaxForms(case, arrays, limit), None
    rows, programs, values, alone = [], [], {}, {}
    for form in FORMS:
        for part in PARTS:
            row = {"form": form, "part": part, "left_out": None}
            rows.append(row)
            try:
                if form in (LITERAL, EAGER, COMPILED):
                    _check_time(PATCH ** 2 * alone[part], options.longest_call)
                if form in (EAGER, COMPILED):
                    _check_torch(form, case, options, torch_why)
                    in_torch = in_torch or TorchForms(case, arrays, limit)
                program = (in_torch if form in (EAGER, COMPILED) else in_jax).program(form, part)
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


def _compare(row, got, values, furthest):
    """With the first form's; `values` has these, by part."""
    first, wanted = values.setdefault(row["part"], (row["form"], got))
    if first == row["form"]:
        return
    row["compared_with"], row["difference"] = first, max(map(difference, got, wanted))
    if not row["difference"] <= furthest:
        raise SystemExit(f"{row['part']} of '{row['form']}' differs from '{first}' by "
                         f"{row['difference']:.1e} of the largest value; there is nothing to time.")


def _check_time(estimate, longest):
    if estimate > longest:
        raise LeftOut(f"takes about {estimate:.0f} s")


def _check_torch(form, case, options, why):
    if why:
        raise LeftOut(why)
    if form == COMPILED and not options.torch_compile:
        raise LeftOut("not asked for")
    if form == COMPILED and jax.default_backend() == "cpu" and case != CASES[options.sizes][0]:
        raise LeftOut("first case only")


# Telling.


def device(with_torch):
    """What it runs on: a dict for the JSON file, and the reason why PyTorch is left out, if it is."""
    first = jax.devices()[0]
    about = {"device": first.device_kind, "platform": first.platform, "cpu": _cpu_model(),
             "cores": os.cpu_count(), "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0,
             "python": platform.python_version(), "jax": jax.__version__, "torch": None}
    if not with_torch:
        return about, "not asked for"
    try:
        import torch
    except ImportError:
        return about, "not installed"
    if first.platform != "cpu" and not (first.platform == "gpu" and torch.cuda.is_available()):
        return about, "has no device like JAX's"
    about |= {"torch": torch.__version__, "torch_threads": torch.get_num_threads(),
              "torch_device": "cpu" if first.platform == "cpu" else torch.cuda.get_device_name()}
    return about, None


def _title(about, options):
    device = f"{about['cpu']}, {about['cores']} cores"
    if about["platform"] != "cpu":
        device = f"{about['device']} ({device})"
    torch = f"PyTorch {about['torch']} on {about['torch_device']}" if about["torch"] else "no PyTorch"
    return f"{options.dtype} on {device}; JAX {about['jax']}, {torch}"


def _cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(rows):
    """Markdown: a line for each form."""
    cells = [["", *(cell for part in PARTS for cell in (f"{part}, ms", "× products", "MB")), "difference"]]
    for form in FORMS:
        here = {row["part"]: row for row in rows if row["form"] == form}
        line = [form]
        for part in PARTS:
            row = here[part]
            if row["left_out"]:
                line += [row["left_out"], "", ""]
                continue
            times = row["milliseconds"] / _find(rows, BOUND, part)["milliseconds"]
            line += [_short(row["milliseconds"]), f"{times:.2f}", _short(row["temporary_bytes"] / 1e6)]
        differences = [row["difference"] for row in here.values() if "difference" in row]
        cells.append([*line, f"{max(differences):.1e}" if differences else ""])
    cells.insert(1, ["---"] * len(cells[0]))
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |" for line in cells)


def _short(number):
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def ratios(rows):
    """(form, other, part) to how many times the other's time a form takes."""
    found = {}
    for form, other in RATIOS:
        for part in PARTS:
            a, b = _find(rows, form, part), _find(rows, other, part)
            if not a["left_out"] and not b["left_out"]:
                found[form, other, part] = a["milliseconds"] / b["milliseconds"]
    return found


def _find(rows, form, part):
    return next(row for row in rows if row["form"] == form and row["part"] == part)


def draw(results, title):
    """The plot as PNG bytes."""
    from matplotlib.figure import Figure

    panels = [(part, f"{part}, ms", "milliseconds", 1) for part in PARTS]
    panels += [(part, f"{part}, temporary MB", "temporary_bytes", 1e-6) for part in PARTS]
    figure = Figure((14, 1.5 + 1.5 * len(results)), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for axes, (part, label, key, unit) in zip(figure.subplots(1, 4, sharey=True), panels):
        for i, form in enumerate(FORMS):
            colour = "black" if form == BOUND else f"C{i}"
            at = np.arange(len(results)) + (i - (len(FORMS) - 1) / 2) / (len(FORMS) + 1)
            found = [(y, _find(result["rows"], form, part)) for y, result in zip(at, results)]
            points = [(row[key] * unit, y) for y, row in found if not row["left_out"]]
            axes.plot(*(np.array(points).T if points else ([], [])), "o", color=colour, label=form)
            for x, y in points:
                axes.annotate(_short(x), (x, y), (6, 0), textcoords="offset points", fontsize=7, va="center")
            for y, row in found:
                if row["left_out"]:
                    axes.annotate(row["left_out"], (0.02, y), xycoords=("axes fraction", "data"), fontsize=7,
                                  va="center", color=colour)
        axes.set(xscale="log", title=label, yticks=range(len(results)), ylim=(len(results) - 0.5, -0.5),
                 yticklabels=[result["case"].replace(", ", "\n") for result in results])
        for between in np.arange(1, len(results)) - 0.5:
            axes.axhline(between, color="lightgrey", lw=0.8)
        axes.margins(x=0.2)
        axes.tick_params("y", length=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(FORMS),
                  frameon=False)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return written.getvalue()


def main(arguments: list[str] | None = None) -> None:
    """Parses, measures, prints, writes."""
    options = tyro.cli(Options, prog="benchmark_attention", args=arguments, description=__doc__)
    try:
        if options.repeats < 1:
            raise InputError(f"--repeats {options.repeats}: give 1 or more.")
        if options.output:
            require_writable_directory(options.output)
        run(options)
    except InputError as error:
        print(f"benchmark_attention: {error}", file=sys.stderr)
        sys.exit(2)


def run(options: Options) -> None:
    """Measures what `options` say, prints it as it comes, and writes it at the end."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory of the device too
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # PyTorch's profiler says when it starts and stops
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", "highest")
    about, torch_why = device(options.torch)
    title = _title(about, options)
    print(title)
    if torch_why:
        print(f"PyTorch is left out: {torch_why}.")
    if about["load_average"] > about["cores"] / 4:
        print(f"Something else is running (load average {about['load_average']:.1f}): times mean little, "
              "PyTorch's least, whose threads wait for each other.")
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
            told = [f"{value:.2f} {part}" for (*pair, part), value in times.items() if pair == [form, other]]
            if told:
                print(f"{form} / {other}: {', '.join(told)}")
    if options.output:
        _write(options, about, title, results)


def _write(options, about, title, results):
    settings = asdict(options) | {"output": str(options.output)}
    written = {"device": about, "options": settings, "cases": results}
    written = json.dumps(written, indent=1, ensure_ascii=False).encode()
    replace_file(options.output / "benchmark.json", written)
    replace_file(options.output / "benchmark.png", draw(results, title))


def _memory_limit():
    device = jax.devices()[0]
    stats = {} if device.platform == "cpu" else device.memory_stats() or {}
    return stats.get("bytes_limit", 4 * 2 ** 30) / 2


if __name__ == "__main__":
    main()
