"""The model file: everything that completing a tracklet needs, in one safetensors file.

Tensors are the generators', the discriminators' (so that training can go on from it) and the re-ID
network's; the header holds the format's number, digests, and as JSON the config, τ, the identities and the
provenance. The same model is the same file, byte for byte.
"""

import hashlib
import json
import os
from dataclasses import dataclass, field

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from vrstc_jax import config as configs
from vrstc_jax.data.images import replace_file
from vrstc_jax.errors import InputError

FORMAT = 1
_PARTS = ("generators", "discriminators", "reid")


@dataclass(frozen=True, eq=False)
class Model:
    """A trained VRSTC model.

    Attributes:
      config: what it was made with.
      generators: parameters of `networks.Generators`.
      discriminators: parameters of `networks.DiscriminatorPair`.
      reid: variables of `reid.ReidNet`, which locates and guides.
      identities: the training identities, in the classifier's order.
      tau: a band is occluded where its score is below this.
      provenance: how it was made: command, steps, data, figures, and under 'held_out' the frames that
        were kept from training, {tracklet: [[frame names of a run], …]}.
      digest: SHA-256 of the tensors, as the file has it; '' before it is saved.
    """

    config: configs.Config
    generators: dict
    discriminators: dict
    reid: dict
    identities: tuple[str, ...]
    tau: float
    provenance: dict = field(default_factory=dict)
    digest: str = ""


def save_model(path, model: Model) -> None:
    """Writes the model to `path`, under a temporary name first.

    Raises:
      InputError: the file cannot be written.
    """
    tensors = _flat(model)
    description = json.dumps({"config": configs.to_dict(model.config), "tau": model.tau,
                              "identities": list(model.identities), "provenance": model.provenance})
    header = {"format": str(FORMAT), "digest": _digest(tensors),
              "description_digest": _text_digest(description), "vrstc": description}
    replace_file(path, _in_order(safetensors.numpy.save(tensors, header)))


def load_model(path) -> Model:
    """The model in a file that `vrstc fit` or `save_model` wrote.

    Raises:
      InputError: there is no such file, it is damaged, or another version of the package wrote it.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such model file; make one with `vrstc fit`.")
    try:
        with safetensors.safe_open(path, "numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: this is not a whole model file ({error}); make it again.") from None
    if "vrstc" not in header:
        raise InputError(f"{path}: this safetensors file is not a VRSTC model; give one made by `vrstc fit`.")
    if header.get("format") != str(FORMAT):
        raise InputError(f"{path}: the model's format is {header.get('format')}, and this version of vrstc_jax "
                         f"reads {FORMAT}; make it again, or install the version that made it.")
    if header.get("digest") != _digest(tensors):
        raise InputError(f"{path}: the model file is damaged (its tensors do not match their digest); "
                         "copy or make it again.")
    described = _text_digest(header["vrstc"])
    if header.get("description_digest", described) != described:
        raise InputError(f"{path}: the model file is damaged (its description does not match its digest); "
                         "copy or make it again.")
    try:
        description = json.loads(header["vrstc"])
        config = configs.from_dict(description["config"])
        parts = traverse_util.unflatten_dict(tensors, sep="/")
        model = Model(config=config, identities=tuple(description["identities"]), tau=description["tau"],
                      provenance=description["provenance"], digest=header["digest"],
                      **{part: parts[part] for part in _PARTS})
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: the model file is not complete ({error}); make it again.") from None
    return model


def _flat(model: Model) -> dict[str, np.ndarray]:
    parts = {part: jax.device_get(getattr(model, part)) for part in _PARTS}
    return {name: np.array(value, order="C")  # as safetensors needs it; ascontiguousarray makes 0-d 1-d
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
    """A safetensors file with its header sorted: the library's order changes from call to call."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8 bytes
    return len(header).to_bytes(8, "little") + header + data[end:]
