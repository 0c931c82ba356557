"""`vrstc judge`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vrstc_jax.cli.footage import Footage, FootageArgument, Input, load, typed, undone_if_refused
from vrstc_jax.runtime.errors import InputError, require_range
from vrstc_jax.runtime.names import printable
from vrstc_jax.runtime.notices import print_warnings
from vrstc_jax.runtime.paths import Written, require_apart

if TYPE_CHECKING:
    from vrstc_jax.data.inputs.sources import Source
    from vrstc_jax.evaluation.judging import HeldOutRuns
    from vrstc_jax.inference.completer import Completer

_DEFAULT_MODELS_RUNS = 9  # frames in a run; the default model has no held-out runs of footage


@dataclass(frozen=True)
class Judge:
    """Hide visible bands, complete them, and compare with simple fillings.

    Judges on the runs that `vrstc fit --hold-out` kept from training, on runs of footage that the model never saw
    (--hold-out), or wherever the truth is known (--truth).
    """

    input: Input
    """A video, a folder of crops of people, or with --boxes a folder of a video's pictures."""
    model: Path | None = None
    """A model file from `vrstc fit`; if left out, the default model, which comes with the package."""
    footage: FootageArgument = Footage()
    hold_out: int | None = None
    """For a model that was not fitted to this footage: hide runs of this many neighbouring frames in which it finds
    nothing hidden; 9 for the default model."""
    runs: Literal["model", "boxes"] = "model"
    """Of --hold-out, what tells in which runs nothing is hidden: what the model finds, or --boxes, of which no nearer
    one may cover more than a tenth of a frame, so that the runs are the same for every model."""
    judge: Path | None = None
    """A network that compares people, from `python -m experiments.vrstc` (reid.safetensors): it tells how far the
    completions have come from the hidden crops to the true ones."""
    truth: Path | None = None
    """Folder of the same frames without what hides people; needs --masks too."""
    output: Path | None = None
    """New folder for report.html and metrics.json."""
    seed: int = 0
    """Which band of each run is hidden."""

    def run(self) -> None:
        """Judges and prints the table."""
        from vrstc_jax.data.tracklets import about_tracklet
        from vrstc_jax.inference.completer import Completer
        from vrstc_jax.models.model_file import load_reid
        from vrstc_jax.recipes.complete import Summary
        from vrstc_jax.recipes.judge import judge
        from vrstc_jax.runtime import lock
        from vrstc_jax.runtime.storage import temporary_folder

        require_apart(self.footage.paths(self.input, truth=self.truth) | {"--model": self.model, "--judge": self.judge},
                      {"--output": Written(self.output, "shared")})
        require_range(self, "hold_out")
        model = load(self.model)
        size = self.hold_out
        if size is None and self.model is None and not self.truth:
            size = _DEFAULT_MODELS_RUNS
        if self.runs == "boxes" and not (size and self.footage.boxes):
            raise InputError("--runs boxes chooses the runs of --hold-out by the boxes of people; give --hold-out and "
                             "--boxes.")
        if size and self.truth:
            raise InputError("--hold-out hides what is seen, and --truth shows what is hidden; give one of them.")
        reid = load_reid(self.judge) if self.judge else None
        if reid is not None and reid.network != "ReidNet":
            raise InputError(f"{self.judge}: a {reid.network} compares pairs and has no features to judge by; give a "
                             "network of `python -m experiments.vrstc`.")
        identity = self.footage.identity(self.input)["input"]
        if size and model.provenance.get("inputs", {}).get("input") == identity:
            raise InputError(f"{self.model}: was fitted to this footage, so it is judged on the runs that `vrstc fit "
                             "--hold-out` kept from it; leave --hold-out out.")
        with temporary_folder() as spool, undone_if_refused(*filter(None, [self.output])):
            if self.output:
                lock.take(self.output)
            source = self.footage.open(self.input, spool / "spool", truth=self.truth)
            completer = Completer(model)
            judgement = judge(completer, source.tracklets, held_out=self._held_out(completer, source, size),
                              reid=reid, seed=self.seed)
        found = [about_tracklet(name, each) for name, warnings in completer.warnings.items() for each in warnings]
        print_warnings(found)
        print(judgement.format())
        if self.output:
            Summary("Judged completions", judgement.metrics(), judgement,
                    warnings=[*source.all_warnings(), *found]).write(self.output, model, typed())
            print(f"open {printable(self.output / 'report.html')}")

    def _held_out(self, completer: Completer, source: Source, size: int | None) -> HeldOutRuns:
        """The runs to judge on: the model's own, or runs of `size` frames of footage that it never saw."""
        from vrstc_jax.evaluation.judging import held_out_by, held_out_of

        if not size:
            return held_out_of(completer.model)
        runs = held_out_by(completer, source.tracklets, size, by_boxes=self.runs == "boxes")
        if not runs:
            raise InputError(f"{self.input}: no tracklet has a run of {size} frames in which nothing hides the "
                             "person, with as many before and after it; give a smaller --hold-out.")
        return runs
