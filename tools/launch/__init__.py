"""Starts experiments on Cloud TPU VMs, on GKE and on Slurm.

    python -m tools.launch tpu-vm create NAME --zone us-central2-b --type v4-32
    python -m tools.launch tpu-vm install NAME --zone us-central2-b
    python -m tools.launch tpu-vm run NAME --zone us-central2-b -- experiments.vrstc --workdir gs://bucket/run
    python -m tools.launch tpu-vm log NAME --zone us-central2-b
    python -m tools.launch tpu-vm stop NAME --zone us-central2-b
    python -m tools.launch tpu-vm delete NAME --zone us-central2-b

`gke` and `slurm` have the same verbs, where they make sense; `python -m tools.launch gke run --help` says
what one takes. What stands after `--` is run as `python -m …` on every host, word for word. With `--dry-run`
the files and commands are printed as a shell takes them, and nothing is done.

Exit codes: 0, 1 (a command failed), 2 (bad input), 130 (interrupted).
"""
