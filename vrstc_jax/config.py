"""Every choice of the method, as frozen dataclasses, and the named sizes.

`paper` is the paper's network with the choices where the paper leaves one open; `paper_literal` is the same
with what the paper prints where the choice is another one. `small` is what two CPU cores train in minutes,
and adds the options that helped there. `smoke` is for tests: it runs, and learns little.

    config = vrstc_jax.config.get("small")
    config = dataclasses.replace(config, tau=0.8)
"""

import dataclasses
from dataclasses import dataclass

from vrstc_jax.runtime.errors import InputError

COMPUTE = ("float32", "bfloat16")


@dataclass(frozen=True)
class Autoencoder:
    """Encoder and decoder of a generator (section 3.1, after Iizuka et al. 2017)."""

    widths: tuple[int, ...] = (64, 128, 128, 256, 256)
    strides: tuple[int, ...] = (1, 2, 1, 2, 1)
    dilated_width: int = 256
    dilations: tuple[int, ...] = (2, 4, 8, 16)
    decoder_width: int = 128  # between the two deconvolutions


@dataclass(frozen=True)
class STCnet:
    """The generators, and what the temporal one sees."""

    height: int = 128
    width: int = 64
    spatial: Autoencoder = Autoencoder()
    temporal: Autoencoder = Autoencoder()
    patch_size: int = 3
    softmax_scale: float = 10.0
    share_neighbour_encoders: bool = True
    # What follows G_s: 'attention' (G_t), or, for the paper's ablation, 'concatenation' (G_t without
    # attention), 'autoencoder' (no neighbours, an encoder of three times the filters), 'none' (x̂2 is x̂1).
    temporal_form: str = "attention"
    # Options on top of the paper; the defaults are the paper's.
    frames_per_side: int = 1  # unoccluded frames attended on each side, under one softmax a side
    neighbour_reach: int = 1  # of this many unoccluded frames on each side, those most alike; 1: the nearest
    frame_step: int = 1  # every how many unoccluded frames one is taken, beyond the nearest
    learned_scale: bool = False  # the softmax scale is trained, starting from softmax_scale
    transport: bool = False  # attention also carries the neighbours' pixels, which a last stage blends
    blend_width: int = 24  # channels of that last stage, at full resolution


@dataclass(frozen=True)
class Discriminators:
    """D_g and D_l (section 3.4)."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    slope: float = 0.2  # of the leaky ReLU
    local_input: str = "masked"  # 'masked': M⊙x, as equation 8; 'cropped': the hole's box, enlarged


@dataclass(frozen=True)
class Losses:
    """Weights of equation 10; `reconstruction` is the paper's ‖·‖₁ or the mean square."""

    adversarial: float = 0.001  # λ1
    identity: float = 0.1  # λ2
    global_discriminator: bool = True  # L_a1 takes part
    local_discriminator: bool = True  # L_a2 takes part
    reconstruction: str = "l1"  # 'l1' or 'l2'


@dataclass(frozen=True)
class Reid:
    """The re-ID network, which locates and guides (section 3.2; ResNet with last stride 1)."""

    height: int = 256
    width: int = 128
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    base_width: int = 64
    stem_pool: bool = True
    last_stride: int = 1
    stride_on: str = "3x3"  # which convolution of a bottleneck strides: '3x3' (torchvision), '1x1' (Caffe)
    norm_epsilon: float = 1e-5  # of batch norm; 1e-3 in Keras' weights
    clip: int = 4  # frames of a clip in training
    test_clip: int = 32  # and when testing: longer tracklets are clips, whose features are averaged
    non_local: tuple[int, ...] = ()  # non-local blocks of each stage, spread over it: 2 of 6 follow 3 and 6
    # How their kernels begin: normal, with this deviation. 0.01 is their authors', for 512 and 1,024 channels; in
    # narrow blocks all positions would be told the same, and ranking got worse by them. 0: 1/√(inputs).
    non_local_deviation: float = 0.01
    # Over a clip: 'average' (the paper's), 'maximum', 'temporal_attention' (frames are weighed),
    # 'diverse_attention' (several spatial attention maps; Li et al. 2018), 'astpn_one_sequence' (ASTPN's
    # attention of a sequence to itself; of a pair it is `reid.PairScorer`).
    pooling: str = "average"
    attention_maps: int = 6  # of 'diverse_attention'
    attention_width: int = 64  # hidden units that score frames, or positions
    embedding: int = 128  # features of each attention map, and of ASTPN
    pyramid: tuple[int, ...] = (8, 4, 2, 1)  # ASTPN: frames are pooled over n×n cells, for each n
    # On top of the paper, for locating. The weight of a loss that hides bands on purpose and asks the scores of
    # equation 12 for them (`losses.locating`), and how sharply the mean of equation 11 prefers frames that
    # agree with it (`locate.Locator`); at 0 both are the paper's.
    locating_loss: float = 0.0
    reference_sharpness: float = 0.0
    # Width of a head that takes the place of equation 12's cosine, and of the sharper mean
    # (`hidden_bands.HiddenCells`; it needs the locating loss); 0: none.
    locating_width: int = 0
    locating_stages: bool = False  # that head sees all stages' maps, and each cell's surroundings
    locating_masks: bool = False  # the training masks are known, and that loss asks for what they hide too


@dataclass(frozen=True)
class ReidLosses:
    """What joins the re-ID network's cross-entropy; the defaults are the paper's, cross-entropy alone."""

    label_smoothing: float = 0.0  # the share of each label that is spread over all identities
    triplet: float = 0.0  # weight of the batch-hard triplet loss; it needs Training.clips_per_identity > 1
    margin: float = 0.3  # of that loss
    diversity: float = 1.0  # weight of 'diverse_attention's penalty on maps that are alike
    pair_margin: float = 2.0  # of the pair scorer's contrastive loss


@dataclass(frozen=True)
class Training:
    """One network's training. Batches are global, whatever the number of devices."""

    steps: int
    batch: int
    learning_rate: float
    schedule: str = "constant"  # 'constant', 'cosine' (to zero), or 'staircase' (×0.1 each third)
    warmup: int = 0  # steps of linear warm-up
    weight_decay: float = 0.0  # added to the gradient before Adam's scaling, as PyTorch's Adam does
    flip: bool = True
    shift: float = 0.0  # crops are shifted and scaled by up to this share of their size
    # Decay of the running mean of the parameters (and batch statistics) that is kept as the result; 0: none.
    average: float = 0.0
    # re-ID alone: a batch is of batch / this many people, with this many clips each; 1: of any clips
    clips_per_identity: int = 1
    # re-ID alone, where batches are of any clips: every tracklet is drawn once an epoch, as in the paper;
    # otherwise long ones are drawn more often
    each_once: bool = False
    # re-ID alone: the parts of the network that learn, such as ('classifier',), while the others stay as they
    # begin, batch statistics too; (): all learn
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Masks:
    """What hides people while STCnet trains, and how long."""

    kind: str = "mixed"  # 'bands': one random third; 'mixed': one or two bands, and shapes of occluders
    longest_run: int = 1  # neighbours are taken as if a run of 1 to this many frames were hidden


@dataclass(frozen=True)
class Config:
    """All of the method. `name` is the size it started from.

    `reid` and `reid_training` are of the network that locates and guides (DESIGN's step 1), `final` and
    `final_training` of the one that says who it is (step 5); `reid_losses` are of both.
    """

    name: str = "paper"
    stcnet: STCnet = STCnet()
    discriminators: Discriminators = Discriminators()
    losses: Losses = Losses()
    masks: Masks = Masks()
    reid: Reid = Reid()
    stcnet_training: Training = Training(steps=200_000, batch=32, learning_rate=1e-4)
    reid_training: Training = Training(steps=39_000, batch=32, learning_rate=3e-4, schedule="staircase",
                                       weight_decay=5e-4, each_once=True)
    reid_losses: ReidLosses = ReidLosses()
    final: Reid = Reid(non_local=(0, 2, 3, 0))
    final_from_first: bool = False  # it starts from the first network's backbone, where ImageNet's does not fit
    final_training: Training = Training(steps=39_000, batch=32, learning_rate=3e-4, schedule="staircase",
                                        weight_decay=5e-4, each_once=True)
    tau: float | None = 0.89  # a band is occluded where its score is lower; None: choose by tau_quantile
    tau_quantile: float = 0.05  # the share of bands of the training tracklets to call occluded
    # What the networks compute in while they train, 'float32' or 'bfloat16'. Parameters, their gradients and the
    # optimiser, batch statistics, softmax, heads and losses are float32 all the same, and so is all use of a
    # trained network.
    compute: str = "float32"
    seed: int = 0

    @property
    def batches(self) -> tuple[int, int, int]:
        """The global batches of all three trainings."""
        return self.stcnet_training.batch, self.reid_training.batch, self.final_training.batch

    def __post_init__(self):
        if self.compute not in COMPUTE:
            raise InputError(f"There is no computing in '{self.compute}'; choose one of {', '.join(COMPUTE)}.")


def of_final(config: Config) -> Config:
    """The config with the final network in place of the first: whatever trains the one trains the other."""
    return dataclasses.replace(config, reid=config.final, reid_training=config.final_training)


_SMALL_AUTOENCODER = Autoencoder(widths=(16, 32, 32, 64, 64), dilated_width=64, decoder_width=32)
# Few layers: of what is only to show that it runs, compiling is most of the time.
_SMOKE_AUTOENCODER = Autoencoder(widths=(4, 8, 8), strides=(1, 2, 2), dilated_width=8, dilations=(2,), decoder_width=8)

_SMALL_REID = Reid(height=64, width=32, blocks=(1, 1, 1, 1), bottleneck=False, base_width=32, stem_pool=False,
                   attention_width=32, embedding=64, pyramid=(4, 2, 1))
_SMALL_REID_TRAINING = Training(steps=400, batch=16, learning_rate=2e-3, schedule="cosine", warmup=20,
                                weight_decay=5e-4, shift=0.06)
_SMOKE_REID = Reid(height=32, width=16, blocks=(1, 1, 1, 1), bottleneck=False, base_width=4, stem_pool=False,
                   clip=2, test_clip=4, attention_maps=2, attention_width=4, embedding=8, pyramid=(2, 1))
_SMOKE_REID_TRAINING = Training(steps=6, batch=8, learning_rate=1e-3, weight_decay=5e-4)

_LITERAL = Config(name="paper_literal", stcnet=STCnet(softmax_scale=1.0), masks=Masks(kind="bands"))

SIZES: dict[str, Config] = {
    "paper": Config(),
    "paper_literal": _LITERAL,
    "mars_paper": dataclasses.replace(_LITERAL, name="mars_paper"),  # 39,000 steps: 150 epochs of 8,298 clips
    "small": Config(
        name="small",
        stcnet=STCnet(height=64, width=32, spatial=_SMALL_AUTOENCODER, temporal=_SMALL_AUTOENCODER,
                      neighbour_reach=10, learned_scale=True, transport=True),
        discriminators=Discriminators(widths=(24, 48, 96, 96, 96, 96)),
        # A small R, trained for minutes, knows few people well; at the paper's 0.1 it outweighs L_r.
        losses=Losses(identity=0.02),
        masks=Masks(longest_run=9),
        # A small R that learns from occluded people learns to overlook what hides them, and finds little of it.
        reid=dataclasses.replace(_SMALL_REID, locating_loss=1.0, locating_width=64, locating_stages=True),
        # Small batches: on two cores it is steps that are short.
        stcnet_training=Training(steps=6000, batch=8, learning_rate=1e-3, schedule="cosine", warmup=200,
                                 shift=0.06, average=0.998),
        reid_training=_SMALL_REID_TRAINING,
        final=dataclasses.replace(_SMALL_REID, non_local=(0, 1, 1, 0), non_local_deviation=0.0),
        final_from_first=True,
        final_training=dataclasses.replace(_SMALL_REID_TRAINING, learning_rate=1e-3),
        tau=1 / 3, tau_quantile=0.12),  # of the head's scores 1 − 2p: a third of the band is hidden
    "smoke": Config(
        name="smoke",
        stcnet=STCnet(height=32, width=16, spatial=_SMOKE_AUTOENCODER, temporal=_SMOKE_AUTOENCODER,
                      transport=True, learned_scale=True, blend_width=4),
        discriminators=Discriminators(widths=(4, 8, 8)),
        masks=Masks(longest_run=5),
        reid=_SMOKE_REID,
        stcnet_training=Training(steps=6, batch=8, learning_rate=1e-3, average=0.9),
        reid_training=_SMOKE_REID_TRAINING,
        final=dataclasses.replace(_SMOKE_REID, non_local=(0, 1, 0, 0)),
        final_from_first=True,
        final_training=_SMOKE_REID_TRAINING,
        tau=None),
}


def get(name: str) -> Config:
    """The config of a named size.

    Raises:
      InputError: there is no size of that name.
    """
    if name not in SIZES:
        raise InputError(f"There is no size '{name}'; choose one of {', '.join(SIZES)}.")
    return SIZES[name]


def to_dict(config) -> dict:
    """The config as plain dictionaries, lists and numbers, for JSON."""
    return dataclasses.asdict(config)


def from_dict(values: dict, kind: type = Config):
    """The inverse of `to_dict`, also after a trip through JSON; `kind` is the dataclass that was given.

    Raises:
      InputError: a field is unknown, or one is missing that has no default.
    """
    return _build(kind, values, "config")


def with_defaults(values: dict) -> dict:
    """A `Config` as JSON has it, with the fields that it lacks: what came later was by default as before.

    Raises:
      InputError: as `from_dict`.
    """
    return to_dict(from_dict(values))


def _build(kind, values, path):
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise InputError(f"{path} has no field '{unknown[0]}'; it was written by another version.")
    arguments = {}
    for name, value in values.items():
        part = fields[name].type
        if dataclasses.is_dataclass(part):
            value = _build(part, value, f"{path}.{name}")
        elif isinstance(value, list):
            value = tuple(value)
        arguments[name] = value
    try:
        return kind(**arguments)
    except TypeError as error:
        raise InputError(f"{path} is not complete: {error}.") from error
