"""`vrstc demo`, `vrstc walkers` and `vrstc model`: the commands that read no footage."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vrstc_jax import config as configs
from vrstc_jax.cli.footage import Input, typed
from vrstc_jax.runtime.lifecycle import start_jax_for_training
from vrstc_jax.runtime.names import printable


@dataclass(frozen=True)
class Demo:
    """Run the whole pipeline on made-up walkers: re-ID network, locating, STCnet, completion, judgement, report."""

    output: Path
    """New folder for all results; open report.html in it. The same command resumes an interrupted run."""
    size: Literal["small", "smoke"] = "small"
    """small: some minutes on two cores. smoke: only checks that everything runs; too short to learn."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> None:
        """Generates walkers, trains, completes, judges and reports."""
        from vrstc_jax.recipes.demo import demo
        from vrstc_jax.runtime.distributed import require_single_process

        config = configs.get(self.size)
        start_jax_for_training(config.batches)
        require_single_process("vrstc demo")
        print(demo(self.output, config=dataclasses.replace(config, seed=self.seed), command=typed()))


@dataclass(frozen=True)
class Walkers:
    """Write made-up walkers as footage: a video of a scene with boxes and masks, and folders of tracklets."""

    directory: Input
    """New folder to write."""
    people: int = 12
    """People in the folders of tracklets."""
    frames: int = 24
    """Frames in each of their tracklets."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> None:
        """Writes the walkers."""
        from vrstc_jax.data.walkers import write_walkers

        write_walkers(self.directory, number=self.people, frames=self.frames, seed=self.seed)
        print(f"{printable(self.directory)}: scene/ has a video, its boxes and masks; tracklets/ has folders of "
              "tracklets")


@dataclass(frozen=True)
class ModelCommand:
    """Show what a model file contains, how it was trained and what it scored."""

    action: tyro.conf.Positional[Literal["show"]]
    """show: print it."""
    path: tyro.conf.Positional[Path | None] = None
    """A model file; if left out, the default model, which comes with the package."""

    def run(self) -> None:
        """Prints the model's card."""
        from vrstc_jax.models.model_card import model_card

        print(model_card(self.path))
