"""One run at a time on an output: a second process that would write there is refused in one line.

On a file system the kernel holds the lock (`flock`), on the output folder itself or on a file beside the output. It
ends with the process, however that ends. A bucket has no locks: there a record names the owner and the time. It is
refreshed while the owner runs, and refused while it is fresh. Of the processes of a distributed run, process 0 alone
takes locks.
"""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vrstc_jax.runtime.errors import InputError, warn
from vrstc_jax.runtime.paths import resolved
from vrstc_jax.runtime.storage import as_path, is_remote, require_writable_directory

LOCK_FILE = ".vrstc.lock"  # in a folder that cannot be locked itself, and in buckets
REFRESH_SECONDS, FRESH_SECONDS = 20.0, 90.0  # of a bucket's record
_BUSY = (errno.EWOULDBLOCK, errno.EACCES)
_STARTED = time.time()

_held: dict[str, Callable[[], None]] = {}  # by name, how to release the lock
_descriptors: set[int] = set()


class InUse(InputError):
    """Another process writes to an output. It may be the one that created it, so a refused command removes nothing."""

    def __init__(self, path: Path, more: str = ""):
        super().__init__(f"{path}: another process is writing here{more}; wait until it has ended, or give another "
                         "path.")


def take(path: str | os.PathLike, *, beside: bool = False) -> None:
    """Locks an output until `releasing` or the process ends; does nothing if this process has the lock already.

    One process of a run calls it (see `distributed.run_on_first`).

    Args:
      path: a folder, local or gs://, created where it is missing.
      beside: for an output that is a file, or a folder that is replaced as a whole: locks a hidden file beside it,
        which is removed in the end.

    Raises:
      InUse: another process has the lock.
      InputError: the folder cannot be written in.
    """
    path = as_path(path)
    name = os.fspath(path) if is_remote(path) else str(resolved(path))
    if name in _held:
        return
    # The current folder and the root have no name that `with_name` could replace.
    whole = path if is_remote(path) else path.absolute()
    hidden = whole.parent / f".{whole.name}.lock"
    if is_remote(path):
        _held[name] = _Record(path, hidden if beside else path / LOCK_FILE).take()
    else:
        _held[name] = _take_file(hidden, path) if beside else _take_folder(path)


def is_lock(name: str) -> bool:
    """Whether a file of this name is a lock."""
    return name.startswith(".") and name.endswith(".lock")


def holds(path: str | os.PathLike) -> bool:
    """Whether this process has the lock of a local path."""
    return str(resolved(Path(path))) in _held


@contextmanager
def releasing() -> Iterator[None]:
    """Releases, on leaving the block, the locks that were taken inside it."""
    before = set(_held)
    try:
        yield
    finally:
        for name in [name for name in _held if name not in before]:
            _held.pop(name)()


def _take_folder(path: Path) -> Callable[[], None]:
    while True:
        require_writable_directory(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # removed meanwhile by a process that was refused
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _BUSY:
                raise InUse(path) from None
            return _take_file(path / LOCK_FILE, path)  # NFS locks files that are open for writing alone
        if _is_at(descriptor, path):
            return _releaser(descriptor)
        os.close(descriptor)


def _take_file(file: Path, output: Path) -> Callable[[], None]:
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"{output}: cannot be written ({error.strerror}); give another path.") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _BUSY:
                raise InUse(output) from None
            file.unlink(missing_ok=True)
            warn(f"{output}: this file system has no locks ({error.strerror}); start no second process on it.")
            return lambda: None
        # The process that had the lock removes the file before it lets go, so this may be a file without a name.
        if _is_at(descriptor, file):
            return _releaser(descriptor, file)
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def _releaser(descriptor: int, file: Path | None = None) -> Callable[[], None]:
    _descriptors.add(descriptor)

    def release() -> None:
        if descriptor in _descriptors:
            _descriptors.remove(descriptor)
            if file is not None:
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            os.close(descriptor)

    return release


def _forget_in_child() -> None:
    # A worker that outlives a killed run would otherwise hold its lock. Closing a copy does not unlock.
    for descriptor in _descriptors:
        with suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


class _Record:
    """A bucket's record of who writes to an output. Two processes that start within moments of each other may both
    pass: no write to a bucket is conditional here."""

    def __init__(self, output: Path, file: Path):
        self.output, self.file = output, file
        self.owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": _STARTED}
        self._ended = threading.Event()

    def take(self) -> Callable[[], None]:
        require_writable_directory(self.file.parent)
        self._refuse_others()
        self._write()
        self._refuse_others()
        thread = threading.Thread(target=self._refresh, daemon=True)
        thread.start()

        def release() -> None:
            self._ended.set()
            thread.join(REFRESH_SECONDS)
            with suppress(Exception):  # of the bucket's client; the record ages
                if self._read().get("owner") == self.owner:
                    self.file.unlink()

        return release

    def _refuse_others(self) -> None:
        found = self._read()
        owner, age = found.get("owner", self.owner), time.time() - found.get("time", 0)
        if owner != self.owner and age < FRESH_SECONDS and not self._is_gone(owner):
            raise InUse(self.output, f" (process {owner.get('pid')} on {owner.get('host')}, {max(0, age):.0f} s ago; "
                                     f"after {FRESH_SECONDS:.0f} s without a sign of life its lock ends)")

    def _is_gone(self, owner: dict) -> bool:
        """Whether the owner is known to have ended: a process of this machine that is no more."""
        if owner.get("host") != self.owner["host"]:
            return False
        try:
            os.kill(int(owner["pid"]), 0)
        except ProcessLookupError:
            return True
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return owner["pid"] == self.owner["pid"]  # an earlier process of this number, as containers have them

    def _read(self) -> dict:
        try:
            found = json.loads(self.file.read_text())
            return found if isinstance(found["owner"], dict) and isinstance(found["time"], (int, float)) else {}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return {}

    def _write(self) -> None:
        self.file.write_text(json.dumps({"owner": self.owner, "time": time.time()}))

    def _refresh(self) -> None:
        while not self._ended.wait(REFRESH_SECONDS):
            with suppress(Exception):  # of the bucket's client; the next one may succeed
                self._write()
