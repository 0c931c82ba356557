"""The method's choices as frozen dataclasses, and the part of them that each trainer takes.

To add a form of the generators, name it in `TemporalForm` and describe it in `GENERATOR_FORMS`.
"""

from dataclasses import dataclass
from typing import Literal

from vrstc_jax.config.beyond import Locating, Repairing
from vrstc_jax.config.checked import Checked, StrideOn
from vrstc_jax.ops.mask_kinds import MaskKind

# Earlier names of sizes; they stay valid in files, in `--size` and in `config.get`.
OLD_SIZE_NAMES = {"paper": "full", "paper_literal": "as_published", "mars_paper": "as_published_mars"}

Compute = Literal["float32", "bfloat16"]
Parallel = Literal["pmap", "mesh"]
TemporalForm = Literal["attention", "concatenation", "autoencoder", "none"]
LocalInput = Literal["masked", "cropped"]
Reconstruction = Literal["l1", "l2"]
Pooling = Literal["average", "maximum", "temporal_attention", "diverse_attention", "astpn_one_sequence"]
Schedule = Literal["constant", "cosine", "staircase"]


@dataclass(frozen=True)
class Autoencoder:
    """Encoder and decoder of a generator (section 3.1, after Iizuka et al. 2017)."""

    widths: tuple[int, ...] = (64, 128, 128, 256, 256)
    strides: tuple[int, ...] = (1, 2, 1, 2, 1)
    dilated_width: int = 256
    dilations: tuple[int, ...] = (2, 4, 8, 16)
    decoder_width: int = 128  # between the two deconvolutions


@dataclass(frozen=True)
class GeneratorForm:
    """What follows the spatial generator G_s: the rows of the paper's Table 1."""

    temporal: bool = True  # a second generator follows; without one, x̂2 is x̂1
    neighbours: bool = True  # it encodes the frames before and after
    attention: bool = True  # it attends to their features; otherwise these are averaged and concatenated
    widening: int = 1  # its encoders have this many times the filters


GENERATOR_FORMS: dict[TemporalForm, GeneratorForm] = {
    "attention": GeneratorForm(),  # G_t
    "concatenation": GeneratorForm(attention=False),  # Spa+TAE
    "autoencoder": GeneratorForm(neighbours=False, attention=False, widening=3),  # Spa+AE
    "none": GeneratorForm(temporal=False, neighbours=False, attention=False),  # Spa
}


@dataclass(frozen=True)
class STCnet(Checked):
    """The generators, and what the temporal one sees."""

    height: int = 128
    width: int = 64
    spatial: Autoencoder = Autoencoder()
    temporal: Autoencoder = Autoencoder()
    patch_size: int = 3
    softmax_scale: float = 10.0
    share_neighbour_encoders: bool = True
    temporal_form: TemporalForm = "attention"
    # Options on top of the paper; the defaults are the paper's.
    frames_per_side: int = 1  # unoccluded frames attended on each side, under one softmax a side
    neighbour_reach: int = 1  # choose the most alike of this many unoccluded frames on each side; 1: the nearest
    frame_step: int = 1  # beyond the nearest, take every `frame_step`-th unoccluded frame
    learned_scale: bool = False  # the softmax scale is trained, starting from softmax_scale
    transport: bool = False  # attention also carries the neighbours' pixels, which a last stage blends
    blend_width: int = 24  # channels of that last stage, at full resolution

    @property
    def form(self) -> GeneratorForm:
        """What `temporal_form` names."""
        return GENERATOR_FORMS[self.temporal_form]


@dataclass(frozen=True)
class Discriminators(Checked):
    """D_g and D_l (section 3.4)."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    slope: float = 0.2  # of the leaky ReLU
    local_input: LocalInput = "masked"  # 'masked': M⊙x, as equation 8; 'cropped': the hole's box, enlarged


@dataclass(frozen=True)
class Losses(Checked):
    """Weights of equation 10."""

    adversarial: float = 0.001  # λ1
    identity: float = 0.1  # λ2
    global_discriminator: bool = True  # L_a1 takes part
    local_discriminator: bool = True  # L_a2 takes part
    reconstruction: Reconstruction = "l1"  # 'l1': the paper's ‖·‖₁; 'l2': the mean square

    @property
    def trains_discriminators(self) -> bool:
        """Whether a discriminator takes part; otherwise neither is trained."""
        return bool(self.adversarial and (self.global_discriminator or self.local_discriminator))


@dataclass(frozen=True)
class Reid(Checked):
    """The re-ID network, which locates and guides (section 3.2; ResNet with last stride 1)."""

    height: int = 256
    width: int = 128
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    base_width: int = 64
    stem_pool: bool = True
    last_stride: int = 1
    stride_on: StrideOn = "3x3"  # which convolution of a bottleneck strides: '3x3' (torchvision), '1x1' (Caffe)
    norm_epsilon: float = 1e-5  # of batch norm; 1e-3 in Keras' weights
    clip: int = 4  # frames of a clip in training
    test_clip: int = 32  # and in testing; a longer tracklet is cut into clips, whose features are averaged
    # Non-local blocks of each stage, spread evenly over it: 2 in a stage of 6 follow its blocks 3 and 6.
    non_local: tuple[int, ...] = ()
    # Standard deviation of their initial kernels. 0.01 is their authors', for 512 and 1,024 channels. With few
    # channels it makes the attention uniform, and ranking gets worse. 0: 1/√(inputs).
    non_local_deviation: float = 0.01
    # Over a clip: 'average' (the paper's), 'maximum', 'temporal_attention' (weighs frames), 'diverse_attention'
    # (several spatial attention maps; Li et al. 2018), 'astpn_one_sequence' (ASTPN's attention of a sequence to
    # itself; `models.reid.PairScorer` has that of a pair).
    pooling: Pooling = "average"
    attention_maps: int = 6  # of 'diverse_attention'
    attention_width: int = 64  # hidden units that score frames, or positions
    embedding: int = 128  # features of each attention map, and of ASTPN
    pyramid: tuple[int, ...] = (8, 4, 2, 1)  # ASTPN: frames are pooled over n×n cells, for each n
    # Options on top of the paper, for locating; the defaults are the paper's.
    locating_loss: float = 0.0  # weight of a loss that hides bands and asks the scores for them (`losses.locating`)
    reference_sharpness: float = 0.0  # how strongly equation 11's mean prefers frames that agree with it
    # Width of a head that replaces equation 12's cosine (`occlusion_head.CellHead`); 0: none. It is trained by the
    # locating loss, which must then be above 0.
    locating_width: int = 0
    locating_stages: bool = False  # that head sees the maps of all stages, and each cell's surroundings
    locating_masks: bool = False  # the training masks are known, and the loss asks for what they hide too


@dataclass(frozen=True)
class ReidLosses:
    """Losses beside the re-ID network's cross-entropy; by default, as in the paper, there are none."""

    label_smoothing: float = 0.0  # the share of each label that is spread over all identities
    triplet: float = 0.0  # weight of the batch-hard triplet loss; it needs Training.clips_per_identity > 1
    margin: float = 0.3  # of that loss
    diversity: float = 1.0  # weight of 'diverse_attention's penalty on maps that are alike
    pair_margin: float = 2.0  # of the pair scorer's contrastive loss


@dataclass(frozen=True)
class Training(Checked):
    """One network's training. Batches are global, for any number of devices."""

    steps: int
    batch: int
    learning_rate: float
    schedule: Schedule = "constant"  # 'cosine': to zero; 'staircase': ×0.1 after each third
    warmup: int = 0  # steps of linear warm-up
    weight_decay: float = 0.0  # added to the gradient before Adam's scaling, as PyTorch's Adam does
    flip: bool = True
    shift: float = 0.0  # crops are shifted and scaled by up to this share of their size
    # Decay of the running mean of the parameters and batch statistics; where there is one, it is the result. 0: none.
    average: float = 0.0
    # Options of the re-ID network alone:
    clips_per_identity: int = 1  # K > 1: a batch has batch / K people with K clips each; 1: any clips
    each_once: bool = False  # draw every tracklet once an epoch, as in the paper; otherwise long ones more often
    # The parts of the network that learn, such as ('classifier',); the others keep their values, batch statistics
    # included. (): all learn.
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Masks(Checked):
    """What hides people while STCnet trains, and for how long."""

    kind: MaskKind = "mixed"  # see `ops.masks.random_mask`
    longest_run: int = 1  # neighbours are chosen outside a hidden run of 1 to this many frames


@dataclass(frozen=True)
class ReidTask:
    """All that training a re-ID network depends on, besides the data."""

    name: str  # of the size
    network: Reid
    training: Training
    losses: ReidLosses
    compute: Compute
    seed: int
    parallel: Parallel = "pmap"  # as `Config.parallel`


@dataclass(frozen=True)
class STCnetTask:
    """All that training STCnet depends on, besides the data and the guider's weights."""

    name: str  # of the size
    stcnet: STCnet
    discriminators: Discriminators
    losses: Losses
    masks: Masks
    guider: Reid
    training: Training
    compute: Compute
    seed: int
    parallel: Parallel = "pmap"  # as `Config.parallel`


@dataclass(frozen=True)
class LocatingTask:
    """All that training the network that locates depends on, besides the data and the ImageNet stages."""

    name: str  # of the size
    network: Locating
    training: Training
    clip: int  # frames
    compute: Compute
    seed: int
    parallel: Parallel = "pmap"  # as `Config.parallel`


@dataclass(frozen=True)
class Config(Checked):
    """The whole method.

    `reid` and `reid_training` are of the network that locates and guides, `final` and `final_training` of the one
    that ranks; `reid_losses` are of both. A trainer takes its own part: `first_reid`, `stcnet_task`, `final_reid`.
    """

    name: str = "full"  # of the size that it started from
    stcnet: STCnet = STCnet()
    discriminators: Discriminators = Discriminators()
    losses: Losses = Losses()
    masks: Masks = Masks()
    reid: Reid = Reid()
    stcnet_training: Training = Training(steps=200_000, batch=32, learning_rate=1e-4)
    reid_training: Training = Training(steps=39_000, batch=32, learning_rate=3e-4, schedule="staircase",
                                       weight_decay=5e-4, each_once=True)
    reid_losses: ReidLosses = ReidLosses()
    # What hides people is found by this network; None: by the bands' scores, as in the paper.
    locating: Locating | None = None
    # Hidden pixels are those that other frames show, as far as they do; None: all are STCnet's, as in the paper.
    repairing: Repairing | None = None
    final: Reid = Reid(non_local=(0, 2, 3, 0))
    final_from_first: bool = False  # it starts from the first network's backbone, where ImageNet's does not fit
    final_training: Training = Training(steps=39_000, batch=32, learning_rate=3e-4, schedule="staircase",
                                        weight_decay=5e-4, each_once=True)
    tau: float | None = 0.89  # a band is occluded where its score is lower; None: choose by tau_quantile
    tau_quantile: float = 0.05  # the share of bands of the training tracklets to call occluded
    # The networks' number format in training. Parameters, their gradients, the optimiser, batch statistics,
    # softmax, heads and losses are float32 in any case, and so is all use of a trained network.
    compute: Compute = "float32"
    seed: int = 0
    # How a training step is divided between devices: by `pmap`, or by `jit` with a mesh and `shard_map`. Results and
    # checkpoints are the same, so a run may change between them.
    parallel: Parallel = "pmap"

    def __post_init__(self) -> None:
        super().__post_init__()
        # Records of earlier versions then compare equal to those of this one.
        object.__setattr__(self, "name", OLD_SIZE_NAMES.get(self.name, self.name))

    @property
    def batches(self) -> tuple[int, int, int]:
        """The sizes of the global batches of all three trainings."""
        return self.stcnet_training.batch, self.reid_training.batch, self.final_training.batch

    @property
    def first_reid(self) -> ReidTask:
        """Training the network that locates and guides (step 1)."""
        return self._reid_task(self.reid, self.reid_training)

    @property
    def final_reid(self) -> ReidTask:
        """Training the network that ranks (step 5)."""
        return self._reid_task(self.final, self.final_training)

    @property
    def stcnet_task(self) -> STCnetTask:
        """Training the generators and discriminators (step 3)."""
        return STCnetTask(self.name, self.stcnet, self.discriminators, self.losses, self.masks, self.reid,
                          self.stcnet_training, self.compute, self.seed, self.parallel)

    def _reid_task(self, network: Reid, training: Training) -> ReidTask:
        # One more, so that its random numbers are not STCnet's.
        return ReidTask(self.name, network, training, self.reid_losses, self.compute, self.seed + 1, self.parallel)
