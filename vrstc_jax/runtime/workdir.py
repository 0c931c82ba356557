"""A job's work directory: a record that identifies the job, and results, each computed only if it is missing."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vrstc_jax.runtime import distributed, lock
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import printable
from vrstc_jax.runtime.records import damaged, read_record
from vrstc_jax.runtime.storage import as_path, entries, is_remote, remove, replace_file

T = TypeVar("T")


@dataclass(frozen=True)
class Workdir:
    """A job's directory, local or gs://.

    Attributes:
      path: the directory.
      record: name of the JSON file that identifies the job.
      holds: completes the error '… holds' for a directory of another job, such as 'the results of another run'.
    """

    path: Path
    record: str = "experiment.json"
    holds: str = "an experiment with other data or settings"

    def __post_init__(self):
        object.__setattr__(self, "path", as_path(self.path))

    def claim(self, identity: Mapping[str, Any], *, complete: Callable[[dict], dict] = dict,
              shared: bool = False) -> None:
        """Locks the directory, and writes the record of the job, or checks that an existing record is equal.

        One process calls it (see `distributed.run_on_first`).

        Args:
          identity: all that the results depend on, as JSON takes it.
          complete: fills in the fields that a record of an earlier version lacks; applied to both records.
          shared: whether the directory may contain other files before it is claimed.

        Raises:
          InputError: the directory cannot be written, belongs to another job, has a damaged record, or has files but no
            record.
          InUse: another process is writing to it.
        """
        lock.take(self.path)
        record = self.path / self.record
        # Also a link that leads nowhere: without its record, what is here would be taken for this job's.
        if record.exists() or os.path.islink(record):
            remedy = f"remove {self.path}, or choose another directory"
            found = read_record(record, remedy=remedy)
            try:
                same = completed(found, complete) == completed(identity, complete)
            except (LookupError, TypeError, AttributeError, ValueError) as error:
                raise damaged(record, error, remedy) from None
            if not same:
                raise InputError(f"{self.path}: holds {self.holds} (see its {self.record}); remove it, or choose "
                                 "another directory.")
            return
        # A process that is killed while it writes the record leaves this temporary file.
        if not shared and any(entry.name != f".{record.name}.partial" and not lock.is_lock(entry.name)
                              for entry in entries(self.path)):
            raise InputError(f"{self.path}: is not empty, and nothing in it is from this command; give an empty or a "
                             "new directory.")
        replace_file(record, json.dumps(completed(identity, complete), indent=1).encode())

    def get_or_make(self, name: str, make: Callable[[], Any], *, load: Callable[[Path], T],
                    save: Callable[[Path, Any], Any] | None = None,
                    exists: Callable[[Path], bool] = lambda path: path.exists(), label: str = "") -> T:
        """Loads the result in `name`, computing and saving it first if it is absent. Every process of a run calls it.

        Args:
          make: called by every process; process 0 saves what it returns.
          load: reads the result; called by every process.
          save: writes the result; None: `make` writes it.
          exists: whether the result is whole.
          label: what to call the result in the line that process 0 prints; '' prints none.
        """
        path, began = self.path / name, time.perf_counter()
        made_before = distributed.run_on_first(lambda: bool(exists(path)))
        if not made_before:
            made = make()
            if save is not None:
                distributed.run_on_first(lambda: save(path, made))
        if label:
            distributed.print_on_first(f"{label}: already done ({printable(path)})." if made_before else
                                       f"{label}: done in {time.perf_counter() - began:.0f} s ({printable(path)}).")
        return load(path)

    def get_or_write(self, name: str, write: Callable[[Path], Any], *, load: Callable[[Path], T],
                     exists: Callable[[Path], bool] = lambda path: path.exists(), label: str = "") -> T:
        """`get_or_make` of a result that `write` computes and writes to the path it is given, in process 0 alone."""
        return self.get_or_make(name, lambda: None, save=lambda path, _: write(path), load=load, exists=exists,
                                label=label)

    def discard(self, name: str, *, last: str = "") -> None:
        """Removes a result; if the process is killed meanwhile, no half of it is taken for the whole.

        Args:
          last: for a folder in a bucket, where renaming is impossible: the file whose presence marks the folder as
            complete. It is deleted first.
        """
        path = self.path / name
        if is_remote(path):
            if last:
                remove(path / last)
            remove(path)
        elif path.is_dir() and not path.is_symlink():
            going = path.with_name(f".{path.name}.removed")
            shutil.rmtree(going, ignore_errors=True)
            shutil.rmtree(path.rename(going))
        else:
            path.unlink(missing_ok=True)

    def clean(self) -> None:
        """Removes what a process that was killed in `discard` left."""
        for entry in entries(self.path):
            if entry.name.startswith(".") and entry.name.endswith(".removed"):
                remove(entry)


def completed(record: Mapping[str, Any], complete: Callable[[dict], dict] = dict) -> dict:
    """A record as it reads from JSON, with the fields that `complete` adds."""
    return json.loads(json.dumps(complete(json.loads(json.dumps(record)))))
