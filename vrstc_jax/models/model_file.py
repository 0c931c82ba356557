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
from vrstc_jax.models.expected import completion_shapes, locating_shapes, reid_shapes, require_tensors
from vrstc_jax.models.tensor_file import read_tensors, write_tensors
from vrstc_jax.runtime.errors import InputError

FORMAT = REID_FORMAT = 1
_PARTS = ("generators", "discriminators", "reid")
_LOCATOR = "locator"  # a part of models whose config has `locating`
_KIND, _REID_KIND = "vrstc", "vrstc_reid"
_NETWORKS = ("ReidNet", "PairScorer")


@dataclass(frozen=True, eq=False)
class Model:
    """A trained VRSTC model.

    Attributes:
      config: the one it was trained with.
      generators: parameters of `generators.Generators`.
      discriminators: parameters of `discriminators.DiscriminatorPair`.
      reid: variables of `reid.ReidNet`, which guides, and locates where there is no `locator`.
      identities: the training identities, in the classifier's order.
      tau: a band is occluded where its score is below this.
      provenance: how it was made: command, steps, data, figures, and under 'held_out' the frames that
        were kept from training, {tracklet: [[frame names of a run], …]}.
      digest: SHA-256 of the tensors, as in the file; '' before it is saved.
      locator: parameters of `locating.LocatingNet`, where the config has `locating`; else None.
    """

    config: configs.Config
    generators: dict
    discriminators: dict
    reid: dict
    identities: tuple[str, ...]
    tau: float
    provenance: dict = field(default_factory=dict)
    digest: str = ""
    locator: dict | None = None


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
    parts |= {} if model.locator is None else {_LOCATOR: model.locator}
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
    own = path is None
    if path is None:
        path = default_model_path()
        if not path.is_file():
            raise InputError(f"{path}: the default model is missing; install vrstc_jax again, or name a model.")
    _, parts, description, digest = read_tensors(path, kinds={_KIND: FORMAT}, what="a VRSTC model", make="`vrstc fit`")
    model = _model(path, parts, description, digest)
    if not own:  # the check takes a second, and the package's file is known to be whole
        with _errors_naming(path):
            _require_networks(model)
    return model


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
        with _errors_naming(path):
            _require_reid(model.config.reid, model.reid, model.identities, "ReidNet")
        return ReidModel(model.config.reid, model.reid, model.identities, model.provenance, digest)
    with _errors_naming(path):
        model = ReidModel(configs.from_dict(description["config"], configs.Reid), parts["reid"],
                          _identities(description), _provenance(description), digest,
                          description.get("network", "ReidNet"))  # the first files do not name it
        if model.network not in _NETWORKS or parts.keys() != {"reid"}:
            raise InputError(f"holds {sorted(parts)} of the network {model.network!r}, and should hold the part reid "
                             f"of one of {', '.join(_NETWORKS)}; make it again.")
        _require_reid(model.config, model.variables, model.identities, model.network)
        return model


def _cast(parts: dict, source: type, target: type) -> dict:
    return jax.tree.map(lambda x: np.asarray(x).astype(target) if x.dtype == source else x, parts)


def _model(path: str | os.PathLike, parts: dict, description: dict, digest: str) -> Model:
    with _errors_naming(path):
        config = configs.from_dict(description["config"])
        expected = (*_PARTS, *([] if config.locating is None else [_LOCATOR]))
        if unknown := parts.keys() - set(expected):
            raise InputError(f"the tensors of {min(unknown)!r} are of no part of a model; make it again.")
        return Model(config=config, identities=_identities(description), tau=_tau(description),
                     provenance=_provenance(description), digest=digest,
                     **_cast({part: parts[part] for part in expected}, np.float16, np.float32))


def _tau(description: dict) -> float:
    tau = description["tau"]
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not abs(tau) <= configs.LARGEST_TAU:
        raise InputError(f"its tau is {tau!r}, and must be a number from -1 to 1, as scores are; make the model again.")
    return tau


def _identities(description: dict) -> tuple[str, ...]:
    identities = description["identities"]
    if not isinstance(identities, list) or not all(isinstance(name, str) for name in identities):
        raise InputError("its identities are not a list of names; make the model again.")
    return tuple(identities)


def _provenance(description: dict) -> dict:
    """The provenance, in which what other code reads has its form."""
    provenance = description["provenance"]
    inputs, held_out, curves = ((provenance.get(key) or {}) for key in ("inputs", "held_out", "curves"))
    if not all(isinstance(part, dict) for part in (provenance, inputs, held_out, curves)):
        raise InputError("its provenance is not of the form that models have; make the model again.")
    for runs in held_out.values():
        for run in runs:
            if not isinstance(run, list) or not all(isinstance(name, str) for name in run):
                raise InputError("its held-out runs are not lists of frame names; make the model again.")
    for points in (points for metrics in curves.values() for points in metrics.values()):
        for step, value in points:
            if not all(isinstance(number, int | float) for number in (step, value)):
                raise InputError("its curves are not pairs of numbers; make the model again.")
    return provenance


def _require_networks(model: Model) -> None:
    """Checks that the tensors are those of the config's networks.

    Raises:
      InputError: the config describes no network, or a tensor is not as it should be.
    """
    with _a_network():
        shapes = completion_shapes(model.config)
    for part in ("generators", "discriminators"):
        require_tensors(getattr(model, part), shapes[part], part)
    if model.config.locating is not None:
        with _a_network():
            expected = locating_shapes(model.config.locating)
        require_tensors(model.locator, expected, _LOCATOR)
    _require_reid(model.config.reid, model.reid, model.identities, "ReidNet")


def _require_reid(config: configs.Reid, variables: dict, identities: tuple[str, ...], network: str) -> None:
    if config.locating_width and not config.locating_loss:
        raise InputError("its config has a head for locating (locating_width) and no locating_loss to train it; make "
                         "the model again.")
    with _a_network():
        shapes = reid_shapes(config, len(identities), network)
    require_tensors(variables, shapes, "reid")


@contextmanager
def _a_network() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # what Flax and JAX raise depends on the layer that cannot be made
        what = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(f"its config describes no network ({what}); make the model again.") from None


@contextmanager
def _errors_naming(path: str | os.PathLike) -> Iterator[None]:
    """Turns the errors of a description that cannot be read into an `InputError` that names the file."""
    try:
        yield
    except InputError as error:  # of the config, or of a tensor
        raise InputError(f"{path}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: the model file is not complete ({error}); make it again.") from None
