"""Measures the memory of `vrstc complete` on large inputs: the peak of a process, by the kernel.

    python -m tools.memory_tally

Each input is written by this tool: one tracklet of 20,000 frames; 200 people of 100 frames each, by their boxes in a
video; 3,000 tracklets of 6 frames. Each is completed by the default model in a process, which compiles everything anew,
as on a new machine, and whose largest resident set is printed. The exit code is 1 if any is above `--megabytes`.

Takes some 30 minutes on two cores. Expected: each at most 700 MB. `--share 0.01` tries it out on small inputs.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import tyro

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.text_tables import text_table

_ROOT = Path(__file__).resolve().parents[1]
_HEIGHT, _WIDTH = 64, 32  # of the pictures of people, in pixels
_COLUMNS, _ROWS = 25, 8  # of people in the video


@dataclass(frozen=True)
class Arguments:
    """Which inputs, and how large."""

    inputs: tuple[str, ...] = ("long", "video", "many")
    """long: one tracklet of 20,000 frames; video: 200 people × 100 frames; many: 3,000 tracklets."""
    share: float = 1.0
    """Of the frames and tracklets."""
    megabytes: float = 700
    """The most that a process may have (10^6 bytes)."""
    workdir: Path | None = None
    """Folder of inputs and results; default: a temporary one, removed at the end."""


@dataclass(frozen=True)
class Measured:
    """The largest resident set of a process in 10^6 bytes, its seconds and its exit code."""

    megabytes: float
    seconds: float
    code: int


def main(arguments: Arguments) -> bool:
    """Measures, prints a table, and returns whether each process succeeded within the limit.

    Raises:
      InputError: there is no such input.
    """
    require_flags(arguments)
    if unknown := set(arguments.inputs) - _INPUTS.keys():
        raise InputError(f"--inputs {min(unknown)}: choose from {', '.join(_INPUTS)}.")
    rows, good = [], True
    with tempfile.TemporaryDirectory(prefix="vrstc-") as temporary:
        work = (arguments.workdir or Path(temporary)).absolute()
        for name in arguments.inputs:
            (work / name).mkdir(parents=True, exist_ok=True)
            words = _INPUTS[name](work / name, arguments.share)
            with tempfile.TemporaryDirectory(prefix="vrstc-") as cache:
                done = measured(["complete", *words, "--output", "done"], work / name, cache)
            good = good and not done.code and done.megabytes <= arguments.megabytes
            rows.append((name, f"{done.megabytes:.0f}", f"{done.seconds:.0f}", done.code))
            print(f"{name}: {done.megabytes:.0f} MB, {done.seconds:.0f} s, exit code {done.code}", flush=True)
    print(text_table(("input", "MB", "seconds", "exit code"), rows))
    return good


def measured(words: list[str], directory: Path, cache: str) -> Measured:
    """Runs `vrstc WORDS` in a directory, with its output in the file log there; `cache` keeps compiled programs."""
    began = time.monotonic()
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
    process = os.fork()
    if not process:
        os.chdir(directory)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.execve(sys.executable, [sys.executable, "-m", "vrstc_jax", *words],
                  os.environ | {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache})
    _, status, usage = os.wait4(process, 0)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return Measured(usage.ru_maxrss * unit / 1e6, time.monotonic() - began, os.waitstatus_to_exitcode(status))


def _long(folder: Path, share: float) -> list[str]:
    _write_crops(folder / "frames", 1, max(2, round(20_000 * share)))
    return ["frames"]


def _many(folder: Path, share: float) -> list[str]:
    _write_crops(folder / "frames", max(1, round(3_000 * share)), 6)
    return ["frames"]


def _video(folder: Path, share: float) -> list[str]:
    """A video with a grid of people, and their boxes."""
    frames, people = max(2, round(100 * share)), _COLUMNS * _ROWS
    with av.open(str(folder / "v.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = _ROWS * _HEIGHT, _COLUMNS * _WIDTH, "yuv420p"
        for number in range(frames):
            rows = [np.concatenate([_person(row * _COLUMNS + column, number) for column in range(_COLUMNS)], axis=1)
                    for row in range(_ROWS)]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.concatenate(rows), format="rgb24")))
        output.mux(stream.encode(None))
    (folder / "b.txt").write_text("".join(
        f"{number + 1},{who + 1},{who % _COLUMNS * _WIDTH},{who // _COLUMNS * _HEIGHT},{_WIDTH},{_HEIGHT}\n"
        for number in range(frames) for who in range(people)))
    return ["v.mp4", "--boxes", "b.txt"]


_INPUTS: dict[str, Callable[[Path, float], list[str]]] = {"long": _long, "video": _video, "many": _many}


def _write_crops(folder: Path, tracklets: int, frames: int) -> None:
    for who in range(tracklets):
        (folder / f"{who:05d}").mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(_pictures(who, frames)):
            cv2.imwrite(str(folder / f"{who:05d}/{number:06d}.png"), picture)


def _pictures(who: int, frames: int) -> Iterator[np.ndarray]:
    return (_person(who, number) for number in range(frames))


def _person(who: int, number: int) -> np.ndarray:
    """A figure in clothes of three colours that a grey board hides in part of the frames, uint8 [H, W, 3]."""
    clothes = np.random.default_rng(who).integers(40, 220, (3, 3)).astype(np.uint8)
    picture = np.full((_HEIGHT, _WIDTH, 3), (90, 120, 90), np.uint8)
    left = _WIDTH // 4 + round(3 * np.sin(number / 3))
    picture[:, left:left + _WIDTH // 2] = np.repeat(clothes, [_HEIGHT // 3, _HEIGHT // 3, _HEIGHT - 2 * (_HEIGHT // 3)],
                                                    axis=0)[:, None]
    if number % 7 in (3, 4):
        picture[_HEIGHT // 2:] = 128
    return picture


if __name__ == "__main__":
    run_as_command(lambda: sys.exit(0 if main(tyro.cli(Arguments, description=__doc__)) else 1))
