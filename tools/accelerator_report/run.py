"""Measures the parts, each in a process with its share of the time, and keeps the report up to date."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tools.accelerator_report.figures import report_of
from tools.accelerator_report.page import page
from tools.accelerator_report.plan import PARTS, Options
from vrstc_jax.runtime import lock
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import replace_file, require_local
from vrstc_jax.runtime.workdir import Workdir

Record = dict[str, Any]
DONE = "done"
_ROOT = Path(__file__).resolve().parents[2]
_RECORD, _PARTS, _REPORT = "device.json", "parts", ("report.md", "report.json")
_LEAST_SECONDS = 5.0  # of a share: less is the start of a process alone
_DEVICE_SECONDS = 120.0


def run(options: Options) -> None:
    """Measures what the folder lacks, and prints the report.

    Raises:
      InputError: the folder cannot be written or holds another report, or JAX finds no device.
    """
    began = time.monotonic()
    require_local(options.output, "the report")
    folder = Path(os.path.realpath(options.output))
    lock.take(folder)
    device = measured("device", "smoke", folder / f".{_RECORD}.measured", _DEVICE_SECONDS)
    for name in (f".{_RECORD}.measured", "device.log"):
        (folder / name).unlink(missing_ok=True)
    if device["status"] != DONE:
        raise InputError(f"JAX finds no device to measure: {device['why']}. Set JAX_PLATFORMS, or install JAX for it.")
    about = device["result"]
    size = options.size or ("smoke" if about["device"]["platform"] == "cpu" else "full")
    claim(folder, about | {"size": size}, anew=options.anew)
    records = recorded(folder)
    todo = [part for part in options.parts if records.get(part, {}).get("status") != DONE]
    for part in PARTS:
        if part not in records and part not in todo:
            records[part] = left_out("not asked for")
    for i, part in enumerate(todo):
        left = 60 * options.minutes - (time.monotonic() - began)
        share = left * PARTS[part] / sum(PARTS[other] for other in todo[i:])
        file = folder / _PARTS / f"{part}.json"
        if share < _LEAST_SECONDS:
            records[part] = left_out(f"the time limit of {options.minutes:g} minutes left no time for it")
            replace_file(file, json.dumps(records[part]).encode())
        else:
            records[part] = measured(part, size, file, share)
        why = f" ({records[part]['why']})" if records[part]["why"] else ""
        print(f"{part}: {records[part]['status']} after {records[part]['seconds']:.0f} s{why}", flush=True)
        write(folder, about, size, records)
    print(f"\n{write(folder, about, size, records)}\nWritten: {', '.join(str(folder / name) for name in _REPORT)}. "
          "Please send both back (docs/results.md says where).")


def claim(folder: Path, identity: Mapping[str, Any], *, anew: bool) -> None:
    """Makes the folder that of this device, these versions and this size.

    Args:
      anew: whether to discard an earlier report.

    Raises:
      InputError: it is another report's, or has files that are not a report's.
    """
    work = Workdir(folder, record=_RECORD,
                   holds="a report on another device, with other versions or of another size, which --anew discards")
    if anew and (folder / _RECORD).exists():
        for name in (*_REPORT, _PARTS, _RECORD):  # the record last: without it the rest is no report's
            if (folder / name).exists():
                work.discard(name)
    work.claim(identity)
    (folder / _PARTS).mkdir(exist_ok=True)


def recorded(folder: Path) -> dict[str, Record]:
    """What earlier runs measured, by part, in the report's order."""
    files = {part: folder / _PARTS / f"{part}.json" for part in PARTS}
    return {part: json.loads(file.read_text()) for part, file in files.items() if file.exists()}


def left_out(why: str) -> Record:
    """The record of a part that was not measured."""
    return {"status": "left out", "why": why, "seconds": 0.0, "result": {}, "memory": None}


def measured(part: str, size: str, file: Path, seconds: float) -> Record:
    """Measures a part in a process, which has so many seconds; what it prints goes into a .log file beside `file`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])}
    # PyTorch needs memory of the device too, and its profiler should not log each start and stop.
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "KINETO_LOG_LEVEL": "6"} | environment
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        environment["JAX_PLATFORMS"] = f"{platforms},cpu"  # the reference of parity
    file.unlink(missing_ok=True)
    log, began, timed_out = file.with_name(f"{part}.log"), time.monotonic(), False
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "tools.accelerator_report.child", part, size, str(file)],
                                   cwd=_ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            with suppress(ProcessLookupError):  # with the compilers that PyTorch starts
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    record = json.loads(file.read_text()) if file.exists() else left_out("") | {"status": "stopped"}
    if record["status"] != "stopped":
        return record
    record["seconds"] = time.monotonic() - began
    if timed_out:
        record["why"] = f"not finished after {seconds:.0f} s, its share of the time limit"
    else:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or ["without a word"]
        record |= {"status": "failed", "why": f"ended with exit code {process.returncode}: {lines[-1][:300]}"}
    replace_file(file, json.dumps(record, indent=1).encode())
    return record


def write(folder: Path, about: Mapping[str, Any], size: str, records: Mapping[str, Record]) -> str:
    """Writes both files of the report, and returns its text."""
    report = report_of(about, size, {part: records[part] for part in PARTS if part in records})
    text = page(report)
    for name, content in zip(_REPORT, (text, json.dumps(report, indent=1, ensure_ascii=False))):
        replace_file(folder / name, content.encode())
    return text
