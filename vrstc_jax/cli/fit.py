"""`vrstc fit`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vrstc_jax import config as configs
from vrstc_jax.cli.footage import (
    Footage,
    FootageArgument,
    Input,
    load,
    typed,
    undone_if_refused,
)
from vrstc_jax.ops.mask_kinds import MaskKind
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import start_jax_for_training
from vrstc_jax.runtime.names import path_problem, printable, shortened
from vrstc_jax.runtime.notices import print_warnings
from vrstc_jax.runtime.paths import Written, require_apart

if TYPE_CHECKING:
    from vrstc_jax.models.model_file import Model


@dataclass(frozen=True)
class Fit:
    """Train on your own footage: unoccluded frames of people teach the networks to complete occluded ones.

    Checkpoints are kept beside the model in MODEL.work; the same command resumes an interrupted run.
    """

    input: Input
    """A video, a folder of crops of people, or with --boxes a folder of a video's pictures."""
    output: Path
    """The model file to write."""
    footage: FootageArgument = Footage()
    size: configs.SizeName = "small"
    """Of the networks. small is for two cores; full is the paper's, for GPUs and TPUs."""
    start_from: Path | None = None
    """A model to go on with; if left out, the default model, which is of size small."""
    fresh: bool = False
    """Start from nothing."""
    steps: int | None = None
    """Training steps of STCnet; if left out, the size's own number from nothing, fewer where it goes on."""
    reid_steps: int | None = None
    """Training steps of the re-ID network, likewise."""
    hold_out: int = 0
    """Keep runs of this many neighbouring clean frames of every tracklet out of training, for `vrstc judge`."""
    tau: float | None = None
    """A band is hidden where its score is below this; if left out, the size's own, or chosen from the scores."""
    hide: MaskKind | None = None
    """What to hide in training: bands alone, as in the paper, or shapes of real occluders too."""
    learning_rate: float | None = None
    """Of STCnet's Adam, for generators and discriminators."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> None:
        """Fits and writes the model."""
        from vrstc_jax.models.model_file import load_model, save_model
        from vrstc_jax.recipes.fit import fit
        from vrstc_jax.runtime import distributed, lock
        from vrstc_jax.runtime.storage import require_writable_directory

        work = Path(f"{self.output}.work")
        require_apart(self.footage.paths(self.input) | {"--start-from": self.start_from}, {
            "--output": Written(self.output, "file"), "the work folder of --output": Written(work)})
        start_jax_for_training(configs.get(self.size).batches)
        if self.output.is_dir():
            raise InputError(f"{self.output}: is a folder; give the name of the model file to write.")
        if problem := path_problem(work):
            raise InputError(f"{shortened(work)}: this path, for the checkpoints, {problem}.")
        start = self._start()
        results = [work / name for name in ("reid", "scores.npz", "stcnet")]
        with undone_if_refused(work, unless=lambda: any(result.exists() for result in results)):
            distributed.run_on_first(lambda: require_writable_directory(self.output.absolute().parent))
            distributed.run_on_first(lambda: lock.take(work))
            source = self.footage.open(self.input, work / "spool")
            tracklets = source.tracklets
            if source.kind == "video":
                from vrstc_jax.data.in_place import TrackletsInPlace

                tracklets = TrackletsInPlace(tracklets)  # the spool's raw crops are read as fast as a stored set
            model = fit(tracklets, work, config=self._config(start), start_from=start, hold_out=self.hold_out,
                        command=typed(), inputs=self.footage.identity(self.input))
        distributed.run_on_first(lambda: save_model(self.output, model))
        if not distributed.is_first():
            return
        held_out = sum(map(len, model.provenance["held_out"].values()))
        if self.hold_out and not held_out:
            print_warnings([f"nothing was held out: no tracklet has a clean run of {self.hold_out} frames with as many "
                            "before and after it."])
        print(f"{printable(self.output)}: learned from {model.provenance['unoccluded_frames']} unoccluded of "
              f"{model.provenance['frames']} frames of {model.provenance['tracklets']} tracklets; "
              f"tau {model.tau:.4f}; {held_out} runs held out. SHA-256 of its tensors: "
              f"{load_model(self.output).digest}")

    def _start(self) -> Model | None:
        """The model to go on with."""
        from vrstc_jax.models.model_file import default_model_path

        if self.fresh and self.start_from:
            raise InputError(f"--start-from {self.start_from} and --fresh contradict each other; give one of them.")
        if self.fresh or not self.start_from and (self.size != "small" or not default_model_path().is_file()):
            return None
        return load(self.start_from, use="going on with")

    def _config(self, start: Model | None) -> configs.Config:
        """The size's config with the options that were given."""
        from vrstc_jax.recipes.fit import starting_from

        config = configs.get(self.size)
        if start is not None:
            config = starting_from(start, config)
        training, reid, masks = config.stcnet_training, config.reid_training, config.masks
        return dataclasses.replace(
            config, seed=self.seed, tau=config.tau if self.tau is None else self.tau,
            stcnet_training=dataclasses.replace(training, steps=self.steps or training.steps,
                                                learning_rate=self.learning_rate or training.learning_rate),
            reid_training=dataclasses.replace(reid, steps=self.reid_steps or reid.steps),
            masks=dataclasses.replace(masks, kind=self.hide or masks.kind))
