"""Stand-ins for gcloud, Slurm's commands and the machines behind them, for `test_launch.py`.

Each records its arguments byte for byte, then answers or fails as its rules say. `gcloud ... ssh` also runs its command
with bash in the folder of each worker, `gcloud ... scp` copies there, and `srun` starts its tasks.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tools.launch import __main__ as command

REPOSITORY = Path(__file__).resolve().parents[2]
NASTY = ["--workdir", "gs://bucket/a b", "it's", 'say "no"', "$HOME `id` $(id) ${PATH} $$(x) $", "line\nbreak",
         "é 雪 😀", "", "--", "--x=-y", "*", "~", "\\", "a  b ", "#x", "!!", "a;b&c|d>e<f", "tab\t", "'\"'", "{a,b}", "-"]
"""Arguments that a shell would take for something else."""

_CLOUD = '''#!{python} -IS
import json, os, subprocess, sys, time

home, name, words = {home!r}, os.path.basename(sys.argv[0]), sys.argv[1:]
with open(home + "/calls", "a+") as file:
    file.seek(0)
    number = len(file.read().splitlines()) + 1
    file.write(json.dumps([name, *words]) + "\\n")
for rule in json.load(open(home + "/rules")):
    if number == rule.get("call") or (rule.get("words") and set(rule["words"]) <= {{name, *words}}):
        if rule.get("answers"):
            print(rule["answers"][min(number, len(rule["answers"])) - 1])
        time.sleep(rule.get("seconds", 0))
        if rule.get("code"):
            sys.exit(rule["code"])


def flag(key):
    return next((word[len(key) + 3:] for word in words if word.startswith("--" + key + "=")), None)


workers = sorted(os.listdir(home + "/workers")) if os.path.exists(home + "/workers") else []
if flag("worker") not in (None, "all"):
    workers = [workers[int(flag("worker"))]] if workers else []
if name == "gcloud" and "ssh" in words:
    # gcloud splits at spaces, and ssh joins again.
    command, path = " ".join(flag("command").split(" ")), home + "/there:" + os.environ["PATH"]
    sys.exit(max((subprocess.run(["bash", "-c", command], cwd=home + "/workers/" + worker, env=os.environ | {{
        "HOME": home + "/workers/" + worker, "PATH": path}}).returncode for worker in workers), default=0))
if name == "gcloud" and "scp" in words:
    source, target = words[words.index("scp") + 1:][:2]
    for worker in workers:
        with open(home + "/workers/" + worker + "/" + target.split(":")[1], "wb") as file:
            file.write(open(source, "rb").read())
if name == "srun":
    command = words[next(i for i, word in enumerate(words) if not word.startswith("-")):]
    tasks = [subprocess.Popen(command, start_new_session=True) for _ in range(2)]
    with open(home + "/tasks", "w") as file:
        file.write(" ".join(str(task.pid) for task in tasks))
    sys.exit(max(task.wait() % 256 for task in tasks))
'''

# On a worker: pretends to install, and to be the experiment.
_PYTHON = '''#!{python} -IS
import json, os, shutil, signal, sys, time
from pathlib import Path

home, words = Path({home!r}), sys.argv[1:]
behaviour, installs = json.loads((home / "behaviour").read_text()), words[:2] in (["-m", "pip"], ["-m", "uv"])
with open(home / ("installed" if installs else "ran"), "a") as file:
    file.write(json.dumps([os.getcwd(), *words]) + "\\n")
if "venv" in words:
    os.makedirs(words[-1] + "/bin")
    shutil.copy(__file__, words[-1] + "/bin/python")
elif installs:
    sys.exit(behaviour["install"] if words[1] == "uv" else 0)
else:
    stopped = []
    signal.signal(signal.SIGTERM, (lambda *_: stopped.append(True)) if behaviour["checkpoints"] else signal.SIG_IGN)
    (home / "path").write_text(os.environ.get("PYTHONPATH", ""))
    print("training", flush=True)
    times = sum(json.loads(line)[0] == os.getcwd() for line in (home / "ran").read_text().splitlines())
    code = behaviour["codes"][min(times, len(behaviour["codes"])) - 1]
    while code == "wait" and not stopped:
        time.sleep(0.01)
    print("checkpoint" if stopped else "done", flush=True)
    sys.exit(75 if stopped else code)
'''


class StandIns:
    """The stand-ins' folder `home`, and in it `checkout`, a small Git checkout that holds this launcher."""

    def __init__(self, home):
        self.home, self.checkout = home, home / "checkout"
        self._write("bin", _CLOUD, ("gcloud", "squeue", "scontrol", "srun"))
        self._write("there", _PYTHON, ("python3",))
        self.tell()
        self.behave()
        shutil.copytree(_checkout(), self.checkout)

    def _write(self, folder, text, names):
        (self.home / folder).mkdir(parents=True)
        for name in names:
            path = self.home / folder / name
            path.write_text(text.format(python=sys.executable, home=str(self.home)))
            path.chmod(0o755)

    def behave(self, *, codes=(0,), checkpoints=True, install=0):
        """How the experiment's n-th run on a worker ends ("wait": at SIGTERM), and how installing ends."""
        (self.home / "behaviour").write_text(json.dumps(
            {"codes": list(codes), "checkpoints": checkpoints, "install": install}))

    def tell(self, *rules):
        """Rules: {"call": n} or {"words": [...]} select calls; "answers" (the n-th to call n), "seconds" and "code" are
        what they print, how long they take and how they end."""
        (self.home / "rules").write_text(json.dumps(rules))

    def workers(self, number):
        """Creates the workers of a TPU VM; returns their folders."""
        folders = [self.home / "workers" / str(i) for i in range(number)]
        for folder in folders:
            folder.mkdir(parents=True)
        return folders

    def calls(self):
        """Every call since this was last asked: [program, argument, ...]."""
        calls = self.lines("calls")
        (self.home / "calls").unlink(missing_ok=True)
        return calls

    def lines(self, name):
        """What was started on workers, as [folder, argument, ...]: experiments ("ran"), pip and uv ("installed")."""
        path = self.home / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@functools.cache
def _checkout():
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


def until(condition, *, seconds=10):
    """Waits for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def standins(tmp_path, monkeypatch):
    """The stand-ins, first on the PATH."""
    created = StandIns(tmp_path / "it's here")
    monkeypatch.setenv("PATH", f"{created.home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(created.checkout)
    return created


@pytest.fixture
def launch(standins, capfd):
    """Runs the launcher on the stand-ins' checkout: (exit code, what it printed, what it printed on stderr)."""
    def run(*words):
        code = 0
        try:
            command.main(list(words), root=standins.checkout)
        except SystemExit as end:
            code = end.code
            if isinstance(code, str):
                print(code, file=sys.stderr)
                code = 1
        return code or 0, *capfd.readouterr()

    return run
