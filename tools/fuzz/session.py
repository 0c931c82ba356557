"""A session: many tries, a line of JSON for each, the tally, and going on where it stopped."""

import faulthandler
import importlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tools.fuzz import judging
from tools.fuzz.good import Good
from tools.fuzz.judging import BAD, GOOD, SECONDS, Ended
from tools.fuzz.kinds import KINDS
from tools.fuzz.tries import draw
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import start_jax
from vrstc_jax.runtime.names import is_number, printable
from vrstc_jax.runtime.workdir import Workdir

_CRASHED = "the process ended in it"
_PATIENCE = 10 * SECONDS  # until a hang that no signal ends takes the process with it


@dataclass(frozen=True)
class Arguments:
    """Which tries."""

    seed: int = 0
    """Seed of the inputs."""
    count: int = 300
    """Number of tries, the kinds in turn."""
    kinds: tuple[str, ...] = ()
    """Some of the kinds; default: all."""
    only: str | None = None
    """KIND:NUMBER of a single try, of this seed, whose output is shown and whose folder is kept."""
    output: Path | None = None
    """Folder of tries.jsonl, where the same command goes on; default: a temporary one, removed at the end."""


def main(arguments: Arguments) -> bool:
    """Runs the tries and prints the tally. Returns whether all ended well.

    Raises:
      InputError: there is no such kind or try, or the output is another session's.
    """
    require_flags(arguments)
    for kind in arguments.kinds:
        if kind not in KINDS:
            raise InputError(f"--kinds {kind}: is no kind; choose some of {', '.join(KINDS)}.")
    start_jax()
    # What the calls import when they need it takes longer than a try.
    for module in ("tensorboardX", "vrstc_jax.data.datasets", "vrstc_jax.recipes.fit", "vrstc_jax.report.render"):
        importlib.import_module(module)
    if arguments.only is not None:
        return _again(arguments)
    with _folder(arguments.output) as folder:
        rows = session(arguments, folder)
    tally = Counter(row["outcome"] for row in rows)
    # Records hold the paths of the session's folder.
    where = f" --output {arguments.output}" if arguments.output else ""
    for row in rows:
        if row["outcome"] in BAD:
            print(f"{row['outcome']}: {printable(row['why'])[:300]}\n  {printable(row['words'])[:300]}\n"
                  f"  again: python -m tools.fuzz --seed {arguments.seed} --only {row['kind']}:{row['number']}{where}")
    seconds = sum(row["seconds"] for row in rows)
    print(f"{len(rows)} tries, {seconds / max(1, len(rows)):.2f} s each: "
          + ", ".join(f"{tally[outcome]} {outcome}" for outcome in (*GOOD, *BAD)))
    return not any(tally[outcome] for outcome in BAD)


def session(arguments: Arguments, folder: Path) -> list[dict]:
    """Runs the tries that have no line in tries.jsonl yet; returns the lines of all."""
    kinds = arguments.kinds or tuple(KINDS)
    Workdir(folder, "fuzz.json", "the tries of another seed or of other kinds").claim(
        {"seed": arguments.seed, "kinds": list(kinds)}, shared=True)
    rows = _read(folder)
    todo = [(kinds[n % len(kinds)], n // len(kinds)) for n in range(arguments.count)]
    rows = {key: rows[key] for key in todo if key in rows}
    bad = sum(row["outcome"] in BAD for row in rows.values())
    good, started = Good(folder / "good"), folder / "started"
    good.folder.mkdir(exist_ok=True)
    with (open(folder / "tries.jsonl", "a", encoding="utf-8") as log,
          tqdm(total=len(todo), initial=len(rows), desc="fuzzing", unit="try", dynamic_ncols=True) as bar):
        for kind, number in todo:
            if (kind, number) in rows:
                continue
            crashed = started.exists() and started.read_text() == f"{kind}:{number}"
            started.write_text(f"{kind}:{number}")
            began = time.monotonic()
            try:
                words, ended = ("", Ended("traceback", _CRASHED)) if crashed else _try(
                    arguments.seed, kind, number, folder, good)
            except BaseException:  # Ctrl-C is no crash of the try
                started.unlink()
                raise
            rows[kind, number] = row = {
                "kind": kind, "number": number, "outcome": ended.outcome, "why": ended.why[:2000], "words": words,
                "seconds": round(time.monotonic() - began, 3)}
            log.write(json.dumps(row) + "\n")
            log.flush()
            started.unlink()
            bar.update()
            bad += ended.outcome in BAD
            bar.set_postfix(bad=bad, refresh=False)
    return list(rows.values())


def _try(seed: int, kind: str, number: int, folder: Path, good: Good) -> tuple[str, Ended]:
    """Makes the input of a try, and runs it; (its words, how it ended)."""
    place = folder / "try"
    empty(place)
    # A hang in C does not come back to the handler of a signal.
    watchdog = threading.Timer(_PATIENCE, _give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        each = KINDS[kind](draw(seed, kind, number), place, good)
        return each.words, judging.run(each, place)
    finally:
        watchdog.cancel()


def _give_up() -> None:
    faulthandler.dump_traceback()
    os._exit(1)


def _again(arguments: Arguments) -> bool:
    kind, _, number = (arguments.only or "").partition(":")
    if kind not in KINDS or not is_number(number):
        raise InputError(f"--only {arguments.only}: is no try; give KIND:NUMBER, KIND one of {', '.join(KINDS)}.")
    folder = Path(tempfile.mkdtemp(prefix="fuzz-")) if arguments.output is None else arguments.output.absolute()
    (folder / "good").mkdir(parents=True, exist_ok=True)
    words, ended = _try(arguments.seed, kind, int(number), folder, Good(folder / "good"))
    print(f"cd {folder / 'try'} && {printable(words)}\n{ended.output}\n{ended.outcome}: {printable(ended.why)}")
    return ended.outcome in GOOD


def _read(folder: Path) -> dict[tuple[str, int], dict]:
    """The lines of tries.jsonl; one that was cut off is left out."""
    rows, path = {}, folder / "tries.jsonl"
    whole = path.read_bytes() if path.exists() else b""
    kept = whole[:whole.rfind(b"\n") + 1]
    if kept != whole:
        path.write_bytes(kept)
    for line in kept.splitlines():
        row = json.loads(line)
        rows[row["kind"], row["number"]] = row
    return rows


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        yield output.absolute()
        empty(output / "try")
        (output / "try").rmdir()
        return
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        yield Path(folder)


def empty(folder: Path) -> None:
    """Makes an empty folder, in place of one in which folders may be closed."""
    if folder.exists():
        for root, folders, _ in os.walk(folder):
            for name in folders:
                path = os.path.join(root, name)
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
