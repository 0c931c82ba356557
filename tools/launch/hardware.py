"""What GKE calls its TPUs and GPUs, and how many hosts a slice has.

From Google's pages "Plan TPUs in GKE" and "GPU platforms".
"""

import math
import re
from dataclasses import dataclass

from vrstc_jax.errors import InputError


@dataclass(frozen=True)
class _Tpu:
    label: str  # of the nodes
    machine: str  # with @ for the chips of a host
    dimensions: int
    single: bool  # there are hosts of one chip


TPUS = {"v4": _Tpu("tpu-v4-podslice", "ct4p-hightpu-@t", 3, False),
        "v5e": _Tpu("tpu-v5-lite-podslice", "ct5lp-hightpu-@t", 2, True),
        "v5p": _Tpu("tpu-v5p-slice", "ct5p-hightpu-@t", 3, False),
        "v6e": _Tpu("tpu-v6e-slice", "ct6e-standard-@t", 2, True)}
_A3 = {number: f"a3-highgpu-{number}g" for number in (1, 2, 4, 8)}
_A2 = {number: f"a2-highgpu-{number}g" for number in (1, 2, 4, 8)}
_A2_ULTRA = {number: f"a2-ultragpu-{number}g" for number in (1, 2, 4, 8)}
_G2 = {1: "g2-standard-12", 2: "g2-standard-24", 4: "g2-standard-48", 8: "g2-standard-96"}
GPUS = {"h100": ("nvidia-h100-80gb", _A3), "a100": ("nvidia-tesla-a100", _A2),
        "a100-80gb": ("nvidia-a100-80gb", _A2_ULTRA), "l4": ("nvidia-l4", _G2)}


@dataclass(frozen=True)
class Hosts:
    """Hosts of one kind."""

    tpu: bool
    machine: str
    """Compute Engine's machine type."""
    jobs: int
    """Groups of hosts: TPU slices, each a node pool of its own; 1 for GPUs."""
    per_job: int
    """Hosts of each."""
    chips: int
    """TPU chips or GPUs of a host."""
    resource: str
    """What a pod asks for."""
    selector: tuple[tuple[str, str], ...]
    """Labels of the nodes."""
    pool_flags: tuple[str, ...]
    """For `gcloud container node-pools create`."""


def hosts(accelerator: str, *, topology: str | None, slices: int, nodes: int, gpus: int) -> Hosts:
    """The hosts of so many slices of a topology, or of so many nodes with so many GPUs.

    Raises:
      InputError: if Google has no such hosts.
    """
    if accelerator in TPUS:
        return _slices(accelerator, topology, slices)
    label, machines = GPUS[accelerator]
    if topology is not None or slices > 1:
        raise InputError(f"--topology and --slices are for TPUs; {accelerator} takes --nodes and --gpus.")
    if gpus not in machines:
        raise InputError(f"--gpus {gpus}: nodes with {accelerator} have {', '.join(map(str, machines))}.")
    flag = f"--accelerator=type={label},count={gpus},gpu-driver-version=latest"
    return Hosts(False, machines[gpus], 1, nodes, gpus, "nvidia.com/gpu",
                 (("cloud.google.com/gke-accelerator", label),), (flag,))


def _slices(accelerator, topology, slices):
    kind = TPUS[accelerator]
    example = "4x4" if kind.dimensions == 2 else "2x2x4"
    if not topology or not re.fullmatch("x".join([r"[1-9][0-9]*"] * kind.dimensions), topology):
        raise InputError(f"--topology of {accelerator} is in {kind.dimensions} dimensions, such as {example}."
                         f" Got {topology and repr(topology)}.")
    chips = math.prod(map(int, topology.split("x")))
    if chips % 4 and not (chips == 1 and kind.single):
        raise InputError(f"--topology {topology}: a slice of {accelerator} has a multiple of 4 chips"
                         f"{', or 1' * kind.single}. Got {chips}.")
    a_host = min(chips, 4)
    several = chips > a_host
    if slices > 1 and not several:
        raise InputError(f"--slices {slices}: GKE joins only slices of several hosts, such as {example}. Got "
                         f"--topology {topology}, of one host.")
    return Hosts(True, kind.machine.replace("@", str(a_host)), slices, chips // a_host, a_host,
                 "google.com/tpu",
                 (("cloud.google.com/gke-tpu-accelerator", kind.label),
                  ("cloud.google.com/gke-tpu-topology", topology)),
                 (f"--tpu-topology={topology}",) if several else ())
