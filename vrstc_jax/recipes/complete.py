"""Whole jobs: completing a source into a folder with a report, judging it, and its report."""

from collections.abc import Callable

from tqdm import tqdm

from vrstc_jax import config as configs
from vrstc_jax.data.inputs.sources import Source
from vrstc_jax.inference.complete import Completer, left_warnings
from vrstc_jax.inference.results_folder import ResultsFolder
from vrstc_jax.models.model_file import Model
from vrstc_jax.recipes.judge import Judgement
from vrstc_jax.report import Report, Table, write_json, write_report
from vrstc_jax.report.figures import STRIPS, attention_pictures, completed_strip, training_curves
from vrstc_jax.report.writing import plain
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.storage import as_path


def complete_source(model: Model, source: Source, output, *, command: str, run: dict,
                    title: str = "Completed tracklets", verdict: Judgement | None = None,
                    completer: Completer | None = None, summary=None,
                    conclude: Callable[[ResultsFolder], tuple[dict, list[Table]]] | None = None,
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
    folder = ResultsFolder(output, run | model_identity(model))
    folder.require_names(source.tracklets)
    completer = completer or Completer(model)
    _complete(completer, [source.tracklets[place] for place in distributed.own_items(len(source.tracklets))], folder)
    distributed.barrier("completed")

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

    metrics = distributed.run_on_first(summarise)
    folder.finish()
    return metrics


def _complete(completer, tracklets, folder):
    """Completes those tracklets that do not stand."""
    with tqdm(total=sum(map(len, tracklets)), desc="completing", unit="frame", dynamic_ncols=True,
              disable=not distributed.is_first()) as bar:
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
                    and completer.model.config.stcnet.form.attention):
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
    write_report(as_path(directory) / "report.html", Report(
        title=title,
        summary="VRSTC looks for the parts of a walking person that something hides, and paints the person back "
                "in from the frames around. Each strip below shows neighbouring frames of one tracklet.",
        figures=figures, command=command, config=configs.to_dict(model.config),
        strips=[*strips, *(verdict.strips if verdict else ())], attention=attention,
        curves=training_curves(model.provenance),
        judge={name: table.as_dict() for name, table in verdict.tables.items()} if verdict else None,
        tables=tables, warnings=warnings))


def _counted(frames, bar):
    for done in frames:
        bar.update()
        yield done
