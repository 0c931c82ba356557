"""The Git checkout to send: its experiments, and an archive of its commit."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.launch.shell import Shell
from vrstc_jax.runtime.errors import InputError


@dataclass(frozen=True)
class Checkout:
    """A checkout of this repository, by its top folder."""

    root: Path

    def program(self, words: list[str]) -> list[str]:
        """Checks the words after `--`, an experiment's module and its arguments, and returns them.

        Raises:
          InputError: the checkout has no such experiment, or an argument is not text.
        """
        known = sorted(f"experiments.{path.stem}" for path in (self.root / "experiments").glob("*.py")
                       if '__name__ == "__main__"' in path.read_text(encoding="utf-8"))
        if not words or words[0] not in known:
            raise InputError(f"name an experiment after --, one of {', '.join(known)}, then its options. Got "
                             f"'{words[0] if words else ''}'.")
        for word in words:
            if word != word.encode(errors="ignore").decode():
                raise InputError(f"the argument {word!r} is not UTF-8 text; rename what it names.")
        return words

    def archive(self, shell: Shell) -> Path:
        """Has `shell` archive the commit's files, in a folder `vrstc_jax`. Warns on stderr where files differ from it.

        Raises:
          InputError: this is not a Git checkout.
        """
        commit = self._git("rev-parse", "--verify", "HEAD").strip()
        changed = self._git("status", "--porcelain", "--untracked-files=no").splitlines()
        if changed:
            print(f"launch: warning: the commit is sent without the changes in {len(changed)} files, such as "
                  f"{changed[0][3:]}", file=sys.stderr)
        path = self.root / "dist" / f"vrstc_jax-{commit[:12]}.tar.gz"  # Git ignores dist/
        shell.run("mkdir", "-p", str(path.parent))
        shell.run("git", "-C", str(self.root), "archive", "--format=tar.gz", f"--output={path}", "--prefix=vrstc_jax/",
                  commit)
        return path

    def _git(self, *words: str) -> str:
        # Without --git-dir, git would take a repository that encloses the folder.
        command = ["git", f"--git-dir={self.root / '.git'}", f"--work-tree={self.root}", *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            raise InputError(f"{self.root} is not a Git checkout with a commit; the launcher sends what is committed, "
                             "so start it from a clone of the repository.") from None
