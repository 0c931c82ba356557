"""The report of an accelerator, on a CPU at smoke size: what it needs, what it writes, and what a failure costs."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from tools.accelerator_report import child, figures, page, parity, run
from tools.accelerator_report.__main__ import main, parsed
from tools.accelerator_report.plan import PARTS, SIZES
from tools.attention_forms import FORMS
from vrstc_jax.runtime.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("peaks", "attention-float32", "parity-op", "completing")

# At the start of each interpreter: imports of modules in HIDDEN_MODULES are refused, and those in ACTIONS do harm.
_SITE = """
import json, os, sys
HIDDEN = set(json.loads(os.environ.get("HIDDEN_MODULES", "[]")))
ACTIONS = json.loads(os.environ.get("ACTIONS", "{}"))

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in ACTIONS:
            exec(ACTIONS[name])

sys.meta_path.insert(0, Finder())
"""


@pytest.fixture
def report(tmp_path, compiled):
    """Runs the command in a process: (exit code, what it printed, on stderr, report.json or None)."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SITE)
    folder = tmp_path / "report"

    def call(*words, hidden=(), actions=None):
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": compiled, "HIDDEN_MODULES": json.dumps(sorted(hidden)),
            "ACTIONS": json.dumps(actions or {}), "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
        done = subprocess.run([sys.executable, "-m", "tools.accelerator_report", "--output", str(folder), *words],
                              cwd=ROOT, env=environment, capture_output=True, text=True)
        written = folder / "report.json"
        return done.returncode, done.stdout, done.stderr, json.loads(written.read_text()) if written.exists() else None

    return call


def normalised(name):
    return re.sub("[-_.]+", "-", name).lower()


def unneeded_modules():
    """Top-level modules of all installed distributions but jax, flax, optax, numpy and what these require."""
    needed, todo = set(), ["jax", "flax", "optax", "numpy"]
    while todo:
        name = normalised(todo.pop())
        if name in needed:
            continue
        try:
            requirements = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        needed.add(name)
        todo += [r.name for r in map(Requirement, requirements) if r.marker is None or r.marker.evaluate({"extra": ""})]
    modules = importlib.metadata.packages_distributions()
    assert {"cv2", "tyro", "tabulate"} <= set(modules) and "tabulate" not in needed
    return {module for module, owners in modules.items()
            if not needed & set(map(normalised, owners))} - {"vrstc_jax", "tools", "experiments", "tests"}


@pytest.fixture
def hidden():
    return unneeded_modules()


@pytest.mark.slow
def test_it_needs_no_more_than_jax_flax_optax_and_numpy(report, hidden):
    code, printed, error, written = report("--parts", *QUICK, hidden=hidden)
    assert code == 0, error
    assert written["parts"]["completing"]["status"] == "left out"
    assert "`completing` left out: cv2 is not installed; locating and completing need OpenCV" in printed
    assert all(written["parts"][part]["status"] == "done" for part in QUICK if part != "completing"), printed
    assert "torch" not in written["versions"] and written["parity"]["failed"] == 0 < written["parity"]["passed"]
    # All that parts import, also those that this test does not run.
    names = {f"tools.accelerator_report.{module}" for module, *_ in child.MEASURES.values()}
    loads = f"import sys, {', '.join(sorted(names))}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", loads], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {module.partition(".")[0] for module in loaded.split()} & {
        "cv2", "tyro", "tabulate", "PIL", "grain", "tqdm", "safetensors", "matplotlib", "torch", "jinja2", "h5py", "av"}


@pytest.mark.slow
def test_all_parts_run_without_other_packages(report, hidden):
    code, printed, error, written = report("--minutes", "30", hidden=hidden)
    assert code == 0, error
    unmeasured = {"completing", "twin-float32", "twin-bfloat16"}
    assert set(written["missing"]) == unmeasured, written["missing"]
    assert all(written["missing"][part].startswith("left out: ") for part in unmeasured)


@pytest.mark.slow
def test_all_parts_run_and_their_figures_are_sound(report, torch):
    code, printed, error, written = report("--minutes", "30")
    assert code == 0 and not written["missing"], error
    assert list(written["parts"]) == list(PARTS) and written["size"] == "smoke"
    assert written["parity"]["failed"] == 0
    rows = [row for part in ("parity-op", "parity-networks", "parity-step")
            for row in written["parts"][part]["result"]["rows"]]
    assert {row["kind"] for row in rows} == set(parity.KINDS) and len({row["what"] for row in rows}) == 2 + 5 + 3
    # bfloat16 keeps 8 bits: it must differ, by more than float32 would.
    assert all(row["difference"] > 1e-6 for row in rows if row["kind"] == "bfloat16")
    peaks = written["parts"]["peaks"]["result"]["operations_per_second"]
    assert [step["guider"] for step in written["steps"]] == 3 * [False, True]
    for step in written["steps"]:
        assert step["share_of_peak"] == pytest.approx(step["operations"] / step["seconds"] / peaks[step["compute"]])
        assert 0 < step["share_of_peak"] < 1 and step["limit"] in ("computing", "memory")
        assert step["examples_per_second"] == pytest.approx(8 / step["seconds"])
        assert step["temporary_bytes"] > 0
    for step in written["steps"][:4]:
        eager, compiled_form = step["twin"]
        assert eager["difference"] <= {"float32": 1e-3, "bfloat16": 3e-2}[step["compute"]]
        assert compiled_form["left_out"] == "not at this size"
        assert sum(step["parts"].values()) == pytest.approx(1) and ("guider" in step["parts"]) == step["guider"]
    for title in ("Aims", "Peaks", "Parity with the CPU", "The op", "STCnet's training step", "Memory and time"):
        assert f"## {title}\n" in printed


@pytest.mark.slow
def test_a_failing_part_costs_only_itself_and_is_measured_again(report):
    crash = {"tools.accelerator_report.peaks": "os.abort()",
             "tools.accelerator_report.completing": "raise MemoryError('out of memory')"}
    words = "--parts", "peaks", "completing", "parity-op"
    code, printed, error, written = report(*words, actions=crash)
    assert code == 0, error
    assert written["parts"]["parity-op"]["status"] == "done"
    assert written["missing"]["peaks"].startswith("failed: ended with exit code -6: ")
    assert written["missing"]["completing"] == "failed: MemoryError: out of memory"
    assert written["missing"]["twin-float32"] == "left out: not asked for"
    assert "`completing` failed: MemoryError: out of memory" in printed
    code, printed, error, again = report("--parts", "peaks", "parity-op")
    assert code == 0, error
    assert "peaks: done" in printed and "parity-op: done" not in printed
    assert again["parts"]["parity-op"] == written["parts"]["parity-op"]
    assert "peaks" not in again["missing"] and again["missing"]["completing"] == written["missing"]["completing"]
    # A product of n² matrices takes 2n³ operations, and this machine does between 1 GFLOP/s and 100 TFLOP/s.
    peaks = again["parts"]["peaks"]["result"]
    assert peaks["matrix"] == SIZES["smoke"].matrix and set(peaks["operations_per_second"]) == {
        "bfloat16", "float32", "float32_highest"}
    assert all(1e9 < rate < 1e14 for rate in peaks["operations_per_second"].values())
    # Other settings are another report, which is not mixed with this one.
    code, _, error, same = report("--size", "full")
    assert code == 2 and error.count("\n") == 1 and "--anew" in error and same == again


@pytest.mark.slow
def test_a_time_limit_leaves_parts_out_and_says_so(report):
    sleep = {"tools.accelerator_report.completing": "import time; time.sleep(600)"}
    code, printed, error, written = report("--minutes", "0.35", "--parts", "completing", actions=sleep)
    assert code == 0, error
    assert re.fullmatch(r"stopped: not finished after \d+ s, its share of the time limit",
                        written["missing"]["completing"])
    assert "`completing` stopped: not finished after" in printed
    code, printed, error, written = report("--minutes", "0.001", "--parts", "completing", "--anew")
    assert code == 0, error
    assert written["missing"]["completing"] == (
        "left out: the time limit of 0.001 minutes left no time for it")


@pytest.mark.parametrize("words, said", [
    ((), "--output"), (("--output", "x", "--minutes", "0"), "--minutes must be more than 0. Got 0."),
    (("--output", "x", "--minutes", "soon"), "'soon'"), (("--output", "x", "--size", "huge"), "'huge'"),
    (("--output", "x", "--parts", "all"), "'all'"), (("--output", "x", "--out"), "--out"),
    (("--output", "gs://bucket/x"), "local")])
def test_bad_flags_are_one_line(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(list(words))
    error = capsys.readouterr().err
    assert end.value.code == 2 and said in error and error.count("\n") == 1


def test_flags():
    options = parsed(["--output", "x"])
    assert options.minutes == 8 and options.size is None and options.parts == tuple(PARTS) and not options.anew
    assert set(child.MEASURES) == {"device", *PARTS}


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="is not empty"):
        run.claim(tmp_path, {"a": 1}, anew=True)
    folder = tmp_path / "report"
    run.claim(folder, {"a": 1}, anew=False)
    (folder / "report.md").write_text("old")
    with pytest.raises(InputError, match="on another device.*--anew"):
        run.claim(folder, {"a": 2}, anew=False)
    assert (folder / "report.md").exists()
    run.claim(folder, {"a": 2}, anew=True)
    assert {entry.name for entry in folder.iterdir()} == {"device.json", "parts"}


def test_differences_by_hand():
    wanted = {"a": np.array([1.0, -4.0]), "b": np.array([10.0])}
    got = {"a": np.array([1.5, -4.0]), "b": np.array([10.5])}
    assert parity.largest(got, wanted) == pytest.approx(0.5 / 4)
    assert parity.norms(got, wanted) == pytest.approx((0.5 / 117) ** 0.5)  # √(0.25 + 0.25) / √(1 + 16 + 100)
    assert parity.of_losses({"x": 0.2, "y": 11.0}, {"x": 0.1, "y": 10.0}) == pytest.approx(0.1)
    for difference, kind, passes in ((1e-4, "float32", True), (2e-4, "float32", False), (2e-4, "bfloat16", True),
                                     (0.06, "bfloat16", False), (float("nan"), "bfloat16", False)):
        assert parity.row("x", kind, "values", difference)["pass"] == passes


def test_a_wrong_result_of_the_device_fails():
    def make(compute):
        # 1 % off in bfloat16 alone is within its bound; 10 % is not.
        factor = {"float32": 1.0, "bfloat16": 1.1}[compute]
        return lambda x: {"values": factor * x}

    rows = [parity.row("x", kind, "values", parity.largest(*trees["values"]))
            for kind, trees in parity.compared(make, np.ones((2, 3), np.float32))]
    assert [row["pass"] for row in rows] == [True, True, False]
    assert rows[2]["difference"] == pytest.approx(0.1)


def case_of(times):
    """A case of the op's table with these milliseconds, by form."""
    from tools.attention_forms import Case
    from tools.attention_results import result_of

    rows = [{"form": form, "part": part, "left_out": None if form in times else "not installed",
             **({"milliseconds": times[form], "temporary_bytes": 1} if form in times else {})}
            for form in FORMS for part in ("forward", "forward and backward")]
    return result_of(Case(1, 8, 4, 8, 1), rows)


def done(**result):
    return {"status": "done", "why": None, "seconds": 1.0, "result": result, "memory": {"peak_bytes": 5_000_000}}


def test_aims_and_limits_by_hand():
    bound, whole, blocked, literal, eager, compiled = FORMS
    step = {"guider": False, "seconds": 0.5, "fastest": 0.5, "slowest": 0.5, "examples_per_second": 64.0,
            "operations": 20e12, "bytes": 1e12, "temporary_bytes": 7_000_000, "first_step_seconds": 1.0,
            "metrics": {"loss": 2.0}}
    guided = step | {"guider": True, "seconds": 0.8, "operations": 40e12}
    twin = [{"form": eager, "guider": False, "seconds": 1.5, "metrics": {"loss": 2.02}},
            {"form": compiled, "guider": False, "left_out": "does not compile here: why"}]
    parts = {name: {"seconds": s, "operations": 1.0}
             for name, s in (("convolutions", 0.2), ("deconvolutions", 0.05), ("attention", 0.05))}
    about = {"device": {"kind": "GPU X", "platform": "gpu", "count": 2, "memory_bytes": 2**34, "cpu": "C", "cores": 8,
                        "runtime": "cuda 13"}, "versions": {"jax": "0.12"}, "settings": {"XLA_FLAGS": "--a"}}
    report = figures.report_of(about, "full", {
        "peaks": done(matrix=8192, operations_per_second={"bfloat16": 100e12}, bytes_per_second=4e12),
        "attention-float32": done(dtype="float32", cases=[case_of(
            {bound: 1.0, whole: 2.5, blocked: 3.0, literal: 9.0, eager: 30.0})]),
        "training-bfloat16": done(size="full", compute="bfloat16", batch=32, cases=[step, guided]),
        "step-parts": done(bfloat16=parts), "twin-bfloat16": done(compute="bfloat16", cases=twin),
        "parity-op": done(rows=[parity.row("op", "float32", "values", 1e-3)]),
        "completing": run.left_out("cv2 is not installed")})
    assert [(aim["got"], aim["met"]) for aim in report["aims"]] == [
        (2.5, False), (2.5, False), (12.0, True), (12.0, True), (pytest.approx(0.4), True), (0.5, True)]
    without, with_it = report["steps"]
    # 20 TFLOP at 100 TFLOP/s take 0.2 s, and 1 TB at 4 TB/s 0.25 s.
    assert (without["computing_seconds"], without["memory_seconds"], without["limit"]) == (0.2, 0.25, "memory")
    assert with_it["limit"] == "computing" and with_it["parts"]["guider"] == pytest.approx(0.3 / 0.8)
    assert without["parts"] == pytest.approx(
        {"convolutions": 0.4, "deconvolutions": 0.1, "attention": 0.1, "the rest": 0.4})
    assert without["twin"][0]["times_ours"] == 3.0 and without["twin"][0]["difference"] == pytest.approx(0.01)
    assert report["parity"] == {"passed": 0, "failed": 1}
    text = page.page(report)
    assert "1.0e-03 > 0.0001 **FAIL**" in text and "- `completing` left out: cv2 is not installed" in text
    assert "2 × GPU X (gpu)" in text and "16.0 GiB" in text and "--a" in text
    assert "does not compile here: why" in text and "| 3.00 |" in text and "| 40% |" in text
    columns = {line.count("|") for line in text.splitlines() if line.startswith("| `full`, bfloat16")}
    assert columns and all(line.endswith("|") for line in text.splitlines() if line.startswith("|"))
