"""Files of weights that others publish: PyTorch's state dicts, and TensorFlow.js' layers models.

They are read as NumPy arrays by name; `layouts` knows what the names mean.
"""

import json
import pickle
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from vrstc_jax.runtime.errors import InputError

_Files = dict[PurePosixPath, Callable[[], bytes]]  # functions that read them


@dataclass(frozen=True, eq=False)
class TensorflowJsModel:
    """A layers model: its weights {name: array}, its layers' configs {name: config}, its classes' names
    (or None)."""

    tensors: dict[str, np.ndarray]
    layers: dict[str, dict]
    classes: tuple[str, ...] | None


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a `.safetensors`, `.pth` or `.pt` file.

    Pickles are loaded weights-only: none of their code runs.

    Raises:
      InputError: the file cannot be read, holds more than tensors, or PyTorch is needed and not there.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    if path.suffix == ".safetensors":
        try:
            return safetensors.numpy.load_file(path)
        except Exception as error:  # safetensors' own errors, and NumPy's for types that it lacks
            raise InputError(f"{path}: this is not a whole safetensors file that NumPy can hold "
                             f"({_line(error)}); get it again.") from None
    if path.suffix in (".pth", ".pt"):
        return _read_pickle(path)
    raise InputError(f"{path}: weights come as .pth, .pt or .safetensors, or as a folder or .tgz with a "
                     "TensorFlow.js model.json.")


def _read_pickle(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise InputError(f"{path}: to read {path.suffix} files PyTorch is needed: pip install torch; "
                         ".safetensors files need none.") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(f"{path}: this pickle holds more than tensors, or is damaged, and is not loaded "
                         "(weights-only); give one saved as torch.save(model.state_dict(), path).") from None
    except Exception as error:  # PyTorch raises RuntimeError, EOFError, OSError and others on damaged files
        raise InputError(f"{path}: this is not a whole file of PyTorch's ({_line(error)}); get it again."
                         ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        held = f"entries like {', '.join(map(repr, list(state)[:3]))}" if isinstance(state, dict) else (
            f"a {type(state).__name__}")
        raise InputError(f"{path}: this holds {held}, not tensors by name; give one saved as "
                         "torch.save(model.state_dict(), path).")
    return {str(name): _to_numpy(value) for name, value in state.items()}


def _to_numpy(value: Any) -> np.ndarray:
    value = value.detach()
    return (value.float() if value.is_floating_point() else value).numpy()


def read_tensorflow_js(path: Path) -> TensorflowJsModel:
    """The layers model below a folder or in a `.tgz`: one `model.json`, the shards beside it, and, beside it
    or in `assets/`, `labels.json` with the classes' names.

    Raises:
      InputError: there is none, or more than one, or it is damaged.
    """
    files = _folder(path) if path.is_dir() else _archive(path)
    found = [name for name in files if name.name == "model.json"]
    if len(found) != 1:
        raise InputError(f"{path}: one model.json is needed in it, and there are {len(found)}.")
    folder, where = found[0].parent, f"{path}: {found[0]}"
    model = _json(files[found[0]](), where)
    try:
        layers = {layer["config"]["name"]: layer["config"]
                  for layer in model["modelTopology"]["model_config"]["config"]["layers"]}
        groups = [([str(p) for p in group["paths"]],
                   [(str(w["name"]), tuple(map(int, w["shape"])), w["dtype"], "quantization" in w)
                    for w in group["weights"]]) for group in model["weightsManifest"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: this is not a TensorFlow.js layers model of Keras' ({_line(error)})."
                         ) from None
    tensors = {}
    for paths, entries in groups:
        shards = {}
        for name in paths:
            if folder / name not in files:
                raise InputError(f"{path}: {folder / name} is missing, which model.json names.")
            shards[name] = files[folder / name]()
        tensors |= _split(shards, entries, path)
    return TensorflowJsModel(tensors, layers, _classes(files, folder, path))


def _split(shards: dict[str, bytes], entries: list[tuple], path: Path) -> dict[str, np.ndarray]:
    """A group's tensors, which follow each other in its shards."""
    for name, _, dtype, quantized in entries:
        if dtype != "float32" or quantized:
            raise InputError(f"{path}: {name} is {'quantized' if quantized else dtype}; float32 is needed.")
    data = b"".join(shards.values())
    wanted = sum(4 * int(np.prod(shape)) for _, shape, _, _ in entries)
    if len(data) != wanted:
        usual = max(map(len, shards.values()))
        odd = [name for name in list(shards)[:-1] if len(shards[name]) != usual] or list(shards)[-1:]
        raise InputError(f"{path}: its shards have {len(data)} bytes, and model.json's tensors {wanted}; "
                         f"{odd[0]} ({len(shards[odd[0]])} bytes) looks cut short; get it again.")
    tensors, start = {}, 0
    for name, shape, _, _ in entries:
        size = int(np.prod(shape))
        tensors[name] = np.frombuffer(data, "<f4", size, start).reshape(shape)
        start += 4 * size
    return tensors


def _classes(files: _Files, folder: PurePosixPath, path: Path) -> tuple[str, ...] | None:
    for name in (folder / "labels.json", folder.parent / "assets" / "labels.json"):
        if name in files:
            labels: Any = _json(files[name](), f"{path}: {name}")
            if isinstance(labels, dict):
                labels = [labels.get(str(i)) for i in range(len(labels))]
            if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
                raise InputError(f"{path}: {name} must have a name for each class from 0 on.")
            return tuple(labels)
    return None


def _folder(path: Path) -> _Files:
    """{relative name: a function that reads it} of the files at most two folders below."""
    files = [file for depth in ("*", "*/*", "*/*/*") for file in path.glob(depth) if file.is_file()]
    return {PurePosixPath(file.relative_to(path).as_posix()): _reader(file) for file in files}


def _reader(file: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return file.read_bytes()
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({_line(error)}).") from None
    return read


def _archive(path: Path) -> _Files:
    """As `_folder`, of an archive, which is not unpacked to disk."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            held = {PurePosixPath(member.name): stream.read() for member in archive
                    if member.isfile() and (stream := archive.extractfile(member)) is not None}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: this archive is damaged ({_line(error)}); get it again.") from None
    return {name: (lambda data=data: data) for name, data in held.items()}


def _json(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise InputError(f"{where}: this is not JSON ({_line(error)}).") from None


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")[:160]
