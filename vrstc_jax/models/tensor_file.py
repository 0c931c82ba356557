"""Files of tensors: safetensors with a header that describes them, and digests that reveal damage.

The header holds the kind and the format's number, a description as JSON, and digests of the tensors and of
the description. Equal content gives equal files, byte for byte.
"""

import hashlib
import json
import os

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.storage import as_path, describe_error, local_file, replace_file


def write_tensors(path: str | os.PathLike, parts: dict, description: dict, *, kind: str, version: int) -> None:
    """Writes nested dictionaries of arrays, under a temporary name first.

    Args:
      parts: {name: nested dictionary of arrays}.
      description: anything that JSON can hold.
      kind: the header's key for the description, by which `read_tensors` knows the file.
      version: of the format.

    Raises:
      InputError: the file cannot be written.
    """
    tensors = _flat(parts)
    text = json.dumps(description)
    header = {"format": str(version), "digest": _digest(tensors), "description_digest": _text_digest(text), kind: text}
    replace_file(as_path(path), _in_order(safetensors.numpy.save(tensors, header)))


def read_tensors(path: str | os.PathLike, *, kinds: dict[str, int], what: str,
                 make: str) -> tuple[str, dict, dict, str]:
    """The kind, parts, description and digest of a file that `write_tensors` wrote.

    Args:
      kinds: {kind: version} of those that are accepted.
      what: what the file should be, for errors, such as 'a VRSTC model'.
      make: how one is made, for errors, such as '`vrstc fit`'.

    Raises:
      InputError: there is no such file, it is damaged, of another kind, or of another version.
    """
    path = os.fspath(as_path(path))
    with local_file(path) as here:
        if not here.is_file():
            raise InputError(f"{path}: no such model file; make one with {make}.")
        try:
            with safetensors.safe_open(here, "numpy") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict
        except Exception as error:  # a type that NumPy lacks, a size that memory lacks, and what the library raises
            raise InputError(f"{path}: this is not a whole model file ({describe_error(error)}); make it "
                             "again.") from None
    kind = next((kind for kind in kinds if kind in header), None)
    if kind is None:
        raise InputError(f"{path}: this safetensors file is not {what}; give one made by {make}.")
    if header.get("format") != str(kinds[kind]):
        raise InputError(f"{path}: the model's format is {header.get('format')}, and this version of vrstc_jax "
                         f"reads {kinds[kind]}; make it again, or install the version that made it.")
    if header.get("digest") != _digest(tensors):
        raise InputError(f"{path}: the model file is damaged (its tensors do not match their digest); "
                         "copy or make it again.")
    described = _text_digest(header[kind])
    if header.get("description_digest", described) != described:  # the first files have none
        raise InputError(f"{path}: the model file is damaged (its description does not match its digest); "
                         "copy or make it again.")
    for name in tensors:
        if clash := next((parent for parent in _parents(name) if parent in tensors), None):
            raise InputError(f"{path}: the tensor {clash} is also a folder of tensors ({name}); make the model again.")
    try:
        description = json.loads(header[kind])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: the model file is not complete ({error}); make it again.") from None
    if not isinstance(description, dict):
        raise InputError(f"{path}: the model file is not complete (its description is no JSON object); make it again.")
    return kind, traverse_util.unflatten_dict(tensors, sep="/"), description, header["digest"]


def _parents(name: str) -> list[str]:
    """The names of the folders that a tensor is in, outermost first: 'a/b/c' is in 'a' and in 'a/b'."""
    words = name.split("/")
    return ["/".join(words[:depth]) for depth in range(1, len(words))]


def tensors_digest(parts: dict) -> str:
    """SHA-256 of nested dictionaries of arrays, their names and shapes."""
    return _digest(_flat(parts))


def _flat(parts: dict) -> dict[str, np.ndarray]:
    parts = jax.device_get(parts)
    # safetensors needs C order, and `ascontiguousarray` would make a 0-d array 1-d.
    return {name: np.array(value, order="C")
            for name, value in sorted(traverse_util.flatten_dict(parts, sep="/").items())}


def _digest(tensors: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _in_order(data: bytes) -> bytes:
    """A safetensors file with its header sorted, because the library's order changes from call to call."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8 bytes
    return len(header).to_bytes(8, "little") + header + data[end:]
