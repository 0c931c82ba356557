"""Metrics of a training run, as JSON lines and as TensorBoard events."""

import json
import os
import sys
import tempfile
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from vrstc_jax.runtime.records import damaged, parse_json, read_bytes
from vrstc_jax.runtime.storage import as_path, is_remote, require_writable_directory, write_whole
from vrstc_jax.training.checkpoint_files import full_disk_as_input_error

_CURVE_POINTS = 200  # of each training curve, kept in the model for reports
_UPLOAD_SECONDS = 60  # between writings of a whole log into a bucket


class MetricsLog:
    """Metrics as JSON lines and as TensorBoard events, in one directory; a context manager.

    On resuming from a checkpoint, lines of steps after it are dropped, so that no step occurs twice. A file in a
    bucket cannot be appended to, so there both are written as a whole, once a minute and on `flush`.

    Args:
      directory: local, or in gs://.
      start: the step from which training goes on.

    Raises:
      InputError: the disk is full, here or in any method.
    """

    def __init__(self, directory: str | os.PathLike, start: int = 0):
        # Imported here because it takes a second, and only training writes events. tensorboardX's SummaryWriter would
        # write in a thread, which a full disk ends, and then block.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog  # pyright: ignore[reportAttributeAccessIssue]

        self.directory = as_path(directory)
        kept = [line for line in read_metrics(self.directory) if line["step"] <= start]
        require_writable_directory(self.directory)
        with full_disk_as_input_error(self.directory):
            text = "".join(json.dumps(line) + "\n" for line in kept)
            write_whole(self.path, text.encode())
            self._remote, self._flushed = is_remote(self.path), time.monotonic()
            self._here = tempfile.TemporaryDirectory() if self._remote else nullcontext(os.fspath(self.directory))
            here = self._here.__enter__()
            self._lines = Path(here, self.path.name)
            if self._remote:
                self._lines.write_text(text)
            self._events = EventsWriter(os.path.join(here, "events"))
            self._add(start + 1, session_log=SessionLog(status=SessionLog.START))  # TensorBoard drops later steps

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with self._here, full_disk_as_input_error(self.directory):
                self._events.close()
                self._upload()
        except Exception:
            if kind is None:  # otherwise the error that is being raised already is the one to report
                raise

    @property
    def path(self) -> Path:
        """The file of JSON lines."""
        return self.directory / "metrics.jsonl"

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Adds one line: {'step': step, **metrics}."""
        from tensorboardX import summary

        with full_disk_as_input_error(self.directory):
            with self._lines.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"step": step, **metrics}) + "\n")
            for name, value in metrics.items():
                self._add(step, summary=summary.scalar(name, value))
            self._events.flush()
        if time.monotonic() - self._flushed >= _UPLOAD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes everything to the bucket, if the directory is in one.

        Due before each checkpoint: a run that resumes from it needs the log up to its step.
        """
        self._flushed = time.monotonic()
        with full_disk_as_input_error(self.directory):
            self._events.flush()
            self._upload()

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, 3], to the events."""
        from tensorboardX import summary

        with full_disk_as_input_error(self.directory):
            self._add(step, summary=summary.image(name, image, dataformats="HWC"))

    def _upload(self) -> None:
        if self._remote:
            for file in self._lines.parent.iterdir():
                write_whole(self.directory / file.name, file.read_bytes())

    def _add(self, step: int, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        self._events.write_event(Event(wall_time=time.time(), step=step, **what))


def read_metrics(directory: str | os.PathLike) -> list[dict]:
    """The lines of a `MetricsLog`, in order; a last line that was cut off is left out.

    A damaged line in the middle is left out with all after it, and a warning.

    Raises:
      InputError: the log is a folder, a pipe, or cannot be read.
    """
    path = as_path(directory) / "metrics.jsonl"
    if not (path.exists() or os.path.islink(path)):
        return []
    try:
        texts = read_bytes(path).decode("utf-8", "replace").splitlines()
    except (OSError, ValueError) as error:
        raise damaged(path, error) from None
    lines: list[dict] = []
    for number, text in enumerate(texts, 1):
        line: Any = None
        with suppress(ValueError):
            line = parse_json(text)
        if not _is_line(line):
            if number < len(texts):
                print(f"vrstc: warning: {path}: line {number} is damaged; it and those after it are left out",
                      file=sys.stderr)
            break
        lines.append(line)
    return lines


def _is_line(line: Any) -> bool:
    return (isinstance(line, dict) and isinstance(line.get("step"), int)
            and all(isinstance(value, int | float) and not isinstance(value, bool) for value in line.values()))


def curves(directory: str | os.PathLike) -> dict[str, list]:
    """{metric: [[step, value], …]} of a training run, thinned."""
    lines = read_metrics(directory)
    lines = lines[::max(1, len(lines) // _CURVE_POINTS)]
    names = [name for name in (lines[0] if lines else ()) if name not in ("step", "steps_per_second")]
    return {name: [[line["step"], line[name]] for line in lines if name in line] for name in names}
