"""Whole jobs: completing a source into a folder with a report, judging it, and its report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from vrstc_jax import config as configs
from vrstc_jax import hosts
from vrstc_jax.complete import Completer, left_warnings
from vrstc_jax.data.sources import Source
from vrstc_jax.data.tracklets import Tracklet
from vrstc_jax.errors import InputError
from vrstc_jax.evaluation.quality import ScoreTable
from vrstc_jax.judge import judge_held_out, judge_truth
from vrstc_jax.model import Model
from vrstc_jax.outputs import OutputFolder
from vrstc_jax.pictures import STRIPS, attention_pictures, completed_strip, judged_strips, training_curves
from vrstc_jax.places import as_path
from vrstc_jax.report import Table, write_json, write_report
from vrstc_jax.report.writing import plain


@dataclass(frozen=True, eq=False)
class Verdict:
    """What `judge` found: one table a setting, and strips to look at."""

    tables: dict[str, ScoreTable]
    strips: list

    def format(self) -> str:
        """The tables as text."""
        if len(self.tables) == 1:
            return next(iter(self.tables.values())).format()
        return "\n\n".join(f"{name}\n{table.format()}" for name, table in self.tables.items())

    def metrics(self) -> dict:
        """For metrics.json: 'judge' maps each method of the first table to its scores."""
        (first, table), *others = self.tables.items()
        values = {"judge": table.overall(), "judge_setting": first, "judge_by_distance": table.by_distance()}
        for name, other in others:
            values["judge_" + name.replace(" ", "_")] = other.overall()
        return values


def judge(completer: Completer, tracklets: Sequence[Tracklet], *, seed: int = 0) -> Verdict:
    """Against the truth where it is known, else on the model's held-out runs.

    Raises:
      InputError: neither is there.
    """
    kept = []
    if any(tracklet.truth is not None for tracklet in tracklets):
        tables = {}
        for name, located in (("true masks", False), ("located masks", True)):
            with tqdm(total=len(tracklets), desc=f"judging, {name}", unit="tracklet", dynamic_ncols=True,
                      delay=1) as bar:
                tables[name] = judge_truth(completer, tracklets, located=located, progress=bar.update,
                                           keep=None if located else kept)
        if not tables["true masks"].overall():
            raise InputError("Nothing is hidden in any of these tracklets, so there is nothing to judge.")
        return Verdict(tables, judged_strips(kept))
    runs = sum(map(len, (completer.model.provenance.get("held_out") or {}).values()))
    with tqdm(total=runs, desc="judging held-out runs", unit="run", dynamic_ncols=True, delay=1) as bar:
        table = judge_held_out(completer, tracklets, seed=seed, progress=bar.update, keep=kept)
    return Verdict({"held-out runs": table}, judged_strips(kept))


def complete_source(model: Model, source: Source, output, *, command: str, run: dict,
                    title: str = "Completed tracklets", verdict: Verdict | None = None,
                    completer: Completer | None = None, summary=None,
                    conclude: Callable[[OutputFolder], tuple[dict, list[Table]]] | None = None,
                    finish: Callable | None = None) -> dict:
    """Completes all tracklets of a source into a folder, with report.html and metrics.json.

    Tracklets that stand already are not done again. Every process of a run calls it with the same arguments, and
    completes every so many-th tracklet; process 0 does the rest.

    Args:
      run: what identifies this run, beside the model; a folder made by another run is refused.
      verdict: what `judge` found, for the report; process 0's counts.
      summary: folder for report.html and metrics.json; None: `output`.
      conclude: called by process 0 when all tracklets stand; gives further metrics, and tables for the report.
      finish: called by process 0 at the end, before what was needed on the way is removed.

    Returns:
      The metrics, as written.
    """
    folder = OutputFolder(output, run | model_identity(model))
    folder.require_names(source.tracklets)
    completer = completer or Completer(model)
    _complete(completer, [source.tracklets[place] for place in hosts.divided(len(source.tracklets))], folder)
    hosts.barrier("completed")

    def summarise():
        counts, strips, attention, warnings = _seen(completer, source, folder)
        metrics = {"tracklets": len(source.tracklets), "frames": sum(counts.values()), "frames_by_how": counts,
                   "tau": model.tau, "warnings": len(warnings)} | (verdict.metrics() if verdict else {})
        more, tables = conclude(folder) if conclude else ({}, [])
        metrics |= more
        write_summary(summary or folder.path, title=title, metrics=metrics, model=model, command=command,
                      strips=strips, attention=attention, warnings=warnings, verdict=verdict, tables=tables)
        if finish:
            finish()
        return plain(metrics)

    metrics = hosts.once(summarise)
    folder.finish()
    return metrics


def _complete(completer, tracklets, folder):
    """Completes those tracklets that do not stand."""
    with tqdm(total=sum(map(len, tracklets)), desc="completing", unit="frame", dynamic_ncols=True,
              disable=not hosts.first()) as bar:
        for tracklet in tracklets:
            if folder.has(tracklet):
                bar.update(len(tracklet))
            else:
                plan = completer.plan(tracklet)
                folder.write(tracklet, plan, _counted(completer.stream(tracklet, plan), bar))


def _seen(completer, source, folder):
    """What there is to tell of a folder in which all stands: (frames by how, strips, attention pictures, warnings)."""
    counts = dict.fromkeys(("visible", "stcnet", "spatial", "left"), 0)
    strips, attention, warnings = [], [], list(source.warnings)
    for tracklet in source.tracklets:
        result = folder.read_scores(tracklet)
        hows = [row["how"] for row in result["frames"]]
        for how in hows:
            counts[how] += 1
        warnings += [f"Tracklet {tracklet.name}: {w}" for w in (*result["warnings"], *left_warnings(hows))]
        strip = completed_strip(tracklet, result, folder) if len(strips) < STRIPS else None
        if strip:
            strips.append(strip)
            if (len(attention) < 4 and "stcnet" in hows
                    and completer.model.config.stcnet.temporal_form == "attention"):
                attention += attention_pictures(completer, tracklet, completer.plan(tracklet), hows.index("stcnet"))
    return counts, strips, attention, warnings


def model_identity(model: Model) -> dict:
    """What tells the results of one model from another's: its tensors, and τ, which has no part in them."""
    return {"model": model.digest, "tau": model.tau}


def write_summary(directory, *, title, metrics, model, command, strips=(), attention=(), warnings=(),
                  verdict=None, tables=()) -> None:
    """report.html and metrics.json of a completed folder or of a judgement."""
    figures = {}
    if "frames" in metrics:
        by_how = metrics["frames_by_how"]
        figures = {"tracklets": f"{metrics['tracklets']:,}", "frames": f"{metrics['frames']:,}",
                   "hidden in part": f"{metrics['frames'] - by_how['visible']:,}"}
    if verdict:
        overall = next(iter(verdict.tables.values())).overall()
        best = max(overall[m]["psnr"] for m in ("copy", "mean", "telea"))
        figures |= {"PSNR in the hole": f"{overall['stcnet']['psnr']:.1f} dB",
                    "over the best simple filling": f"{overall['stcnet']['psnr'] - best:+.1f} dB"}
    write_json(as_path(directory) / "metrics.json", metrics)
    write_report(
        as_path(directory) / "report.html", title=title,
        summary="VRSTC looks for the parts of a walking person that something hides, and paints the person back "
                "in from the frames around. Each strip below shows neighbouring frames of one tracklet.",
        figures=figures, command=command, config=configs.to_dict(model.config),
        strips=[*strips, *(verdict.strips if verdict else ())], attention=attention,
        curves=training_curves(model.provenance),
        judge={name: table.as_dict() for name, table in verdict.tables.items()} if verdict else None,
        tables=tables, warnings=warnings)


def _counted(frames, bar):
    for done in frames:
        bar.update()
        yield done
