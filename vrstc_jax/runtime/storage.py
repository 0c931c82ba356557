"""Files and folders on this machine's file systems, or in a bucket: gs://bucket/name, by etils' epath.

In a bucket a file appears whole or not at all, nothing can be renamed, and a folder exists while something is in it.
On a file system a file is written under another name and then renamed, so that it too is whole or absent.
"""

import errno
import hashlib
import os
import select
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import LONGEST_NAME

LARGEST = 2**30
"""Bytes of a text or record that is read as a whole; the largest real ones have some 100 MB."""
_PATIENCE = 8.0  # seconds that a pipe may be without a writer

_TFDS_FULL = "Not enough disk space"  # of an error of TFDS that has no number

_SCHEMES = ("gs", "s3", "az", "hf")  # those that epath knows


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is in a bucket, as gs://bucket/name or as a `pathlib.Path` of that, which has lost a slash."""
    return os.fspath(path).startswith(tuple(f"{scheme}:/" for scheme in _SCHEMES))


def as_path(path: str | os.PathLike) -> Path:
    """The path as a `pathlib.Path`; in a bucket, as an epath, which has the same methods.

    Raises:
      InputError: it is in another kind of bucket than gs://, or the library that reads buckets is not installed.
    """
    if not is_remote(path):
        return Path(path)
    name = _url(path)
    if not name.startswith("gs:"):
        raise InputError(f"{name}: only local paths and gs:// are known here; give one of these.")
    try:
        import fsspec

        fsspec.get_filesystem_class("gcs")
    except ImportError:
        raise InputError(f"{name}: paths of gs:// need gcsfs; get it with: pip install 'etils[epath-gcs]' (the extras "
                         "tpu and cuda of vrstc_jax have it).") from None
    from etils import epath

    return cast(Path, epath.Path(name))


def require_local(path: str | os.PathLike | None, what: str) -> None:
    """Checks that a path is on this machine's file systems; None passes.

    Raises:
      InputError: the path is in a bucket. `what`, a noun phrase, names the path in the message.
    """
    if path is not None and is_remote(path):
        raise InputError(f"{_url(path)}: {what} must be on a local file system; copy or mount it, and give "
                         "its path there.")


def _url(path: str | os.PathLike) -> str:
    """The path with both slashes after its scheme."""
    scheme, _, rest = os.fspath(path).partition(":")
    return f"{scheme}://{rest.lstrip('/')}"


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file whole or not at all: under a fixed temporary name beside it, then renamed; in a bucket directly.

    Raises:
      OSError: it cannot be written, on a file system.
    """
    path = as_path(path)
    if is_remote(path):
        path.write_bytes(data)
        return
    unfinished = path.with_name(_unfinished(path.name))
    try:
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    except OSError:
        with suppress(OSError):  # a folder that refuses the file may refuse this too; the first error is raised
            unfinished.unlink(missing_ok=True)
        raise


def _unfinished(name: str) -> str:
    """A hidden name for a file while it is written; a long name, to which nothing can be added, is hashed."""
    unfinished = f".{name}.partial"
    if len(os.fsencode(unfinished)) <= LONGEST_NAME:
        return unfinished
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}.partial"


def replace_file(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file as `write_whole` does, and first its folder where that is missing.

    Raises:
      InputError: the file cannot be written.
    """
    path = as_path(path)
    if not is_remote(path):
        _require_nothing_in_the_way(path)
    try:
        if not is_remote(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except _errors(path) as error:
        raise InputError(f"{path}: cannot be written ({describe_error(error)}); give another path.") from None


def _require_nothing_in_the_way(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        raise InputError(f"{file}: cannot be written, because it is a folder; remove it, or give another path.")
    if above := _no_folder(file.absolute().parent):
        raise InputError(f"{file}: cannot be written, because {above} is no folder; remove that, or give another path.")


def _no_folder(path: Path) -> Path | None:
    """What is there in place of a folder or of one above it; None if nothing is, or folders."""
    found = next((each for each in (path, *path.parents) if os.path.lexists(each)), None)
    return None if found is None or found.is_dir() else found


def remove(path: str | os.PathLike) -> None:
    """Removes a file, or a folder and all in it, where it exists."""
    path = as_path(path)
    if is_remote(path):
        from etils import epath

        epath.Path(path).rmtree(missing_ok=True)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):  # not so below a file, or below a link to itself
        path.unlink(missing_ok=True)


def entries(directory: str | os.PathLike) -> list[Path]:
    """The paths in a folder; none where it does not exist."""
    directory = as_path(directory)
    return list(directory.iterdir()) if directory.exists() else []


def upload(directory: Path, target: str | os.PathLike, *, last: str) -> None:
    """Copies a folder into a bucket, the file called `last` after all others: its presence marks the copy as whole."""
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    for file in sorted(files, key=lambda file: file.name == last):
        with file.open("rb") as source, (as_path(target) / file.relative_to(directory)).open("wb") as copy:
            shutil.copyfileobj(source, copy, 2**20)


def read_stream(path: str | os.PathLike) -> bytes:
    """The contents of a file on disk, or of a pipe, which is read until its writers have closed it.

    Raises:
      OSError: there is no such file, or it cannot be read.
      ValueError: it has more than `LARGEST` bytes, is a device, which may have no end, or a pipe that nobody writes to.
    """
    kind = os.stat(path).st_mode
    if stat.S_ISREG(kind):
        with open(path, "rb") as file:
            return _at_most(file.read(LARGEST + 1))
    if stat.S_ISCHR(kind):
        raise ValueError("it is a device")
    # To open a pipe waits for a writer, unless it does not block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll, data, written, end = select.poll(), bytearray(), False, time.monotonic() + _PATIENCE
        poll.register(descriptor, select.POLLIN)
        while len(data) <= LARGEST:
            try:
                piece = os.read(descriptor, 2**16)
            except BlockingIOError:  # there is a writer, who may take his time
                written = True
                poll.poll(1000)
                continue
            if piece:
                data += piece
                written = True
            elif written:
                break
            elif time.monotonic() > end:
                raise ValueError("nothing was written to it")
            else:
                time.sleep(0.02)
        return _at_most(bytes(data))
    finally:
        os.close(descriptor)


def _at_most(data: bytes) -> bytes:
    if len(data) > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    return data


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it comes from, is that of a full disk or of a spent quota."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        # An OSError has the number; other libraries raise their own errors with the system's words.
        if any(getattr(error, "errno", None) == code or os.strerror(code) in str(error)
               for code in (errno.ENOSPC, errno.EDQUOT)) or _TFDS_FULL in str(error):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def full_disk_as_input_error(path: str | os.PathLike, remedy: str) -> Iterator[None]:
    """Turns the errors of a full disk, or of a spent quota, into an `InputError` that names `path`.

    Args:
      remedy: the end of the message, which says what to do.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        raise InputError(f"{path}: the disk is full; {remedy}.") from None


@contextmanager
def temporary_room() -> Iterator[None]:
    """Turns the errors of the folder for temporary files, where it is full or missing, into an `InputError`."""
    remedy = "make room, or name another folder by TMPDIR"
    try:
        where = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise InputError(f"there is no folder for temporary files ({describe_error(error)}); {remedy}.") from None
    with full_disk_as_input_error(where, remedy):
        yield


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yields a folder that is removed at the end of the block; a full disk is an `InputError` (`temporary_room`)."""
    with temporary_room(), tempfile.TemporaryDirectory(prefix="vrstc-") as directory:
        yield Path(directory)


@contextmanager
def local_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yields the file, or a temporary copy of one in a bucket, for libraries that read only local files."""
    path = as_path(path)
    if not is_remote(path):
        yield path
        return
    with temporary_folder() as directory:
        copy = directory / path.name
        if path.exists():
            with path.open("rb") as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 2**20)
        yield copy


def require_writable_directory(path: str | os.PathLike) -> None:
    """Creates a directory where it is missing, and checks that a file can be written in it.

    Writes a temporary file: permission bits say nothing for root, or on a read-only file system.

    Raises:
      InputError: it cannot be created, is a file, or cannot be written in.
    """
    path = as_path(path)
    try:
        if is_remote(path):
            probe = path / ".writable"
            probe.write_bytes(b"x")
            probe.unlink()
            return
        if found := _no_folder(path):
            raise InputError(f"{path}: this folder cannot be written in, because {found} is no folder; remove that, or "
                             "give another one.")
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x")
    except _errors(path) as error:
        raise InputError(f"{path}: this folder cannot be written in ({describe_error(error)}); "
                         "give another one.") from None


def _errors(path: Path) -> type[Exception]:
    """The errors of a failed write; those of a bucket's client are of many kinds."""
    return Exception if is_remote(path) else OSError


def describe_error(error: Exception) -> str:
    """An error's own words on one line, without a full stop."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")
