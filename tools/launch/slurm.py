"""Slurm: an sbatch file with one process a GPU, or one a node where there are none, found by JAX by itself.

JAX gives a process under Slurm the one GPU of its number on the node, so each task must see all GPUs of its
node: `--gres`, not `--gpus-per-task`.
"""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import tyro

from tools.launch.program import PREEMPTED, STORAGE, Program, dist, require_not_negative, require_positive, source
from tools.launch.steps import Command, File, Plan
from vrstc_jax.errors import InputError

NOT_VERBS = {
    "create": "a Slurm cluster is not made from here; `install` puts the package on the one there is.",
    "delete": "a Slurm cluster is not deleted from here; remove the folder of --venv to uninstall."}
_LOGS = Path("vrstc-logs")

# What each task does. One that was preempted must not look failed to srun, which would kill the others while
# they write the same checkpoint. SIGTERM goes to the program alone: whether Slurm signals only a task's first
# process or all of them depends on the cluster.
TASK = f"""
interrupted=
child=
trap 'interrupted=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null' TERM
"$@" &
child=$!
[ -z "$interrupted" ] || kill -TERM "$child" 2>/dev/null
while :; do
  interrupted=
  code=0
  wait "$child" || code=$?
  [ -n "$interrupted" ] || break
done
if [ "$code" -eq {PREEMPTED} ]; then
  : >"$VRSTC_PREEMPTED"
  code=0
fi
exit "$code"
""".strip()

# What the first node does. Slurm sends SIGTERM to it where the job is cancelled; `stop` sends SIGUSR1.
JOB = f"""
retries=@RETRIES@
stopping=
trap 'stopping=yes' TERM USR1
export VRSTC_PREEMPTED="${{TMPDIR:-/tmp}}/vrstc-$SLURM_JOB_ID.preempted"
rm -f "$VRSTC_PREEMPTED"
read -r -d '' task <<'TASK' || true
@TASK@
TASK
code=0
srun --kill-on-bad-exit=1 --label --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c "$task" task \\
  @COMMAND@ || code=$?
if [ "$code" -eq 0 ] && [ -e "$VRSTC_PREEMPTED" ]; then
  code={PREEMPTED}
fi
rm -f "$VRSTC_PREEMPTED"
if [ "$code" -eq {PREEMPTED} ] && [ -z "$stopping" ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt "$retries" ]; then
  echo "preempted; back into the queue, $((${{SLURM_RESTART_COUNT:-0}} + 1)) of $retries"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
""".strip()


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What every verb takes."""

    venv: Path = Path("vrstc-venv")
    """The virtual environment, on a disk that all nodes see."""
    keep: bool = False
    """Leave what was made where something fails."""
    dry_run: bool = False
    """Print what would be done, as shell, and do nothing."""

    takes_program: ClassVar[bool] = False

    @property
    def python(self) -> str:
        """The environment's Python."""
        return str(self.venv.absolute() / "bin" / "python")


@dataclass(frozen=True, kw_only=True)
class Job(Environment):
    """Which job."""

    name: tyro.conf.Positional[str]
    """Of the job."""
    logs: Path = _LOGS
    """Folder for the jobs' output, on a disk that all nodes see: NAME.log."""

    def check(self) -> None:
        """Raises InputError for names that Slurm would take for something else."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise InputError(f"'{self.name}' cannot be the name of a job: letters, digits, '.', '_' and '-', "
                             "no mark first.")
        # sbatch reads % and \\ in it as signs of its own.
        if re.search(r"[%\\\x00-\x1f]", str(self.logs.absolute())):
            raise InputError(f"--logs {self.logs}: sbatch takes no path with %, \\ or control characters; "
                             "choose another folder.")

    @property
    def log(self) -> Path:
        """Where the job's output goes."""
        return self.logs.absolute() / f"{self.name}.log"


@dataclass(frozen=True, kw_only=True)
class Install(Environment):
    """Install what is committed in this checkout, with JAX for the cluster's devices, from a login node."""

    jax: Literal["cuda12", "cuda13", "cpu"] = "cuda12"
    """For which devices; cuda13 needs NVIDIA's driver 580 or later."""

    def plan(self, program: Program | None) -> Plan:
        """Makes the environment if it is not there yet, and installs into it."""
        archive = source()
        new = not self.venv.exists()
        make = (Command((sys.executable, "-m", "venv", str(self.venv.absolute()))),) if new else ()
        jax = () if self.jax == "cpu" else (f"jax[{self.jax}]",)
        into = Command((self.python, "-m", "pip", "install", "--quiet", "--upgrade", str(archive.path), *jax,
                        STORAGE))
        undo = (Command(("rm", "-rf", str(self.venv.absolute()))),) if new else ()
        return Plan((*archive.commands, *make, into), undo=undo, made=len(archive.commands))


@dataclass(frozen=True, kw_only=True)
class Run(Job):
    """Put an experiment into the queue: … -- experiments.NAME FLAGS."""

    nodes: int = 1
    """How many."""
    gpus: int = 0
    """Of each node; a process for each of them. Without GPUs there is one a node."""
    gpu_type: str | None = None
    """As Slurm calls it, such as h100."""
    cpus: int = 8
    """For each process."""
    time: str | None = None
    """Limit, such as 24:00:00, at the end of which it checkpoints and queues again; the partition's if left
    out."""
    grace: int = 120
    """Seconds before the limit at which it is told."""
    retries: int = 100
    """How often it goes back into the queue after it was preempted (exit code 75)."""
    partition: str | None = None
    """sbatch's."""
    account: str | None = None
    """sbatch's."""
    qos: str | None = None
    """sbatch's."""
    constraint: str | None = None
    """sbatch's."""
    mem: str | None = None
    """sbatch's, for each node: such as 200G."""

    takes_program: ClassVar[bool] = True

    def plan(self, program: Program | None) -> Plan:
        """Writes the sbatch file and hands it in, unless a job of this name is in the queue."""
        self.check()
        require_positive(nodes=self.nodes, cpus=self.cpus, grace=self.grace)
        require_not_negative(gpus=self.gpus, retries=self.retries)
        if self.time and not re.fullmatch(r"[0-9]+(-[0-9]+)?(:[0-9]+){0,2}", self.time):
            raise InputError(f"--time is a limit such as 90, 24:00:00 or 2-12:00:00. Got '{self.time}'.")
        for flag in ("gpu_type", "partition", "account", "qos", "constraint", "mem"):
            value = getattr(self, flag)
            if value is not None and not re.fullmatch(r"[\w.,:@&|*()\[\]+-]+", value):
                raise InputError(f"--{flag.replace('_', '-')} '{value}': sbatch takes no such value.")
        file = File(dist(f"{self.name}.sbatch"), self.script(program))
        free = Command(("squeue", "--me", f"--name={self.name}", "--noheader", "--format=%i"),
                       note="must print nothing", check=self._is_free)
        return Plan((free, Command(("mkdir", "-p", str(self.log.parent))), file,
                     Command(("sbatch", str(file.path)))))

    def script(self, program: Program) -> str:
        """The sbatch file."""
        gres = ":".join(["gpu", *([self.gpu_type] if self.gpu_type else []), str(self.gpus)])
        flags = {"job-name": self.name, "nodes": self.nodes, "ntasks-per-node": max(self.gpus, 1),
                 "cpus-per-task": self.cpus, "gres": gres if self.gpus else None, "mem": self.mem,
                 "time": self.time, "signal": f"TERM@{self.grace}", "open-mode": "append",
                 "output": self.log, "partition": self.partition, "account": self.account, "qos": self.qos,
                 "constraint": self.constraint}
        lines = [f"#SBATCH --{flag}={shlex.quote(str(value))}" for flag, value in flags.items() if value]
        command = shlex.join([self.python, "-m", *program.words])
        body = JOB.replace("@RETRIES@", str(self.retries)).replace("@TASK@", TASK)
        body = body.replace("@COMMAND@", command)
        return "\n".join(["#!/bin/bash", *lines, "#SBATCH --requeue", "", body, ""])

    def _is_free(self, jobs):
        if jobs.split():
            raise InputError(f"a job '{self.name}' is in the queue already ({jobs.split()[0]}); stop it, or "
                             "choose another name.")
        return True


@dataclass(frozen=True, kw_only=True)
class Log(Job):
    """Show the job's log and follow it; Ctrl-C ends that."""

    lines: int = 100
    """How many of the last lines to begin with."""

    def plan(self, program: Program | None) -> Plan:
        """Follows."""
        self.check()
        require_positive(lines=self.lines)
        return Plan((Command(("tail", f"--lines={self.lines}", "--follow=name", "--retry", str(self.log))),))


@dataclass(frozen=True, kw_only=True)
class Stop(Job):
    """Stop the job: SIGTERM, upon which training writes a checkpoint; after --grace seconds it is
    cancelled."""

    grace: int = 300
    """Seconds."""

    def plan(self, program: Program | None) -> Plan:
        """Tells the batch script not to queue again and the program to stop, waits, cancels what is left."""
        self.check()
        require_positive(grace=self.grace)
        mine = ("--me", f"--name={self.name}")
        return Plan((
            Command(("scancel", *mine, "--state=RUNNING", "--batch", "--signal=USR1"), optional=True),
            Command(("scancel", *mine, "--state=RUNNING", "--signal=TERM"), optional=True),
            Command(("squeue", *mine, "--states=RUNNING,COMPLETING", "--noheader", "--format=%i"),
                    optional=True, note=f"again until it prints nothing, for {self.grace} s at most",
                    check=lambda jobs: not jobs.strip(), patience=self.grace, pause=5),
            Command(("scancel", *mine))))


VERBS = {"install": Install, "run": Run, "log": Log, "stop": Stop}
