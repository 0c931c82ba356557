"""`python -m tools.launch`: what it tells gcloud, kubectl and Slurm, and what it does when they fail.

Stand-ins record each call byte for byte. What the workers and the sbatch file then do is in
test_launch_hosts.py.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess

import pytest
from launch_standins import NASTY, REPOSITORY, launch, standins  # noqa: F401, fixtures

from tools.launch import hardware, slurm, steps, tpu_vm

ZONE = "--zone=us-central2-b"
IMAGE = "us-docker.pkg.dev/p/vrstc/vrstc:1"


@pytest.fixture
def hurried(monkeypatch):
    """Waiting takes no time."""
    now = [0.0]
    monkeypatch.setattr(steps.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(steps.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(tpu_vm, "_POLL", 1800)


def commit(standins):
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=standins.checkout, capture_output=True, text=True,
                          check=True).stdout[:12]


# TPU VMs.

TPU_LIST = ["gcloud", "compute", "tpus", "tpu-vm", "list", "--format=value(name.basename())", ZONE]
TPU_CREATE = ["gcloud", "compute", "tpus", "tpu-vm", "create", "one", "--version=tpu-ubuntu2204-base",
              "--accelerator-type=v4-32", ZONE]
TPU_DELETE = ["gcloud", "compute", "tpus", "tpu-vm", "delete", "one", "--quiet", ZONE]
QUEUE = ["gcloud", "compute", "tpus", "queued-resources"]


def test_a_tpu_vm_is_created(launch, standins):
    assert launch("tpu-vm", "create", "one", "--zone", "us-central2-b", "--type", "v4-32")[0] == 0
    assert standins.calls() == [TPU_LIST, TPU_CREATE]


@pytest.mark.parametrize("kind, version", [
    ("v2-8", "tpu-ubuntu2204-base"), ("v5litepod-16", "v2-alpha-tpuv5-lite"), ("v5p-32", "v2-alpha-tpuv5"),
    ("v6e-16", "v2-alpha-tpuv6e")])
def test_the_software_is_the_one_for_the_type(launch, standins, kind, version):
    launch("tpu-vm", "create", "one", ZONE, "--type", kind, "--spot", "--reserved", "--network", "n",
           "--subnetwork", "s", "--project", "p")
    assert standins.calls()[1][5:] == ["one", f"--version={version}", f"--accelerator-type={kind}", "--spot",
                                       "--reserved", "--network=n", "--subnetwork=s", ZONE, "--project=p"]
    launch("tpu-vm", "create", "one", ZONE, "--type", kind, "--version", "mine")
    assert "--version=mine" in standins.calls()[1]


def test_a_name_that_is_taken_is_refused_and_left_alone(launch, standins):
    standins.tell({"words": ["list"], "answers": ["another\none"]})
    code, _, error = launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32")
    assert code == 2 and "there is a TPU VM 'one' in us-central2-b already" in error
    assert standins.calls() == [TPU_LIST]
    standins.tell({"words": ["list"], "answers": ["another-one\none-2"]})
    assert launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32")[0] == 0


def test_what_a_failed_creation_made_is_deleted(launch, standins):
    standins.tell({"call": 2, "code": 3})
    code, _, error = launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32")
    assert code == 1 and standins.calls() == [TPU_LIST, TPU_CREATE, TPU_DELETE]
    assert error.splitlines()[-1] == ("launch: gcloud compute tpus tpu-vm create one failed with exit code 3;"
                                      " what was made has been taken back.")
    code, _, error = launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32", "--keep")
    assert code == 1 and standins.calls() == [TPU_LIST, TPU_CREATE] and "is kept" in error
    standins.tell({"words": ["create"], "code": 3}, {"words": ["delete"], "code": 4})
    code, _, error = launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32")
    assert code == 1
    assert f"is perhaps still there, since taking it back failed: {shlex.join(TPU_DELETE)}" in error


def test_where_it_is_not_known_whether_the_name_is_free_nothing_is_deleted(launch, standins):
    standins.tell({"call": 1, "code": 1})
    assert launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32")[0] == 1
    assert standins.calls() == [TPU_LIST]


@pytest.mark.parametrize("happens, expected, said", [
    (lambda: signal.raise_signal(signal.SIGINT), 130, "interrupted; what was made has been taken back"),
    (lambda: signal.raise_signal(signal.SIGTERM), 130, "interrupted; what was made has been taken back"),
    (lambda: os.stat("/is/not/there"), 1, "could not be started, No such file or directory; what was made has been")])
def test_whatever_happens_while_it_is_created_it_is_deleted(launch, standins, monkeypatch, happens, expected, said):
    def run(words, **options):
        if "create" in words:
            happens()
        return original(words, **options)

    original = subprocess.run
    monkeypatch.setattr(steps.subprocess, "run", run)
    # What a shell starts in the background does not hear SIGINT unless it asks to.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, _, error = launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32")
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == expected and said in error
    assert standins.calls() == [TPU_LIST, TPU_DELETE]


def test_slices_come_from_the_queue(launch, standins, hurried):
    standins.tell({"words": ["describe"], "answers": ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]})
    assert launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32", "--queued", "--slices", "2")[0] == 0
    describe = [*QUEUE, "describe", "one", "--format=value(state.state)", ZONE]
    assert standins.calls() == [
        [*QUEUE, "list", "--format=value(name.basename())", ZONE],
        [*QUEUE, "create", "one", "--node-count=2", "--node-prefix=one",
         "--runtime-version=tpu-ubuntu2204-base", "--accelerator-type=v4-32", "--valid-until-duration=86400s",
         ZONE], describe, describe, describe]
    launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32", "--queued", "--patience", "2")
    assert standins.calls()[1][5:8] == ["one", "--node-id=one", "--runtime-version=tpu-ubuntu2204-base"]


@pytest.mark.parametrize("state, told", [("FAILED", "became FAILED, not ACTIVE"),
                                         ("WAITING_FOR_RESOURCES", "after 7200 s")])
def test_what_the_queue_does_not_give_is_deleted(launch, standins, hurried, state, told):
    standins.tell({"words": ["describe"], "answers": [state]})
    code, _, error = launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32", "--queued", "--patience", "2")
    assert code == 1 and told in error
    assert standins.calls()[-1] == [*QUEUE, "delete", "one", "--force", "--quiet", ZONE]


def test_every_worker_gets_the_commit(launch, standins):
    workers, file = standins.workers(2), f"vrstc_jax-{commit(standins)}-source.tar.gz"
    assert launch("tpu-vm", "install", "one", ZONE)[0] == 0
    copy, ssh = standins.calls()
    assert copy == ["gcloud", "compute", "tpus", "tpu-vm", "scp", str(standins.checkout / "dist" / file),
                    f"one:{file}", "--worker=all", ZONE]
    assert ssh[:7] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "one", "--worker=all"] and ssh[8] == ZONE
    assert standins.lines("pip") == [
        [str(worker), "-m", "pip", "install", "--quiet", "--upgrade", f"./{file}[tpu]", "etils[epath-gcs]"]
        for worker in workers]


def test_several_slices_get_it_too(launch, standins):
    standins.workers(1)
    launch("tpu-vm", "install", "one", ZONE, "--queued")
    for call in standins.calls():
        assert call[:4] == QUEUE and {"--node=all", "--worker=all"} < set(call)


def test_files_that_differ_from_the_commit_are_told_of(launch, standins):
    (standins.checkout / "experiments" / "vrstc.py").write_text("changed\n")
    _, _, error = launch("tpu-vm", "install", "one", ZONE, "--dry-run")
    assert "1 changed files go as they are in the commit, such as experiments/vrstc.py" in error


@pytest.mark.parametrize("call", [3, 4])
def test_an_installation_that_fails_takes_the_new_machine_with_it(launch, standins, call):
    standins.workers(1)
    standins.tell({"call": call, "code": 1})
    assert launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32", "--install")[0] == 1
    assert len(calls := standins.calls()) == call + 1 and calls[-1] == TPU_DELETE


def test_a_machine_that_was_there_outlives_a_failed_installation(launch, standins):
    standins.workers(2)
    standins.behave(pip=1)
    assert launch("tpu-vm", "install", "one", ZONE)[0] == 1
    assert not [call for call in standins.calls() if "delete" in call]


def test_logs_stops_and_deletions_of_tpu_vms(launch, standins):
    launch("tpu-vm", "log", "one", ZONE, "--lines", "7")
    launch("tpu-vm", "log", "one", ZONE, "--worker", "all", "--queued")
    launch("tpu-vm", "stop", "one", ZONE, "--grace", "9")
    launch("tpu-vm", "delete", "one", ZONE)
    launch("tpu-vm", "delete", "one", ZONE, "--queued")
    ssh = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "one"]
    assert standins.calls() == [
        [*ssh, "--worker=0", "--command=bash vrstc/worker.sh log 7", ZONE],
        [*QUEUE, "ssh", "one", "--node=all", "--worker=all", "--command=bash vrstc/worker.sh log 100", ZONE],
        [*ssh, "--worker=all", "--command=bash vrstc/worker.sh stop 9", ZONE],
        TPU_DELETE, [*QUEUE, "delete", "one", "--force", "--quiet", ZONE]]


# GKE.

AT = "--location=us-east5-b"


def test_a_cluster_with_tpu_slices(launch, standins):
    assert launch("gke", "create", "c", AT, "--accelerator", "v6e", "--topology", "4x4", "--slices", "2",
                  "--spot")[0] == 0
    pool = ["--cluster=c", "--machine-type=ct6e-standard-4t", "--tpu-topology=4x4", "--num-nodes=4", "--spot",
            "--scopes=cloud-platform", AT]
    *clusters, apply, wait = standins.calls()
    assert [call[:2] for call in clusters] == [["gcloud", "container"]] * 5
    assert [call[2:] for call in clusters] == [
        ["clusters", "list", "--format=value(name)", AT],
        ["clusters", "create", "c", "--release-channel=regular", "--machine-type=e2-standard-8",
         "--num-nodes=1", "--scopes=cloud-platform", AT],
        ["node-pools", "create", "v6e-0", *pool], ["node-pools", "create", "v6e-1", *pool],
        ["clusters", "get-credentials", "c", AT]]
    assert apply[:3] == ["kubectl", "apply", "--server-side"] and "kubernetes-sigs/jobset" in apply[3]
    assert wait[:3] == ["kubectl", "wait", "deployment/jobset-controller-manager"]


def test_a_cluster_with_gpus(launch, standins):
    launch("gke", "create", "c", AT, "--accelerator", "h100", "--nodes", "2", "--project", "p")
    assert standins.calls()[2][2:] == [
        "node-pools", "create", "h100-0", "--cluster=c", "--machine-type=a3-highgpu-8g",
        "--accelerator=type=nvidia-h100-80gb,count=8,gpu-driver-version=latest", "--num-nodes=2",
        "--scopes=cloud-platform", AT, "--project=p"]


@pytest.mark.parametrize("call", range(2, 8))
def test_a_cluster_that_fails_midway_is_deleted(launch, standins, call):
    standins.tell({"call": call, "code": 1})
    words = "gke", "create", "c", AT, "--accelerator", "v6e", "--topology", "4x4", "--slices", "2"
    assert launch(*words)[0] == 1
    assert len(calls := standins.calls()) == call + 1
    assert calls[-1] == ["gcloud", "container", "clusters", "delete", "c", "--quiet", AT]
    assert launch(*words, "--keep")[0] == 1 and len(standins.calls()) == call


def test_a_cluster_of_that_name_is_left_alone(launch, standins):
    standins.tell({"words": ["list"], "answers": ["c"]})
    assert launch("gke", "create", "c", AT, "--accelerator", "l4", "--gpus", "1")[0] == 2
    assert len(standins.calls()) == 1


@pytest.mark.parametrize("accelerator, topology, machine, number, chips", [
    ("v4", "2x2x1", "ct4p-hightpu-4t", 1, 4), ("v4", "2x2x4", "ct4p-hightpu-4t", 4, 4),
    ("v4", "4x4x8", "ct4p-hightpu-4t", 32, 4), ("v5e", "1x1", "ct5lp-hightpu-1t", 1, 1),
    ("v5e", "2x2", "ct5lp-hightpu-4t", 1, 4), ("v5e", "4x8", "ct5lp-hightpu-4t", 8, 4),
    ("v5p", "2x2x2", "ct5p-hightpu-4t", 2, 4), ("v6e", "1x1", "ct6e-standard-1t", 1, 1),
    ("v6e", "2x4", "ct6e-standard-4t", 2, 4), ("v6e", "16x16", "ct6e-standard-4t", 64, 4)])
def test_slices_have_googles_hosts(accelerator, topology, machine, number, chips):
    """Machine types, nodes and chips as Google's page "Plan TPUs in GKE" has them."""
    made = hardware.hosts(accelerator, topology=topology, slices=1, nodes=1, gpus=8)
    assert (made.machine, made.per_job, made.chips) == (machine, number, chips)
    # --tpu-topology is for slices of several hosts alone.
    assert bool(made.pool_flags) == (number > 1)


def manifest_of(launch, standins, *words, arguments=()):
    words = "gke", "run", "r", "--image", IMAGE, *words, "--", "experiments.vrstc", *arguments
    code, _, error = launch(*words)
    assert code == 0, error
    (call,) = standins.calls()
    path = standins.checkout / "dist" / "r.jobset.json"
    assert call == ["kubectl", "create", f"--filename={path}", "--namespace=default"]
    return json.loads(path.read_text(encoding="utf-8"))


def expanded(word, environment):
    """What Kubernetes makes of a word of a command: k8s.io/kubernetes/third_party/forked/golang/expansion."""
    done, at = "", 0
    while at < len(word):
        if word[at] != "$" or at + 1 == len(word):
            done, at = done + word[at], at + 1
        elif word[at + 1] == "$":
            done, at = done + "$", at + 2
        elif word[at + 1] == "(" and ")" in word[at:]:
            end = word.index(")", at)
            done, at = done + environment.get(word[at + 2:end], word[at:end + 1]), end + 1
        else:
            done, at = done + word[at:at + 2], at + 2
    return done


def test_the_oracle_of_expansion():
    known = {"x": "1", "id": "2"}
    assert [expanded(word, known) for word in ("$(x)", "$$(x)", "a$$b", "$", "$(y)", "$(", "$x")] == [
        "1", "$(x)", "a$b", "$", "$(y)", "$(", "$x"]


TPU_RUN = "--accelerator", "v6e", "--topology", "4x4", "--slices", "2"
GPU_RUN = "--accelerator", "h100", "--nodes", "2"


def test_the_jobset_of_two_tpu_slices(launch, standins):
    """Fields and values as jobset_types.go (v1alpha2), the Job API and GKE's page on slices have them."""
    jobset = manifest_of(launch, standins, *TPU_RUN, "--retries", "5", "--grace", "90", arguments=NASTY)
    assert set(jobset) == {"apiVersion", "kind", "metadata", "spec"}
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert jobset["metadata"] == {
        "name": "r", "namespace": "default",
        "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}}
    assert set(jobset["spec"]) == {"network", "failurePolicy", "replicatedJobs"}
    # The headless service, by which the pods find each other.
    assert jobset["spec"]["network"] == {"enableDNSHostnames": True, "publishNotReadyAddresses": True}
    assert jobset["spec"]["failurePolicy"] == {"maxRestarts": 5, "rules": [{
        "name": "preempted", "action": "RestartJobSetAndIgnoreMaxRestarts",
        "onJobFailureReasons": ["PodFailurePolicy"]}]}
    (group,) = jobset["spec"]["replicatedJobs"]
    assert (set(group), group["replicas"]) == ({"name", "replicas", "template"}, 2)
    job = group["template"]["spec"]
    assert set(job) == {"parallelism", "completions", "completionMode", "backoffLimit", "podFailurePolicy",
                        "template"}
    assert [job[key] for key in ("parallelism", "completions", "completionMode", "backoffLimit")] == [
        4, 4, "Indexed", 0]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert job["podFailurePolicy"] == {"rules": [
        {"action": "FailJob",
         "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [75]}},
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}
    assert pod["restartPolicy"] == "Never"  # which a podFailurePolicy needs
    assert pod["terminationGracePeriodSeconds"] == 90
    assert pod["nodeSelector"] == {"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
                                   "cloud.google.com/gke-tpu-topology": "4x4"}
    assert container["image"] == IMAGE and container["resources"] == {"limits": {"google.com/tpu": "4"}}
    # GKE sets the variables by which JAX finds the others.
    assert not [entry for entry in container["env"] if entry["name"].startswith(("VRSTC", "TPU", "JAX"))]
    assert [expanded(word, {"id": "!", "x": "!"}) for word in container["command"]] == [
        "python", "-m", "experiments.vrstc", *NASTY]
    (volume,), (mount,) = pod["volumes"], container["volumeMounts"]
    assert volume["name"] == mount["name"] and volume["emptyDir"] == {"medium": "Memory"}


def test_the_jobset_of_two_gpu_nodes(launch, standins):
    jobset = manifest_of(launch, standins, *GPU_RUN)
    assert "annotations" not in jobset["metadata"]
    (group,) = jobset["spec"]["replicatedJobs"]
    job = group["template"]["spec"]
    assert (group["replicas"], job["parallelism"], job["completions"]) == (1, 2, 2)
    (container,) = job["template"]["spec"]["containers"]
    assert job["template"]["spec"]["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "8"}}
    environment = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}
    # <jobSet.name>-<replicatedJob.name>-<job-index>-<pod-index>.<subdomain>, which is the JobSet's name.
    assert environment["VRSTC_COORDINATOR"] == f"r-{group['name']}-0-0.r:8476"
    assert environment["VRSTC_PROCESSES"] == "2"
    assert environment["VRSTC_PROCESS"] == {"fieldRef": {
        "fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    alone = manifest_of(launch, standins, "--accelerator", "l4", "--gpus", "4")
    assert "VRSTC" not in json.dumps(alone)


@pytest.mark.parametrize("words", [TPU_RUN, GPU_RUN])
def test_the_jobset_has_no_field_that_the_api_lacks(launch, standins, words):
    models = pytest.importorskip("kubeflow_trainer_api.models",
                                 reason="has JobSet's API; get it with: pip install kubeflow_trainer_api")
    jobset = manifest_of(launch, standins, *words)
    read = models.JobsetV1alpha2JobSet.from_dict(jobset)
    assert json.loads(json.dumps(read.to_dict(), default=str)) == jobset  # unknown fields would be lost


def test_the_image_is_made_of_the_commit(launch, standins):
    assert launch("gke", "install", IMAGE, "--project", "p")[0] == 0
    archive = standins.checkout / "dist" / f"vrstc_jax-{commit(standins)}-image.tar.gz"
    assert standins.calls() == [["gcloud", "builds", "submit", str(archive), f"--tag={IMAGE}", "--timeout=1h",
                                 "--project=p"]]
    names = standins.names_in(archive)
    assert "Dockerfile" in names and "vrstc_jax/experiments/vrstc.py" in names
    assert (standins.checkout / "dist" / "Dockerfile").read_text() == (
        "FROM python:3.11-slim\nCOPY vrstc_jax /vrstc_jax\n"
        "RUN python -m pip install --no-cache-dir /vrstc_jax 'jax[tpu]' 'etils[epath-gcs]'\nWORKDIR /root\n")
    launch("gke", "install", IMAGE, "--jax", "cuda12")
    assert "'jax[cuda12]'" in (standins.checkout / "dist" / "Dockerfile").read_text()


def test_logs_stops_and_deletions_on_gke(launch, standins):
    launch("gke", "log", "r", "--worker", "3", "--lines", "5", "--context", "k", "--namespace", "n")
    launch("gke", "log", "r", "--worker", "all")
    launch("gke", "stop", "r")
    launch("gke", "delete", "c", AT)
    assert standins.calls() == [
        ["kubectl", "logs", "--follow",
         "--selector=jobset.sigs.k8s.io/jobset-name=r,jobset.sigs.k8s.io/job-index=0,"
         "batch.kubernetes.io/job-completion-index=3", "--container=vrstc", "--tail=5",
         "--pod-running-timeout=1h", "--namespace=n", "--context=k"],
        ["kubectl", "logs", "--follow", "--selector=jobset.sigs.k8s.io/jobset-name=r", "--container=vrstc",
         "--tail=100", "--pod-running-timeout=1h", "--prefix", "--max-log-requests=4096",
         "--namespace=default"],
        ["kubectl", "delete", "jobset", "r", "--cascade=foreground", "--timeout=1h", "--namespace=default"],
        ["gcloud", "container", "clusters", "delete", "c", "--quiet", AT]]


def test_a_run_that_kubernetes_refuses(launch, standins):
    standins.tell({"words": ["kubectl"], "code": 1})
    code, _, error = launch("gke", "run", "r", "--image", IMAGE, *GPU_RUN, "--", "experiments.vrstc")
    assert code == 1 and "if a run 'r' is there, or was, the verb stop removes it" in error


# Slurm.

def test_a_job_is_handed_in(launch, standins):
    words = "slurm", "run", "j", "--nodes", "2", "--gpus", "4", "--gpu-type", "h100", "--time", "1-12:00:00"
    assert launch(*words, "--partition", "gpu", "--", "experiments.vrstc")[0] == 0
    path = standins.checkout / "dist" / "j.sbatch"
    assert standins.calls() == [["squeue", "--me", "--name=j", "--noheader", "--format=%i"],
                                ["sbatch", str(path)]]
    first, *flags = re.findall("^#.*", path.read_text(), re.MULTILINE)
    assert first == "#!/bin/bash" and all(flag.startswith("#SBATCH ") for flag in flags)
    assert shlex.split(" ".join(flag.removeprefix("#SBATCH ") for flag in flags)) == [
        "--job-name=j", "--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=8", "--gres=gpu:h100:4",
        "--time=1-12:00:00", "--signal=TERM@120", "--open-mode=append",
        f"--output={standins.checkout}/vrstc-logs/j.log", "--partition=gpu", "--requeue"]
    assert (standins.checkout / "vrstc-logs").is_dir()  # without it Slurm drops the output
    launch("slurm", "run", "j", "--", "experiments.vrstc")
    text = path.read_text()
    assert "--ntasks-per-node=1\n" in text and "gres" not in text and "--time" not in text


def test_a_job_of_that_name_is_left_alone(launch, standins):
    standins.tell({"words": ["squeue"], "answers": ["12"]})
    code, _, error = launch("slurm", "run", "j", "--", "experiments.vrstc")
    assert code == 2 and "a job 'j' is in the queue already (12)" in error and len(standins.calls()) == 1


STOP = [["scancel", "--me", "--name=j", "--state=RUNNING", "--batch", "--signal=USR1"],
        ["scancel", "--me", "--name=j", "--state=RUNNING", "--signal=TERM"]]
ASK = ["squeue", "--me", "--name=j", "--states=RUNNING,COMPLETING", "--noheader", "--format=%i"]


def test_a_job_is_told_before_it_is_cancelled(launch, standins, hurried):
    standins.tell({"words": ["squeue"], "answers": ["12", "12", ""]}, {"words": ["--batch"], "code": 1})
    assert launch("slurm", "stop", "j")[0] == 0
    assert standins.calls() == [*STOP, ASK, ASK, ASK, ["scancel", "--me", "--name=j"]]
    for rule in ({"answers": ["12"]}, {"code": 1}):  # nothing known is not nothing there
        standins.tell({"words": ["squeue"]} | rule)
        assert launch("slurm", "stop", "j", "--grace", "20")[0] == 0
        assert standins.calls() == [*STOP, *[ASK] * 5, ["scancel", "--me", "--name=j"]]  # every 5 s


def test_installing_on_slurm(launch, standins, monkeypatch):
    monkeypatch.setattr(slurm.sys, "executable", str(standins.home / "there" / "python3.11"))
    venv, archive = standins.checkout / "vrstc-venv", f"vrstc_jax-{commit(standins)}-source.tar.gz"
    standins.behave(pip=1)
    code, _, error = launch("slurm", "install")
    assert code == 1 and not venv.exists() and "has been taken back" in error
    assert launch("slurm", "install", "--keep")[0] == 1 and venv.exists()
    assert launch("slurm", "install")[0] == 1 and venv.exists()  # it was there before
    standins.behave()
    assert launch("slurm", "install", "--venv", "my env", "--jax", "cuda13")[0] == 0
    assert standins.lines("pip")[-1][1:] == [
        "-m", "pip", "install", "--quiet", "--upgrade", str(standins.checkout / "dist" / archive),
        "jax[cuda13]", "etils[epath-gcs]"]
    assert (standins.checkout / "my env" / "bin" / "python").exists()
    launch("slurm", "install", "--jax", "cpu")
    assert not [word for word in standins.lines("pip")[-1] if word.startswith("jax[")]


@pytest.mark.parametrize("verb, told", [("create", "a Slurm cluster is not made from here"),
                                        ("delete", "a Slurm cluster is not deleted from here")])
def test_verbs_that_make_no_sense_on_slurm(launch, verb, told):
    code, _, error = launch("slurm", verb, "x", "--anything")
    assert code == 2 and told in error and error.count("\n") == 1


# What is printed is what is done.

QUEUED = [{"words": ["describe"], "answers": ["ACTIVE"]}]
COMMANDS = [
    "tpu-vm create one --zone us-central2-b --type v4-32 --spot",
    "tpu-vm create one --zone us-central2-b --type v6e-16 --queued --slices 2 --install",
    "tpu-vm install one --zone us-central2-b --project p",
    "tpu-vm run one --zone us-central2-b --retries 2 --",
    "tpu-vm run one --zone us-central2-b --queued --",
    "tpu-vm log one --zone us-central2-b --worker all",
    "tpu-vm stop one --zone us-central2-b",
    "tpu-vm delete one --zone us-central2-b --queued",
    "gke create c --location us-east5-b --accelerator v5p --topology 2x2x4",
    f"gke install {IMAGE}",
    f"gke run r --image {IMAGE} {shlex.join(TPU_RUN)} --",
    f"gke run r --image {IMAGE} {shlex.join(GPU_RUN)} --context k --",
    "gke log r", "gke stop r --namespace n",
    "gke delete c --location us-east5-b --project p",
    "slurm run j --nodes 2 --gpus 4 --logs 'my logs' --venv 'my venv' --",
    "slurm stop j",
]


def left(standins):
    """What lies in dist/, to compare: an archive's files, a text's text."""
    dist = standins.checkout / "dist"
    files = {path.name: standins.names_in(path) if path.suffix == ".gz" else path.read_text()
             for path in dist.glob("*")}
    shutil.rmtree(dist, ignore_errors=True)
    return files


@pytest.mark.parametrize("line", COMMANDS)
def test_a_dry_run_pasted_into_a_shell_does_what_the_command_does(launch, standins, line):
    words = shlex.split(line)
    if words[-1] == "--":
        words += ["experiments.vrstc", *NASTY]
    cut = words.index("--") if "--" in words else len(words)
    standins.tell(*QUEUED)
    code, printed, error = launch(*words[:cut], "--dry-run", *words[cut:])
    assert code == 0, error
    assert standins.calls() == [] and left(standins) == {}
    subprocess.run(["bash", "-c", printed], cwd=standins.checkout, check=True, capture_output=True)
    pasted, files = standins.calls(), left(standins)
    assert launch(*words)[0] == 0
    assert pasted == standins.calls() and files == left(standins)
    # And word by word, without a shell.
    commands = [call for call in pasted if shlex.join(call) in printed]
    assert commands == pasted


def test_a_dry_run_tells_what_it_would_take_back(launch, standins):
    _, printed, _ = launch("tpu-vm", "create", "one", ZONE, "--type", "v4-32", "--dry-run")
    assert printed.splitlines() == [f"{shlex.join(TPU_LIST)}  # must not show one", shlex.join(TPU_CREATE),
                                    "# where one of these fails:", f"# {shlex.join(TPU_DELETE)}"]


def test_a_dry_run_needs_none_of_the_programs(launch, standins, monkeypatch):
    for name in standins.PROGRAMS:
        (standins.home / "bin" / name).unlink()
    monkeypatch.setenv("PATH", str(standins.home / "bin"))
    assert launch("tpu-vm", "delete", "one", ZONE, "--dry-run")[0] == 0


# Bad input: one line, exit code 2, and nothing done.

@pytest.mark.parametrize("words, told", [
    ("tpu-vm delete One --zone us-central2-b", "'One' cannot be the name of a TPU VM"),
    (f"tpu-vm delete {'a' * 51} --zone us-central2-b", "at most 50 characters"),
    ("tpu-vm delete one- --zone us-central2-b", "no dash last"),
    ("tpu-vm delete one --zone us-central2", "--zone is one such as us-central2-b. Got 'us-central2'"),
    ("tpu-vm create one --zone us-central2-b --type v9-8", "--type is a TPU slice"),
    ("tpu-vm create one --zone us-central2-b --type v4-8 --slices 2", "add --queued"),
    ("tpu-vm create one --zone us-central2-b --type v4-8 --slices 0", "--slices must be 1 or more. Got 0"),
    ("tpu-vm log one --zone us-central2-b --worker first", "--worker is a number from 0, or all"),
    ("tpu-vm stop one --zone us-central2-b --grace 0", "--grace must be 1 or more"),
    ("tpu-vm run one --zone us-central2-b --retries=-1 -- experiments.vrstc", "--retries must be 0 or more"),
    ("tpu-vm run one --zone us-central2-b", "say what to run after --"),
    ("tpu-vm run one --zone us-central2-b -- experiments.vrst", "there is no experiment 'experiments.vrst'"),
    ("tpu-vm run one --zone us-central2-b -- experiments.table", "choose one of experiments.vrstc"),
    ("tpu-vm run one --zone us-central2-b -- os", "there is no experiment 'os'"),
    ("tpu-vm stop one --zone us-central2-b -- experiments.vrstc", "stop takes nothing after --"),
    ("tpu create one", "choose one of tpu-vm, gke, slurm. Got 'tpu'"),
    ("gke create c --location us-east5 --accelerator v4 --topology 2x2x1", "--location is a zone"),
    ("gke create c --location us-east5-b --accelerator v4 --topology 4x4", "in 3 dimensions, such as 2x2x4"),
    ("gke create c --location us-east5-b --accelerator v6e", "Got None"),
    ("gke create c --location us-east5-b --accelerator v6e --topology 3x3", "of 4 chips, or 1. Got 9"),
    ("gke create c --location us-east5-b --accelerator v6e --topology 2x2 --slices 2", "of several hosts"),
    ("gke create c --location us-east5-b --accelerator l4 --gpus 3", "nodes with l4 have 1, 2, 4, 8"),
    ("gke create c --location us-east5-b --accelerator l4 --topology 2x2", "are for TPUs"),
    ("gke install 'not an image'", "is no image"),
    (f"gke stop {'a' * 41}", "at most 40 characters"),
    ("gke stop r --namespace N", "cannot be the name of a namespace"),
    ("slurm stop -j-", None),
    ("slurm stop 'a b'", "cannot be the name of a job"),
    ("slurm run j --logs logs%j -- experiments.vrstc", "sbatch takes no path with %"),
    ("slurm run j --time tomorrow -- experiments.vrstc", "--time is a limit such as"),
    ("slurm run j --partition 'a b' -- experiments.vrstc", "--partition 'a b': sbatch takes no such value"),
])
def test_bad_input_is_told_in_one_line(launch, standins, words, told):
    code, _, error = launch(*shlex.split(words))
    assert code == 2 and standins.calls() == []
    if told:
        assert told in error and error.count("\n") == 1


def test_an_argument_that_is_no_text(launch, standins):
    words = "gke", "run", "r", "--image", IMAGE, *GPU_RUN, "--", "experiments.vrstc", "\udcff"
    code, _, error = launch(*words)
    assert code == 2 and "is not UTF-8 text" in error


@pytest.mark.parametrize("words, missing", [
    ("tpu-vm delete one --zone us-central2-b", "gcloud is not on the PATH; install the Google Cloud CLI"),
    ("gke stop r", "kubectl is not on the PATH; install it with: gcloud components install kubectl"),
    ("slurm stop j", "scancel is not on the PATH; run this on a login node of a Slurm cluster")])
def test_a_missing_program_is_told(launch, monkeypatch, tmp_path, words, missing):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, error = launch(*words.split())
    assert code == 2 and missing in error and error.count("\n") == 1


def test_outside_a_checkout(launch, standins):
    shutil.rmtree(standins.checkout / ".git")
    code, _, error = launch("tpu-vm", "install", "one", ZONE)
    assert code == 2 and "is not a Git checkout" in error


def test_help_shows_the_verbs(launch):
    code, printed, _ = launch()
    assert code == 0 and "tools.launch tpu-vm create" in printed
    assert "--topology" in launch("gke", "run", "--help")[1]


# Against the programs themselves and the README, where they are there.

@pytest.mark.slow
def test_gcloud_takes_every_command(launch, standins, tmp_path, monkeypatch):
    gcloud = shutil.which("gcloud", path=os.environ["PATH"].split(os.pathsep, 1)[1])
    if gcloud is None:
        pytest.skip("the Google Cloud CLI is not installed")
    standins.tell(*QUEUED)
    for line in COMMANDS:
        words = shlex.split(line)
        launch(*words, *(["experiments.vrstc", "--seed", "1"] if words[-1] == "--" else []))
    calls = sorted({shlex.join(call) for call in standins.calls() if call[0] == "gcloud"})
    assert len(calls) >= 15
    file = tmp_path / "commands.json"
    file.write_text(json.dumps([{"command_string": call} for call in calls]))
    done = subprocess.run([gcloud, "meta", "lint-gcloud-commands", f"--commands-file={file}"],
                          capture_output=True, text=True, check=True,
                          env=os.environ | {"CLOUDSDK_CONFIG": str(tmp_path / "none"),
                                            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"})
    results = json.loads(done.stdout)
    assert [result["error_message"] for result in results] == [None] * len(calls)


def test_every_command_of_the_readme_is_one_that_the_launcher_takes(launch):
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^python -m tools\.launch (.+)$", text, re.MULTILINE)
    assert {line.split()[0] for line in lines} == {"tpu-vm", "gke", "slurm"}
    for line in lines:
        words = shlex.split(line, comments=True)
        cut = words.index("--") if "--" in words else len(words)
        if "--dry-run" not in words[:cut]:
            words.insert(cut, "--dry-run")
        code, _, error = launch(*words)
        assert code == 0, f"{line}: {error}"
