"""Starts experiments on Cloud TPU VMs.

    python -m tools.launch tpu-vm create NAME --zone us-central2-b --type v4-32 --install
    python -m tools.launch tpu-vm run NAME --zone us-central2-b -- experiments.vrstc --workdir gs://bucket/run
    python -m tools.launch tpu-vm log NAME --zone us-central2-b
    python -m tools.launch tpu-vm stop NAME --zone us-central2-b
    python -m tools.launch tpu-vm delete NAME --zone us-central2-b

`install` sends a new commit to an existing TPU VM. Every verb describes its options: `python -m tools.launch tpu-vm run
--help`. The words after `--` run unchanged as `python -m ...` on every host. `--dry-run` prints the commands as shell
and runs none of them. GKE and Slurm: docs/clusters.md.

Exit codes: 0, 1 (a command failed), 2 (bad input), 130 (interrupted).
"""
