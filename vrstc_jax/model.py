"""The model file: everything that completing a tracklet needs, in one safetensors file.

Tensors are the generators', the discriminators' (so that training can go on from it) and the re-ID
network's; the header holds, as JSON, the config, τ, the identities and the provenance. A re-ID network can
also be a file of its own, which is what step 5 leaves.
"""

from dataclasses import dataclass, field

from vrstc_jax import config as configs
from vrstc_jax.errors import InputError
from vrstc_jax.tensor_file import read_tensors, write_tensors

FORMAT = 1
REID_FORMAT = 1
_PARTS = ("generators", "discriminators", "reid")
_KIND, _REID_KIND = "vrstc", "vrstc_reid"


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


@dataclass(frozen=True, eq=False)
class ReidModel:
    """A trained re-ID network: what tells people apart.

    Attributes:
      config: its shape.
      variables: of `reid.ReidNet`.
      identities: the training identities, in the classifier's order.
      provenance: how it was made.
      digest: as `Model.digest`.
      network: whose variables they are, 'ReidNet' or 'PairScorer'; only the first has features of tracklets.
    """

    config: configs.Reid
    variables: dict
    identities: tuple[str, ...]
    provenance: dict = field(default_factory=dict)
    digest: str = ""
    network: str = "ReidNet"


def save_model(path, model: Model) -> None:
    """Writes the model to `path`, under a temporary name first.

    Raises:
      InputError: the file cannot be written.
    """
    description = {"config": configs.to_dict(model.config), "tau": model.tau,
                   "identities": list(model.identities), "provenance": model.provenance}
    write_tensors(path, {part: getattr(model, part) for part in _PARTS}, description, kind=_KIND,
                  version=FORMAT)


def load_model(path) -> Model:
    """The model in a file that `vrstc fit` or `save_model` wrote.

    Raises:
      InputError: there is no such file, it is damaged, or another version of the package wrote it.
    """
    _, parts, description, digest = read_tensors(path, kinds={_KIND: FORMAT}, what="a VRSTC model",
                                                 make="`vrstc fit`")
    return _model(path, parts, description, digest)


def save_reid(path, model: ReidModel) -> None:
    """Writes a re-ID network to `path`, under a temporary name first.

    Raises:
      InputError: the file cannot be written.
    """
    description = {"config": configs.to_dict(model.config), "identities": list(model.identities),
                   "provenance": model.provenance, "network": model.network}
    write_tensors(path, {"reid": model.variables}, description, kind=_REID_KIND, version=REID_FORMAT)


def load_reid(path) -> ReidModel:
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
    try:
        return ReidModel(configs.from_dict(description["config"], configs.Reid), parts["reid"],
                         tuple(description["identities"]), description["provenance"], digest,
                         description.get("network", "ReidNet"))
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: the model file is not complete ({error}); make it again.") from None


def _model(path, parts, description, digest):
    try:
        return Model(config=configs.from_dict(description["config"]), identities=tuple(description["identities"]),
                     tau=description["tau"], provenance=description["provenance"], digest=digest,
                     **{part: parts[part] for part in _PARTS})
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: the model file is not complete ({error}); make it again.") from None
