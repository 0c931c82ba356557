"""Locating pixel by pixel, and repairing from what other frames show: two choices that are not the paper's."""

from dataclasses import dataclass

from vrstc_jax.config.checked import Checked, StrideOn
from vrstc_jax.runtime.errors import InputError


@dataclass(frozen=True)
class Locating(Checked):
    """The network that finds what hides people, pixel by pixel (`models.locating`); not the paper's."""

    height: int = 128  # of the frames it takes; its maps have half of this
    width: int = 64
    # The frozen stages of an ImageNet ResNet: residual blocks of each, channels of the first.
    blocks: tuple[int, ...] = (3, 4)
    base_width: int = 64
    stride_on: StrideOn = "1x1"
    edge_width: int = 16  # channels of the maps at half the resolution
    maps_width: int = 64  # and of those at a quarter and an eighth
    match_width: int = 64  # of each stage's vectors by which cells of different frames are compared
    hidden: int = 96  # units of each comparison
    passes: int = 2  # comparisons; from the second on, it is known which frames are hidden
    window: int = 16  # neighbouring frames that are compared at once,
    margin: int = 3  # with so many before and after these,
    context: int = 24  # and so many from all over the tracklet
    # What it takes to call something hidden. Repainting a pixel in vain costs `cost` times what leaving a hidden one
    # costs, so it is called hidden from the probability cost / (1 + cost) on; at the edge of what is repainted, so much
    # less of that is enough, as a share; and of the person, the shares that must be hidden for a frame to be repainted
    # at all, and for one beside such a frame.
    cost: float = 1.0
    edge: float = 0.4
    least: float = 0.04
    least_beside: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 < self.cost < float("inf") and 0 <= self.edge < 1 and 0 <= self.least_beside <= self.least <= 1):
            raise InputError("Locating needs a cost above 0, an edge from 0 to below 1, and shares from 0 to 1 with "
                             f"least_beside at most least. Got {self.cost}, {self.edge}, {self.least_beside}, "
                             f"{self.least}.")
        if self.height % 8 or self.width % 16:
            raise InputError("Locating takes frames whose height divides by 8 and whose width divides by 16. Got "
                             f"{self.height}, {self.width}.")

    @property
    def probability(self) -> float:
        """From which a pixel is called hidden."""
        return self.cost / (1 + self.cost)


@dataclass(frozen=True)
class Repairing(Checked):
    """Filling a hole with pixels of frames that show what is hidden, moved into register (`inference.seen_parts`)."""

    considered: int = 120  # frames: half of them the nearest, the others from all over the tracklet
    registered: int = 4  # of those, so many of the likest, and the nearest on each side
    # What a frame costs that is farther away, in grey levels for each unit of the logarithm of its distance, and one
    # that shows nothing of the hole.
    farther: float = 1.0
    unshown: float = 40.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.farther >= 0 and self.unshown >= 0):
            raise InputError("Repairing needs costs of 0 or more. Got "
                             f"farther {self.farther}, unshown {self.unshown}.")
