"""Cloud TPU VMs: one slice, or several by way of a queued resource, each worker reached over ssh.

Runs go on in the background on every worker, as `worker.sh` says, which `install` puts there. A TPU VM has
one run at a time.
"""

import re
import shlex
from dataclasses import dataclass
from typing import ClassVar

import tyro

from tools.launch.program import (
    STORAGE,
    Program,
    require_name,
    require_not_negative,
    require_positive,
    require_worker,
    source,
)
from tools.launch.steps import Command, CommandFailed, Plan
from vrstc_jax.errors import InputError

# Google's pages "TPU software versions": what each kind of TPU runs JAX on.
_RUNTIMES = {"v2": "tpu-ubuntu2204-base", "v3": "tpu-ubuntu2204-base", "v4": "tpu-ubuntu2204-base",
             "v5litepod": "v2-alpha-tpuv5-lite", "v5p": "v2-alpha-tpuv5", "v6e": "v2-alpha-tpuv6e"}
_POLL = 30  # seconds
_GONE = {"FAILED", "SUSPENDING", "SUSPENDED"}
_SCRIPT = "tools/launch/worker.sh"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Which TPU VM."""

    name: tyro.conf.Positional[str]
    """Of the TPU VM, or of the queued resource."""
    zone: str
    """Such as us-central2-b."""
    project: str | None = None
    """gcloud's own if left out."""
    queued: bool = False
    """It is a queued resource: waited for in Google's queue. Needed for more than one slice."""
    keep: bool = False
    """Leave what was made where something fails."""
    dry_run: bool = False
    """Print what would be done, as shell, and do nothing."""

    takes_program: ClassVar[bool] = False

    def check(self) -> None:
        """Raises InputError for names that Google Cloud refuses."""
        require_name(self.name, longest=50, of="a TPU VM")
        if not re.fullmatch(r"[a-z]+-[a-z]+[0-9]+-[a-z]", self.zone):
            raise InputError(f"--zone is one such as us-central2-b. Got '{self.zone}'.")

    def gcloud(self, verb: str, *words: str) -> tuple[str, ...]:
        """A gcloud command on this TPU VM."""
        kind = "queued-resources" if self.queued else "tpu-vm"
        project = (f"--project={self.project}",) if self.project else ()
        return "gcloud", "compute", "tpus", kind, verb, *words, f"--zone={self.zone}", *project

    def on_workers(self, command: str, *, worker: str = "all") -> Command:
        """A command for the shell of one worker, or of all."""
        return Command(self.gcloud("ssh", self.name, *self._which(worker), f"--command={command}"))

    def _which(self, worker):
        node = ("--node=" + ("all" if worker == "all" else "0"),) if self.queued else ()
        return *node, f"--worker={worker}"

    def delete_command(self, *, optional: bool = False) -> Command:
        """Deletes it."""
        force = ("--force",) if self.queued else ()
        return Command(self.gcloud("delete", self.name, *force, "--quiet"), optional=optional)

    def install_commands(self) -> tuple[Command, ...]:
        """Sends what is committed here to every worker and installs it there."""
        archive = source()
        sent = archive.path.name
        remote = (f"mkdir -p vrstc && tar -xzOf {sent} vrstc_jax/{_SCRIPT} >vrstc/worker.sh && "
                  + shlex.join(["bash", "vrstc/worker.sh", "install", f"./{sent}[tpu]", STORAGE])
                  + f" && rm {sent}")
        copy = self.gcloud("scp", str(archive.path), f"{self.name}:{sent}", *self._which("all"))
        return *archive.commands, Command(copy), self.on_workers(remote)


@dataclass(frozen=True, kw_only=True)
class Create(Machine):
    """Make a TPU VM: one slice, or with --queued several."""

    type: str
    """The slice, such as v4-32, v5litepod-16, v5p-32, v6e-16."""
    slices: int = 1
    """How many; above 1 it must be --queued."""
    version: str | None = None
    """TPU software version; the one for JAX on this type if left out."""
    spot: bool = False
    """Cheaper, and taken away when Google needs it."""
    reserved: bool = False
    """From the project's reservation."""
    network: str | None = None
    """The project's `default` if left out."""
    subnetwork: str | None = None
    """Of the network."""
    patience: int = 24
    """Hours to wait in the queue, if --queued."""
    install: bool = False
    """Install at once too; where that fails, the TPU VM goes."""

    def plan(self, program: Program | None) -> Plan:
        """Asks whether the name is free, creates, waits."""
        self.check()
        require_positive(slices=self.slices, patience=self.patience)
        if self.slices > 1 and not self.queued:
            raise InputError(f"--slices {self.slices}: several slices are made by way of a queued resource; "
                             "add --queued, here and to the other verbs.")
        kind = re.fullmatch(r"(\w+)-[0-9]+", self.type)
        if not kind or kind[1] not in _RUNTIMES:
            raise InputError(f"--type is a TPU slice, {', '.join(f'{kind}-N' for kind in _RUNTIMES)}. Got "
                             f"'{self.type}'.")
        version = self.version or _RUNTIMES[kind[1]]
        flags = [*(["--spot"] if self.spot else []), *(["--reserved"] if self.reserved else []),
                 *([f"--network={self.network}"] if self.network else []),
                 *([f"--subnetwork={self.subnetwork}"] if self.subnetwork else [])]
        flags = [f"--accelerator-type={self.type}", *flags]
        free = Command(self.gcloud("list", "--format=value(name.basename())"), check=self._is_free,
                       note=f"must not show {self.name}")
        if self.queued:
            nodes = ([f"--node-count={self.slices}", f"--node-prefix={self.name}"] if self.slices > 1
                     else [f"--node-id={self.name}"])
            made = (Command(self.gcloud("create", self.name, *nodes, f"--runtime-version={version}", *flags,
                                        f"--valid-until-duration={3600 * self.patience}s")),
                    Command(self.gcloud("describe", self.name, "--format=value(state.state)"),
                            note="again until it prints ACTIVE", check=self._is_active,
                            patience=3600 * self.patience, pause=_POLL))
        else:
            made = Command(self.gcloud("create", self.name, f"--version={version}", *flags)),
        installed = self.install_commands() if self.install else ()
        return Plan((free, *made, *installed), undo=(self.delete_command(),), made=1)

    def _is_free(self, names):
        if self.name in names.split():
            raise InputError(f"there is a TPU VM '{self.name}' in {self.zone} already; delete it, or choose "
                             "another name.")
        return True

    def _is_active(self, state):
        if state.strip() in _GONE:
            raise CommandFailed(f"the queued resource {self.name} became {state.strip()}, not ACTIVE")
        return state.strip() == "ACTIVE"


@dataclass(frozen=True, kw_only=True)
class Install(Machine):
    """Send what is committed in this checkout to every worker, and install it with JAX for TPUs."""

    def plan(self, program: Program | None) -> Plan:
        """Archives, copies, installs; `worker.sh` takes back what a failed installation leaves."""
        self.check()
        return Plan(self.install_commands())


@dataclass(frozen=True, kw_only=True)
class Run(Machine):
    """Start an experiment on every worker, in the background: … -- experiments.NAME FLAGS."""

    retries: int = 3
    """How often it starts again by itself after it was preempted (exit code 75)."""

    takes_program: ClassVar[bool] = True

    def plan(self, program: Program | None) -> Plan:
        """Tells every worker's `worker.sh` to start it."""
        self.check()
        require_not_negative(retries=self.retries)
        words = ["bash", "vrstc/worker.sh", "start", str(self.retries), *program.words]
        return Plan((self.on_workers(shlex.join(words)),),
                    hint="where it did start, the verb stop ends it")


@dataclass(frozen=True, kw_only=True)
class Log(Machine):
    """Show a worker's log and follow it until the run ends."""

    worker: str = "0"
    """Its number, or all."""
    lines: int = 100
    """How many of the last lines to begin with."""

    def plan(self, program: Program | None) -> Plan:
        """Follows."""
        self.check()
        require_worker(self.worker)
        require_positive(lines=self.lines)
        return Plan((self.on_workers(f"bash vrstc/worker.sh log {self.lines}", worker=self.worker),))


@dataclass(frozen=True, kw_only=True)
class Stop(Machine):
    """Stop the run: SIGTERM, upon which training writes a checkpoint, and after --grace seconds SIGKILL."""

    grace: int = 300
    """Seconds."""

    def plan(self, program: Program | None) -> Plan:
        """Tells every worker's `worker.sh` to stop."""
        self.check()
        require_positive(grace=self.grace)
        return Plan((self.on_workers(f"bash vrstc/worker.sh stop {self.grace}"),))


@dataclass(frozen=True, kw_only=True)
class Delete(Machine):
    """Delete the TPU VM with all that is on its disks."""

    def plan(self, program: Program | None) -> Plan:
        """Deletes."""
        self.check()
        return Plan((self.delete_command(),))


VERBS = {"create": Create, "install": Install, "run": Run, "log": Log, "stop": Stop, "delete": Delete}
