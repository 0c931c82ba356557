"""Stand-ins for gcloud, Slurm's commands and the machines behind them, for `test_launch.py`. Each records its arguments
byte for byte, then answers or fails as its rules say. `gcloud ... ssh` also runs its command with bash in the folder of
each worker, `gcloud ... scp` copies there, and `srun` starts two tasks."""

import json
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# Arguments that a shell would take for something else.
NASTY = ["--workdir", "gs://bucket/a b", "it's", 'say "no"', "$HOME `id` $(id) ${PATH} $$(x) $", "line\nbreak",
         "é 雪 😀", "", "--", "--x=-y", "*", "~", "\\", "a  b ", "#x", "!!", "a;b&c|d>e<f", "tab\t", "'\"'", "{a,b}"]

_CLOUD = '''#!{python} -IS
import glob, json, os, shutil, subprocess, sys, time

home, name, words = {home!r}, os.path.basename(sys.argv[0]), sys.argv[1:]
with open(home + "/calls", "a+") as file:
    file.write(json.dumps([name, *words]) + "\\n")
    file.seek(0)
    number = len(file.readlines())
for rule in json.load(open(home + "/rules")):
    if rule["word"] in (name, *words):
        if "answers" in rule:
            print(rule["answers"][min(number, len(rule["answers"])) - 1])
        time.sleep(rule.get("seconds", 0))
        if "code" in rule:
            sys.exit(rule["code"])
flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
workers = sorted(glob.glob(home + "/workers/*"))
if flags.get("worker", "all") != "all":
    workers = workers[int(flags["worker"]):][:1]
if "ssh" in words:
    sys.exit(max((subprocess.run(["bash", "-c", flags["command"]], cwd=worker, env=os.environ | {{
        "HOME": worker, "PATH": home + "/there:" + os.environ["PATH"]}}).returncode for worker in workers), default=0))
if "scp" in words:
    source, target = words[words.index("scp") + 1:][:2]
    for worker in workers:
        shutil.copy(source, worker + "/" + target.split(":")[1])
if name == "srun":
    command = words[next(i for i, word in enumerate(words) if not word.startswith("-")):]
    tasks = [subprocess.Popen(command, start_new_session=True) for _ in range(2)]
    open(home + "/tasks", "w").write(" ".join(str(task.pid) for task in tasks))
    sys.exit(max(task.wait() % 256 for task in tasks))
'''

# On a worker: pretends to install, and to be the experiment.
_PYTHON = '''#!{python} -IS
import json, os, shutil, signal, sys, time
from pathlib import Path

home, words, installs = Path({home!r}), sys.argv[1:], sys.argv[2] in ("pip", "uv")
codes, checkpoints, install = json.loads((home / "behaviour").read_text())
with open(home / ("installed" if installs else "ran"), "a") as file:
    file.write(json.dumps([os.getcwd(), *words]) + "\\n")
if "venv" in words:
    os.makedirs(words[-1] + "/bin")
    shutil.copy(__file__, words[-1] + "/bin/python")
elif installs:
    sys.exit(install if words[1] == "uv" else 0)
else:
    stopped, program = [], os.getpid()
    signal.signal(signal.SIGTERM, (lambda *_: stopped.append(True)) if checkpoints else signal.SIG_IGN)
    if not os.fork():  # loads data while the program lives
        while os.getppid() == program:
            time.sleep(0.01)
        if stopped:
            (home / "loader-told").touch()
        os._exit(0)
    (home / "path").write_text(os.environ.get("PYTHONPATH", ""))
    print("training", flush=True)
    times = sum(json.loads(line)[0] == os.getcwd() for line in (home / "ran").read_text().splitlines())
    code = codes[min(times, len(codes)) - 1]
    while code == "wait" and not stopped:
        time.sleep(0.01)
    print("checkpoint" if stopped else "done", flush=True)
    sys.exit(75 if stopped else code)
'''


class StandIns:
    """The stand-ins' folder `home`, and in it `checkout`, a small Git checkout with the launcher's worker.sh."""

    def __init__(self, home):
        self.home, self.checkout = home, home / "checkout"
        programs = {"there/python3": _PYTHON} | dict.fromkeys(
            ("bin/gcloud", "bin/squeue", "bin/scontrol", "bin/srun"), _CLOUD)
        files = {name: text.format(python=sys.executable, home=str(home)) for name, text in programs.items()} | {
            "checkout/tools/launch/worker.sh": (REPOSITORY / "tools/launch/worker.sh").read_text(),
            "checkout/experiments/vrstc.py": 'if __name__ == "__main__":\n    pass\n',
            "checkout/experiments/table.py": "# nothing to run\n", "checkout/.gitignore": "/dist/\n"}
        for name, text in files.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text)
            (home / name).chmod(0o755)
        for words in (["init", "--quiet", "--template="], ["add", "."], ["commit", "--quiet", "--message=all"]):
            subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=self.checkout, check=True)
        self.tell()
        self.behave()

    def behave(self, codes=(0,), *, checkpoints=True, install=0):
        """How the experiment's n-th run on a worker ends ("wait": at SIGTERM), and how installing ends."""
        (self.home / "behaviour").write_text(json.dumps([codes, checkpoints, install]))

    def tell(self, *rules):
        """Rules: "word" selects calls, which print the n-th of "answers", n counting all calls, and end after "seconds"
        with "code"."""
        (self.home / "rules").write_text(json.dumps(rules))

    def calls(self):
        """Every call since this was last asked: [program, argument, ...]."""
        calls = self.lines("calls")
        (self.home / "calls").unlink(missing_ok=True)
        return calls

    def lines(self, name):
        """What was started on workers, as [folder, argument, ...]: experiments ("ran"), pip and uv ("installed")."""
        path = self.home / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until(condition, *, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
