"""Whether checkpoints on disk are whole: digests of their files, removal of what cannot be used, full disks."""

import hashlib
import os
import sys
from contextlib import AbstractContextManager, suppress

from etils import epath

from vrstc_jax.runtime import storage
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import is_number, printable
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.storage import describe_error, is_remote, remove

DIGESTS = "digests.json"
STATE_ALONE = "default"  # the one item of checkpoints from before there were digests
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the names that Orbax gives while it writes


def full_disk_as_input_error(directory: str | os.PathLike) -> AbstractContextManager[None]:
    """Turns the errors of a disk that is full, or of a spent quota, into an `InputError` that names `directory`."""
    return storage.full_disk_as_input_error(
        directory, "make room, and the same command goes on from the last whole checkpoint")


def remove_damaged(directory: epath.Path) -> None:
    """Removes checkpoints that cannot be used, from the newest to the first that can, and reports them."""
    if not is_remote(directory) and os.path.lexists(directory) and not os.path.isdir(directory):
        raise InputError(f"{directory}: is no folder, and should be that of the checkpoints; remove it.")
    if not directory.exists():
        return
    remove_unfinished(directory)
    steps = sorted((int(path.name) for path in directory.iterdir() if is_number(path.name)), reverse=True)
    refused = []
    for step in steps:
        problem = problem_of(directory / str(step))
        if problem is None:
            break
        refused.append(f"the checkpoint of step {step} {problem}")
        remove(directory / str(step))
    if refused:
        left = steps[len(refused):]
        print(f"vrstc: {printable(directory)}: {'; '.join(refused)}. "
              + (f"Going on from step {left[0]}." if left else "Training starts anew."), file=sys.stderr)


def remove_unfinished(directory: epath.Path) -> None:
    """Removes what Orbax was writing when a process died or the disk was full."""
    with suppress(OSError):
        for path in directory.iterdir():
            if _UNFINISHED in path.name:
                remove(path)


def problem_of(path: epath.Path) -> str | None:
    """What is wrong with a checkpoint, as the end of a sentence 'the checkpoint …'; None: nothing."""
    if not path.is_dir():
        return "is no folder"
    if not (path / DIGESTS).exists():
        return None if (path / STATE_ALONE).exists() else "is half-written"
    try:
        wanted = read_record(path / DIGESTS, fits=lambda found: all(isinstance(value, str) for value in found.values()))
    except InputError:
        return f"is damaged ({DIGESTS})"
    try:
        found = digests_of(path)
    except OSError as error:
        return f"cannot be read ({describe_error(error)})"
    if found == wanted:
        return None
    return f"is damaged ({min(name for name, _ in set(found.items()) ^ set(wanted.items()))})"


def digests_of(path: epath.Path) -> dict[str, str]:
    """{name below `path`: SHA-256} of every file except those that hold the digests."""
    files = [root / name for root, _, names in path.walk() for name in names
             # A pipe or a broken link is no file of a checkpoint, and counts as missing. (To epath a pipe is a file.)
             if DIGESTS not in name and (is_remote(path) or os.path.isfile(root / name))]
    return {str(file.relative_to(path)): _sha256(file) for file in sorted(files)}


def _sha256(file: epath.Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()
