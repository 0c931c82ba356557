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


def may_be_in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether this may be one process of several, by the environment variables that JAX's detection reads.

    Makes no network request, unlike JAX: on a plain machine that costs seconds of waiting.
    """
    launched = rank_by_launcher(environment) is not None
    kubernetes = ("KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment
                  and importlib.util.find_spec("kubernetes") is not None)
    return launched or kubernetes or (_has_tpus() and _on_a_tpu_pod(environment))


def rank_by_launcher(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """(this process, processes) under srun or mpirun with several, by the variables that JAX reads; None elsewhere."""
    # Open MPI first, as JAX looks for it.
    for sign, rank, size in (("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
                             ("SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_NTASKS")):
        if sign in environment and _number(environment, size, 1) > 1:
            return _number(environment, rank, 0), _number(environment, size, 1)
    return None


def _number(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    value = environment.get(name, "")
    return int(value) if value.isdecimal() else otherwise


def _has_tpus() -> bool:
    # JAX, when imported where there are TPUs, sets its platforms to them.
    return "tpu" in (jax.config.values["jax_platforms"] or "") and importlib.util.find_spec("libtpu") is not None


def _on_a_tpu_pod(environment: Mapping[str, str]) -> bool:
    workers = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or ""
    # TPU VMs know the others from their metadata server, which GKE has switched off.
    slices = _number(environment, "MEGASCALE_NUM_SLICES", 1)
    return slices > 1 or "," in workers or (not workers and "TPU_SKIP_MDS_QUERY" not in environment)
