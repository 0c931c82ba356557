"""GKE: a cluster with TPU slices or GPU nodes, an image made by Cloud Build, and a JobSet for each run.

On TPUs, GKE tells JAX who is who (TPU_WORKER_ID, TPU_WORKER_HOSTNAMES, and for several slices MEGASCALE_…).
On GPUs the manifest says it, in VRSTC_COORDINATOR, VRSTC_PROCESSES and VRSTC_PROCESS.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import tyro

from tools.launch.hardware import GPUS, TPUS, Hosts, hosts
from tools.launch.program import (
    PREEMPTED,
    STORAGE,
    Program,
    dist,
    require_name,
    require_not_negative,
    require_positive,
    require_worker,
    source,
)
from tools.launch.steps import Command, File, Plan
from vrstc_jax.errors import InputError

_JOBSET = "https://github.com/kubernetes-sigs/jobset/releases/download/v0.10.1/manifests.yaml"
_CONTAINER, _JOB = "vrstc", "hosts"
_PORT = 8476


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every verb takes."""

    keep: bool = False
    """Leave what was made where something fails."""
    dry_run: bool = False
    """Print what would be done, as shell, and do nothing."""

    takes_program: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class Hardware(Options):
    """On what."""

    accelerator: Literal[(*TPUS, *GPUS)]
    """Kind of TPU or GPU."""
    topology: str | None = None
    """Of a TPU slice, in chips: such as 4x4 for v5e and v6e, 2x2x4 for v4 and v5p."""
    slices: int = 1
    """TPU slices."""
    nodes: int = 1
    """GPU nodes."""
    gpus: int = 8
    """Of each GPU node."""

    def hosts(self) -> Hosts:
        """The hosts, and how they are asked for.

        Raises:
          InputError: if there are no such hosts.
        """
        require_positive(slices=self.slices, nodes=self.nodes, gpus=self.gpus)
        return hosts(self.accelerator, topology=self.topology, slices=self.slices, nodes=self.nodes,
                     gpus=self.gpus)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which cluster."""

    name: tyro.conf.Positional[str]
    """Of the cluster."""
    location: str
    """Zone, such as us-east5-b."""
    project: str | None = None
    """gcloud's own if left out."""

    def check(self) -> None:
        """Raises InputError for names that Google Cloud refuses."""
        require_name(self.name, longest=40, of="a cluster")
        if not re.fullmatch(r"[a-z]+-[a-z]+[0-9]+-[a-z]", self.location):
            raise InputError(f"--location is a zone, such as us-east5-b. Got '{self.location}'.")

    def gcloud(self, *words: str) -> tuple[str, ...]:
        """A `gcloud container` command at this place."""
        project = (f"--project={self.project}",) if self.project else ()
        return "gcloud", "container", *words, f"--location={self.location}", *project

    def delete_command(self) -> Command:
        """Deletes it."""
        return Command(self.gcloud("clusters", "delete", self.name, "--quiet"))


@dataclass(frozen=True, kw_only=True)
class Create(Hardware, Cluster):
    """Make a cluster with the accelerators and JobSet, and point kubectl at it."""

    spot: bool = False
    """Cheaper, and taken away when Google needs it."""

    def plan(self, program: Program | None) -> Plan:
        """Asks whether the name is free; makes the cluster, a pool for each slice, and JobSet."""
        self.check()
        made = self.hosts()
        free = Command(self.gcloud("clusters", "list", "--format=value(name)"), check=self._is_free,
                       note=f"must not show {self.name}")
        cluster = self.gcloud("clusters", "create", self.name, "--release-channel=regular",
                              "--machine-type=e2-standard-8", "--num-nodes=1", "--scopes=cloud-platform")
        spot = ("--spot",) if self.spot else ()
        flags = (f"--cluster={self.name}", f"--machine-type={made.machine}", *made.pool_flags,
                 f"--num-nodes={made.per_job}", *spot, "--scopes=cloud-platform")
        pools = [self.gcloud("node-pools", "create", f"{self.accelerator}-{pool}", *flags)
                 for pool in range(made.jobs)]
        jobset = (("kubectl", "apply", "--server-side", f"--filename={_JOBSET}"),
                  ("kubectl", "wait", "deployment/jobset-controller-manager", "--namespace=jobset-system",
                   "--for=condition=Available", "--timeout=10m"))
        words = (cluster, *pools, self.gcloud("clusters", "get-credentials", self.name), *jobset)
        return Plan((free, *map(Command, words)), undo=(self.delete_command(),), made=1)

    def _is_free(self, names):
        if self.name in names.split():
            raise InputError(f"there is a cluster '{self.name}' in {self.location} already; delete it, or "
                             "choose another name.")
        return True


@dataclass(frozen=True, kw_only=True)
class Install(Options):
    """Have Cloud Build make an image of what is committed in this checkout."""

    image: tyro.conf.Positional[str]
    """Where to push it, such as us-docker.pkg.dev/PROJECT/vrstc/vrstc:1."""
    jax: Literal["tpu", "cuda12", "cuda13"] = "tpu"
    """For which devices; cuda13 needs NVIDIA's driver 580 or later."""
    project: str | None = None
    """gcloud's own if left out."""

    def plan(self, program: Program | None) -> Plan:
        """Archives the commit with a Dockerfile, and hands it to Cloud Build."""
        _require_image(self.image)
        text = (f"FROM python:3.11-slim\nCOPY vrstc_jax /vrstc_jax\n"
                f"RUN python -m pip install --no-cache-dir /vrstc_jax 'jax[{self.jax}]' '{STORAGE}'\n"
                "WORKDIR /root\n")
        file = File(dist("Dockerfile"), text)
        archive = source(file.path)
        project = (f"--project={self.project}",) if self.project else ()
        build = Command(("gcloud", "builds", "submit", str(archive.path), f"--tag={self.image}",
                         "--timeout=1h", *project))
        return Plan((file, *archive.commands, build))


@dataclass(frozen=True, kw_only=True)
class Job:
    """Which run."""

    name: tyro.conf.Positional[str]
    """Of the run."""
    namespace: str = "default"
    """Of Kubernetes."""
    context: str | None = None
    """kubectl's own, that of the last cluster made, if left out."""

    def check(self) -> None:
        """Raises InputError for names that Kubernetes refuses."""
        # JobSet makes host names of it: NAME-hosts-SLICE-HOST, with a dash and 5 letters, of 63 at most.
        require_name(self.name, longest=40, of="a run")
        require_name(self.namespace, longest=63, of="a namespace")

    def kubectl(self, *words: str) -> tuple[str, ...]:
        """A kubectl command at this place."""
        context = (f"--context={self.context}",) if self.context else ()
        return "kubectl", *words, f"--namespace={self.namespace}", *context


@dataclass(frozen=True, kw_only=True)
class Run(Hardware, Job):
    """Start an experiment on every host, as a JobSet: … -- experiments.NAME FLAGS.

    A run that was preempted (exit code 75, or a node taken away) starts again, as often as that happens.
    """

    image: str
    """From the verb install."""
    retries: int = 3
    """How often it starts again after it failed otherwise."""
    grace: int = 120
    """Seconds to write a checkpoint in, when it is told to stop."""

    takes_program: ClassVar[bool] = True

    def plan(self, program: Program | None) -> Plan:
        """Writes the manifest and has it created."""
        self.check()
        _require_image(self.image)
        require_not_negative(retries=self.retries)
        require_positive(grace=self.grace)
        text = json.dumps(self.manifest(program), indent=2, ensure_ascii=False) + "\n"
        file = File(dist(f"{self.name}.jobset.json"), text)
        return Plan((file, Command(self.kubectl("create", f"--filename={file.path}"))),
                    hint=f"if a run '{self.name}' is there, or was, the verb stop removes it")

    def manifest(self, program: Program) -> dict[str, Any]:
        """The JobSet: a Job for each slice with a pod for each host; one Job for all GPU nodes."""
        made = self.hosts()
        # A preempted Job fails for the reason PodFailurePolicy, any other for another.
        preempted = {"rules": [
            {"action": "FailJob",
             "onExitCodes": {"containerName": _CONTAINER, "operator": "In", "values": [PREEMPTED]}},
            {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
        job = {"parallelism": made.per_job, "completions": made.per_job, "completionMode": "Indexed",
               "backoffLimit": 0, "podFailurePolicy": preempted,
               "template": {"metadata": {"labels": {"app.kubernetes.io/name": "vrstc-jax"}},
                            "spec": self._pod(made, program)}}
        placed = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
        return {
            "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet",
            "metadata": {"name": self.name, "namespace": self.namespace,
                         **({"annotations": placed} if made.tpu else {})},
            "spec": {
                "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
                "failurePolicy": {
                    "maxRestarts": self.retries,
                    "rules": [{"name": "preempted", "action": "RestartJobSetAndIgnoreMaxRestarts",
                               "onJobFailureReasons": ["PodFailurePolicy"]}]},
                "replicatedJobs": [{"name": _JOB, "replicas": made.jobs, "template": {"spec": job}}]}}

    def _pod(self, made, program):
        # Kubernetes reads $(NAME) in a command, and $$ as $.
        command = [word.replace("$", "$$") for word in ("python", "-m", *program.words)]
        container = {"name": _CONTAINER, "image": self.image, "command": command,
                     "env": self._environment(made),
                     "resources": {"limits": {made.resource: str(made.chips)}},
                     "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}]}
        return {"restartPolicy": "Never", "terminationGracePeriodSeconds": self.grace,
                "hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet",
                "nodeSelector": dict(made.selector),
                "tolerations": [{"key": made.resource, "operator": "Exists", "effect": "NoSchedule"}],
                "containers": [container],
                "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}]}

    def _environment(self, made):
        plain = {"PYTHONUNBUFFERED": "1"}
        if not made.tpu:
            # The driver that GKE mounts.
            plain["LD_LIBRARY_PATH"] = "/usr/local/nvidia/lib64"
        if made.tpu or made.per_job == 1:
            return [{"name": name, "value": value} for name, value in plain.items()]
        plain |= {"VRSTC_COORDINATOR": f"{self.name}-{_JOB}-0-0.{self.name}:{_PORT}",
                  "VRSTC_PROCESSES": str(made.per_job)}
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        return [*({"name": name, "value": value} for name, value in plain.items()),
                {"name": "VRSTC_PROCESS", "valueFrom": {"fieldRef": {"fieldPath": index}}}]


@dataclass(frozen=True, kw_only=True)
class Log(Options, Job):
    """Show a host's log and follow it until its pod ends."""

    worker: str = "0"
    """The host's number in the first slice, or all."""
    lines: int = 100
    """How many of the last lines to begin with."""

    def plan(self, program: Program | None) -> Plan:
        """Follows."""
        self.check()
        require_worker(self.worker)
        require_positive(lines=self.lines)
        labels = [f"jobset.sigs.k8s.io/jobset-name={self.name}"]
        several = ("--prefix", "--max-log-requests=4096")
        if self.worker != "all":
            labels += ["jobset.sigs.k8s.io/job-index=0",
                       f"batch.kubernetes.io/job-completion-index={self.worker}"]
            several = ()
        return Plan((Command(self.kubectl(
            "logs", "--follow", f"--selector={','.join(labels)}", f"--container={_CONTAINER}",
            f"--tail={self.lines}", "--pod-running-timeout=1h", *several)),))


@dataclass(frozen=True, kw_only=True)
class Stop(Options, Job):
    """Stop the run and remove it: SIGTERM, upon which training writes a checkpoint; SIGKILL after run's
    --grace."""

    def plan(self, program: Program | None) -> Plan:
        """Deletes the JobSet, and waits until its pods are gone."""
        self.check()
        return Plan((Command(self.kubectl("delete", "jobset", self.name, "--cascade=foreground",
                                          "--timeout=1h")),))


@dataclass(frozen=True, kw_only=True)
class Delete(Options, Cluster):
    """Delete the cluster with all that is on it. Images stay."""

    def plan(self, program: Program | None) -> Plan:
        """Deletes."""
        self.check()
        return Plan((self.delete_command(),))


def _require_image(image):
    if not re.fullmatch(r"[a-z0-9][\w./:@-]*/[\w./:@-]+", image):
        raise InputError(f"'{image}' is no image; one is such as us-docker.pkg.dev/PROJECT/vrstc/vrstc:1.")


VERBS = {"create": Create, "install": Install, "run": Run, "log": Log, "stop": Stop, "delete": Delete}
