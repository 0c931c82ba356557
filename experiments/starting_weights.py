"""The variables that step 1 and the final network begin with: the default model's, or ImageNet's from a file."""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vrstc_jax.config import Config
from vrstc_jax.models.imagenet import load_backbone, require_config
from vrstc_jax.models.model_file import default_model_path, load_model
from vrstc_jax.models.tensor_file import tensors_digest
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.storage import as_path


def beginning(config: Config, *, fresh: bool = False) -> tuple[Config, Callable[[], dict] | None, str | None]:
    """(config, function that reads the variables that step 1 begins with, their digest).

    The variables are the default model's re-ID network, if the config's network has its shape. The config then has
    the default model's τ, and step 1 trains the classifier alone: masks taught that network to locate, and the data
    set need not have any. Otherwise, or with `fresh`: (config as given, None, None).
    """
    if fresh or not default_model_path().is_file():
        return config, None, None
    model = load_model()
    # How the network learned to locate does not change its shape.
    how = {name: getattr(config.reid, name) for name in ("locating_loss", "locating_masks")}
    if dataclasses.replace(model.config.reid, **how) != config.reid:
        return config, None, None
    # The identities differ, so the classifier has to be trained anew.
    training = dataclasses.replace(config.reid_training, only=("classifier",))
    return (dataclasses.replace(config, reid_training=training, tau=model.tau), lambda: model.reid,
            tensors_digest(model.reid))


def identity_of(path: Path, work: Path) -> dict[str, str]:
    """{'path', 'sha256'} of a file of weights, as the record of the work directory has it.

    Weights are known by their content: a moved file gives the record's entry, and so does a missing file if the
    record names its path, because finished results do not need it.

    Raises:
      InputError: there is no such file, and the record does not name it.
    """
    name, recorded = os.path.abspath(path), _recorded(work).get("inputs", {}).get("imagenet")
    recorded = recorded if isinstance(recorded, dict) else {}
    if not os.path.isfile(name):
        if recorded.get("path") == name:
            return recorded
        raise InputError(f"--imagenet {name}: no such file; make one with tools/import_resnet50.py.")
    with open(name, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return recorded if recorded.get("sha256") == digest else {"path": name, "sha256": digest}


def as_the_weights_are(config: Config, path: Path, work: Path, identity: dict[str, str]) -> Config:
    """The config with the two fields in which published weights of one network differ.

    They are the convolution of a block that strides (Caffe's and Keras' ResNet: the first) and batch norm's epsilon.
    The fields are read from the work directory's record if it has weights of this identity, else from the file.
    """
    recorded = _recorded(work)
    known = recorded.get("inputs", {}).get("imagenet") == identity
    fields = recorded["config"]["reid"] if known else load_backbone(path)[0]
    theirs = {name: fields[name] for name in ("stride_on", "norm_epsilon") if name in fields}
    return dataclasses.replace(config, reid=dataclasses.replace(config.reid, **theirs),
                               final=dataclasses.replace(config.final, **theirs))


def read_backbone(path: Path, config: Config) -> dict[str, Any]:
    """The backbone's variables in a file.

    Raises:
      InputError: a network that begins with them has another shape.
    """
    fields, variables = load_backbone(path)
    for network in (config.reid,) if config.final_from_first else (config.reid, config.final):
        require_config(network, fields, source=str(path))
    return {collection: {"backbone": tree} for collection, tree in variables.items()}


def _recorded(work: Path) -> dict[str, Any]:
    record = as_path(work) / "experiment.json"
    return read_record(record) if record.exists() else {}
