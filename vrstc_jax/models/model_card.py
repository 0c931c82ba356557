"""A summary of a model file, as text."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from textwrap import indent

import jax
import numpy as np
from tabulate import tabulate

from vrstc_jax.models.model_file import Model, default_model_path, load_model
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.names import printable
from vrstc_jax.runtime.storage import describe_error

_METHODS = ("copy", "mean", "flow", "best", "telea", "spatial", "stcnet", "completed")


def model_card(path: str | os.PathLike | None = None) -> str:
    """What the model in a file is, how it was trained and what it reached; None: the default model.

    Raises:
      InputError: as `load_model`.
    """
    model = load_model(path)
    file = f"{default_model_path()}: the default model" if path is None else f"{path}: a VRSTC model"
    try:
        return "\n".join(_card(model, file))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: its provenance is not of the form that models have ({describe_error(error)}); make "
                         "the model again.") from None


def _card(model: Model, file: str) -> list[str]:
    lines = [f"{file}, size {model.config.name}",
             _rows(_what(model)), "", "Where it came from", _rows(_origin(model.provenance))]
    if reached := model.provenance.get("reached"):
        lines += ["", "What it reached, on made-up walkers that no training saw", *_reached(reached)]
    if held_out := model.provenance.get("held_out"):
        lines += ["", f"Held out for judging: {sum(map(len, held_out.values()))} runs of {len(held_out)} tracklets"]
    return lines


def _what(model: Model) -> Iterator[tuple[str, str]]:
    c = model.config
    for name, part in (("generators", model.generators), ("discriminators", model.discriminators),
                       ("re-ID network", model.reid), ("network that locates", model.locator)):
        if part is None:
            continue
        yield name, f"{sum(np.size(leaf) for leaf in jax.tree.leaves(part)):,} numbers"
    yield "crops", f"{c.stcnet.height}x{c.stcnet.width} to complete, {c.reid.height}x{c.reid.width} to locate"
    yield "locating", (f"tau {model.tau:.4f}, {'with a head' if c.reid.locating_width else 'equations 11 and 12'}"
                       if c.locating is None else f"pixel by pixel, hidden from {c.locating.probability:.2f} on")
    yield "completing", ("by STCnet" if c.repairing is None else
                         "from what other frames show, and by STCnet what none shows")
    yield "identities", f"{len(model.identities):,}"
    yield "SHA-256 of its tensors", model.digest


def _origin(provenance: Mapping) -> Iterator[tuple[str, str]]:
    for key in ("made of", "command", "commit", "started_from", "tracklets", "frames", "unoccluded_frames",
                "reid_steps", "head_steps", "stcnet_steps", "wider_steps"):
        if provenance.get(key):
            yield key.replace("_", " "), printable(provenance[key])
    if provenance.get("variety"):
        yield "variety", ", ".join(kind for kind, there in provenance["variety"].items() if there)
    if provenance.get("inputs"):
        yield "inputs", json.dumps(provenance["inputs"])


def _reached(reached: Mapping) -> Iterator[str]:
    for walkers, found in reached.items():
        for setting in ("true masks", "located masks"):
            if scores := found.get(setting):
                yield f"  {walkers}, {setting}, {scores['stcnet']['frames']} frames, PSNR (SSIM): " + ", ".join(
                    f"{method} {scores[method]['psnr']:.2f} dB ({scores[method]['ssim']:.3f})"
                    for method in _METHODS if method in scores)
        row = found["locating"]
        yield (f"  {walkers}, locating: precision {row['precision']:.3f}, recall {row['recall']:.3f}, "
               f"F1 {row['f1']:.3f}, average precision {row['average_precision']:.3f}")


def _rows(pairs: Iterable[tuple[str, str]]) -> str:
    return indent(tabulate(pairs, tablefmt="plain", disable_numparse=True), "  ")
