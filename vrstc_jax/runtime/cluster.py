"""Where the processes of a run find each other: by VRSTC_* variables, or in a cluster that JAX knows."""

import importlib.util
from collections.abc import Mapping
from typing import Any

import jax

from vrstc_jax.runtime.errors import InputError

VARIABLES = ("VRSTC_COORDINATOR", "VRSTC_PROCESSES", "VRSTC_PROCESS")


def given_by_variables(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """The arguments of `jax.distributed.initialize` by the variables; None where none is set.

    Raises:
      InputError: a variable is wrong or missing.
    """
    values = {name: environment.get(name, "") for name in VARIABLES}
    if not any(values.values()):
        return None
    for name, value in values.items():
        if not value:
            raise InputError(f"{name} is not set, but {' and '.join(n for n, v in values.items() if v)} is; "
                             "set all three, or none.")
    coordinator, processes, process = values.values()
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
        raise InputError(f"VRSTC_COORDINATOR={coordinator}: must be host:port of process 0, such as 10.0.0.1:8476.")
    if not (processes.isdecimal() and int(processes) > 0):
        raise InputError(f"VRSTC_PROCESSES={processes}: must be the number of processes, 1 or more.")
    if not (process.isdecimal() and int(process) < int(processes)):
        raise InputError(f"VRSTC_PROCESS={process}: must be this process' number, 0 to {int(processes) - 1}.")
    # Without 'deactivate', JAX would still ask Slurm for this process' GPU.
    return {"coordinator_address": coordinator, "num_processes": int(processes), "process_id": int(process),
            "cluster_detection_method": "deactivate"}


def may_be_in_cluster(environment: Mapping[str, str], *, on_tpu: bool | None = None) -> bool:
    """Whether this may be one process of several, by the environment variables that JAX's detection reads.

    Makes no network request, unlike JAX: on a plain machine that costs seconds of waiting.

    Args:
      on_tpu: whether there are TPUs here; None: as JAX has found.
    """
    def number(name: str) -> int:
        value = environment.get(name, "")
        return int(value) if value.isdecimal() else 1

    slurm = "SLURM_STEP_NODELIST" in environment and number("SLURM_NTASKS") > 1
    open_mpi = "OMPI_MCA_orte_hnp_uri" in environment and number("OMPI_COMM_WORLD_SIZE") > 1
    kubernetes = ("KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment
                  and importlib.util.find_spec("kubernetes") is not None)
    on_tpu = _has_tpus() if on_tpu is None else on_tpu
    return slurm or open_mpi or kubernetes or (on_tpu and _on_a_tpu_pod(environment, number("MEGASCALE_NUM_SLICES")))


def _has_tpus() -> bool:
    # JAX, when imported where there are TPUs, sets its platforms to them.
    return "tpu" in (jax.config.values["jax_platforms"] or "") and importlib.util.find_spec("libtpu") is not None


def _on_a_tpu_pod(environment: Mapping[str, str], slices: int) -> bool:
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
    # TPU VMs know the others from their metadata server, which GKE has switched off.
    return slices > 1 or "," in workers or (not workers and "TPU_SKIP_MDS_QUERY" not in environment)
