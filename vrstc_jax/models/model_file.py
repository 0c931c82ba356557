"""The model file: everything that completing a tracklet needs, in one safetensors file.

Its tensors are those of the generators, of the discriminators (so that training can go on from it) and of the re-ID
network; its header holds, as JSON, the config, τ, the identities and the provenance. A re-ID network alone has another
kind of file, which steps 1 and 5 write.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import jax
import numpy as np

from vrstc_jax import config as configs
from vrstc_jax.models.tensor_file import read_tensors, write_tensors
from vrstc_jax.runtime.errors import InputError

FORMAT = REID_FORMAT = 1
_PARTS = ("generators", "discriminators", "reid")
_KIND, _REID_KIND = "vrstc", "vrstc_reid"


@dataclass(frozen=True, eq=False)
class Model:
    """A trained VRSTC model.

    Attributes:
      config: the one it was trained with.
      generators: parameters of `generators.Generators`.
      discriminators: parameters of `discriminators.DiscriminatorPair`.
      reid: variables of `reid.ReidNet`, which locates and guides.
      identities: the training identities, in the classifier's order.
      tau: a band is occluded where its score is below this.
      provenance: how it was made: command, steps, data, figures, and under 'held_out' the frames that
        were kept from training, {tracklet: [[frame names of a run], …]}.
      digest: SHA-256 of the tensors, as in the file; '' before it is saved.
    """

    config: configs.Config
    generators: dict
    discriminators: dict
    reid: dict
    identities: tuple[str, ...]
    tau: float
    provenance: dict = field(default_factory=dict)
    digest: str = ""


@dataclass(frozen=True, eq=False)
class ReidModel:
    """A trained re-ID network.

    Attributes:
      config: the network's shape.
      variables: of the class that `network` names.
      identities: the training identities, in the classifier's order.
      provenance: how it was made.
      digest: as `Model.digest`.
      network: the class of the network, 'ReidNet' or 'PairScorer'; only the first has features of tracklets.
    """

    config: configs.Reid
    variables: dict
    identities: tuple[str, ...]
    provenance: dict = field(default_factory=dict)
    digest: str = ""
    network: str = "ReidNet"


def save_model(path: str | os.PathLike, model: Model, *, half: bool = False) -> None:
    """Writes the model to `path`, under a temporary name first.

    Args:
      half: store tensors as float16, in half the size; loaded, they are float32 again.

    Raises:
      InputError: the file cannot be written.
    """
    description = {"config": configs.to_dict(model.config), "tau": model.tau,
                   "identities": list(model.identities), "provenance": model.provenance}
    parts = {part: getattr(model, part) for part in _PARTS}
    write_tensors(path, _cast(parts, np.float32, np.float16) if half else parts, description, kind=_KIND,
                  version=FORMAT)


def default_model_path() -> Path:
    """The file of the default model, which comes with the package: size `small`, trained on made-up walkers
    (`experiments.default_model`)."""
    return Path(str(resources.files("vrstc_jax") / "weights" / "small.safetensors"))


def load_model(path: str | os.PathLike | None = None) -> Model:
    """The model in a file that `vrstc fit` or `save_model` wrote; None: the default model.

    Raises:
      InputError: there is no such file, it is damaged, or another version of the package wrote it.
    """
    if path is None:
        path = default_model_path()
        if not path.is_file():
            raise InputError(f"{path}: the default model is missing; install vrstc_jax again, or name a model.")
    _, parts, description, digest = read_tensors(path, kinds={_KIND: FORMAT}, what="a VRSTC model", make="`vrstc fit`")
    return _model(path, parts, description, digest)


def save_reid(path: str | os.PathLike, model: ReidModel) -> None:
    """Writes a re-ID network to `path`, under a temporary name first.

    Raises:
      InputError: the file cannot be written.
    """
    description = {"config": configs.to_dict(model.config), "identities": list(model.identities),
                   "provenance": model.provenance, "network": model.network}
    write_tensors(path, {"reid": model.variables}, description, kind=_REID_KIND, version=REID_FORMAT)


def load_reid(path: str | os.PathLike) -> ReidModel:
    """The re-ID network in a file that `save_reid` wrote, or the one in a whole model's file.

    Raises:
      InputError: there is no such file, it is damaged, or another version of the package wrote it.
    """
    kind, parts, description, digest = read_tensors(
        path, kinds={_REID_KIND: REID_FORMAT, _KIND: FORMAT}, what="a re-ID network or a VRSTC model",
        make="`python -m experiments.vrstc` or `vrstc fit`")
    if kind == _KIND:
        model = _model(path, parts, description, digest)
        return ReidModel(model.config.reid, model.reid, model.identities, model.provenance, digest)
    with _errors_naming(path):
        return ReidModel(configs.from_dict(description["config"], configs.Reid), parts["reid"],
                         tuple(description["identities"]), description["provenance"], digest,
                         description.get("network", "ReidNet"))  # the first files do not name it


def _cast(parts: dict, source: type, target: type) -> dict:
    return jax.tree.map(lambda x: np.asarray(x).astype(target) if x.dtype == source else x, parts)


def _model(path: str | os.PathLike, parts: dict, description: dict, digest: str) -> Model:
    with _errors_naming(path):
        return Model(config=configs.from_dict(description["config"]), identities=tuple(description["identities"]),
                     tau=description["tau"], provenance=description["provenance"], digest=digest,
                     **_cast({part: parts[part] for part in _PARTS}, np.float16, np.float32))


@contextmanager
def _errors_naming(path: str | os.PathLike) -> Iterator[None]:
    """Turns the errors of a description that cannot be read into an `InputError` that names the file."""
    try:
        yield
    except InputError as error:  # of the config
        raise InputError(f"{path}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: the model file is not complete ({error}); make it again.") from None
