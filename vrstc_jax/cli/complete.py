"""`vrstc complete`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vrstc_jax.cli.footage import Footage, FootageArgument, Input, load, typed, undone_if_refused
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import start_jax
from vrstc_jax.runtime.names import printable
from vrstc_jax.runtime.notices import print_warnings
from vrstc_jax.runtime.paths import Written, require_apart

if TYPE_CHECKING:
    from vrstc_jax.data.inputs.sources import Source
    from vrstc_jax.inference.completer import Completer
    from vrstc_jax.inference.results_folder import ResultsFolder
    from vrstc_jax.recipes.judge import Judgement


@dataclass(frozen=True)
class Complete:
    """Find the hidden parts of every person and paint them in.

    A folder gives a folder of the same tree and names; a video gives OUTPUT/<track>/<frame>.png. Masks used,
    scores, report.html and metrics.json are beside them. The same command resumes an interrupted run.
    """

    input: Input
    """A video, a folder of crops of people, or with --boxes a folder of a video's pictures."""
    output: Path
    """New folder for the completed crops and the report."""
    model: Path | None = None
    """A model file from `vrstc fit`; if left out, the default model, which comes with the package."""
    footage: FootageArgument = Footage()
    causal: bool = False
    """Locate and complete each frame from earlier ones alone, as `vrstc_jax.Stream` does live."""
    render: Path | None = None
    """For a video: also write a video with the completed people put back, with the input's times and sound."""
    layout: Literal["both", "completed"] = "both"
    """The rendered video: `both`, the original beside the completed picture, scaled to at most 4096 columns; or the
    `completed` picture alone."""
    dataset: Path | None = None
    """Also write the completed tracklets and their masks as a TFDS data set (array_record)."""

    def run(self) -> None:
        """Completes everything in the input."""
        from vrstc_jax.inference.completer import Completer
        from vrstc_jax.inference.results_folder import ResultsFolder, require_names
        from vrstc_jax.recipes.complete import complete_source, model_identity
        from vrstc_jax.runtime import distributed

        reads = self.footage.paths(self.input) | {"--model": self.model}
        require_apart(reads, {"--output": Written(self.output), "--render": Written(self.render, "file"),
                              "--dataset": Written(self.dataset, "replaced")})
        start_jax()
        model = load(self.model)
        if self.render and self.input.is_dir() and self.footage.boxes is None:
            raise InputError(f"--render {self.render}: there is no picture to put people back into; "
                             f"{self.input} is a folder of crops.")
        identity = self.footage.identity(self.input)
        created = [self.output / name for name in ("run.json", "work", "masks", "origin", "scores")]
        scores = created[-1]
        resumed = scores.exists()
        with undone_if_refused(*created, (self.render or self.output).parent,
                               (self.dataset or self.output).absolute().parent,
                               unless=lambda: not resumed and scores.exists()):
            distributed.run_on_first(self._take_outputs)
            place = self.footage.place(self.input)
            folder = ResultsFolder(self.output, {"input": place} | model_identity(model) | (
                {"causal": True} if self.causal else {}), complete=lambda record: (
                record | {"input": place} if record.get("input") == identity else record))
            source = self.footage.open(self.input, folder.work / "spool")
            require_names(source.tracklets, folder=self.output)
            completer = Completer(model, causal=self.causal)
            metrics = complete_source(completer, source, folder, command=typed(),
                                      judgement=self._judged(completer, source, identity))
        distributed.run_on_first(lambda: self._write_more(source, folder))
        folder.finish()
        completed = sum(metrics["frames_by_how"][how] for how in ("seen", "stcnet", "spatial"))
        distributed.print_on_first(
            f"{printable(self.output)}: {metrics['frames']} frames of {metrics['tracklets']} tracklets, "
            f"{completed} completed; open {printable(self.output / 'report.html')}")

    def _take_outputs(self) -> None:
        """Locks the outputs, and checks that the video and the data set can be written, before the long work."""
        from vrstc_jax.runtime import lock
        from vrstc_jax.runtime.storage import require_writable_directory

        lock.take(self.output)
        if self.render:
            from vrstc_jax.report.render import require_renderable

            require_writable_directory(self.render.absolute().parent)
            lock.take(self.render, beside=True)
            require_renderable(self.render)
        if self.dataset:
            from vrstc_jax.data.tracklet_set import require_replaceable

            require_writable_directory(self.dataset.absolute().parent)
            lock.take(self.dataset, beside=True)
            require_replaceable(self.dataset)

    def _judged(self, completer: Completer, source: Source, identity: Mapping[str, Any]) -> Judgement | None:
        """In process 0, the judgement on the runs that `vrstc fit` held out of this very input."""
        from vrstc_jax.evaluation.judging import has_any, held_out_of
        from vrstc_jax.recipes.judge import judge
        from vrstc_jax.runtime import distributed

        # Tracks of other footage have the same numbers, so names alone do not identify the frames.
        fitted_to = completer.model.provenance.get("inputs", {}).get("input")
        held_out = held_out_of(completer.model)
        if not distributed.is_first() or fitted_to != identity["input"] or not has_any(held_out, source.tracklets):
            return None
        judgement = judge(completer, source.tracklets, held_out=held_out)
        print(judgement.format())
        return judgement

    def _write_more(self, source: Source, folder: ResultsFolder) -> None:
        """Writes the video and the data set, where they were asked for."""
        if self.render:
            from vrstc_jax.report.render import CompletedFolder, render_video

            count = render_video(self.input, self.render, CompletedFolder(source, folder), layout=self.layout,
                                 warn=lambda line: print_warnings([line]))
            beside = ", the original on the left" if self.layout == "both" else ""
            print(f"{printable(self.render)}: {count} frames{beside}")
        if self.dataset:
            from tqdm import tqdm

            from vrstc_jax.data.tracklet_set import write_set

            with tqdm(total=sum(map(len, source.tracklets)), desc="storing frames", unit="frame",
                      dynamic_ncols=True) as bar:
                write_set(self.dataset, map(folder.completed, source.tracklets), progress=bar.update)
            print(f"{printable(self.dataset)}: a TFDS data set of {len(source.tracklets)} completed tracklets")
