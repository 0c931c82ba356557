"""Cloud TPU VMs: one slice, or several from a queued resource, each worker reached over ssh.

`worker.sh` runs the experiment on every worker in the background. A TPU VM has one run at a time.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import tyro

from tools.launch.checkout import Checkout
from tools.launch.shell import CommandFailed, Shell
from vrstc_jax.runtime.errors import InputError, require_range

# The TPU software version that runs JAX on each type, from Google's page "TPU software versions".
_RUNTIMES = {"v2": "tpu-ubuntu2204-base", "v3": "tpu-ubuntu2204-base", "v4": "tpu-ubuntu2204-base",
             "v5litepod": "v2-alpha-tpuv5-lite", "v5p": "v2-alpha-tpuv5", "v6e": "v2-alpha-tpuv6e"}
_SCRIPT = "tools/launch/worker.sh"


@dataclass(frozen=True, kw_only=True)
class Verb:
    """What every verb takes."""

    name: tyro.conf.Positional[str]
    """Name of the TPU VM, or of the queued resource."""
    zone: str
    """Zone, such as us-central2-b."""
    project: str | None = None
    """Project; gcloud's default if omitted."""
    queued: bool = False
    """The TPU VM is a queued resource, which waits in Google's queue. Several slices need it."""
    dry_run: bool = False
    """Print the commands as shell and run none of them."""
    keep: bool = False
    """If a later command of `create` fails, do not delete the TPU VM."""

    def do(self, shell: Shell, checkout: Checkout, program: list[str]) -> None:
        """Carries out the verb by commands to `shell`: installs `checkout`, or runs `program`, a module and its
        arguments. Raises InputError for bad input and CommandFailed for a command that failed."""
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?", self.name):
            raise InputError(f"'{self.name}' cannot be the name of a TPU VM: a lower-case letter, then lower-case "
                             "letters, digits and dashes, no dash last, at most 50 in all.")
        if not re.fullmatch(r"[a-z]+-[a-z]+[0-9]+-[a-z]", self.zone):
            raise InputError(f"--zone must be one such as us-central2-b. Got '{self.zone}'.")
        self._do(shell, checkout, program)

    def _do(self, shell: Shell, checkout: Checkout, program: list[str]) -> None:
        raise NotImplementedError

    def gcloud(self, verb: str, *words: str) -> tuple[str, ...]:
        """A gcloud command for this TPU VM."""
        kind = "queued-resources" if self.queued else "tpu-vm"
        project = (f"--project={self.project}",) if self.project else ()
        return "gcloud", "compute", "tpus", kind, verb, *words, f"--zone={self.zone}", *project

    def ssh(self, command: str, *, worker: str = "all") -> tuple[str, ...]:
        """The command that runs a shell command on one worker of the first slice, or on all workers of all slices."""
        return self.gcloud("ssh", self.name, *self._on(worker), f"--command={command}")

    def _on(self, worker: str = "all") -> tuple[str, ...]:
        node = ("--node=" + ("all" if worker == "all" else "0"),) if self.queued else ()
        return *node, f"--worker={worker}"

    def deletion(self) -> tuple[str, ...]:
        """The command that deletes the TPU VM."""
        return self.gcloud("delete", self.name, *(("--force",) if self.queued else ()), "--quiet")

    def install_on(self, shell: Shell, archive: Path) -> None:
        """Copies an archive of the checkout to every worker and runs the `install` of its `worker.sh` there."""
        sent = archive.name
        shell.run(*self.gcloud("scp", str(archive), f"{self.name}:{sent}", *self._on()))
        # mv, because a run in progress still reads the old file.
        shell.run(*self.ssh(f"mkdir -p vrstc && tar -xzOf {sent} vrstc_jax/{_SCRIPT} >vrstc/worker.new && "
                            f"mv vrstc/worker.new vrstc/worker.sh && bash vrstc/worker.sh install {sent} && rm {sent}"))


@dataclass(frozen=True, kw_only=True)
class Create(Verb):
    """Create a TPU VM: one slice, or several with --queued."""

    type: str
    """Type of a slice, such as v4-32, v5litepod-16, v5p-32, v6e-16."""
    slices: int = 1
    """Number of slices; more than 1 need --queued."""
    version: str | None = None
    """TPU software version; the one for JAX on this type if omitted."""
    spot: bool = False
    """Cheaper, but Google may take it away at any time."""
    reserved: bool = False
    """Use the project's reservation."""
    network: str | None = None
    """Network; the project's `default` if omitted."""
    subnetwork: str | None = None
    """Subnetwork of the network."""
    patience: int = 24
    """Hours to wait in the queue, with --queued."""
    install: bool = False
    """Install as well; if that fails, the TPU VM is deleted."""

    def _do(self, shell: Shell, checkout: Checkout, program: list[str]) -> None:
        require_range(self, "slices", "patience", least=1)
        if self.slices > 1 and not self.queued:
            raise InputError(f"--slices {self.slices}: several slices need a queued resource; add --queued, here and "
                             "to the other verbs.")
        generation, _, chips = self.type.rpartition("-")
        if generation not in _RUNTIMES or not chips.isdecimal():
            raise InputError(f"--type must be a TPU slice, one of {', '.join(f'{known}-N' for known in _RUNTIMES)}. "
                             f"Got '{self.type}'.")
        version = self.version or _RUNTIMES[generation]
        options = {"--spot": self.spot, "--reserved": self.reserved, f"--network={self.network}": self.network,
                   f"--subnetwork={self.subnetwork}": self.subnetwork}
        flags = [f"--accelerator-type={self.type}", *(flag for flag, given in options.items() if given)]
        names = shell.read(*self.gcloud("list", "--format=value(name.basename())"), note=f"must not show {self.name}")
        if self.name in names.split():
            raise InputError(f"a TPU VM '{self.name}' exists in {self.zone}; delete it, or choose another name.")
        archive = checkout.archive(shell) if self.install else None
        with shell.undo_by(*self.deletion(), keep=self.keep):
            if self.queued:
                nodes = ([f"--node-count={self.slices}", f"--node-prefix={self.name}"] if self.slices > 1
                         else [f"--node-id={self.name}"])
                seconds = 3600 * self.patience
                shell.run(*self.gcloud("create", self.name, *nodes, f"--runtime-version={version}", *flags,
                                       f"--valid-until-duration={seconds}s"))
                shell.wait(*self.gcloud("describe", self.name, "--format=value(state.state)"), wanted="ACTIVE",
                           never={"FAILED", "SUSPENDING", "SUSPENDED"}, seconds=seconds)
            else:
                shell.run(*self.gcloud("create", self.name, f"--version={version}", *flags))
            if archive:
                self.install_on(shell, archive)


@dataclass(frozen=True, kw_only=True)
class Install(Verb):
    """Send this checkout's commit to every worker and install it there with JAX for TPUs."""

    def _do(self, shell: Shell, checkout: Checkout, program: list[str]) -> None:
        self.install_on(shell, checkout.archive(shell))


@dataclass(frozen=True, kw_only=True)
class Run(Verb):
    """Start an experiment on every worker, in the background: ... -- experiments.NAME OPTIONS."""

    retries: int = 3
    """How many times it restarts by itself after a preemption (exit code 75)."""

    def _do(self, shell: Shell, checkout: Checkout, program: list[str]) -> None:
        require_range(self, "retries", least=0)
        try:
            shell.run(*self.ssh(shlex.join(["bash", "vrstc/worker.sh", "start", str(self.retries), *program])))
        except CommandFailed as error:
            raise CommandFailed(f"{error}; the verb stop ends it on the workers where it started") from None


@dataclass(frozen=True, kw_only=True)
class Log(Verb):
    """Show a worker's log and follow it until the run ends."""

    worker: str = "0"
    """Number of the worker, or all."""
    lines: int = 100
    """Number of earlier lines to show first."""

    def _do(self, shell: Shell, checkout: Checkout, program: list[str]) -> None:
        require_range(self, "lines", least=1)
        if not re.fullmatch("all|[0-9]+", self.worker):
            raise InputError(f"--worker must be a number from 0, or all. Got '{self.worker}'.")
        shell.run(*self.ssh(f"bash vrstc/worker.sh log {self.lines}", worker=self.worker))


@dataclass(frozen=True, kw_only=True)
class Stop(Verb):
    """Stop the run: SIGTERM, on which training writes a checkpoint, then SIGKILL after --grace seconds."""

    grace: int = 300
    """Seconds."""

    def _do(self, shell: Shell, checkout: Checkout, program: list[str]) -> None:
        require_range(self, "grace", least=1)
        shell.run(*self.ssh(f"bash vrstc/worker.sh stop {self.grace}"))


@dataclass(frozen=True, kw_only=True)
class Delete(Verb):
    """Delete the TPU VM and everything on its disks."""

    def _do(self, shell: Shell, checkout: Checkout, program: list[str]) -> None:
        shell.run(*self.deletion())


VERBS = {"create": Create, "install": Install, "run": Run, "log": Log, "stop": Stop, "delete": Delete}
