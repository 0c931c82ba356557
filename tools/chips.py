"""Published rates of accelerators, and the time of an all-reduce between them."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """A chip's published rates.

    Attributes:
      bfloat16, float32: operations a second of the matrix units; float32 on TPUs as three bfloat16 passes, on
        NVIDIA's as TF32.
      memory: bytes a second.
      near, far: bytes a second that a chip sends to others, within a group of `group` chips and beyond it.
      hop: seconds that a message takes to a neighbour.
    """

    bfloat16: float
    float32: float
    memory: float
    near: float
    far: float
    group: int
    hop: float


# Google's pages on v5e, v5p and v6e (their inter-chip links, both ways together, halved); NVIDIA's data sheets of
# the H100 SXM and the A100 80 GB SXM, eight in a server, with 400 and 200 Gbit/s of network for each.
CHIPS = {
    "v5e": Chip(197e12, 197e12 / 3, 819e9, 100e9, 100e9, 256, 1e-6),
    "v5p": Chip(459e12, 459e12 / 3, 2765e9, 300e9, 300e9, 8960, 1e-6),
    "v6e": Chip(918e12, 918e12 / 3, 1640e9, 224e9, 224e9, 256, 1e-6),
    "h100": Chip(989e12, 495e12, 3350e9, 450e9, 50e9, 8, 2e-6),
    "a100": Chip(312e12, 156e12, 2039e9, 300e9, 25e9, 8, 2e-6)}
_BETWEEN_TPU_SLICES = 12.5e9  # bytes a second for each chip, beyond one slice: the data-centre network
_TPUS = ("v5e", "v5p", "v6e")
# By part of JAX's name, the first that fits: it calls v5p "TPU v5" too. PCIe cards of the H100 have other rates.
_DEVICES = {"h100 80gb hbm3": "h100", "h200": "h100", "a100": "a100", "tpu v5 lite": "v5e", "tpu v5e": "v5e",
            "tpu v5": "v5p", "tpu v6": "v6e"}


def published(device_kind: str) -> Chip | None:
    """The rates of a device by JAX's name for it; None if the table does not have it."""
    return next((CHIPS[chip] for part, chip in _DEVICES.items() if part in device_kind.lower()), None)


def all_reduce_time(size: float, chip: str, chips: int) -> float:
    """Seconds of a ring all-reduce of `size` bytes over `chips` chips.

    Each chip sends (n−1)/n of the bytes twice, in 2(n−1) messages: within a group first, then between the groups,
    where a group's share is spread over its chips.
    """
    rates = CHIPS[chip]
    inside = min(chips, rates.group)
    groups = math.ceil(chips / rates.group)
    far = _BETWEEN_TPU_SLICES if chip in _TPUS else rates.far
    return _ring(size, inside, rates.near, rates.hop) + _ring(size / inside, groups, far, 10e-6)


def _ring(size: float, members: int, rate: float, hop: float) -> float:
    return 0.0 if members < 2 else 2 * (members - 1) * (size / members / rate + hop)
