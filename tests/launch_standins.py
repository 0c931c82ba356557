"""Stand-ins for gcloud, kubectl, Slurm's commands and the machines behind them, for `test_launch*.py`.

Each records its arguments byte for byte, answers or fails as it is told, and goes no further, but for these:
`gcloud … ssh` runs its command with bash in the folder of each worker it is for, `gcloud … scp` copies there,
`sbatch` runs its file, and `srun` starts its tasks.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from tools.launch import __main__ as command
from tools.launch import program

REPOSITORY = Path(__file__).resolve().parents[1]
NASTY = ["--workdir", "gs://bucket/a b", "it's", 'say "no"', "$HOME `id` $(id) ${PATH} $$(x) $",
         "line\nbreak", "é 雪 😀", "", "--", "--x=-y", "*", "~", "\\", "a  b ", "\nEND\n", "#x", "!!", "%j",
         "@TASK@", "a;b&c|d>e<f", "tab\t", "'\"'", "{a,b}", "-"]
"""Arguments that a shell, Kubernetes or sbatch would take for something else."""

_CLOUD = '''#!{python} -IS
import json, os, sys  # and no more: it starts hundreds of times

home, name, words = {home!r}, os.path.basename(sys.argv[0]), sys.argv[1:]
with open(home + "/calls", "a+") as file:
    file.seek(0)
    number = len(file.read().splitlines()) + 1
    file.write(json.dumps([name, *words]) + "\\n")
for rule in json.load(open(home + "/rules")):
    if number == rule.get("call") or (rule.get("words") and set(rule["words"]) <= {{name, *words}}):
        if rule.get("answers"):
            used = home + "/used " + "-".join(rule["words"])
            times = os.path.getsize(used) if os.path.exists(used) else 0
            open(used, "a").write("x")
            print(rule["answers"][min(times, len(rule["answers"]) - 1)])
        if rule.get("code"):
            sys.exit(rule["code"])


def flag(key):
    return next((word[len(key) + 3:] for word in words if word.startswith("--" + key + "=")), None)


def run(command, **changes):
    import subprocess
    return subprocess.run(command, cwd=changes.get("HOME"), env=os.environ | changes).returncode


workers = sorted(os.listdir(home + "/workers")) if os.path.exists(home + "/workers") else []
if flag("worker") not in (None, "all"):
    workers = [workers[int(flag("worker"))]] if workers else []
if name == "gcloud" and "ssh" in words:
    # gcloud splits at spaces, and ssh joins again.
    command, path = " ".join(flag("command").split(" ")), home + "/there:" + os.environ["PATH"]
    sys.exit(max((run(["bash", "-c", command], HOME=home + "/workers/" + worker, PATH=path)
                  for worker in workers), default=0))
if name == "gcloud" and "scp" in words:
    source, target = words[words.index("scp") + 1:][:2]
    for worker in workers:
        with open(home + "/workers/" + worker + "/" + target.split(":")[1], "wb") as file:
            file.write(open(source, "rb").read())
if name == "sbatch" and os.path.exists(home + "/run-jobs"):
    sys.exit(run(["bash", words[0]], SLURM_JOB_ID="7"))
if name == "srun":
    import subprocess
    started = [subprocess.Popen(words[words.index("bash"):], env=os.environ | {{"SLURM_PROCID": str(i)}},
                                start_new_session=True) for i in range(int(os.environ.get("TASKS", "1")))]
    with open(home + "/tasks", "w") as file:
        file.write(" ".join(str(task.pid) for task in started))
    sys.exit(max(task.wait() % 256 for task in started))
'''

# Where the experiment runs: makes environments, installs, and plays the experiment.
_PYTHON = '''#!{python} -IS
import json, os, shutil, signal, sys, time
from pathlib import Path

home, words = Path({home!r}), sys.argv[1:]
behaviour = json.loads((home / "behaviour").read_text())
if words[0] == "-c":
    sys.exit(behaviour["old_python"])
if words[:2] in (["-m", "pip"], ["-m", "uv"]):
    with open(home / "pip", "a") as file:
        file.write(json.dumps([os.getcwd(), *words]) + "\\n")
if words[:2] == ["-m", "pip"]:
    sys.exit(behaviour["pip"])
elif "venv" in words:
    os.makedirs(words[-1] + "/bin")
    shutil.copy(__file__, words[-1] + "/bin/python")
else:
    stopped, os.environ["PARENT"] = [], str(os.getpid())
    if behaviour["on_term"] == "checkpoint":
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour["loader"] and not os.fork():  # reads data until its parent is gone
        signal.signal(signal.SIGTERM, lambda *_: (home / "loader-told").touch())
        while os.getppid() == int(os.environ["PARENT"]):
            time.sleep(0.01)
        os._exit(0)
    ran = home / "ran"
    with open(ran, "a") as file:
        file.write(json.dumps([os.getcwd(), *words]) + "\\n")
    print("training", flush=True)
    times = sum(json.loads(line)[0] == os.getcwd() for line in ran.read_text().splitlines())
    code = behaviour["codes"][min(times, len(behaviour["codes"])) - 1]
    while code == "wait" and not stopped:
        time.sleep(0.01)
    print("checkpoint" if stopped else "done", flush=True)
    sys.exit(75 if stopped else code)
'''


class StandIns:
    """The stand-ins, in a folder of their own.

    Attributes:
      home: that folder.
      checkout: a small Git checkout with this repository's launcher.
    """

    PROGRAMS = ("gcloud", "kubectl", "sbatch", "squeue", "scancel", "scontrol", "srun")

    def __init__(self, home: Path):
        self.home, self.checkout = home, home / "checkout"
        self._write("bin", _CLOUD, self.PROGRAMS)
        self._write("there", _PYTHON, ("python3.11", "python3", "experiment-python"))
        self.tell()
        self.behave()
        shutil.copytree(_checkout(), self.checkout)

    def _write(self, folder, text, names):
        (self.home / folder).mkdir(parents=True)
        for name in names:
            path = self.home / folder / name
            path.write_text(text.format(python=sys.executable, home=str(self.home)))
            path.chmod(0o755)

    def behave(self, *, codes=(0,), on_term="checkpoint", pip=0, old_python=0, loader=False):
        """How the experiment's n-th run on a worker ends ("wait": at SIGTERM), whether a process of its own
        reads its data, and how installing ends."""
        (self.home / "behaviour").write_text(json.dumps(
            {"codes": list(codes), "on_term": on_term, "pip": pip, "old_python": old_python,
             "loader": loader}))

    def tell(self, *rules):
        """Rules: {"call": n} or {"words": […]} say which calls, "code" and "answers" what they do."""
        (self.home / "rules").write_text(json.dumps(rules))

    def workers(self, number):
        """Makes the workers of a TPU VM, and gives their folders."""
        folders = [self.home / "workers" / str(i) for i in range(number)]
        for folder in folders:
            folder.mkdir(parents=True)
        return folders

    def calls(self):
        """Every call since this was asked last: [program, argument, …]."""
        path = self.home / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        for used in self.home.glob("used *"):
            used.unlink()
        return [json.loads(line) for line in lines]

    def lines(self, name):
        """What experiments ("ran") or pip ("pip") were started with: [folder, argument, …]."""
        path = self.home / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def names_in(self, archive):
        """The files in an archive."""
        with tarfile.open(archive) as opened:
            return opened.getnames()

    @property
    def path(self):
        """For the environment."""
        return f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}"


@functools.cache
def _checkout():
    """A small Git checkout with this repository's launcher, made once."""
    root = Path(tempfile.mkdtemp(prefix="vrstc-launch-"))
    (root / "experiments").mkdir()
    shutil.copytree(REPOSITORY / "tools" / "launch", root / "tools" / "launch",
                    ignore=shutil.ignore_patterns("__pycache__"))
    (root / "experiments" / "vrstc.py").write_text('if __name__ == "__main__":\n    pass\n')
    (root / "experiments" / "table.py").write_text("# nothing to run\n")
    (root / ".gitignore").write_text("/dist/\n")
    for words in (["init", "--quiet", "--template="], ["add", "."], ["commit", "--quiet", "--message=all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=root, check=True)
    return root


@pytest.fixture
def standins(tmp_path, monkeypatch):
    """The stand-ins, on the PATH, and their checkout in place of this one."""
    made = StandIns(tmp_path / "it's here")
    monkeypatch.setenv("PATH", made.path)
    monkeypatch.setattr(program, "ROOT", made.checkout)
    monkeypatch.chdir(made.checkout)
    return made


@pytest.fixture
def launch(standins, capfd):
    """Runs the launcher: (exit code, what it printed, what it printed on stderr)."""
    def run(*words):
        code = 0
        try:
            command.main(list(words))
        except SystemExit as end:
            code = end.code
            if isinstance(code, str):
                print(code, file=sys.stderr)
                code = 1
        return code or 0, *capfd.readouterr()

    return run
