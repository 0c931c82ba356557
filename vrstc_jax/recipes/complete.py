"""Completing a source into a results folder, and the report of it.

The source reads each frame, the completer locates and paints in what is hidden, the results folder stores the result,
and the report is drawn from that folder.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, get_args

from tqdm import tqdm

from vrstc_jax import config as configs
from vrstc_jax.data.inputs.sources import Source
from vrstc_jax.data.tracklets import Tracklet, about_tracklet
from vrstc_jax.evaluation.fillings import SIMPLE
from vrstc_jax.inference.complete import left_warnings
from vrstc_jax.inference.completer import CompletedFrame, Completer, How
from vrstc_jax.inference.plan import Plan
from vrstc_jax.inference.results_folder import ResultsFolder, require_names
from vrstc_jax.models.model_file import Model
from vrstc_jax.recipes.judge import Judgement
from vrstc_jax.report import AttentionPicture, Report, Strip, Table, write_json, write_report
from vrstc_jax.report.figures import STRIPS, attention_pictures, completed_strip, training_curves
from vrstc_jax.report.writing import plain
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.notices import print_warnings
from vrstc_jax.runtime.storage import as_path

_ATTENTION_PICTURES = 4


@dataclass(frozen=True, eq=False)
class Summary:
    """What report.html and metrics.json say.

    Attributes:
      title: of the report.
      metrics: of metrics.json; 'frames', 'tracklets' and 'frames_by_how' are shown at the report's top.
      judgement: scores, where completions were judged.
      strips, attention, tables, warnings: sections of the report.
    """

    title: str
    metrics: dict[str, Any]
    judgement: Judgement | None = None
    strips: Sequence[Strip] = ()
    attention: Sequence[AttentionPicture] = ()
    tables: Sequence[Table] = ()
    warnings: Sequence[str] = ()

    def write(self, directory: str | PathLike, model: Model, command: str) -> None:
        """Writes both files.

        Args:
          command: what the user typed, for the record.

        Raises:
          InputError: a file cannot be written.
        """
        judged = self.judgement
        write_json(as_path(directory) / "metrics.json", self.metrics)
        write_report(as_path(directory) / "report.html", Report(
            title=self.title,
            summary="VRSTC looks for the parts of a walking person that something hides, and paints the person back "
                    "in from the frames around. Each strip below shows neighbouring frames of one tracklet.",
            figures=self._key_figures(), command=command, config=configs.to_dict(model.config),
            strips=[*self.strips, *(judged.strips if judged else ())], attention=self.attention,
            curves=training_curves(model.provenance),
            judge={name: table.as_dict() for name, table in judged.tables.items()} if judged else None,
            tables=self.tables, warnings=self.warnings))

    def _key_figures(self) -> dict[str, str]:
        figures = {}
        if "frames" in self.metrics:
            visible = self.metrics["frames_by_how"]["visible"]
            figures = {"tracklets": f"{self.metrics['tracklets']:,}", "frames": f"{self.metrics['frames']:,}",
                       "hidden in part": f"{self.metrics['frames'] - visible:,}"}
        if self.judgement:
            overall = next(iter(self.judgement.tables.values())).overall()
            ours = overall.get("completed", overall["stcnet"])["psnr"]
            best = max(overall[method]["psnr"] for method in SIMPLE if method in overall)
            figures |= {"PSNR in the hole": f"{ours:.1f} dB", "over the best simple filling": f"{ours - best:+.1f} dB"}
        return figures


def complete_source(completer: Completer, source: Source, folder: ResultsFolder, *, command: str,
                    title: str = "Completed tracklets", judgement: Judgement | None = None,
                    summary: str | PathLike | None = None,
                    conclude: Callable[[], tuple[dict[str, Any], list[Table]]] | None = None) -> dict[str, Any]:
    """Completes all tracklets of a source into a folder, with report.html and metrics.json.

    Tracklets that are complete already are skipped, unless their frames or masks changed since. Every process of a run
    calls it with the same arguments and completes its share of the tracklets; process 0 writes the report. The caller
    ends with `folder.finish()`.

    Args:
      folder: claimed for this source and model (`model_identity`).
      command: what the user typed, for the record.
      judgement: what `judge` returned, for the report; process 0's counts.
      summary: folder for report.html and metrics.json; None: `folder`.
      conclude: called by process 0 when all tracklets are complete; returns further metrics, and tables for the
        report.

    Returns:
      The metrics, as written.

    Raises:
      InputError: a tracklet's name is reserved, or a file cannot be written.
    """
    require_names(source.tracklets)
    distributed.run_on_first(lambda: folder.review(source.tracklets))
    complete_each(completer, [(folder, source.tracklets[index], None)
                              for index in distributed.own_items(len(source.tracklets))])
    distributed.barrier("completed")

    def summarise() -> Any:
        more, tables = conclude() if conclude else ({}, [])
        found = _summary(completer, source, folder, Summary(title, {}, judgement, tables=tables))
        found.metrics.update(more)
        found.write(folder.path if summary is None else summary, completer.model, command)
        # Those of the source are known, and were printed, before any work.
        known = set(source.all_warnings())
        print_warnings(warning for warning in found.warnings if warning not in known)
        return plain(found.metrics)

    return distributed.run_on_first(summarise)


def complete_each(completer: Completer, jobs: Sequence[tuple[ResultsFolder, Tracklet, Plan | None]]) -> None:
    """Completes each tracklet into its folder, unless it is complete there; without a plan, the completer makes one."""
    with tqdm(total=sum(len(tracklet) for _, tracklet, _ in jobs), desc="completing", unit="frame", dynamic_ncols=True,
              disable=not distributed.is_first()) as bar:
        for folder, tracklet, plan in jobs:
            if folder.has(tracklet):
                bar.update(len(tracklet))
            else:
                plan = plan or completer.plan(tracklet)
                folder.write(tracklet, plan, _counted(completer.stream(tracklet, plan), bar))


def _summary(completer: Completer, source: Source, folder: ResultsFolder, summary: Summary) -> Summary:
    """The summary with what a folder in which all tracklets are complete says."""
    counts = dict.fromkeys(get_args(How), 0)
    strips, attention, warnings = [], [], list(source.warnings)
    attends = completer.model.config.stcnet.form.attention
    for tracklet in source.tracklets:
        result = folder.read_scores(tracklet)
        hows = [row["how"] for row in result["frames"]]
        for how in hows:
            counts[how] += 1
        warnings += [about_tracklet(tracklet.name, w) for w in (*result["warnings"], *left_warnings(hows))]
        strip = completed_strip(tracklet, result, folder) if len(strips) < STRIPS else None
        if strip is None:
            continue
        strips.append(strip)
        asked = [i for i, row in enumerate(result["frames"]) if row.get("imagined", row["how"] == "stcnet")]
        if attends and len(attention) < _ATTENTION_PICTURES and asked:
            # By the masks used, which the folder has, so that nothing is located again.
            masked = replace(tracklet, masks=folder.completed(tracklet).masks)
            plan = completer.plan(masked)
            attention += attention_pictures(completer, masked, plan, asked[0])
    metrics = {"tracklets": len(source.tracklets), "frames": sum(counts.values()), "frames_by_how": counts,
               "tau": completer.model.tau, "warnings": len(warnings)}
    metrics |= summary.judgement.metrics() if summary.judgement else {}
    return replace(summary, metrics=metrics, strips=strips, attention=attention, warnings=warnings)


def model_identity(model: Model) -> dict[str, Any]:
    """What distinguishes the results of one model from another's: its tensors, and what they are used with."""
    return {"model": model.digest, "tau": model.tau, "config": configs.to_dict(model.config)}


def _counted(frames: Iterator[CompletedFrame], bar: tqdm) -> Iterator[CompletedFrame]:
    for done in frames:
        bar.update()
        yield done
